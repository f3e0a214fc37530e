//! Which fields differ between two objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Shape, Type, as_list, as_map, equal, is_void};
use crate::field_set::FieldSet;
use crate::path::PathElement;

/// The fields that one object lacks, has otherwise, or has besides.
#[derive(Debug, Default, Clone)]
pub(crate) struct Comparison {
    pub(crate) removed: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) added: FieldSet,
}

impl Comparison {
    /// Leaves out `fields` and all below them.
    pub(crate) fn exclude(mut self, fields: &FieldSet) -> Self {
        for set in [&mut self.removed, &mut self.modified, &mut self.added] {
            set.subtract_recursively(fields);
        }
        self
    }

    fn put(&mut self, step: PathElement, (own, below): (Option<Change>, Self)) {
        let is = |change: Change| own == Some(change);
        self.removed
            .put(step.clone(), is(Change::Removed), below.removed);
        self.modified
            .put(step.clone(), is(Change::Modified), below.modified);
        self.added.put(step, is(Change::Added), below.added);
    }
}

/// What happened to a value itself, as opposed to what is inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Removed,
    Modified,
    Added,
}

/// Compares two objects of one type.
pub(crate) fn compare(kind: Type<'_>, old: &Value, new: &Value) -> Result<Comparison, String> {
    value(kind, Some(old), Some(new)).map(|(_, below)| below)
}

type Outcome = Result<(Option<Change>, Comparison), String>;

fn value(kind: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> Outcome {
    if matches!((old, new), (Some(old), Some(new)) if equal(old, new)) {
        return Ok((None, Comparison::default()));
    }
    let (old_shape, new_shape) = (kind.shape(old), kind.shape(new));
    let shape = if new.is_some() { new_shape } else { old_shape };
    // A value that changed its form changed as a whole, and what is inside the new one is new.
    let is_reshaped = old.is_some() && new.is_some() && old_shape != new_shape;
    match shape {
        Shape::Map
            if !kind.is_atomic_map()
                && (has_content(old, Value::is_object) || has_content(new, Value::is_object)) =>
        {
            let below = map(kind, as_map(old), as_map(new))?;
            Ok((
                own_change(old, new).or(is_reshaped.then_some(Change::Modified)),
                below,
            ))
        }
        Shape::List
            if !kind.is_atomic_list()
                && (has_content(old, Value::is_array) || has_content(new, Value::is_array)) =>
        {
            let empty = Vec::new();
            let below = list(
                kind,
                as_list(old).unwrap_or(&empty),
                as_list(new).unwrap_or(&empty),
            )?;
            Ok((
                own_change(old, new).or(is_reshaped.then_some(Change::Modified)),
                below,
            ))
        }
        _ => Ok((
            own_change(old, new).or(Some(Change::Modified)),
            Comparison::default(),
        )),
    }
}

/// Whether a value has the form wanted and something in it.
fn has_content(value: Option<&Value>, is_wanted: fn(&Value) -> bool) -> bool {
    !is_void(value.filter(|value| is_wanted(value)))
}

fn own_change(old: Option<&Value>, new: Option<&Value>) -> Option<Change> {
    match (old, new) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        _ => None,
    }
}

fn map(
    kind: Type<'_>,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Result<Comparison, String> {
    let mut found = Comparison::default();
    let both = new
        .into_iter()
        .flatten()
        .map(|(name, new)| (name, old.and_then(|old| old.get(name)), Some(new)));
    let gone = old
        .into_iter()
        .flatten()
        .filter(|(name, _)| !new.is_some_and(|new| new.contains_key(*name)))
        .map(|(name, old)| (name, Some(old), None));
    for (name, old, new) in both.chain(gone) {
        let member = kind.member(name).unwrap_or(Type::DEDUCED);
        let outcome = value(member, old, new)?;
        if outcome.0.is_some() || !is_same(&outcome.1) {
            found.put(PathElement::Field(name.clone()), outcome);
        }
    }
    Ok(found)
}

fn is_same(below: &Comparison) -> bool {
    below.removed.is_empty() && below.modified.is_empty() && below.added.is_empty()
}

fn list(kind: Type<'_>, old: &[Value], new: &[Value]) -> Result<Comparison, String> {
    type Group<'a> = (Vec<&'a Value>, Vec<&'a Value>);
    let mut groups: BTreeMap<PathElement, Group<'_>> = BTreeMap::new();
    let step = |index: usize, item: &Value| {
        kind.step(item)
            .map_err(|error| format!("element {index}: {error}"))
    };
    for (index, item) in old.iter().enumerate() {
        groups.entry(step(index, item)?).or_default().0.push(item);
    }
    for (index, item) in new.iter().enumerate() {
        groups.entry(step(index, item)?).or_default().1.push(item);
    }
    let mut found = Comparison::default();
    for (step, (old, new)) in groups {
        let element = kind.element();
        // Elements that cannot be told apart are owned together, as a whole.
        let outcome = match (old.as_slice(), new.as_slice()) {
            (old @ ([] | [_]), new @ ([] | [_])) => {
                value(element, old.first().copied(), new.first().copied())?
            }
            (old @ [_, _, ..], new @ [_, _, ..]) => {
                let is_equal = old.len() == new.len()
                    && old.iter().zip(new).all(|(one, other)| equal(one, other));
                (
                    (!is_equal).then_some(Change::Modified),
                    Comparison::default(),
                )
            }
            ([_, _, ..], new) => {
                let mut outcome = match new.first() {
                    Some(new) => value(element, None, Some(new))?,
                    None => (None, Comparison::default()),
                };
                if outcome.0 == Some(Change::Added) {
                    found.added.members.insert(step.clone());
                }
                outcome.0 = Some(Change::Removed);
                outcome
            }
            (old, _) => {
                let mut outcome = match old.first() {
                    Some(old) => value(element, Some(old), None)?,
                    None => (None, Comparison::default()),
                };
                if outcome.0 == Some(Change::Removed) {
                    found.removed.members.insert(step.clone());
                }
                outcome.0 = Some(Change::Added);
                outcome
            }
        };
        found.put(step, outcome);
    }
    Ok(found)
}
