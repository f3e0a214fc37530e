//! Laying an applied object over the live one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::{Shape, Type, as_list, as_map, is_void};
use crate::path::PathElement;

/// The live object with everything that `applied` says.
pub(crate) fn merge(kind: Type<'_>, live: &Value, applied: &Value) -> Result<Value, String> {
    let merged = value(kind, Some(live), Some(applied))?;
    Ok(merged.unwrap_or_else(|| Value::Object(Map::new())))
}

/// `None` when nothing is left.
fn value(
    kind: Type<'_>,
    live: Option<&Value>,
    applied: Option<&Value>,
) -> Result<Option<Value>, String> {
    let Some(applied_value) = applied else {
        return Ok(live.cloned());
    };
    let both_void = |shape: fn(&Value) -> bool| {
        is_void(live.filter(|value| shape(value))) && is_void(applied.filter(|value| shape(value)))
    };
    match kind.shape(applied) {
        Shape::Map if !kind.is_atomic_map() && !both_void(Value::is_object) => {
            map(kind, as_map(live), as_map(applied))
        }
        Shape::List if !kind.is_atomic_list() && !both_void(Value::is_array) => {
            let empty = Vec::new();
            list(
                kind,
                as_list(live).unwrap_or(&empty),
                as_list(applied).unwrap_or(&empty),
            )
        }
        _ => Ok(Some(applied_value.clone())),
    }
}

fn map(
    kind: Type<'_>,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Result<Option<Value>, String> {
    let mut merged = Map::new();
    for (name, live) in live.into_iter().flatten() {
        if applied.is_none_or(|applied| !applied.contains_key(name)) {
            merged.insert(name.clone(), live.clone());
        }
    }
    for (name, applied) in applied.into_iter().flatten() {
        let live = live.and_then(|live| live.get(name));
        let member = kind.member(name).unwrap_or(Type::DEDUCED);
        if let Some(found) = value(member, live, Some(applied))? {
            merged.insert(name.clone(), found);
        }
    }
    Ok((!merged.is_empty()).then_some(Value::Object(merged)))
}

/// Merges two lists of a set or with keys. The applied order holds for what was applied; what is
/// only live keeps its place relative to its neighbours.
fn list(kind: Type<'_>, live: &[Value], applied: &[Value]) -> Result<Option<Value>, String> {
    let steps = |items: &[Value]| -> Result<Vec<PathElement>, String> {
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                kind.step(item)
                    .map_err(|error| format!("element {index}: {error}"))
            })
            .collect()
    };
    let (live_steps, applied_steps) = (steps(live)?, steps(applied)?);
    // Live elements that cannot be told apart have no content to merge with.
    let mut live_by_step: BTreeMap<&PathElement, &Value> = BTreeMap::new();
    const NOTHING: &Value = &Value::Null;
    for (step, item) in live_steps.iter().zip(live) {
        live_by_step
            .entry(step)
            .and_modify(|found| *found = NOTHING)
            .or_insert(item);
    }
    let applied_by_step: BTreeMap<&PathElement, &Value> =
        applied_steps.iter().zip(applied).collect();
    let mut shared: VecDeque<&PathElement> = applied_steps
        .iter()
        .filter(|step| live_by_step.contains_key(step))
        .collect();

    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let merge_one = |at: usize| {
        let live = live_by_step.get(&applied_steps[at]).copied();
        value(kind.element(), live, Some(&applied[at]))
    };
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied.len() {
        if l < live.len() && a < applied.len() {
            let step = &live_steps[l];
            if *step == applied_steps[a] {
                done.insert(step);
                merged.extend(merge_one(a)?);
                l += 1;
                a += 1;
                shared.pop_front();
                continue;
            }
            let is_applied = applied_by_step.contains_key(step);
            if is_applied && shared.front().is_some_and(|next| *next != step) {
                // Applied in another place: it comes there.
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            let step = &live_steps[l];
            if !applied_by_step.contains_key(step) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            } else if done.contains(step) {
                l += 1;
            }
        }
        if a < applied.len() {
            let step = &applied_steps[a];
            done.insert(step);
            merged.extend(merge_one(a)?);
            a += 1;
            if shared.front().is_some_and(|next| *next == step) {
                shared.pop_front();
            }
        }
    }
    Ok((!merged.is_empty()).then_some(Value::Array(merged)))
}
