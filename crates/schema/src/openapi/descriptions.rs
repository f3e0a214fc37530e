//! What the documents say of definitions, fields and parameters.
//!
//! Few texts are kept (`data/descriptions.txt`): those every kind and every list shares, and those of the
//! fields people look up first. Everything else is published without one.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

static TEXTS: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    include_str!("../../data/descriptions.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, text)| (name, unescape(text)))
        .collect()
});

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    plain
}

/// Describes a definition and its fields.
pub(super) fn describe(name: &str, schema: &mut Value) {
    if let Some(text) = TEXTS.get(name) {
        schema["description"] = json!(text);
    }
    let is_kind = schema.get("x-kubernetes-group-version-kind").is_some();
    let is_list = name.ends_with("List");
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, property) in properties {
        let of_kind = is_kind && (field == "apiVersion" || field == "kind" || !is_list);
        let text = TEXTS
            .get(format!("{name} {field}").as_str())
            .or_else(|| TEXTS.get(format!("* {field}").as_str()).filter(|_| of_kind));
        if let (Some(text), Some(members)) = (text, property.as_object_mut()) {
            members.insert("description".to_owned(), json!(text));
        }
    }
}

/// What a query parameter is for; `words` where nothing better is known.
pub(super) fn parameter<'a>(name: &str, words: &'a str) -> &'a str {
    TEXTS
        .get(format!("parameter {name}").as_str())
        .map_or(words, String::as_str)
}
