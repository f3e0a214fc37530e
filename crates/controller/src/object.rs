//! Objects as controllers see them: JSON behind an `Arc`, with accessors for the metadata everybody needs.
//!
//! Typed structs drop the fields they do not know, so a controller that writes back what it read must not go
//! through them. [`Object`] keeps the whole document; [`Object::parse`] gives a typed view for reading.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::Document;
use crate::error::Error;

/// Namespace and name of an object; an empty namespace means cluster scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace`; an empty namespace means cluster scope.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The namespace, unless cluster-scoped.
    pub fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl FromStr for ObjectKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::cluster(text),
        })
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// The owner's group and version.
    #[serde(default)]
    pub api_version: String,
    /// The owner's kind.
    #[serde(default)]
    pub kind: String,
    /// The owner's name.
    #[serde(default)]
    pub name: String,
    /// The owner's uid.
    #[serde(default)]
    pub uid: String,
    /// Whether the owner manages this object.
    #[serde(default)]
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

impl OwnerReference {
    /// The group part of the owner's `apiVersion`, empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
    }
}

/// A Kubernetes object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    document: Document,
}

impl Object {
    /// Wraps a JSON document.
    pub fn new(value: Value) -> Self {
        Self {
            document: Document::new(value),
        }
    }

    /// The whole document.
    pub fn value(&self) -> &Value {
        self.document.value()
    }

    /// Gives the document back.
    pub fn into_value(self) -> Value {
        self.document.into_value()
    }

    /// Whether it takes the memory of a tree, not just that of its text.
    pub(crate) fn is_open(&self) -> bool {
        self.document.is_open()
    }

    /// The same object, as small as it gets.
    pub(crate) fn folded(&self) -> Self {
        Self {
            document: self.document.folded(),
        }
    }

    /// The value at a path of keys, if there.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        path.iter()
            .try_fold(self.value(), |value, key| value.get(key))
    }

    /// The value at a JSON pointer, if there.
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        self.value().pointer(pointer)
    }

    fn metadata(&self, key: &str) -> Option<&Value> {
        self.value().get("metadata")?.get(key)
    }

    fn metadata_str(&self, key: &str) -> &str {
        self.metadata(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.metadata_str("namespace"), self.name())
    }

    /// `metadata.name`, empty when missing.
    pub fn name(&self) -> &str {
        self.metadata_str("name")
    }

    /// `metadata.namespace`, unless cluster-scoped.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.metadata_str("namespace")).filter(|namespace| !namespace.is_empty())
    }

    /// `metadata.uid`, empty when missing.
    pub fn uid(&self) -> &str {
        self.metadata_str("uid")
    }

    /// `metadata.resourceVersion`, empty when missing.
    pub fn resource_version(&self) -> &str {
        self.metadata_str("resourceVersion")
    }

    /// `metadata.creationTimestamp`, empty when missing.
    pub fn creation_timestamp(&self) -> &str {
        self.metadata_str("creationTimestamp")
    }

    /// `metadata.generation`, 0 when missing.
    pub fn generation(&self) -> i64 {
        self.metadata("generation")
            .and_then(Value::as_i64)
            .unwrap_or_default()
    }

    /// `apiVersion`, empty when missing (items of typed lists may lack it).
    pub fn api_version(&self) -> &str {
        self.value()
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `kind`, empty when missing (items of typed lists may lack it).
    pub fn kind(&self) -> &str {
        self.value()
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The value of one label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata("labels")?.get(key)?.as_str()
    }

    /// All labels, sorted by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        string_entries(self.metadata("labels"))
    }

    /// The value of one annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata("annotations")?.get(key)?.as_str()
    }

    /// All annotations, sorted by key.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        string_entries(self.metadata("annotations"))
    }

    /// All owner references that can be read.
    pub fn owner_references(&self) -> Vec<OwnerReference> {
        self.metadata("ownerReferences")
            .and_then(Value::as_array)
            .map(|list| {
                list.iter()
                    .filter_map(|item| OwnerReference::deserialize(item).ok())
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The owner that manages this object, if it has one.
    pub fn controller_of(&self) -> Option<OwnerReference> {
        self.owner_references()
            .into_iter()
            .find(|owner| owner.controller)
    }

    /// Whether deletion has begun (`metadata.deletionTimestamp` is set).
    pub fn is_terminating(&self) -> bool {
        self.metadata("deletionTimestamp")
            .is_some_and(|time| !time.is_null())
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.metadata("finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// Whether the finalizer is present.
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers().any(|present| present == finalizer)
    }

    /// `spec`, `null` when missing.
    pub fn spec(&self) -> &Value {
        &self.value()["spec"]
    }

    /// `status`, `null` when missing.
    pub fn status(&self) -> &Value {
        &self.value()["status"]
    }

    /// A typed view of the object.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(self.value()).map_err(|source| Error::Decode {
            what: format!("{} {}", self.kind(), self.key()),
            source,
        })
    }
}

impl From<Value> for Object {
    fn from(value: Value) -> Self {
        Self::new(value)
    }
}

fn string_entries(map: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    map.and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_print_and_parse() {
        for text in ["ns/name", "name"] {
            assert_eq!(ObjectKey::from_str(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn accessors_survive_absent_and_misshapen_metadata() {
        for value in [
            json!({}),
            json!(null),
            json!({"metadata": 3}),
            json!({"metadata": {"labels": []}}),
        ] {
            let object = Object::new(value);
            assert_eq!(object.name(), "");
            assert_eq!(object.labels().count(), 0);
            assert!(object.owner_references().is_empty());
            assert!(!object.is_terminating());
        }
    }

    #[test]
    fn the_controller_is_the_owner_marked_so() {
        let object = Object::new(json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "b", "uid": "2", "controller": true},
        ]}}));
        let owner = object.controller_of().unwrap();
        assert_eq!((owner.group(), owner.name.as_str()), ("apps", "b"));
    }
}
