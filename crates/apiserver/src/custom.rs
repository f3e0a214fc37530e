//! CustomResourceDefinitions: from an object in the store to a served resource.
//!
//! A task watches the definitions. A new one is compiled, its names are checked against the others',
//! it is put into the catalog and only then said to be Established, so a client that has seen the
//! condition is served. A deleted one first takes its objects with it.

mod columns;
mod definition;
mod establish;
mod rules;

pub use definition::{
    check as check_definition, check_status as check_definition_status,
    default as default_definition, initial_status, note_storage, warnings as definition_warnings,
};
pub use establish::FINALIZER;
pub use rules::{Rules, Verdict};

use std::sync::Arc;

use kinds::{Behaviour, MetadataOnStatus, StatusRule};
use model::resources::Scope;
use model::{
    FieldError, FieldErrorKind, FieldPath, GroupVersionKind, GroupVersionResource, object,
};
use schema::Schema;
use serde_json::Value;

use self::columns::Column;
use crate::catalog::{Definition, Subresource};
use crate::server::{Error, State};

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

/// What one version of a custom resource has beyond a built-in one.
pub struct CustomVersion {
    /// The schema as the author wrote it.
    pub document: Value,
    /// Where its replicas are, where it has a scale.
    pub scale: Option<ScalePaths>,
    /// Fields a field selector may name, without the leading dot.
    pub selectable: Vec<String>,
    schema: Schema,
    has_status: bool,
    rules: Rules,
    columns: Vec<Column>,
}

impl CustomVersion {
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

    /// Everything that is wrong with an object by its schema and the schema's rules.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Verdict {
        let mut errors = match old {
            Some(old) => schema::validate_update(&self.schema, object, old),
            None => schema::validate(&self.schema, object),
        };
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
pub fn definitions(crd: &Value) -> Result<Vec<Definition>, String> {
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
        let custom = compile(crd, version)?;
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
    let document = object::at(version, &["schema", "openAPIV3Schema"])
        .cloned()
        .unwrap_or_default();
    let preserve = object::at(crd, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true));
    let schema = Schema::custom_resource(&document, preserve).map_err(|error| error.to_string())?;
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
        rules: Rules::compile(&document),
        columns: columns::of_version(version),
        has_status: object::at(version, &["subresources", "status"]).is_some(),
        document,
        scale,
        selectable,
        schema,
    })
}
