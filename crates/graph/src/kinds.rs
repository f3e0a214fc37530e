//! The schemas of the kinds that templates make, as OpenAPI.
//!
//! Building a graph is pure: everything it needs to know about kinds is looked up in a [`KindResolver`] that was filled
//! before. Types for expressions are made once per kind and shared by all graphs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use controller::Resource;
use model::GroupVersionKind;
use serde_json::{Value, json};

/// Schemas by name, as `$ref` names them.
#[derive(Clone, Debug)]
pub enum Definitions {
    /// Those of the built-in kinds.
    BuiltIn,
    /// Those of one OpenAPI document.
    Document(Arc<HashMap<String, Arc<Value>>>),
}

impl Definitions {
    /// The schema a `$ref` points to.
    pub fn lookup(&self, reference: &str) -> Option<Arc<Value>> {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        match self {
            Self::BuiltIn => schema::definition_json(name).map(Arc::new),
            Self::Document(definitions) => definitions.get(name).cloned(),
        }
    }

    /// Follows `$ref`, also the form `allOf: [{$ref}]` that OpenAPI v3 needs to put a default beside it.
    pub fn follow(&self, schema: &Arc<Value>) -> Arc<Value> {
        // A chain of references longer than this is a loop.
        const CHAIN_LIMIT: usize = 16;
        let mut schema = Arc::clone(schema);
        for _ in 0..CHAIN_LIMIT {
            let Some(reference) = reference_of(&schema) else {
                return schema;
            };
            match self.lookup(reference) {
                Some(found) => schema = found,
                None => return Arc::new(json!({"x-kubernetes-preserve-unknown-fields": true})),
            }
        }
        schema
    }
}

fn reference_of(schema: &Value) -> Option<&str> {
    if let Some(reference) = schema.get("$ref") {
        return reference.as_str();
    }
    match schema.get("allOf")?.as_array()?.as_slice() {
        [only] => only.get("$ref")?.as_str(),
        _ => None,
    }
}

/// What is known about a kind.
#[derive(Debug)]
pub struct Kind {
    /// How it is served.
    pub resource: Resource,
    /// Its schema; `$ref`s lead into `definitions`.
    pub schema: Arc<Value>,
    /// Where references lead.
    pub definitions: Definitions,
    pub(crate) declared: OnceLock<Option<cel::Type>>,
}

impl Kind {
    /// A kind with its schema.
    pub fn new(resource: Resource, schema: Value, definitions: Definitions) -> Self {
        Self {
            resource,
            schema: Arc::new(schema),
            definitions,
            declared: OnceLock::new(),
        }
    }

    /// A built-in kind.
    pub fn built_in(kind: &GroupVersionKind) -> Option<Self> {
        let found = model::resources::RESOURCES.iter().find(|resource| {
            resource.group == kind.group
                && resource.version == kind.version
                && resource.kind == kind.kind
        })?;
        let schema = schema::definition_json(&definition_name(kind))?;
        Some(Self::new(found.into(), schema, Definitions::BuiltIn))
    }

    /// The type that expressions see; `dyn` if the schema cannot be made one.
    pub(crate) fn cel_type(&self) -> cel::Type {
        let declared = self.declared.get_or_init(|| {
            let resolve = |reference: &str| self.definitions.lookup(reference);
            cel_kube::declare(&self.resource.kind, &self.schema, &resolve).ok()
        });
        declared.clone().unwrap_or(cel::Type::Dyn)
    }
}

/// The name of a built-in kind's definition.
fn definition_name(kind: &GroupVersionKind) -> String {
    let package = match kind.group.as_str() {
        "" => "io.k8s.api.core".to_owned(),
        "apiextensions.k8s.io" => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned()
        }
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal".to_owned(),
        group => format!("io.k8s.api.{}", group.split('.').next().unwrap_or(group)),
    };
    format!("{package}.{}.{}", kind.version, kind.kind)
}

/// Knows kinds.
pub trait KindResolver {
    /// What is known about a kind; `None` if the cluster does not serve it.
    fn resolve(&self, kind: &GroupVersionKind) -> Option<Arc<Kind>>;

    /// Kinds of the same group and version, to suggest in place of an unknown one.
    fn similar(&self, kind: &GroupVersionKind) -> Vec<String>;
}

/// The built-in kinds and any number of others, for work without a cluster.
#[derive(Clone, Debug, Default)]
pub struct OfflineKinds {
    kinds: HashMap<GroupVersionKind, Arc<Kind>>,
}

impl OfflineKinds {
    /// Only the built-in kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    pub fn add(&mut self, kind: Kind) {
        self.kinds
            .insert(kind.resource.group_version_kind(), Arc::new(kind));
    }

    /// Adds all served versions of a CustomResourceDefinition.
    pub fn add_crd(&mut self, crd: &Value) {
        for kind in kinds_of_crd(crd) {
            self.add(kind);
        }
    }
}

impl KindResolver for OfflineKinds {
    fn resolve(&self, kind: &GroupVersionKind) -> Option<Arc<Kind>> {
        self.kinds
            .get(kind)
            .cloned()
            .or_else(|| built_in_shared(kind))
    }

    fn similar(&self, kind: &GroupVersionKind) -> Vec<String> {
        let same =
            |known: &&GroupVersionKind| known.group == kind.group && known.version == kind.version;
        let own = self
            .kinds
            .keys()
            .filter(same)
            .map(|known| known.kind.clone());
        own.chain(built_in_similar(kind)).collect()
    }
}

/// Built-in kinds, made once per process.
pub(crate) fn built_in_shared(kind: &GroupVersionKind) -> Option<Arc<Kind>> {
    type Known = parking_lot::Mutex<HashMap<GroupVersionKind, Arc<Kind>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Known::default).lock();
    if let Some(found) = known.get(kind) {
        return Some(Arc::clone(found));
    }
    let made = Arc::new(Kind::built_in(kind)?);
    known.insert(kind.clone(), Arc::clone(&made));
    Some(made)
}

pub(crate) fn built_in_similar(kind: &GroupVersionKind) -> impl Iterator<Item = String> {
    let (group, version) = (kind.group.clone(), kind.version.clone());
    model::resources::RESOURCES
        .iter()
        .filter(move |known| known.group == group && known.version == version)
        .map(|known| known.kind.to_owned())
}

/// The kinds that a CustomResourceDefinition serves.
pub fn kinds_of_crd(crd: &Value) -> Vec<Kind> {
    let spec = &crd["spec"];
    let text = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (group, plural, kind) = (text("/group"), text("/names/plural"), text("/names/kind"));
    let versions = spec["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"] == true)
        .filter_map(|version| {
            let api_version = format!("{group}/{}", version["name"].as_str()?);
            let resource = match spec["scope"].as_str()? {
                "Namespaced" => Resource::namespaced(&api_version, plural, kind),
                _ => Resource::cluster(&api_version, plural, kind),
            };
            let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let mut schema = version
                .pointer("/schema/openAPIV3Schema")
                .cloned()
                .unwrap_or(open);
            complete_custom_schema(&mut schema);
            Some(Kind::new(resource, schema, Definitions::BuiltIn))
        })
        .collect()
}

/// Puts in what every object has and custom schemas leave out.
pub(crate) fn complete_custom_schema(schema: &mut Value) {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({"type": "string"});
    properties["kind"] = json!({"type": "string"});
    properties["metadata"] = json!({"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"});
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_kind_is_found() {
        let missing: Vec<String> = model::resources::RESOURCES
            .iter()
            .filter(|resource| {
                resource.verbs.contains(&"create") && resource.verbs.contains(&"get")
            })
            .map(|resource| GroupVersionKind::new(resource.group, resource.version, resource.kind))
            .filter(|kind| Kind::built_in(kind).is_none())
            .map(|kind| kind.to_string())
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn references_are_followed() {
        let kind = Kind::built_in(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let spec = Arc::new(kind.schema["properties"]["spec"].clone());
        let followed = kind.definitions.follow(&spec);
        assert!(followed["properties"]["replicas"].is_object());
    }
}
