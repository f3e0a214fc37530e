//! Structural defaulting of custom resources.

use serde_json::Value;

use crate::MAX_DEPTH;
use crate::node::{Additional, Node, Schema};

/// Fills in the defaults of a custom resource's schema. A null where nulls are not allowed counts
/// as absent: it takes the default, and without one it is dropped.
pub fn default(schema: &Schema, object: &mut Value) {
    value(schema, object, 0);
}

fn value(node: &Node, found: &mut Value, depth: usize) {
    // Metadata has a built-in type, whose OpenAPI defaults are Go's zero values.
    if depth > MAX_DEPTH || node.go_name.is_some() {
        return;
    }
    match found {
        Value::Object(members) => {
            for (name, field) in &node.properties {
                let Some(default) = &field.schema.default else {
                    continue;
                };
                match members.get(name) {
                    Some(Value::Null) if !field.schema.nullable => {}
                    Some(_) => continue,
                    None => {}
                }
                if !default.is_null() {
                    members.insert(name.clone(), default.clone());
                }
            }
            members.retain(|name, member| {
                let schema = match (node.properties.get(name), &node.additional) {
                    (Some(field), _) => &field.schema,
                    (None, Additional::Schema(schema)) => schema,
                    (None, _) => return true,
                };
                replace_null(schema, member);
                value(schema, member, depth + 1);
                !member.is_null() || schema.nullable
            });
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for item in items {
                replace_null(schema, item);
                value(schema, item, depth + 1);
            }
        }
        _ => {}
    }
}

fn replace_null(schema: &Node, found: &mut Value) {
    if let Some(default) = schema
        .default
        .as_ref()
        .filter(|_| found.is_null() && !schema.nullable)
    {
        *found = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, object: Value, expect: Value) {
        let schema = Schema::from_structural(&schema).expect("structural");
        let mut found = object;
        default(&schema, &mut found);
        assert_eq!(found, expect);
    }

    #[test]
    fn defaults_nest_and_nulls_count_as_absent() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "o": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
            "p": {"type": "object", "properties": {"b": {"type": "integer", "default": 1}}},
            "n": {"type": "string", "nullable": true, "default": "y"},
            "c": {"type": "string"},
            "l": {"type": "array", "items": {"type": "string", "default": "e"}},
            "m": {"type": "object", "additionalProperties": {"type": "string", "default": "v"}}}});
        check(
            schema.clone(),
            json!({}),
            json!({"a": "x", "o": {"b": 1}, "n": "y"}),
        );
        check(
            schema,
            json!({"a": null, "o": {}, "p": {}, "n": null, "c": null, "l": [null, "z"], "m": {"k": null}}),
            json!({"a": "x", "o": {"b": 1}, "p": {"b": 1}, "n": null, "l": ["e", "z"], "m": {"k": "v"}}),
        );
    }
}
