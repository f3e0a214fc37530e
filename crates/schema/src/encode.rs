//! What Go's JSON encoder writes for a built-in object: structs that are no pointers always stand
//! there, empty values marked `omitempty` never do.

use serde_json::{Map, Value};

use crate::MAX_DEPTH;
use crate::decode::{SCHEMA_PROPS, is_struct, zero};
use crate::node::{Additional, Field, GoField, Node, Schema, Special, ValueType};

/// Brings a decoded built-in object into the form Go's encoder would give it.
pub fn encode(schema: &Schema, object: &mut Value) {
    value(schema, object, true, 0);
}

/// As [`encode`], for an object that was not stored yet: a list without items is still one, where
/// the field is always written. Field ownership is counted in this form.
pub fn encode_unstored(schema: &Schema, object: &mut Value) {
    value(schema, object, false, 0);
}

fn value(node: &Node, found: &mut Value, stored: bool, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match node.special {
        Special::None => {}
        Special::SchemaOr => return schema_or(found, stored, depth),
        _ => return,
    }
    match found {
        Value::Object(members) => match &node.additional {
            Additional::Schema(schema) => {
                for member in members.values_mut() {
                    value(schema, member, stored, depth + 1);
                }
            }
            _ => structure(node, members, stored, depth),
        },
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for item in items {
                    value(schema, item, stored, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// A JSON schema, or a list of them; what is simpler stays.
fn schema_or(found: &mut Value, stored: bool, depth: usize) {
    let schema = Schema::definition(SCHEMA_PROPS).expect("generated tables hold JSONSchemaProps");
    match found {
        Value::Object(_) => value(&schema, found, stored, depth + 1),
        Value::Array(items) => {
            for item in items.iter_mut().filter(|item| item.is_object()) {
                value(&schema, item, stored, depth + 1);
            }
        }
        _ => {}
    }
}

fn structure(node: &Node, members: &mut Map<String, Value>, stored: bool, depth: usize) {
    for (name, field) in &node.properties {
        let Some(go) = &field.go else { continue };
        if let Some(found) = members.get_mut(name) {
            value(&field.schema, found, stored, depth + 1);
            if omitted(field, go, found) {
                members.remove(name);
            } else if stored
                && go.always
                && !go.pointer
                && name != "items"
                && found.as_array().is_some_and(Vec::is_empty)
            {
                // A list without items is no list once it was stored (answers to LIST never are).
                *found = Value::Null;
            }
        } else if let Some(mut absent) = written_when_absent(field, go) {
            value(&field.schema, &mut absent, stored, depth + 1);
            members.insert(name.clone(), absent);
        }
    }
}

/// Whether a value that is there is left out: zero, and the field says to omit zeros.
fn omitted(field: &Field, go: &GoField, found: &Value) -> bool {
    if go.pointer || go.always {
        return false;
    }
    if is_struct(&field.schema) {
        return go.omit_zero && found.as_object().is_some_and(Map::is_empty);
    }
    if matches!(
        field.schema.special,
        Special::Quantity | Special::IntOrString
    ) {
        return false;
    }
    match found {
        Value::Null => field.schema.special == Special::None,
        Value::Bool(found) => !found,
        Value::Number(found) => found.as_f64() == Some(0.0),
        Value::String(found) => found.is_empty(),
        Value::Array(found) => found.is_empty(),
        Value::Object(found) => found.is_empty() && field.schema.special == Special::None,
    }
}

/// What the encoder writes for a field that was never set.
fn written_when_absent(field: &Field, go: &GoField) -> Option<Value> {
    if go.pointer {
        return go.always.then_some(Value::Null);
    }
    let node = &field.schema;
    let is_scalar_or_list = node.special == Special::None && !is_struct(node);
    if is_scalar_or_list && node.value_type != ValueType::Any {
        return go.always.then(|| zero(node));
    }
    (!go.omit_zero).then(|| zero(node))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(group: &str, kind: &str, mut object: Value, expect: Value) {
        let schema = Schema::built_in(group, "v1", kind).expect("built in");
        encode(&schema, &mut object);
        assert_eq!(object, expect, "{kind}");
    }

    #[test]
    fn schemas_within_schemas_lose_what_is_empty() {
        let schema = json!({"type": "string", "format": "", "nullable": false});
        let open = json!({"properties": {"a": {"items": schema}, "b": {"additionalProperties": schema},
            "c": {"additionalProperties": true}}});
        let versions = |schema: Value| json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
        let mut definition = json!({"spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Cluster",
                "versions": versions(open)}});
        let kind = Schema::built_in("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        encode(&kind.expect("built in"), &mut definition);
        let plain = json!({"type": "string"});
        let expect = json!({"properties": {"a": {"items": plain}, "b": {"additionalProperties": plain},
            "c": {"additionalProperties": true}}});
        assert_eq!(definition["spec"]["versions"], versions(expect));
    }

    #[test]
    fn structs_appear_and_empty_values_vanish() {
        check(
            "",
            "ConfigMap",
            json!({"metadata": {"name": "c", "labels": {}}, "data": {}}),
            json!({"metadata": {"name": "c"}}),
        );
        check(
            "apps",
            "DaemonSet",
            json!({"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "c"}]}}}}),
            json!({"metadata": {},
                "spec": {"selector": null, "updateStrategy": {},
                    "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}}},
                "status": {"currentNumberScheduled": 0, "desiredNumberScheduled": 0,
                    "numberMisscheduled": 0, "numberReady": 0}}),
        );
        check(
            "rbac.authorization.k8s.io",
            "Role",
            json!({"metadata": {}}),
            json!({"metadata": {}, "rules": null}),
        );
        check(
            "apps",
            "Deployment",
            json!({"metadata": {}, "spec": {"replicas": 0, "minReadySeconds": 0, "paused": false,
                "selector": {}, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}}}),
            json!({"metadata": {}, "spec": {"replicas": 0, "selector": {}, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {}}),
        );
    }
}
