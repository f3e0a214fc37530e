//! Discovery: which groups, versions and resources there are, in both forms.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ETAG, HeaderName, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response};
use model::Status;
use model::resources::Scope;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::catalog::{Catalog, Definition};
use crate::media::Encoding;
use crate::respond;
use crate::server::State;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api` or `/apis`, as upstream's lists of versions and groups.
pub fn groups(
    state: &State,
    catalog: &Catalog,
    legacy: bool,
    encoding: Encoding,
) -> Response<Body> {
    let value = if legacy {
        let address = state
            .options
            .advertise
            .map(|a| a.to_string())
            .unwrap_or_default();
        json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })
    } else {
        let groups: Vec<Value> = catalog
            .groups()
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, versions)| group_value(name, versions))
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    respond::value(200, &value, encoding)
}

fn group_value(name: &str, versions: &[String]) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `/apis/GROUP`.
pub fn group(catalog: &Catalog, name: &str, encoding: Encoding) -> Response<Body> {
    let groups = catalog.groups();
    let Some((name, versions)) = groups.iter().find(|(known, _)| *known == name) else {
        return respond::text(404, "404 page not found\n");
    };
    let mut value = group_value(name, versions);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    respond::value(200, &value, encoding)
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
pub fn resources(
    catalog: &Catalog,
    group: &str,
    version: &str,
    encoding: Encoding,
) -> Result<Response<Body>, Status> {
    if !catalog.serves(group, version) {
        // As upstream: the server itself answers within its own groups.
        return if catalog.has_built_in(group) {
            Err(Status::unknown_path())
        } else {
            Ok(respond::text(404, "404 page not found\n"))
        };
    }
    let mut list = Vec::new();
    for definition in catalog.resources(group, version) {
        list.push(resource_value(definition));
        for sub in &definition.subresources {
            let mut value = json!({
                "name": format!("{}/{}", definition.gvr.resource, sub.name),
                "singularName": "",
                "namespaced": definition.namespaced(),
                "kind": sub.kind.kind,
                "verbs": sub.verbs,
            });
            if sub.foreign {
                value["group"] = json!(sub.kind.group);
                value["version"] = json!(sub.kind.version);
            }
            list.push(value);
        }
    }
    let group_version = model::GroupVersion::new(group, version).to_string();
    let mut value = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": list,
    });
    if !group.is_empty() {
        value["apiVersion"] = json!("v1");
    }
    Ok(respond::value(200, &value, encoding))
}

fn resource_value(definition: &Definition) -> Value {
    let mut value = json!({
        "name": definition.gvr.resource,
        "singularName": definition.singular,
        "namespaced": definition.namespaced(),
        "kind": definition.kind.kind,
        "verbs": definition.verbs,
    });
    if !definition.short_names.is_empty() {
        value["shortNames"] = json!(definition.short_names);
    }
    if !definition.categories.is_empty() {
        value["categories"] = json!(definition.categories);
    }
    if definition.serves("list") && definition.serves("create") {
        value["storageVersionHash"] = json!(storage_version_hash(definition));
    }
    value
}

/// Upstream's hash of the kind and version objects are stored in: clients see when it changes.
fn storage_version_hash(definition: &Definition) -> String {
    let group = &definition.storage.0;
    let version = definition
        .storage_version
        .rsplit('/')
        .next()
        .unwrap_or(&definition.storage_version);
    let text = format!("{group}/{version}/{}", definition.kind.kind);
    STANDARD.encode(&Sha256::digest(text.as_bytes())[..8])
}

/// `/api` or `/apis` in the aggregated form: everything in one document.
pub fn aggregated(catalog: &Arc<Catalog>, legacy: bool, headers: &HeaderMap) -> Response<Body> {
    let items: Vec<Value> = catalog
        .groups()
        .into_iter()
        .filter(|(name, _)| name.is_empty() == legacy)
        .map(|(name, versions)| aggregated_group(catalog, name, versions))
        .collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    let body = value.to_string();
    let digest: String = Sha256::digest(body.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let etag = format!("\"{digest}\"");
    let seen = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = if seen == Some(etag.as_str()) {
        respond::bytes(304, AGGREGATED, "")
    } else {
        respond::bytes(200, AGGREGATED, body)
    };
    let accept: HeaderName = http::header::ACCEPT;
    if let (Ok(etag), Ok(vary)) = (
        HeaderValue::from_str(&etag),
        HeaderValue::from_str(accept.as_str()),
    ) {
        response.headers_mut().insert(ETAG, etag);
        response.headers_mut().insert(VARY, vary);
    }
    response
}

fn aggregated_group(catalog: &Catalog, name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = catalog
                .resources(name, version)
                .into_iter()
                .map(|definition| aggregated_resource(definition))
                .collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if name.is_empty() {
        json!({})
    } else {
        json!({"name": name})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(definition: &Definition) -> Value {
    let custom = definition.custom.is_some();
    let kind = |kind: &model::GroupVersionKind, whole: bool| {
        let (group, version) = if whole {
            (kind.group.as_str(), kind.version.as_str())
        } else {
            ("", "")
        };
        json!({"group": group, "version": version, "kind": kind.kind})
    };
    let mut value = json!({
        "resource": definition.gvr.resource,
        "responseKind": kind(&definition.kind, custom),
        "scope": if definition.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": definition.singular,
        "verbs": definition.verbs,
    });
    if !definition.short_names.is_empty() {
        value["shortNames"] = json!(definition.short_names);
    }
    if !definition.categories.is_empty() {
        value["categories"] = json!(definition.categories);
    }
    if !definition.subresources.is_empty() {
        let subresources: Vec<Value> = definition
            .subresources
            .iter()
            .map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": kind(&sub.kind, custom || sub.foreign),
                    "verbs": sub.verbs,
                })
            })
            .collect();
        value["subresources"] = json!(subresources);
    }
    value
}

/// `/`: every path there is.
pub fn paths(catalog: &Catalog) -> Response<Body> {
    let mut paths = vec!["/.well-known/openid-configuration".to_owned()];
    paths.extend(["/api", "/api/v1", "/apis", "/apis/"].map(str::to_owned));
    for (name, versions) in catalog.groups() {
        if !name.is_empty() {
            paths.push(format!("/apis/{name}"));
            paths.extend(
                versions
                    .iter()
                    .map(|version| format!("/apis/{name}/{version}")),
            );
        }
    }
    let rest = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    paths.extend(rest.map(str::to_owned));
    paths.sort();
    respond::value(200, &json!({"paths": paths}), Encoding::Json)
}
