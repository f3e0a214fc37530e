//! CustomResourceDefinitions: from an object in the store to a served resource.
//!
//! A task watches the definitions. A new one is compiled, its names are checked against the others',
//! it is put into the catalog and only then said to be Established, so a client that has seen the
//! condition is served. A deleted one first takes its objects with it.

mod columns;
mod conversion;
mod definition;
mod establish;
mod naming;
mod rules;

pub use definition::{
    check as check_definition, check_status as check_definition_status,
    default as default_definition, initial_status, note_storage, warnings as definition_warnings,
};
pub use establish::{FINALIZER, mark_terminating};
pub use rules::{Rules, Verdict};

use std::sync::Arc;

use kinds::{Behaviour, MetadataOnStatus, StatusRule};
use model::resources::Scope;
use model::{
    FieldError, FieldErrorKind, FieldPath, GroupVersionKind, GroupVersionResource, object,
};
use schema::Schema;
use serde_json::Value;
use store::Revision;

use self::columns::Column;
use crate::catalog::{Definition, Subresource, compare_versions};
use crate::server::{Error, State};
use crate::write::check_embedded_metadata;

/// Where a version of a definition has its schema.
const SCHEMA: &[&str] = &["schema", "openAPIV3Schema"];

/// Where the replicas of a custom resource are, for its scale.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    /// `specReplicasPath`.
    pub spec_replicas: String,
    /// `statusReplicasPath`.
    pub status_replicas: String,
    /// `labelSelectorPath`.
    pub selector: Option<String>,
}

impl ScalePaths {
    /// Everything that is wrong with the numbers an object's scale shows.
    fn check(&self, object: &Value, only_status: bool, errors: &mut Vec<FieldError>) {
        if !only_status {
            check_replicas(object, &self.spec_replicas, errors);
        }
        check_replicas(object, &self.status_replicas, errors);
        if let Some(path) = &self.selector
            && let Err(why) = nested(object, path, "string", Value::is_string)
        {
            errors.push(FieldError::invalid(&FieldPath::new(path), "", why));
        }
    }
}

fn check_replicas(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let place = FieldPath::new(path);
    match nested(object, path, "int64", Value::is_i64) {
        Err(why) => errors.push(FieldError::invalid(&place, 0, why)),
        Ok(found) => {
            let replicas = found.and_then(Value::as_i64).unwrap_or(0);
            if replicas < 0 {
                let why = "should be a non-negative integer";
                errors.push(FieldError::invalid(&place, replicas, why));
            } else if replicas > i64::from(i32::MAX) {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(&place, replicas, why));
            }
        }
    }
}

/// The value at a path such as `.spec.replicas`, which must be of a type; the error is worded as
/// upstream's access to untyped objects words it.
pub fn nested<'a>(
    object: &'a Value,
    path: &str,
    wanted: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Option<&'a Value>, String> {
    let refuse = |found: &Value, wanted: &str| {
        let (shown, kind) = go_type(found);
        format!("{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
    };
    let mut found = object;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        if found.is_null() {
            return Ok(None);
        }
        let Value::Object(members) = found else {
            return Err(refuse(found, "map[string]interface {}"));
        };
        match members.get(name) {
            Some(member) => found = member,
            None => return Ok(None),
        }
    }
    if fits(found) {
        Ok(Some(found))
    } else {
        Err(refuse(found, wanted))
    }
}

/// A value and its type as Go prints them.
fn go_type(value: &Value) -> (String, &'static str) {
    match value {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(flag) => (flag.to_string(), "bool"),
        Value::Number(number) if number.is_i64() => (number.to_string(), "int64"),
        Value::Number(number) => (number.to_string(), "float64"),
        Value::String(text) => (text.clone(), "string"),
        Value::Array(_) => (value.to_string(), "[]interface {}"),
        Value::Object(_) => (value.to_string(), "map[string]interface {}"),
    }
}

/// What one version of a custom resource has beyond a built-in one.
pub struct CustomVersion {
    /// Where its replicas are, where it has a scale.
    pub scale: Option<ScalePaths>,
    /// Fields a field selector may name, without the leading dot.
    pub selectable: Vec<String>,
    /// What clients are warned of, where the version is deprecated.
    pub deprecation: Option<String>,
    /// Whether the definition is going: nothing new is made of it.
    pub is_terminating: bool,
    /// Objects that were stored up to here may not be as this version would have stored them.
    pub since: Revision,
    /// The definition's `spec` as text: a tree takes many times that, and it is rarely looked at.
    pub spec: Arc<str>,
    /// What converts between versions; without it they differ by their name only.
    pub conversion: Option<conversion::Webhook>,
    version: String,
    schema: Schema,
    has_status: bool,
    rules: Rules,
    columns: Vec<Column>,
}

impl CustomVersion {
    /// The schema as the author wrote it.
    pub fn document(&self) -> Value {
        let spec: Value = serde_json::from_str(&self.spec).unwrap_or_default();
        let versions = object::list(&spec, &["versions"]);
        let own = versions
            .iter()
            .find(|version| object::text(version, &["name"]) == self.version);
        own.and_then(|version| object::at(version, SCHEMA))
            .cloned()
            .unwrap_or_default()
    }

    /// The behaviour of the kind.
    pub fn behaviour(&self) -> Behaviour {
        Behaviour {
            generation: true,
            unconditional_update: false,
            status: if self.has_status {
                StatusRule::Separate
            } else {
                StatusRule::None
            },
            metadata_on_status: MetadataOnStatus::Keeps,
            ..Behaviour::DEFAULT
        }
    }

    /// Brings a stored object to what this version would store: fields it does not know are dropped, and
    /// its defaults are filled in.
    pub fn refresh(&self, object: &mut Value) {
        schema::prune(&self.schema, object);
        schema::default(&self.schema, object);
    }

    /// Everything that is wrong with an object by its schema and the schema's rules. Of a write to the
    /// status only the status is looked at, and named from there.
    pub fn validate(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Verdict {
        let mut errors = match old {
            Some(old) if subresource == "status" => self.validate_status(object, old),
            Some(old) => schema::validate_update(&self.schema, object, old),
            None => schema::validate(&self.schema, object),
        };
        if let Some(scale) = &self.scale {
            scale.check(object, subresource == "status", &mut errors);
        }
        for (path, resource) in schema::embedded(&self.schema, object) {
            errors.extend(check_embedded_metadata(resource, &path.child("metadata")));
        }
        if self.rules.is_empty() {
            return Verdict {
                errors,
                warnings: Vec::new(),
            };
        }
        // As upstream: what breaks the shape of an object keeps rules from being asked.
        if errors.iter().any(|error| is_blocking(error.kind)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&FieldPath::root(), Value::Null, why));
            return Verdict {
                errors,
                warnings: Vec::new(),
            };
        }
        let mut verdict = self.rules.check(object, old);
        errors.append(&mut verdict.errors);
        verdict.errors = errors;
        verdict
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let schema = self.schema.properties.get("status");
        match (schema, object.get("status")) {
            (Some(field), Some(status)) => {
                let path = FieldPath::new("status");
                schema::validate_at(&field.schema, status, old.get("status"), &path)
            }
            _ => Vec::new(),
        }
    }

    /// The columns of its table.
    pub fn columns(&self) -> Value {
        columns::describe(&self.columns)
    }

    /// The cells of an object's row.
    pub fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        columns::cells(&self.columns, object, now)
    }
}

fn is_blocking(kind: FieldErrorKind) -> bool {
    matches!(
        kind,
        FieldErrorKind::NotSupported
            | FieldErrorKind::Required
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

/// Serves the definitions that are established already: called once, before the server listens.
pub(crate) fn load(state: &Arc<State>) -> Result<(), Error> {
    establish::load(state)
}

/// Follows the definitions until the server stops.
pub(crate) async fn run(state: Arc<State>) {
    establish::run(state).await;
}

/// The served versions of a definition. Fails with the reason where a schema does not compile.
pub fn definitions(crd: &Value, since: Revision) -> Result<Vec<Definition>, String> {
    let text = |path: &[&str]| object::text(crd, path).to_owned();
    let group = text(&["spec", "group"]);
    let plural = text(&["spec", "names", "plural"]);
    let scope = match object::text(crd, &["spec", "scope"]) {
        "Namespaced" => Scope::Namespaced,
        _ => Scope::Cluster,
    };
    let words = |field: &str| -> Vec<String> {
        let list = object::list(crd, &["spec", "names", field]);
        list.iter()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let versions = object::list(crd, &["spec", "versions"]);
    let spec = spec_text(crd);
    let storage = versions
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))
        .map(|version| object::text(version, &["name"]))
        .unwrap_or_default();
    let mut definitions = Vec::new();
    for version in versions
        .iter()
        .filter(|v| v.get("served") == Some(&Value::Bool(true)))
    {
        let name = object::text(version, &["name"]);
        let kind = GroupVersionKind::new(&group, name, text(&["spec", "names", "kind"]));
        let mut custom = compile(crd, version)?;
        custom.since = since;
        custom.spec = spec.clone();
        custom.deprecation = deprecation(version, &kind, versions);
        let subresources = subresources(&custom, &kind);
        definitions.push(Definition {
            gvr: GroupVersionResource::new(&group, name, &plural),
            list_kind: text(&["spec", "names", "listKind"]),
            singular: text(&["spec", "names", "singular"]),
            short_names: words("shortNames"),
            categories: words("categories"),
            scope,
            // The order in which upstream names the verbs of custom resources.
            verbs: [
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "create",
                "update",
                "watch",
            ]
            .map(str::to_owned)
            .to_vec(),
            subresources,
            schema: custom.schema.clone(),
            storage: (group.clone(), plural.clone()),
            storage_version: format!("{group}/{storage}"),
            custom: Some(Arc::new(custom)),
            kind,
        });
    }
    Ok(definitions)
}

/// The `spec` of a definition as text; definitions of the same text are the same.
fn spec_text(crd: &Value) -> Arc<str> {
    crd.get("spec")
        .map(Value::to_string)
        .unwrap_or_default()
        .into()
}

/// What clients of a deprecated version are told: the author's words, or which version to use.
fn deprecation(version: &Value, kind: &GroupVersionKind, versions: &[Value]) -> Option<String> {
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        return None;
    }
    if let Some(own) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(own.to_owned());
    }
    let text = format!("{} {} is deprecated", kind.api_version(), kind.kind);
    let better = versions
        .iter()
        .filter(|other| {
            other.get("served") == Some(&Value::Bool(true))
                && other.get("deprecated") != Some(&Value::Bool(true))
        })
        .map(|other| object::text(other, &["name"]))
        .filter(|name| compare_versions(name, &kind.version).is_gt())
        .max_by(|a, b| compare_versions(a, b));
    Some(match better {
        Some(better) => format!("{text}; use {}/{better} {}", kind.group, kind.kind),
        None => text,
    })
}

fn subresources(custom: &CustomVersion, kind: &GroupVersionKind) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(str::to_owned).to_vec();
    let mut subresources = Vec::new();
    if custom.has_status {
        subresources.push(Subresource {
            name: "status".to_owned(),
            kind: kind.clone(),
            verbs: verbs(),
            foreign: false,
        });
    }
    if custom.scale.is_some() {
        subresources.push(Subresource {
            name: "scale".to_owned(),
            kind: GroupVersionKind::new("autoscaling", "v1", "Scale"),
            verbs: verbs(),
            foreign: true,
        });
    }
    subresources
}

fn compile(crd: &Value, version: &Value) -> Result<CustomVersion, String> {
    let document = object::at(version, SCHEMA).unwrap_or(&Value::Null);
    let preserve = object::at(crd, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true));
    let schema = Schema::custom_resource(document, preserve).map_err(|error| error.to_string())?;
    let scale = object::at(version, &["subresources", "scale"]).map(|scale| {
        let text = |field: &str| object::text(scale, &[field]).to_owned();
        let selector = text("labelSelectorPath");
        ScalePaths {
            spec_replicas: text("specReplicasPath"),
            status_replicas: text("statusReplicasPath"),
            selector: (!selector.is_empty()).then_some(selector),
        }
    });
    let selectable = object::list(version, &["selectableFields"])
        .iter()
        .map(|field| {
            object::text(field, &["jsonPath"])
                .trim_start_matches('.')
                .to_owned()
        })
        .collect();
    Ok(CustomVersion {
        rules: Rules::compile(document),
        columns: columns::of_version(version),
        has_status: object::at(version, &["subresources", "status"]).is_some(),
        deprecation: None,
        is_terminating: object::is_deleting(crd),
        since: Revision(0),
        spec: Arc::from(""),
        version: object::text(version, &["name"]).to_owned(),
        conversion: conversion::Webhook::of(crd),
        scale,
        selectable,
        schema,
    })
}
