//! What makes a schema structural.

use model::{FieldError, FieldPath};
use regex::Regex;
use serde_json::Value;

use super::{Object, flag, is_zero, list, object, objects, text};

/// Where a schema stands relative to its parent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Items,
    Field,
}

/// Checks a well-formed schema; errors come sorted by their text.
pub(super) fn check(root: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut found = Vec::new();
    structure(root, Level::Root, path, &mut found);
    completeness(root, path, &mut found);
    found.sort_by_cached_key(ToString::to_string);
    errors.append(&mut found);
}

fn structure(schema: &Object, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type").unwrap_or_default();
    if kind == "array" && object(schema, "items").is_none() {
        errors.push(FieldError::required(
            &path.child("items"),
            "must be specified",
        ));
    }
    if let Some(items) = object(schema, "items") {
        structure(items, Level::Items, &path.child("items"), errors);
    }
    for (name, property) in objects(schema, "properties") {
        structure(
            property,
            Level::Field,
            &path.child("properties").key(name),
            errors,
        );
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if let Value::Object(additional) = additional {
            structure(additional, Level::Field, &path, errors);
        }
    }
    extensions(schema, path, errors);
    values(schema, path, Skip::of(schema), errors);
    types(schema, kind, level, path, errors);
}

fn extensions(schema: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(schema, name) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(name), true, detail));
        }
    }
}

fn types(
    schema: &Object,
    kind: &str,
    level: Level,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let is_embedded = flag(schema, "x-kubernetes-embedded-resource");
    let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let type_path = path.child("type");
    if is_embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(&type_path, detail)
        } else {
            FieldError::invalid(&type_path, kind, detail)
        });
    } else if kind.is_empty() && !flag(schema, "x-kubernetes-int-or-string") && !preserves {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Items => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&type_path, detail));
    }
    if is_embedded && schema.contains_key("additionalProperties") {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(
            &path.child("additionalProperties"),
            detail,
        ));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            &type_path,
            kind,
            "must be object at the root",
        ));
    }
    let properties = object(schema, "properties");
    let is_resource = level == Level::Root || is_embedded;
    for name in ["kind", "apiVersion"] {
        let property = properties
            .and_then(|found| object(found, name))
            .filter(|_| is_resource);
        let found = property.map(|property| text(property, "type").unwrap_or_default());
        if let Some(found) = found.filter(|found| *found != "string") {
            let path = path.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(&path, found, "must be string"));
        }
    }
    if let Some(metadata) = properties.and_then(|found| object(found, "metadata")) {
        metadata_rules(
            metadata,
            is_resource,
            level,
            &path.child("properties").key("metadata"),
            errors,
        );
    }
    if is_embedded && !preserves && properties.is_none_or(Object::is_empty) {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

fn metadata_rules(
    metadata: &Object,
    is_resource: bool,
    level: Level,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let kind = text(metadata, "type").unwrap_or_default();
    if is_resource && kind != "object" {
        errors.push(FieldError::invalid(
            &path.child("type"),
            kind,
            "must be object",
        ));
    }
    let is_name = |name: &String| name == "name" || name == "generateName";
    let only_names = object(metadata, "properties").is_none_or(|found| found.keys().all(is_name));
    let is_allowed = |(name, value): (&String, &Value)| {
        matches!(name.as_str(), "type" | "default" | "properties")
            || is_zero(value)
            || *value == Value::Bool(false)
    };
    if level == Level::Root && !(only_names && metadata.iter().all(is_allowed)) {
        let detail = "must not specify anything other than name and generateName, but metadata is \
                      implicitly specified";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// The usual way to spell an integer or a string: types in an `anyOf` that are overlooked.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    first_all_of: bool,
}

impl Skip {
    fn of(schema: &Object) -> Self {
        Self {
            any_of: is_int_or_string(schema),
            first_all_of: list(schema, "allOf")
                .first()
                .and_then(Value::as_object)
                .is_some_and(is_int_or_string),
        }
    }
}

fn is_int_or_string(schema: &Object) -> bool {
    list(schema, "anyOf")
        == [
            serde_json::json!({"type": "integer"}),
            serde_json::json!({"type": "string"}),
        ]
}

/// Checks the restrictions on values, and the schemas inside them.
fn values(schema: &Object, path: &FieldPath, skip: Skip, errors: &mut Vec<FieldError>) {
    for junctor in ["anyOf", "allOf", "oneOf"] {
        if junctor == "anyOf" && skip.any_of {
            continue;
        }
        for (index, inner) in list(schema, junctor).iter().enumerate() {
            let Value::Object(inner) = inner else {
                continue;
            };
            let skip = Skip {
                any_of: junctor == "allOf" && index == 0 && skip.first_all_of,
                first_all_of: false,
            };
            nested(inner, &path.child(junctor).index(index), skip, errors);
        }
    }
    if let Some(not) = object(schema, "not") {
        nested(not, &path.child("not"), Skip::default(), errors);
    }
    let pattern = text(schema, "pattern").unwrap_or_default();
    if let Err(error) = Regex::new(pattern) {
        let error = go_regex_error(pattern, &error);
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// The error as Go words it, where the commonest causes can be told apart.
fn go_regex_error(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let cause = if text.contains("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if text.contains("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if text.contains("unclosed character class") {
        let start = pattern.rfind('[').map_or(pattern, |at| &pattern[at..]);
        format!("missing closing ]: `{start}`")
    } else if text.contains("repetition operator missing expression") {
        let operator = pattern
            .find(['*', '+', '?'])
            .map_or("", |at| &pattern[at..=at]);
        format!("missing argument to repetition operator: `{operator}`")
    } else {
        format!("invalid syntax: `{pattern}`")
    };
    format!("error parsing regexp: {cause}")
}

/// A schema inside a junctor restricts values; it may not define structure.
fn nested(schema: &Object, path: &FieldPath, skip: Skip, errors: &mut Vec<FieldError>) {
    values(schema, path, skip, errors);
    if let Some(items) = object(schema, "items") {
        nested(items, &path.child("items"), Skip::default(), errors);
    }
    for (name, property) in objects(schema, "properties") {
        let path = path.child("properties").key(name);
        nested(property, &path, Skip::default(), errors);
    }
    let mut forbid =
        |name: &str, detail: &str| errors.push(FieldError::forbidden(&path.child(name), detail));
    let is_set = |name: &str| schema.get(name).is_some_and(|found| !is_zero(found));
    if is_set("type") {
        forbid("type", "must be empty to be structural");
    }
    if schema.contains_key("additionalProperties") {
        forbid("additionalProperties", "must be undefined to be structural");
    }
    if schema.contains_key("default") {
        forbid("default", "must be undefined to be structural");
    }
    for name in ["title", "description", "x-kubernetes-list-map-keys"] {
        if is_set(name) {
            forbid(name, "must be empty to be structural");
        }
    }
    for name in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if flag(schema, name) {
            forbid(name, "must be false to be structural");
        }
    }
    for name in ["x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if schema.contains_key(name) {
            forbid(name, "must be undefined to be structural");
        }
    }
    if is_set("x-kubernetes-validations") {
        forbid("x-kubernetes-validations", "must be empty to be structural");
    }
    if object(schema, "properties").is_some_and(|found| found.contains_key("metadata")) {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(
            &path,
            "must not be specified in a nested context",
        ));
    }
}

/// What a junctor at the root speaks of must be defined outside of it. As upstream, junctors further
/// down are not looked at.
fn completeness(schema: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let junctors = ["allOf", "anyOf", "oneOf"];
    for junctor in junctors {
        for (index, inner) in list(schema, junctor).iter().enumerate() {
            if let Value::Object(inner) = inner {
                defined(
                    inner,
                    Some(schema),
                    path,
                    &path.child(junctor).index(index),
                    errors,
                );
            }
        }
    }
    if let Some(not) = object(schema, "not") {
        defined(not, Some(schema), path, &path.child("not"), errors);
    }
}

fn defined(
    nested: &Object,
    outer: Option<&Object>,
    outer_path: &FieldPath,
    nested_path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(outer) = outer else {
        let detail = format!("because it is defined in {nested_path}");
        errors.push(FieldError::required(outer_path, detail));
        return;
    };
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(nested, junctor).iter().enumerate() {
            if let Value::Object(inner) = inner {
                defined(
                    inner,
                    Some(outer),
                    outer_path,
                    &nested_path.child(junctor).index(index),
                    errors,
                );
            }
        }
    }
    if let Some(not) = object(nested, "not") {
        defined(
            not,
            Some(outer),
            outer_path,
            &nested_path.child("not"),
            errors,
        );
    }
    if let Some(items) = object(nested, "items") {
        defined(
            items,
            object(outer, "items"),
            &outer_path.child("items"),
            &nested_path.child("items"),
            errors,
        );
    }
    for (name, property) in objects(nested, "properties") {
        let path = outer_path.child("properties").key(name);
        let nested_path = nested_path.child("properties").key(name);
        let found = object(outer, "properties").and_then(|properties| object(properties, name));
        // A name that is no property may be one of the additional ones.
        let found = found.or_else(|| object(outer, "additionalProperties"));
        defined(property, found, &path, &nested_path, errors);
    }
}
