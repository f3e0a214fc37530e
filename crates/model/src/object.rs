//! Reading the common metadata of an object that is plain JSON.
//!
//! Objects are never turned into typed structs for storage: that would drop what the structs do not
//! know. These functions read the few fields every controller and the server itself look at; what is
//! missing or of the wrong type reads as empty.

use serde_json::{Map, Value};

use crate::GroupVersionKind;

/// `metadata`, where it is an object.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// `metadata`, made an empty object where it is none.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// The member `name`, made an empty list where it is none.
pub fn child_list<'a>(object: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let members = object.as_object_mut().expect("just made an object");
    let child = members.entry(name).or_insert(Value::Null);
    if !child.is_array() {
        *child = Value::Array(Vec::new());
    }
    child.as_array_mut().expect("just made a list")
}

/// The member `name`, made an empty object where it is none.
pub fn child_mut<'a>(object: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let members = object.as_object_mut().expect("just made an object");
    let child = members.entry(name).or_insert(Value::Null);
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut().expect("just made an object")
}

/// The value at a path of members.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

/// The string at a path of members, empty where there is none.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a path of members.
pub fn number(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// The elements at a path of members, none where there is no list.
pub fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.namespace`; empty for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

/// `metadata.generation`.
pub fn generation(object: &Value) -> i64 {
    number(object, &["metadata", "generation"]).unwrap_or_default()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    at(object, &["metadata", "labels"]).and_then(Value::as_object)
}

/// The label `key`.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// The annotation `key`.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "annotations"])?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(object, &["metadata", "ownerReferences"])
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|o| o.get("controller") == Some(&Value::Bool(true)))
}

/// Whether deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null())
}

/// `apiVersion` and `kind`.
pub fn kind(object: &Value) -> Option<GroupVersionKind> {
    GroupVersionKind::of(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_reads_as_empty() {
        let object = json!({"metadata": {"name": "a", "finalizers": ["x", 1]}});
        assert_eq!(
            (name(&object), namespace(&object), generation(&object)),
            ("a", "", 0)
        );
        assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["x"]);
        assert!(!is_deleting(&object));
        assert_eq!(name(&json!([])), "");
    }

    #[test]
    fn maps_keep_their_keys_sorted() {
        // Guards against a dependency turning on `preserve_order`: what Go prints is sorted.
        let object: Value = serde_json::from_str(r#"{"b":1,"a":1.0}"#).expect("valid");
        assert_eq!(object.to_string(), r#"{"a":1.0,"b":1}"#);
    }
}
