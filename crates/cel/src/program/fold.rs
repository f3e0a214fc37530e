//! What lowering works out once: constants, and which functions the evaluator knows itself.

use std::sync::Arc;

use super::node::{Call, Intrinsic, Node};
use crate::ast::Literal;
use crate::cost;
use crate::value::{Blob, MapBuilder, Str, Value};

/// The value of a literal.
pub fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Str::Shared(Arc::clone(text))),
        Literal::Bytes(bytes) => Value::Bytes(Blob::Shared(Arc::clone(bytes))),
    }
}

/// A list or map of constants, made once. Evaluating it costs what making it does.
pub fn fold(node: Node) -> Node {
    let is_constant = |node: &Node| node.constant().is_some();
    let cost_of = |node: &Node| {
        if let Node::Folded(folded) = node {
            folded.1
        } else {
            0
        }
    };
    match &node {
        Node::List(items)
            if items
                .iter()
                .all(|(item, optional)| !optional && is_constant(item)) =>
        {
            let cost = items
                .iter()
                .fold(cost::LIST_CREATE, |total, (item, _)| total + cost_of(item));
            let values = items
                .iter()
                .filter_map(|(item, _)| item.constant().cloned())
                .collect();
            Node::Folded(Box::new((Value::list(values), cost)))
        }
        Node::Map(entries)
            if entries.iter().all(|entry| {
                !entry.optional && is_constant(&entry.key) && is_constant(&entry.value)
            }) =>
        {
            let mut builder = MapBuilder::with_capacity(entries.len());
            let mut cost = cost::MAP_CREATE;
            for entry in entries {
                let (Some(key), Some(value)) = (entry.key.constant(), entry.value.constant())
                else {
                    return node;
                };
                if builder.insert(key.clone(), value.clone()).is_err() {
                    // The error belongs to evaluation.
                    return node;
                }
                cost += cost_of(&entry.key) + cost_of(&entry.value);
            }
            Node::Folded(Box::new((Value::Map(builder.build()), cost)))
        }
        _ => node,
    }
}

/// Which of the functions the evaluator knows itself the call means. Only the standard overloads count: a library
/// may have its own.
pub fn intrinsic(call: &Call) -> Option<Intrinsic> {
    let all = |ids: &[&str]| {
        call.overloads
            .iter()
            .all(|overload| ids.contains(&&*overload.id))
    };
    let (found, ids): (Intrinsic, &[&str]) = match (&*call.name, call.arguments.len()) {
        ("size", 1) => (
            Intrinsic::Size,
            &[
                "size_string",
                "size_bytes",
                "size_list",
                "size_map",
                "string_size",
                "bytes_size",
                "list_size",
                "map_size",
            ],
        ),
        ("startsWith", 2) => (Intrinsic::StartsWith, &["starts_with_string"]),
        ("endsWith", 2) => (Intrinsic::EndsWith, &["ends_with_string"]),
        ("contains", 2) => (Intrinsic::Contains, &["contains_string"]),
        ("string", 1)
            if call
                .overloads
                .iter()
                .any(|overload| &*overload.id == "int_to_string") =>
        {
            return Some(Intrinsic::Text);
        }
        _ => return None,
    };
    (!call.overloads.is_empty() && all(ids)).then_some(found)
}
