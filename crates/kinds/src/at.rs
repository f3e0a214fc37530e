//! A place in an object: a value together with its path, for checks that must say where.
//!
//! Reading never fails: what is missing or of another type reads as empty, as in [`model::object`].

use model::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// What a check finds.
pub type Errors = Vec<FieldError>;

static NULL: Value = Value::Null;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct At<'a> {
    value: &'a Value,
    path: FieldPath,
}

impl<'a> At<'a> {
    /// A whole object.
    pub fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: FieldPath::root(),
        }
    }

    /// A value at a path that is written out.
    pub fn new(value: &'a Value, path: FieldPath) -> Self {
        Self { value, path }
    }

    /// The member `name`.
    pub fn get(&self, name: &str) -> Self {
        Self {
            value: self.value.get(name).unwrap_or(&NULL),
            path: self.path.child(name),
        }
    }

    /// The member at a path such as `spec.template`.
    pub fn at(&self, path: &str) -> Self {
        path.split('.').fold(self.clone(), |at, name| at.get(name))
    }

    /// The same value, said to stand elsewhere: some upstream messages name another place.
    pub fn said_at(&self, path: FieldPath) -> Self {
        Self {
            value: self.value,
            path,
        }
    }

    /// The value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The path.
    pub fn path(&self) -> &FieldPath {
        &self.path
    }

    /// The string, empty where there is none.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The whole number.
    pub fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The whole number, 0 where there is none.
    pub fn count(&self) -> i64 {
        self.number().unwrap_or(0)
    }

    /// Whether the value is `true`.
    pub fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// Whether there is a value.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether there is nothing, or nothing in it.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    /// How many elements or members there are.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// The elements of the list as plain values.
    pub fn list(&self) -> &'a [Value] {
        self.value.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The members of the map as plain values.
    pub fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    /// The strings of the list.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.list()
            .iter()
            .map(|value| value.as_str().unwrap_or_default())
    }

    /// The element at an index.
    pub fn index(&self, index: usize) -> Self {
        Self {
            value: self.value.get(index).unwrap_or(&NULL),
            path: self.path.index(index),
        }
    }

    /// The elements of the list.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.clone();
        self.list()
            .iter()
            .enumerate()
            .map(move |(index, value)| Self {
                value,
                path: path.index(index),
            })
    }

    /// The members of the map, each at `path[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let path = self.path.clone();
        self.map().into_iter().flatten().map(move |(key, value)| {
            (
                key.as_str(),
                Self {
                    value,
                    path: path.key(key),
                },
            )
        })
    }

    /// The value must be there.
    pub fn required(&self, why: &str) -> FieldError {
        FieldError::required(&self.path, why)
    }

    /// The value is wrong.
    pub fn invalid(&self, why: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.value.clone(), why)
    }

    /// The value, which is a whole number and 0 where there is none, is wrong.
    pub fn invalid_count(&self, why: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.count(), why)
    }

    /// The string, which is empty where there is none, is wrong.
    pub fn invalid_text(&self, why: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.text(), why)
    }

    /// The value is none of the supported ones.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.text(), supported)
    }

    /// The value may not be set, or not to this.
    pub fn forbidden(&self, why: &str) -> FieldError {
        FieldError::forbidden(&self.path, why)
    }

    /// The value stands twice.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.clone())
    }

    /// What the value names does not exist.
    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.text())
    }

    /// The value has more than `limit_bytes`.
    pub fn too_long(&self, limit_bytes: usize) -> FieldError {
        FieldError::too_long(&self.path, limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_know_their_path() {
        let object = json!({"spec": {"ports": [{"name": "x"}], "map": {"k": 1}}});
        let spec = At::root(&object).get("spec");
        let port = spec.get("ports").items().next().expect("one port");
        assert_eq!(port.get("name").path().as_str(), "spec.ports[0].name");
        assert_eq!(port.get("other").text(), "");
        let (_, entry) = spec.get("map").entries().next().expect("one entry");
        assert_eq!(entry.path().as_str(), "spec.map[k]");
        assert_eq!(spec.at("a.b").path().as_str(), "spec.a.b");
    }
}
