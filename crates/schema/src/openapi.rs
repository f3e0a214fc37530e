//! Publishing schemas as OpenAPI: documents made of the resources that are served.
//!
//! Pure functions from resources to documents; whoever serves them keeps the bytes. What clients
//! rely on is here: the schemas with their extensions, each resource's paths, which operation is
//! on which kind, and which query parameters it takes. Of the prose there is little: see
//! `descriptions`.

mod components;
mod custom;
mod descriptions;
mod paths;

use serde_json::{Map, Value, json};

use components::{Components, Form};

/// The version of Kubernetes the documents speak of.
const VERSION: &str = "v1.36.2";

/// A resource that is served.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The resource's name in paths.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it: `get`, `list`, `create`...
    pub verbs: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// The schema, for a custom resource: its `openAPIV3Schema`.
    pub custom_schema: Option<Value>,
    /// Fields a field selector may name, for a custom resource.
    pub selectable: Vec<String>,
}

/// A subresource that is served.
#[derive(Debug, Clone, Default)]
pub struct Subresource {
    /// Its name: `status`, `scale`...
    pub name: String,
    /// The group of the kind it speaks in.
    pub group: String,
    /// The version of the kind it speaks in.
    pub version: String,
    /// The kind it speaks in.
    pub kind: String,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

/// The list of documents, `GET /openapi/v3`: pairs of a document's name, such as `apis/apps/v1`,
/// and the hash of its content.
pub fn v3_index(documents: &[(String, String)]) -> Value {
    let paths: Map<String, Value> = documents
        .iter()
        .map(|(name, hash)| {
            let url = format!("/openapi/v3/{name}?hash={hash}");
            (name.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of a group and version, `GET /openapi/v3/apis/apps/v1`.
pub fn v3_document(group: &str, version: &str, resources: &[Resource]) -> Value {
    let is_here = |resource: &&Resource| resource.group == group && resource.version == version;
    let resources: Vec<&Resource> = resources.iter().filter(is_here).collect();
    // As upstream: the documents of custom resources do not tell of discovery.
    let is_custom = resources
        .iter()
        .all(|resource| resource.custom_schema.is_some());
    let mut components = Components::new(Form::V3);
    let mut paths = Map::new();
    for resource in resources {
        paths::add(resource, &mut components, &mut paths);
    }
    if !is_custom {
        paths::add_discovery(&group_path(group, version), &mut components, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components.into_schemas(),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    })
}

/// A document of paths that only tell what is served: `api`, `apis`, `apis/apps`, `version`.
pub fn v3_discovery_document(name: &str) -> Value {
    let mut components = Components::new(Form::V3);
    let mut paths = Map::new();
    let path = if name == "version" {
        "/version/".to_owned()
    } else {
        format!("/{name}/")
    };
    paths::add_discovery(&path, &mut components, &mut paths);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components.into_schemas(),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    })
}

/// The one document of the older format, `GET /openapi/v2`.
pub fn v2_document(resources: &[Resource]) -> Value {
    let mut components = Components::new(Form::V2);
    let mut paths = Map::new();
    for resource in resources {
        paths::add(resource, &mut components, &mut paths);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": components.into_schemas(),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token"})
}

/// `/api/v1` or `/apis/group/version`.
fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
