//! Rules of single levels of a schema: the extensions for lists and maps, the frame of CEL rules,
//! and defaults, which must themselves be valid.

use std::collections::HashSet;

use model::{FieldError, FieldPath};
use serde_json::Value;

use super::{Object, flag, list, not_supported, object, objects, text};
use crate::{Schema, prune, validate};

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const VALIDATIONS: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

pub(super) fn check_extensions(schema: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type").unwrap_or_default();
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(
            &path.child(PRESERVE),
            false,
            "must be true or undefined",
        ));
    }
    let mut wrong_type = |wanted: &str, extension: &str| {
        let (path, detail) = (
            path.child("type"),
            format!("must be {wanted} if {extension} is specified"),
        );
        errors.push(if kind.is_empty() {
            FieldError::required(&path, detail)
        } else {
            FieldError::invalid(&path, kind, detail)
        });
    };
    let (list_type, map_type) = (text(schema, LIST_TYPE), text(schema, MAP_TYPE));
    if map_type.is_some() && kind != "object" {
        wrong_type("object", MAP_TYPE);
    }
    if let Some(found) = map_type.filter(|found| !["atomic", "granular"].contains(found)) {
        errors.push(not_supported(
            &path.child(MAP_TYPE),
            found,
            &["atomic", "granular"],
        ));
    }
    if list_type.is_some() && kind != "array" {
        let (path, detail) = (
            path.child("type"),
            format!("must be array if {LIST_TYPE} is specified"),
        );
        errors.push(if kind.is_empty() {
            FieldError::required(&path, detail)
        } else {
            FieldError::invalid(&path, kind, detail)
        });
    } else if list_type == Some("set") {
        check_set(schema, path, errors);
    }
    if let Some(found) = list_type.filter(|found| !["atomic", "set", "map"].contains(found)) {
        errors.push(not_supported(
            &path.child(LIST_TYPE),
            found,
            &["atomic", "set", "map"],
        ));
    }
    let keys = list(schema, MAP_KEYS);
    if !keys.is_empty() && list_type != Some("map") {
        let (path, detail) = (
            path.child(LIST_TYPE),
            format!("must be map if {MAP_KEYS} is non-empty"),
        );
        errors.push(match list_type {
            None => FieldError::required(&path, detail),
            Some(found) => FieldError::invalid(&path, found, detail),
        });
    }
    if list_type == Some("map") {
        check_map_list(schema, keys, path, errors);
    }
    let is_compared = matches!(list_type, Some("map" | "set"));
    if is_compared && object(schema, "items").is_some_and(|items| flag(items, "nullable")) {
        let detail = format!(
            "cannot be nullable when x-kubernetes-list-type is {}",
            list_type.unwrap_or_default()
        );
        errors.push(FieldError::forbidden(
            &path.child("items").child("nullable"),
            detail,
        ));
    }
}

/// The elements of a set are compared as a whole.
fn check_set(schema: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(items) = object(schema, "items") else {
        return;
    };
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (extension, is_fine) = match text(items, "type") {
        Some("array") => (
            LIST_TYPE,
            matches!(text(items, LIST_TYPE), None | Some("atomic")),
        ),
        Some("object") => (MAP_TYPE, text(items, MAP_TYPE) == Some("atomic")),
        _ => return,
    };
    if !is_fine {
        let found = items.get(LIST_TYPE).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(
            &path.child("items").child(extension),
            found,
            detail,
        ));
    }
}

fn check_map_list(schema: &Object, keys: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if keys.is_empty() {
        let detail = format!("must not be empty if {LIST_TYPE} is map");
        errors.push(FieldError::required(&path.child(MAP_KEYS), detail));
    }
    let items_path = path.child("items");
    let Some(items) = object(schema, "items") else {
        let detail = format!("must have a schema if {LIST_TYPE} is map");
        errors.push(FieldError::required(&items_path, detail));
        return;
    };
    let kind = text(items, "type").unwrap_or_default();
    if kind != "object" {
        let detail = format!("must be object if parent array's {LIST_TYPE} is map");
        errors.push(FieldError::invalid(&items_path.child("type"), kind, detail));
        return;
    }
    let properties = object(items, "properties");
    let required = list(items, "required");
    let mut seen = HashSet::new();
    for key in keys {
        let name = key.as_str().unwrap_or_default();
        let keys_error =
            |detail: &str| FieldError::invalid(&path.child(MAP_KEYS), keys.to_vec(), detail);
        let property_path = items_path.child("properties").key(name);
        match properties.and_then(|properties| object(properties, name)) {
            Some(property) if matches!(text(property, "type"), Some("array" | "object")) => {
                let detail = format!("must be a scalar type if parent array's {LIST_TYPE} is map");
                errors.push(FieldError::invalid(
                    &property_path.child("type"),
                    kind,
                    detail,
                ));
            }
            Some(property) => {
                let is_required = required.iter().any(|found| found == key);
                if !is_required && !property.contains_key("default") {
                    let detail = format!(
                        "this property is in {MAP_KEYS}, so it must have a default or be a required property"
                    );
                    errors.push(FieldError::required(
                        &property_path.child("default"),
                        detail,
                    ));
                }
                if flag(property, "nullable") {
                    let detail =
                        format!("this property is in {MAP_KEYS}, so it cannot be nullable");
                    errors.push(FieldError::forbidden(
                        &property_path.child("nullable"),
                        detail,
                    ));
                }
            }
            None => errors.push(keys_error("entries must all be names of item properties")),
        }
        if !seen.insert(name) {
            errors.push(keys_error("must not contain duplicate entries"));
        }
    }
}

/// The frame of CEL rules: everything but the expressions.
pub(super) fn check_frame(schema: &Object, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, rule) in list(schema, VALIDATIONS).iter().enumerate() {
        let path = path.child(VALIDATIONS).index(index);
        let member = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let (expression, message) = (member("rule"), member("message"));
        let has_break = |text: &str| text.contains(['\n', '\r']);
        let invalid =
            |name: &str, detail: &str| FieldError::invalid(&path.child(name), member(name), detail);
        if expression.trim().is_empty() {
            errors.push(FieldError::required(
                &path.child("rule"),
                "rule is not specified",
            ));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(invalid("message", "must be non-empty if specified"));
        } else if has_break(message.trim()) {
            errors.push(invalid("message", "must not contain line breaks"));
        } else if has_break(expression.trim()) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), detail));
        }
        let message_expression = member("messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(
                &path.child("messageExpression"),
                detail,
            ));
        }
        if let Some(reason) = rule
            .get("reason")
            .and_then(Value::as_str)
            .filter(|found| !REASONS.contains(found))
        {
            errors.push(not_supported(&path.child("reason"), reason, &REASONS));
        }
        let field_path = member("fieldPath");
        if field_path.is_empty() {
            continue;
        }
        if field_path.trim().is_empty() {
            errors.push(invalid("fieldPath", "must be non-empty if specified"));
        }
        if has_break(field_path) {
            errors.push(invalid("fieldPath", "must not contain line breaks"));
        }
        if super::field_path(&Value::Object(schema.clone()), field_path, true).is_err() {
            errors.push(invalid("fieldPath", "must be a valid path"));
        }
    }
}

/// Every default must be pruned and valid for its own schema.
pub(super) fn check_defaults(root: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Value::Object(schema) = root else { return };
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let path = path.child("default");
        // A schema that does not compile has been reported before.
        if let Ok(compiled) = Schema::from_structural(root) {
            let mut pruned = default.clone();
            if prune(&compiled, &mut pruned).is_empty() {
                errors.extend(validate::validate_at(&compiled, default, None, &path));
                if let Some(members) = default.as_object().filter(|_| compiled.embedded) {
                    validate::check_resource(members, &path, errors);
                }
            } else {
                errors.push(FieldError::invalid(
                    &path,
                    default.clone(),
                    "must not have unknown fields",
                ));
            }
        }
    }
    for (name, _) in objects(schema, "properties") {
        check_defaults(
            &schema["properties"][name.as_str()],
            &path.child("properties").key(name),
            errors,
        );
    }
    for name in ["items", "additionalProperties"] {
        if object(schema, name).is_some() {
            check_defaults(&schema[name], &path.child(name), errors);
        }
    }
}
