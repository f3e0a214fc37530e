//! The kinds that a cluster serves, with their schemas.
//!
//! Built-in kinds have compiled-in schemas; those of CustomResourceDefinitions are read from the definition itself, those
//! of aggregated APIs from the published OpenAPI. What builds need is gathered first, so that builds are pure.

use std::collections::HashMap;
use std::sync::Arc;

use controller::{Api, Discovery, Error, ObjectKey, Resource};
use model::GroupVersionKind;
use parking_lot::Mutex;
use serde_json::Value;

use super::context::crd_resource;
use crate::kinds::{self, Definitions, Kind, KindResolver};

pub(crate) struct ClusterKinds {
    api: Api,
    discovery: Discovery,
    /// Kinds of CustomResourceDefinitions by the version of the definition they were read from.
    custom: Mutex<HashMap<GroupVersionKind, (String, Arc<Kind>)>>,
}

/// The kinds of one build.
pub(crate) struct KindSnapshot {
    kinds: HashMap<GroupVersionKind, Arc<Kind>>,
}

impl KindResolver for KindSnapshot {
    fn resolve(&self, kind: &GroupVersionKind) -> Option<Arc<Kind>> {
        self.kinds.get(kind).cloned()
    }

    fn similar(&self, kind: &GroupVersionKind) -> Vec<String> {
        kinds::built_in_similar(kind).collect()
    }
}

impl ClusterKinds {
    pub fn new(api: Api, discovery: Discovery) -> Self {
        Self {
            api,
            discovery,
            custom: Mutex::default(),
        }
    }

    /// Gathers what is known about some kinds. Kinds that are not served are missing from the answer.
    pub async fn snapshot(&self, wanted: &[GroupVersionKind]) -> Result<KindSnapshot, Error> {
        let mut found = HashMap::new();
        for kind in wanted {
            match self.discovery.resolve(kind).await {
                Ok(resource) => {
                    found.insert(kind.clone(), self.describe(kind, resource).await?);
                }
                Err(Error::NoSuchKind { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(KindSnapshot { kinds: found })
    }

    async fn describe(
        &self,
        kind: &GroupVersionKind,
        resource: Resource,
    ) -> Result<Arc<Kind>, Error> {
        if let Some(known) = kinds::built_in_shared(kind) {
            if known.resource == resource {
                return Ok(known);
            }
            return Ok(Arc::new(Kind::new(
                resource,
                (*known.schema).clone(),
                known.definitions.clone(),
            )));
        }
        let name = ObjectKey::cluster(format!("{}.{}", resource.plural, resource.group));
        match self.api.get_opt(&crd_resource(), &name).await? {
            Some(crd) => Ok(self.custom_kind(kind, resource, crd.resource_version(), crd.value())),
            None => Ok(Arc::new(self.published(kind, resource).await?)),
        }
    }

    fn custom_kind(
        &self,
        kind: &GroupVersionKind,
        resource: Resource,
        version: &str,
        crd: &Value,
    ) -> Arc<Kind> {
        let mut custom = self.custom.lock();
        if let Some((known, found)) = custom.get(kind)
            && known == version
        {
            return Arc::clone(found);
        }
        let described = kinds::kinds_of_crd(crd)
            .into_iter()
            .find(|described| &*described.resource.version == kind.version.as_str());
        let described = Arc::new(described.unwrap_or_else(|| open_kind(resource)));
        custom.insert(kind.clone(), (version.to_owned(), Arc::clone(&described)));
        described
    }

    /// The schema that the server publishes.
    async fn published(&self, kind: &GroupVersionKind, resource: Resource) -> Result<Kind, Error> {
        let path = format!("/openapi/v3/apis/{}", kind.api_version());
        let mut document = match self.api.get_path(&path).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(open_kind(resource)),
            Err(error) => return Err(error),
        };
        let definitions: HashMap<String, Arc<Value>> =
            match document["components"]["schemas"].take() {
                Value::Object(schemas) => schemas
                    .into_iter()
                    .map(|(name, schema)| (name, Arc::new(schema)))
                    .collect(),
                _ => HashMap::new(),
            };
        let is_it = |schema: &&Arc<Value>| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.into_iter().flatten().any(|named| {
                named["group"] == kind.group.as_str()
                    && named["version"] == kind.version.as_str()
                    && named["kind"] == kind.kind.as_str()
            })
        };
        let Some(schema) = definitions
            .values()
            .find(is_it)
            .map(|schema| (**schema).clone())
        else {
            return Ok(open_kind(resource));
        };
        Ok(Kind::new(
            resource,
            schema,
            Definitions::Document(Arc::new(definitions)),
        ))
    }
}

/// A kind without a schema takes anything.
fn open_kind(resource: Resource) -> Kind {
    let mut schema =
        serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    kinds::complete_custom_schema(&mut schema);
    Kind::new(resource, schema, Definitions::BuiltIn)
}
