//! Strategic merge patch: a merge patch that knows the built-in types, and takes directives.
//!
//! Lists merge element by element where the type says so, told apart by a merge key (or, for
//! scalars, by value). In the patch, `$patch` replaces or deletes, `$retainKeys` clears all members
//! but those listed, `$deleteFromPrimitiveList/x` removes scalars from `x`, and `$setElementOrder/x`
//! gives the order of `x`.

mod order;

use schema::{Additional, Node, Patch, Schema, Special, ValueType};
use serde_json::{Map, Value};

use crate::Error;
use crate::path::compare_values;
use crate::typed::go_plain;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";
const MAX_DEPTH: usize = schema::MAX_DEPTH;

type Object = Map<String, Value>;

/// Merges a patch into an object of a built-in type.
pub fn strategic_merge(schema: &Schema, target: Value, patch: &Value) -> Result<Value, Error> {
    let (Value::Object(target), Value::Object(patch)) = (target, patch) else {
        let text = "json: cannot unmarshal array into Go value of type map[string]interface {}";
        return Err(Error::Malformed(text.to_owned()));
    };
    let merged = merge_maps(Some(schema), target, patch.clone(), 0)?;
    let merged = Value::Object(merged);
    check_containers(schema, &merged, 0)?;
    Ok(merged)
}

fn internal(text: impl Into<String>) -> Error {
    Error::Internal(text.into())
}

/// The schema of a member's value and what is said about merging it.
fn member<'a>(node: Option<&'a Node>, name: &str) -> (Option<&'a Node>, Patch) {
    let Some(node) = node else {
        return (None, Patch::default());
    };
    match (node.properties.get(name), &node.additional) {
        (Some(field), _) => (Some(&*field.schema), field.patch.clone()),
        (None, Additional::Schema(schema)) => (Some(&**schema), Patch::default()),
        _ => (None, Patch::default()),
    }
}

fn merge_maps(
    node: Option<&Node>,
    mut target: Object,
    mut patch: Object,
    depth: usize,
) -> Result<Object, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Unprocessable);
    }
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            Some("merge") => merge_maps(node, target, patch, depth),
            _ => {
                let name = go_plain(&directive);
                patch.insert(DIRECTIVE.to_owned(), directive);
                Err(internal(format!(
                    "unknown patch type: {name} in map: {}",
                    go_plain(&Value::Object(patch))
                )))
            }
        };
    }
    retain_keys(&mut target, &mut patch)?;
    order::merge_ordered(node, &mut target, &mut patch, depth)?;
    for (name, value) in patch {
        if let Some(name) = name.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(&mut target, name, &value)?;
            continue;
        }
        if value.is_null() {
            target.remove(&name);
            continue;
        }
        let (schema, strategy) = member(node, &name);
        let merged = match (target.remove(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !strategy.replace => {
                Value::Object(merge_maps(schema, old, new, depth + 1)?)
            }
            (Some(Value::Array(old)), Value::Array(new)) if strategy.merge => {
                let items = schema.and_then(|node| node.items.as_deref());
                let merge_key = strategy.merge_key.as_deref().unwrap_or_default();
                Value::Array(merge_lists(items, old, new, merge_key, depth + 1)?)
            }
            (Some(Value::Object(_)), new @ Value::Object(_))
            | (Some(Value::Array(_)), new @ Value::Array(_)) => new,
            (_, new) => match without_directives(new, depth + 1) {
                Some(new) => new,
                None => continue,
            },
        };
        target.insert(name, merged);
    }
    Ok(target)
}

/// A patch's value where there is nothing to merge it with: directives have done their work, nulls
/// have nothing to remove.
fn without_directives(value: Value, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return Some(value);
    }
    match value {
        Value::Object(members) => {
            if members.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                return None;
            }
            let kept = members
                .into_iter()
                .filter(|(name, value)| !is_directive(name) && !value.is_null());
            Some(Value::Object(
                kept.filter_map(|(name, value)| {
                    Some((name, without_directives(value, depth + 1)?))
                })
                .collect(),
            ))
        }
        Value::Array(items) => {
            // An element that is nothing but a directive is none.
            let is_bare = |item: &Value| {
                item.as_object()
                    .is_some_and(|m| m.len() == 1 && m.contains_key(DIRECTIVE))
            };
            let kept = items.into_iter().filter(|item| !is_bare(item));
            Some(
                kept.filter_map(|item| without_directives(item, depth + 1))
                    .collect(),
            )
        }
        other => Some(other),
    }
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE
        || name == RETAIN_KEYS
        || name.starts_with(DELETE_PRIMITIVES)
        || name.starts_with(SET_ORDER)
}

fn retain_keys(target: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || Error::Malformed("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(malformed)?;
    let is_kept = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_stray = |(name, value): (&String, &Value)| {
        let is_list_directive = name.starts_with(DELETE_PRIMITIVES) || name.starts_with(SET_ORDER);
        !value.is_null() && !is_list_directive && !is_kept(name)
    };
    if patch.iter().any(is_stray) {
        return Err(malformed());
    }
    target.retain(|name, _| is_kept(name));
    Ok(())
}

fn delete_primitives(target: &mut Object, name: &str, values: &Value) -> Result<(), Error> {
    let Some(old) = target.get_mut(name) else {
        return Ok(());
    };
    let (Value::Array(items), Value::Array(values)) = (old, values) else {
        return Err(Error::Malformed(
            "invalid patch format of primitive list".to_owned(),
        ));
    };
    items.retain(|item| !values.contains(item));
    Ok(())
}

/// Merges lists by key, or lists of scalars; what the patch names comes in the patch's order.
fn merge_lists(
    items: Option<&Node>,
    old: Vec<Value>,
    new: Vec<Value>,
    merge_key: &str,
    depth: usize,
) -> Result<Vec<Value>, Error> {
    let Some(first) = old.first().or(new.first()) else {
        return Ok(old);
    };
    if !first.is_object() {
        let mut merged: Vec<Value> = Vec::with_capacity(old.len() + new.len());
        for item in old.iter().chain(&new) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(order::ordered(merged, &new, &old, ""));
    }
    if merge_key.is_empty() {
        return Err(internal("cannot merge lists without merge key"));
    }
    let before = old.clone();
    let (mut merged, new) = take_special_elements(old, new, merge_key)?;
    for item in &new {
        let Value::Object(patch) = item else {
            return Err(Error::Unprocessable);
        };
        let key = key_of(item, merge_key)?;
        let found = merged
            .iter()
            .position(|old| old.get(merge_key) == Some(key));
        match found.map(|at| (at, merged[at].take())) {
            Some((at, Value::Object(old))) => {
                merged[at] = Value::Object(merge_maps(items, old, patch.clone(), depth + 1)?);
            }
            _ => merged.extend(without_directives(item.clone(), depth)),
        }
    }
    Ok(order::ordered(merged, &new, &before, merge_key))
}

fn key_of<'a>(item: &'a Value, merge_key: &str) -> Result<&'a Value, Error> {
    item.get(merge_key).ok_or_else(|| {
        internal(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            go_plain(item)
        ))
    })
}

/// Carries out `$patch` elements: the rest of the old list and of the patch come back.
fn take_special_elements(
    mut old: Vec<Value>,
    new: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut plain, mut replace) = (Vec::new(), false);
    for item in new {
        match item.get(DIRECTIVE).map(|directive| directive.as_str()) {
            None => plain.push(item),
            Some(Some("delete")) => {
                let key = item.get(merge_key);
                let key =
                    key.ok_or_else(|| internal("delete patch type with no merge key defined"))?;
                old.retain(|other| other.get(merge_key) != Some(key));
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => {
                return Err(internal(
                    "merging lists cannot yet be specified in the patch",
                ));
            }
            Some(_) => {
                let name = go_plain(&item[DIRECTIVE]);
                return Err(internal(format!(
                    "unknown patch type: {name} in map: {}",
                    go_plain(&item)
                )));
            }
        }
    }
    Ok(if replace {
        (plain, Vec::new())
    } else {
        (old, plain)
    })
}

/// Refuses objects where lists belong, and the other way round; scalars are judged when decoded.
fn check_containers(node: &Node, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH || node.special != Special::None {
        return Ok(());
    }
    match (node.value_type, value) {
        (ValueType::Array, Value::Array(items)) => {
            let Some(schema) = &node.items else {
                return Ok(());
            };
            items
                .iter()
                .try_for_each(|item| check_containers(schema, item, depth + 1))
        }
        (ValueType::Object, Value::Object(members)) => {
            members.iter().try_for_each(|(name, member)| {
                node.member(name)
                    .map_or(Ok(()), |schema| check_containers(schema, member, depth + 1))
            })
        }
        (_, Value::Null) => Ok(()),
        (ValueType::Array, other) => Err(Error::Unfit(format!(
            "cannot restore slice from {}",
            go_kind(other)
        ))),
        (ValueType::Object, other) if matches!(node.additional, Additional::Schema(_)) => Err(
            Error::Unfit(format!("cannot restore map from {}", go_kind(other))),
        ),
        (ValueType::Object, other) => Err(Error::Unfit(format!(
            "cannot restore struct from: {}",
            go_kind(other)
        ))),
        _ => Ok(()),
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// Whether two elements are the same one: by merge key, or by value where there is none.
fn is_same(one: &Value, other: &Value, merge_key: &str) -> bool {
    if merge_key.is_empty() {
        return compare_values(one, other).is_eq();
    }
    matches!((one.get(merge_key), other.get(merge_key)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
