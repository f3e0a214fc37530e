//! The published schemas of custom resources.

use serde_json::{Map, Value, json};

use super::Resource;
use super::components::Form;
use crate::MAX_DEPTH;

/// `com.example.stable.v1.CronTab`: the group's labels backwards.
pub(super) fn name(group: &str, version: &str, kind: &str) -> String {
    let mut labels: Vec<&str> = group.split('.').collect();
    labels.reverse();
    format!("{}.{version}.{kind}", labels.join("."))
}

fn kinds(resource: &Resource, kind: &str) -> Value {
    json!([{"group": resource.group, "kind": kind, "version": resource.version}])
}

/// The resource's own schema, with what every object has.
pub(super) fn object(resource: &Resource, schema: &Value, object_meta: Value, form: Form) -> Value {
    let mut schema = schema.clone();
    match form {
        Form::V2 => simplify(&mut schema, 0),
        Form::V3 => spell_out(&mut schema, 0),
    }
    let Value::Object(members) = &mut schema else {
        return json!({"type": "object"});
    };
    let keeps_all = members.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let has_properties = members.get("properties").is_some_and(Value::is_object);
    members.insert(
        "x-kubernetes-group-version-kind".to_owned(),
        kinds(resource, &resource.kind),
    );
    members.insert("type".to_owned(), Value::from("object"));
    if let Some(selectable) = selectable(resource) {
        members.insert(SELECTABLE.to_owned(), selectable);
    }
    // A resource that keeps everything is published without properties in the older format.
    if form == Form::V2 && keeps_all && !has_properties {
        return schema;
    }
    let properties = members
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        let metadata = match form {
            Form::V2 => object_meta,
            Form::V3 => json!({"allOf": [object_meta]}),
        };
        properties.insert("metadata".to_owned(), metadata);
    }
    schema
}

pub(super) fn list(resource: &Resource, item: Value, list_meta: Value) -> Value {
    let kind = &resource.kind;
    let conventions = "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
    let mut list = json!({
        "description": format!("{kind}List is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "items": {
                "description": format!("List of {}. {conventions}", resource.plural),
                "type": "array",
                "items": item,
            },
            "metadata": {
                "description": format!("Standard list metadata. {conventions}#types-kinds"),
                "allOf": [list_meta],
            },
        },
        "x-kubernetes-group-version-kind": kinds(resource, &format!("{}List", resource.kind)),
    });
    if let Some(selectable) = selectable(resource) {
        list[SELECTABLE] = selectable;
    }
    list
}

const SELECTABLE: &str = "x-kubernetes-selectable-fields";

fn selectable(resource: &Resource) -> Option<Value> {
    let fields = &resource.selectable;
    let fields: Vec<Value> = fields
        .iter()
        .map(|path| json!({"fieldPath": path}))
        .collect();
    (!fields.is_empty()).then_some(Value::Array(fields))
}

/// Says in the words of OpenAPI what an extension means.
fn spell_out(schema: &mut Value, depth: usize) {
    let Value::Object(members) = schema else {
        return;
    };
    if depth > MAX_DEPTH {
        return members.clear();
    }
    let either = members.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    if either && !members.contains_key("anyOf") {
        let both = json!([{"type": "integer"}, {"type": "string"}]);
        members.insert("anyOf".to_owned(), both);
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for property in properties.values_mut() {
            spell_out(property, depth + 1);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            spell_out(inner, depth + 1);
        }
    }
}

/// Leaves out what the older format cannot say.
fn simplify(schema: &mut Value, depth: usize) {
    let Value::Object(members) = schema else {
        return;
    };
    if depth > MAX_DEPTH {
        members.clear();
        return;
    }
    for name in ["allOf", "anyOf", "oneOf", "not", "default"] {
        members.remove(name);
    }
    let is =
        |members: &Map<String, Value>, name: &str| members.get(name) == Some(&Value::Bool(true));
    if is(members, "x-kubernetes-int-or-string") {
        members.remove("type");
    }
    // A value that may be null has no type that could be named; nothing inside is told either.
    if is(members, "nullable") || is(members, "x-kubernetes-preserve-unknown-fields") {
        for name in ["items", "properties"] {
            members.remove(name);
        }
    }
    if members.remove("nullable") == Some(Value::Bool(true)) {
        members.remove("type");
        members.remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|property| simplify(property, depth + 1));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            simplify(inner, depth + 1);
        }
    }
}
