//! Judging the schema of a custom resource definition.
//!
//! A schema must be well formed, and structural: every field has one type, given outside of the
//! logical junctors, so that pruning and defaulting know what to do. As upstream, the rules of
//! structure are looked at only in a well-formed schema. CEL rules are compiled elsewhere; here
//! only their frame is checked.

mod field_path;
mod invariants;
mod rules;

pub use field_path::field_path;

use model::{FieldError, FieldPath};
use serde_json::{Map, Value};

use crate::MAX_DEPTH;

type Object = Map<String, Value>;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What [`judge`] says of a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Everything wrong with it, in upstream's order.
    pub errors: Vec<FieldError>,
    /// Whether the rules in it can be looked at: only where the schema is structural.
    pub is_structural: bool,
}

/// Everything wrong with a version's `openAPIV3Schema`, which stands at `path`.
pub fn check_structural(schema: &Value, path: &str) -> Vec<FieldError> {
    judge(schema, path, false).errors
}

/// Judges a version's `openAPIV3Schema`, which stands at `path`; a status subresource restricts what may
/// stand at its root.
pub fn judge(schema: &Value, path: &str, has_status: bool) -> Judgement {
    let path = FieldPath::new(path);
    let Value::Object(root) = schema else {
        return Judgement {
            errors: vec![FieldError::required(&path, "")],
            is_structural: false,
        };
    };
    let mut errors = Vec::new();
    if has_status {
        errors.extend(status_root(root, &path));
    }
    if flag(root, "nullable") {
        let detail = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    let unsupported = unsupported(root, 0);
    let before = errors.len();
    if unsupported.is_none() {
        invariants::check(root, &path, &mut errors);
        if errors.len() == before {
            rules::check_defaults(schema, &path, &mut errors);
        }
    }
    let is_structural = unsupported.is_none() && errors.len() == before;
    let mut checker = Checker { errors };
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
    let mut errors = checker.errors;
    if let Some(name) = unsupported.filter(|_| errors.is_empty()) {
        let detail = format!("OpenAPIV3Schema '{name}' is not supported");
        errors.push(FieldError::invalid(&path, "", detail));
    }
    Judgement {
        errors,
        is_structural,
    }
}

/// What may stand at the root of a schema whose `status` has a schema of its own; upstream's names.
const ALLOWED_AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "XPreserveUnknownFields",
    ),
    ("x-kubernetes-validations", "XValidations"),
];

fn status_root(root: &Object, path: &FieldPath) -> Option<FieldError> {
    let kind = text(root, "type").unwrap_or_default();
    if !kind.is_empty() && kind != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status \
                      subresource is enabled";
        return Some(FieldError::invalid(&path.child("type"), kind, detail));
    }
    let is_allowed = |(name, value): (&String, &Value)| {
        ALLOWED_AT_ROOT.iter().any(|(allowed, _)| allowed == name)
            || is_zero(value)
            || *value == Value::Bool(false)
    };
    if root.iter().all(is_allowed) {
        return None;
    }
    let names: Vec<&str> = ALLOWED_AT_ROOT.iter().map(|(_, name)| *name).collect();
    let detail = format!(
        "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
        names.join(" ")
    );
    Some(FieldError::invalid(
        path,
        Value::Object(root.clone()),
        detail,
    ))
}

/// The first keyword anywhere in a schema that no structural schema can have.
fn unsupported(schema: &Object, depth: usize) -> Option<&'static str> {
    const NAMES: [(&str, &str); 7] = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    if depth > MAX_DEPTH {
        return None;
    }
    let is_set = |name: &str| schema.get(name).is_some_and(|found| !is_zero(found));
    if let Some((_, name)) = NAMES.iter().find(|(keyword, _)| is_set(keyword)) {
        return Some(name);
    }
    if schema.get("items").is_some_and(Value::is_array) {
        return Some("items");
    }
    let single = ["items", "additionalProperties", "not"]
        .into_iter()
        .filter_map(|name| object(schema, name));
    let listed = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|name| list(schema, name))
        .filter_map(Value::as_object);
    let named = objects(schema, "properties").map(|(_, property)| property);
    single
        .chain(listed)
        .chain(named)
        .find_map(|inner| unsupported(inner, depth + 1))
}

/// The formats in a schema that nothing checks, which is worth a warning.
pub fn unknown_formats(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Value::Object(schema) = schema {
        collect_unknown_formats(schema, 0, &mut found);
    }
    found
}

fn collect_unknown_formats(schema: &Object, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    let format = text(schema, "format").unwrap_or_default();
    let is_known = match text(schema, "type").unwrap_or_default() {
        _ if format.is_empty() => true,
        "" | "string" => crate::formats::is_string_format(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if !is_known {
        found.push(format.to_owned());
    }
    let single = ["items", "not", "additionalProperties"]
        .into_iter()
        .filter_map(|name| object(schema, name));
    let listed = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|name| list(schema, name))
        .filter_map(Value::as_object);
    let named = objects(schema, "properties").map(|(_, property)| property);
    for inner in single.chain(listed).chain(named) {
        collect_unknown_formats(inner, depth + 1, found);
    }
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
            if !TYPES.contains(&found) {
                self.errors
                    .push(not_supported(&path.child("type"), found, &TYPES));
            }
            if found == "null" {
                self.forbidden(
                    &path.child("type"),
                    "type cannot be set to null, use nullable as an alternative",
                );
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
