//! The fields an object has, and sets of fields seen through a schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Shape, Type};
use crate::field_set::FieldSet;
use crate::path::PathElement;

/// The fields that applying `object` lays claim to.
pub(crate) fn field_set(kind: Type<'_>, object: &Value) -> FieldSet {
    value(kind, object).1
}

/// Whether the value itself is a field, and the fields in it.
fn value(kind: Type<'_>, found: &Value) -> (bool, FieldSet) {
    match (kind.shape(Some(found)), found) {
        (Shape::Scalar, _) => (true, FieldSet::new()),
        (Shape::List, _) if kind.is_atomic_list() => (true, FieldSet::new()),
        (Shape::Map, _) if kind.is_atomic_map() => (true, FieldSet::new()),
        (Shape::List, Value::Array(items)) => (false, list(kind, items)),
        (Shape::Map, Value::Object(members)) => (false, map(kind, members)),
        _ => (false, FieldSet::new()),
    }
}

fn map(kind: Type<'_>, members: &Map<String, Value>) -> FieldSet {
    let mut set = FieldSet::new();
    for (name, member) in members {
        let (is_field, below) = value(kind.member(name).unwrap_or(Type::DEDUCED), member);
        let is_empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
        let is_declared = kind.field(name).is_some();
        set.put(
            PathElement::Field(name.clone()),
            is_field || is_empty || !is_declared,
            below,
        );
    }
    set
}

fn list(kind: Type<'_>, items: &[Value]) -> FieldSet {
    let mut set = FieldSet::new();
    let mut repeated = BTreeSet::new();
    for item in items {
        let Ok(step) = kind.step(item) else { continue };
        if set.members.contains(&step) {
            repeated.insert(step);
        } else {
            set.put(step, true, value(kind.element(), item).1);
        }
    }
    // Elements that cannot be told apart are owned together, as a whole.
    for step in repeated {
        set.children.remove(&step);
    }
    set
}

/// The set with the declared fields on its paths added: owning what is in a struct's field owns the
/// field.
pub(crate) fn ensure_named(kind: Type<'_>, set: &FieldSet) -> FieldSet {
    let mut named = FieldSet {
        members: set.members.clone(),
        ..FieldSet::new()
    };
    for (step, below) in &set.children {
        let child = match step {
            PathElement::Field(name) => {
                if kind.field(name).is_some() {
                    named.members.insert(step.clone());
                }
                kind.member(name).unwrap_or(Type::DEDUCED)
            }
            PathElement::Key(_) => kind.element(),
            _ => Type::DEDUCED,
        };
        named
            .children
            .insert(step.clone(), ensure_named(child, below));
    }
    named
}

/// Adapts a set to a schema that changed since: what became atomic is owned as a whole.
pub(crate) fn reconcile(kind: Type<'_>, set: &FieldSet) -> FieldSet {
    let mut reconciled = FieldSet {
        members: set.members.clone(),
        ..FieldSet::new()
    };
    for (step, below) in &set.children {
        let child = match step {
            PathElement::Field(name) => kind.member(name),
            _ => Some(kind.element()),
        };
        let Some(child) =
            child.filter(|_| !kind.is_deduced_map() || !matches!(step, PathElement::Field(_)))
        else {
            reconciled.children.insert(step.clone(), below.clone());
            continue;
        };
        let goes_into_list = below
            .first_step()
            .is_some_and(|step| !matches!(step, PathElement::Field(_)));
        let is_atomic = if goes_into_list {
            child.shape(Some(&Value::Array(Vec::new()))) == Shape::List && child.is_atomic_list()
        } else {
            child.shape(None) == Shape::Map && child.is_atomic_map()
        };
        if is_atomic {
            reconciled.members.insert(step.clone());
        } else {
            reconciled
                .children
                .insert(step.clone(), reconcile(child, below));
        }
    }
    reconciled
}
