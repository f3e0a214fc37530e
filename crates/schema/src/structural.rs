//! Judging the schema of a custom resource definition.
//!
//! A schema must be well formed, and structural: every field has one type, given outside of the
//! logical junctors, so that pruning and defaulting know what to do. As upstream, the rules of
//! structure are looked at only in a well-formed schema. CEL rules are compiled elsewhere; here
//! only their frame is checked.

mod invariants;
mod rules;

use model::{FieldError, FieldPath};
use serde_json::{Map, Value};

use crate::MAX_DEPTH;

type Object = Map<String, Value>;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Everything wrong with a version's `openAPIV3Schema`, which stands at `path`.
pub fn check_structural(schema: &Value, path: &str) -> Vec<FieldError> {
    let path = FieldPath::new(path);
    let Value::Object(root) = schema else {
        return vec![FieldError::required(&path, "")];
    };
    let mut checker = Checker { errors: Vec::new() };
    if root.get("nullable") == Some(&Value::Bool(true)) {
        let detail = "nullable cannot be true at the root";
        checker
            .errors
            .push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    checker.schema(
        root,
        &path,
        Place {
            is_root: true,
            defaults_forbidden: None,
            in_metadata: false,
        },
        0,
    );
    if checker.errors.is_empty() {
        invariants::check(root, &path, &mut checker.errors);
    }
    if checker.errors.is_empty() {
        rules::check_defaults(schema, &path, &mut checker.errors);
    }
    checker.errors
}

/// Whether a schema has nothing wrong with it.
pub fn is_structural(schema: &Value) -> bool {
    check_structural(schema, "openAPIV3Schema").is_empty()
}

/// Where in the definition a schema stands.
#[derive(Clone, Copy)]
struct Place {
    is_root: bool,
    in_metadata: bool,
    defaults_forbidden: Option<&'static str>,
}

struct Checker {
    errors: Vec<FieldError>,
}

impl Checker {
    fn forbidden(&mut self, path: &FieldPath, detail: &str) {
        self.errors.push(FieldError::forbidden(path, detail));
    }

    fn schema(&mut self, schema: &Object, path: &FieldPath, place: Place, depth: usize) {
        if depth > MAX_DEPTH {
            return self.forbidden(path, "nests too deep");
        }
        self.well_formed(schema, path, place);
        let inner = Place {
            is_root: false,
            ..place
        };
        if flag(schema, "uniqueItems") {
            let detail =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden(&path.child("uniqueItems"), detail);
        }
        if let Some(additional) = schema.get("additionalProperties") {
            let has_properties =
                object(schema, "properties").is_some_and(|found| !found.is_empty());
            if has_properties && *additional != Value::Bool(true) {
                let detail = "additionalProperties and properties are mutual exclusive";
                self.forbidden(&path.child("additionalProperties"), detail);
            }
            if let Value::Object(additional) = additional {
                let forbidden = "inside additionalProperties applying to object metadata";
                let inner = Place {
                    defaults_forbidden: if place.in_metadata {
                        Some(forbidden)
                    } else {
                        inner.defaults_forbidden
                    },
                    ..inner
                };
                self.schema(
                    additional,
                    &path.child("additionalProperties"),
                    inner,
                    depth + 1,
                );
            }
        }
        for (name, property) in objects(schema, "properties") {
            let is_meta = matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
            let mut inner = inner;
            if is_meta && (place.is_root || flag(schema, "x-kubernetes-embedded-resource")) {
                inner.in_metadata = true;
            }
            if is_meta && place.is_root {
                inner.defaults_forbidden = Some(match name.as_str() {
                    "metadata" => "in top-level metadata",
                    "kind" => "in top-level kind",
                    _ => "in top-level apiVersion",
                });
            }
            self.schema(
                property,
                &path.child("properties").key(name),
                inner,
                depth + 1,
            );
        }
        if let Some(not) = object(schema, "not") {
            self.schema(not, &path.child("not"), inner, depth + 1);
        }
        for junctor in ["allOf", "oneOf", "anyOf"] {
            for (index, schema) in list(schema, junctor).iter().enumerate() {
                if let Value::Object(schema) = schema {
                    self.schema(schema, &path.child(junctor).index(index), inner, depth + 1);
                }
            }
        }
        for (name, definition) in objects(schema, "definitions") {
            self.schema(
                definition,
                &path.child("definitions").key(name),
                inner,
                depth + 1,
            );
        }
        match schema.get("items") {
            Some(Value::Object(items)) => {
                self.schema(items, &path.child("items"), inner, depth + 1);
            }
            Some(Value::Array(_)) => {
                let detail = "items must be a schema object and not an array";
                self.forbidden(&path.child("items"), detail);
            }
            _ => {}
        }
        rules::check_extensions(schema, path, &mut self.errors);
        rules::check_frame(schema, path, &mut self.errors);
    }

    /// What no schema of a definition may say.
    fn well_formed(&mut self, schema: &Object, path: &FieldPath, place: Place) {
        if let Some(reason) = place
            .defaults_forbidden
            .filter(|_| schema.contains_key("default"))
        {
            self.forbidden(&path.child("default"), &format!("must not be set {reason}"));
        }
        for (name, detail) in [
            ("id", "id is not supported"),
            ("definitions", "definitions is not supported"),
            ("dependencies", "dependencies is not supported"),
            ("patternProperties", "patternProperties is not supported"),
            ("additionalItems", "additionalItems is not supported"),
        ] {
            let is_set = schema.get(name).is_some_and(|found| !is_zero(found));
            if is_set {
                self.forbidden(&path.child(name), detail);
            }
        }
        if let Some(found) = text(schema, "type").filter(|found| !found.is_empty()) {
            if found == "null" {
                self.forbidden(
                    &path.child("type"),
                    "type cannot be set to null, use nullable as an alternative",
                );
            } else if !TYPES.contains(&found) {
                self.errors
                    .push(not_supported(&path.child("type"), found, &TYPES));
            }
        }
        if schema.get("$ref").is_some_and(|found| !is_zero(found)) {
            self.forbidden(&path.child("$ref"), "$ref is not supported");
        }
    }
}

/// A value outside the supported ones, which are listed in the order given.
pub(crate) fn not_supported(
    path: &FieldPath,
    value: impl Into<Value>,
    supported: &[&str],
) -> FieldError {
    let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
    let mut error = FieldError::not_supported(path, value, &[]);
    error.detail = format!("supported values: {}", names.join(", "));
    error
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn text<'a>(schema: &'a Object, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn flag(schema: &Object, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn object<'a>(schema: &'a Object, name: &str) -> Option<&'a Object> {
    schema.get(name).and_then(Value::as_object)
}

fn list<'a>(schema: &'a Object, name: &str) -> &'a [Value] {
    schema
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The members of a map of schemas that are schemas.
fn objects<'a>(schema: &'a Object, name: &str) -> impl Iterator<Item = (&'a String, &'a Object)> {
    object(schema, name)
        .into_iter()
        .flatten()
        .filter_map(|(name, schema)| Some((name, schema.as_object()?)))
}

#[cfg(test)]
#[path = "structural_tests.rs"]
mod tests;
