//! The order of merged lists.

use schema::Node;
use serde_json::Value;

use super::{DIRECTIVE, Object, SET_ORDER, is_same, member, merge_lists, without_directives};
use crate::Error;
use crate::typed::go_plain;

/// Merges the lists that come with a `$setElementOrder`, and takes both out of the patch.
pub(super) fn merge_ordered(
    node: Option<&Node>,
    target: &mut Object,
    patch: &mut Object,
    depth: usize,
) -> Result<(), Error> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|name| name.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let name = directive[SET_ORDER.len()..].to_owned();
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Error::Unprocessable),
        };
        let wanted = list(patch.remove(&directive))?.unwrap_or_default();
        let (old, new) = (
            list(target.get(&name).cloned())?,
            list(patch.get(&name).cloned())?,
        );
        let (schema, strategy) = member(node, &name);
        let merge_key = strategy.merge_key.as_deref().unwrap_or_default();
        if let Some(new) = &new {
            check_order(new, &wanted, merge_key)?;
        }
        let before = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (Some(old), None) => old,
            (None, Some(new)) => match without_directives(Value::Array(new), depth) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(old), Some(new)) if strategy.merge => {
                let items = schema.and_then(|node| node.items.as_deref());
                merge_lists(items, old, new, merge_key, depth + 1)?
            }
            (Some(_), Some(new)) => new,
            (None, None) => continue,
        };
        patch.remove(&name);
        target.insert(
            name,
            Value::Array(ordered(merged, &wanted, &before, merge_key)),
        );
    }
    Ok(())
}

/// The elements that `wanted` names, in its order, among the others, which keep theirs; `before`
/// tells where the others stood relative to them.
pub(super) fn ordered(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    merge_key: &str,
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| {
        list.iter()
            .position(|other| is_same(item, other, merge_key))
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| place(wanted, item).is_some());
    named.sort_by_key(|item| place(wanted, item));
    others.sort_by_key(|item| place(before, item));

    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                matches!((place(before, other), place(before, named)), (Some(other), Some(named)) if other < named)
            }
        };
        result.extend(if other_first {
            others.next()
        } else {
            named.next()
        });
    }
}

/// The patch's elements must come in the order that is asked for.
fn check_order(patch: &[Value], wanted: &[Value], merge_key: &str) -> Result<(), Error> {
    let is_deleted = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let mut kept = patch.iter().filter(|item| !is_deleted(item)).peekable();
    for place in wanted {
        if kept
            .peek()
            .is_some_and(|item| is_same(item, place, merge_key))
        {
            kept.next();
        }
    }
    if kept.peek().is_none() {
        return Ok(());
    }
    let text = |list: &[Value]| go_plain(&Value::Array(list.to_vec()));
    Err(Error::Internal(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        text(patch),
        text(wanted)
    )))
}
