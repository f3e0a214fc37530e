//! Resources embedded in others: what each must say of itself, and where they are.

use model::{FieldError, FieldPath, names};
use serde_json::{Map, Value};

use crate::MAX_DEPTH;
use crate::node::{Additional, Node, Schema};

pub(super) fn check_embedded(
    node: &Node,
    value: &Value,
    path: &FieldPath,
    depth: usize,
    is_root: bool,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_DEPTH || node.go_name.is_some() {
        return;
    }
    match value {
        Value::Object(members) => {
            if node.embedded && !is_root {
                check_resource(members, path, errors);
            }
            for (name, member) in members {
                if let Some(field) = node.properties.get(name) {
                    check_embedded(
                        &field.schema,
                        member,
                        &path.child(name),
                        depth + 1,
                        false,
                        errors,
                    );
                } else if let Additional::Schema(schema) = &node.additional {
                    check_embedded(schema, member, &path.key(name), depth + 1, false, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                check_embedded(schema, item, &path.index(index), depth + 1, false, errors);
            }
        }
        _ => {}
    }
}

/// The resources embedded in an object, each with its place.
pub fn embedded<'a>(schema: &Schema, object: &'a Value) -> Vec<(FieldPath, &'a Value)> {
    let mut found = Vec::new();
    collect_embedded(schema, object, &FieldPath::root(), 0, &mut found);
    found
}

fn collect_embedded<'a>(
    node: &Node,
    value: &'a Value,
    path: &FieldPath,
    depth: usize,
    found: &mut Vec<(FieldPath, &'a Value)>,
) {
    if depth > MAX_DEPTH || node.go_name.is_some() {
        return;
    }
    match value {
        Value::Object(members) => {
            if node.embedded && depth > 0 && members.contains_key("metadata") {
                found.push((path.clone(), value));
            }
            for (name, member) in members {
                if let Some(field) = node.properties.get(name) {
                    let path = path.child(name);
                    collect_embedded(&field.schema, member, &path, depth + 1, found);
                } else if let Additional::Schema(schema) = &node.additional {
                    collect_embedded(schema, member, &path.key(name), depth + 1, found);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                collect_embedded(schema, item, &path.index(index), depth + 1, found);
            }
        }
        _ => {}
    }
}

/// What every resource says of itself.
pub fn check_resource(
    members: &Map<String, Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match members.get(name) {
            None => errors.push(FieldError::required(&path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail = "may have mixed case, but should otherwise match: ".to_owned();
                    errors.push(FieldError::invalid(
                        &path,
                        text.as_str(),
                        detail + &wrong.join(","),
                    ));
                }
            }
            Some(Value::String(text)) => {
                if let Err(error) = model::GroupVersion::parse(text) {
                    errors.push(FieldError::invalid(&path, text.as_str(), error.to_string()));
                }
            }
            Some(other) => errors.push(FieldError::invalid(
                &path,
                other.clone(),
                "must be a string",
            )),
        }
    }
}
