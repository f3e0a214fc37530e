//! The table of messages, read once from `data/fields.txt`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    String,
    /// Bytes, which JSON has in base64.
    Bytes,
    /// A whole number.
    Integer,
    /// A truth value.
    Bool,
    /// A floating-point number.
    Double,
    /// Another message.
    Message(&'static str),
    /// Another message whose fields stand in this one's JSON.
    Inline(&'static str),
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Once.
    One,
    /// Any number of times: a list.
    List,
    /// As entries of a map with text for keys.
    Map,
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFact {
    /// Its name in JSON.
    pub name: &'static str,
    /// How often.
    pub shape: Shape,
    /// Of what.
    pub field_type: FieldType,
    /// Whether it is left out where it is not set; any other is written even where it is empty.
    pub is_pointer: bool,
}

/// A message: its fields by number.
pub type Message = BTreeMap<u64, FieldFact>;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    include_str!("../data/fields.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, fields)| (name, fields.split(' ').filter_map(field).collect()))
        .collect()
});

/// The message of a name, in the table's short form: `@core.v1.Pod`.
pub fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.get(name)
}

fn field(text: &'static str) -> Option<(u64, FieldFact)> {
    let mut parts = text.splitn(3, ':');
    let (name, number, code) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let (code, is_pointer) = match code.strip_prefix('*') {
        Some(code) => (code, true),
        None => (code, false),
    };
    let (shape, code) = match (code.strip_prefix("[]"), code.strip_prefix("{}")) {
        (Some(code), _) => (Shape::List, code),
        (_, Some(code)) => (Shape::Map, code),
        _ => (Shape::One, code),
    };
    let field_type = match code {
        "s" => FieldType::String,
        "b" => FieldType::Bytes,
        "i" => FieldType::Integer,
        "t" => FieldType::Bool,
        "d" => FieldType::Double,
        other => match other.strip_prefix('^') {
            Some(inline) => FieldType::Inline(inline),
            None => FieldType::Message(other),
        },
    };
    Some((
        number,
        FieldFact {
            name,
            shape,
            field_type,
            is_pointer,
        },
    ))
}

/// Whether the JSON of a message is the list of its items.
pub fn is_items(name: &str) -> bool {
    name.ends_with(".ExtraValue") || name == "%apis.meta.v1.Verbs"
}

/// The short form of the name of a built-in kind's message.
pub fn name_of(group: &str, version: &str, kind: &str) -> Option<String> {
    let package = match group {
        "" => "core",
        other => other.split('.').next()?,
    };
    let candidates = [
        format!("@{package}.{version}.{kind}"),
        format!("%apis.meta.v1.{kind}"),
    ];
    candidates
        .into_iter()
        .find(|name| MESSAGES.contains_key(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_a_field_names_is_there() {
        for name in MESSAGES.keys() {
            for field in message(name).expect("listed").values() {
                if let FieldType::Message(other) | FieldType::Inline(other) = field.field_type {
                    assert!(
                        MESSAGES.contains_key(other),
                        "{name}.{} is of {other}",
                        field.name
                    );
                }
            }
        }
    }

    #[test]
    fn kinds_have_messages() {
        assert_eq!(name_of("", "v1", "Pod").as_deref(), Some("@core.v1.Pod"));
        assert_eq!(
            name_of("rbac.authorization.k8s.io", "v1", "Role").as_deref(),
            Some("@rbac.v1.Role")
        );
        assert_eq!(name_of("example.com", "v1", "Thing"), None);
    }
}
