//! Taking fields out of an object.

use serde_json::{Map, Value};

use super::{Shape, Type};
use crate::field_set::FieldSet;
use crate::path::PathElement;

/// The object without `fields`. What is left empty by it becomes null, as does an atomic value with
/// a field inside removed.
pub(crate) fn remove(kind: Type<'_>, object: &Value, fields: &FieldSet) -> Value {
    match (kind.shape(Some(object)), object) {
        (Shape::Scalar, _) => object.clone(),
        (Shape::List, Value::Array(items)) if !kind.is_atomic_list() => list(kind, items, fields),
        (Shape::Map, Value::Object(members)) if !kind.is_atomic_map() => map(kind, members, fields),
        _ => Value::Null,
    }
}

fn map(kind: Type<'_>, members: &Map<String, Value>, fields: &FieldSet) -> Value {
    let mut left = Map::new();
    for (name, member) in members {
        let step = PathElement::Field(name.clone());
        if fields.members.contains(&step) {
            continue;
        }
        let member = match fields.children.get(&step).filter(|below| !below.is_empty()) {
            Some(below) => remove(kind.member(name).unwrap_or(Type::DEDUCED), member, below),
            None => member.clone(),
        };
        left.insert(name.clone(), member);
    }
    if left.is_empty() {
        Value::Null
    } else {
        Value::Object(left)
    }
}

fn list(kind: Type<'_>, items: &[Value], fields: &FieldSet) -> Value {
    let mut left = Vec::new();
    for item in items {
        let Ok(step) = kind.step(item) else {
            left.push(item.clone());
            continue;
        };
        if fields.members.contains(&step) {
            continue;
        }
        left.push(
            match fields.children.get(&step).filter(|below| !below.is_empty()) {
                Some(below) => remove(kind.element(), item, below),
                None => item.clone(),
            },
        );
    }
    if left.is_empty() {
        Value::Null
    } else {
        Value::Array(left)
    }
}
