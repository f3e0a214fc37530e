//! Unknown and duplicate fields, found in the sender's bytes: a parsed object no longer shows
//! either duplicates or the order in which to report.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::decode::{push_index, push_name};
use crate::node::{Node, Schema, Special};

/// Upstream reports no more than this.
const LIMIT: usize = 100;

/// `duplicate field "spec.a"` for every member that stands twice, in the order of the document.
/// Text that is not JSON has none: it fails elsewhere.
pub fn duplicate_fields(json: &[u8]) -> Vec<String> {
    walk(None, json)
}

/// `unknown field "..."` and `duplicate field "..."`, in the order of the document, of an object
/// of a built-in type.
pub fn strict_errors(schema: &Schema, json: &[u8]) -> Vec<String> {
    walk(Some(schema), json)
}

fn walk(node: Option<&Node>, json: &[u8]) -> Vec<String> {
    let mut state = State {
        path: String::new(),
        found: Vec::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let seed = Walk {
        node,
        state: &mut state,
    };
    // The reader's own depth limit bounds the recursion; what it cannot read is not ours to report.
    let _ = seed.deserialize(&mut deserializer);
    state.found
}

struct State {
    path: String,
    found: Vec<String>,
}

impl State {
    fn report(&mut self, what: &str) {
        if self.found.len() < LIMIT {
            self.found.push(format!("{what} field {:?}", self.path));
        }
    }
}

struct Walk<'a> {
    node: Option<&'a Node>,
    state: &'a mut State,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Types that read themselves keep their bytes to themselves.
        if self.node.is_some_and(|node| node.special != Special::None) {
            return IgnoredAny::deserialize_into(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

/// Skipping a value through a seed.
trait Skip: Sized {
    fn deserialize_into<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error>;
}

impl Skip for IgnoredAny {
    fn deserialize_into<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_ignored_any(Self).map(|_| ())
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let length = self.state.path.len();
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            push_name(&mut self.state.path, &name);
            let member = self.node.map(|node| node.member(&name));
            if seen.contains(&name) {
                self.state.report("duplicate");
            }
            match member {
                Some(None) => {
                    if self.node.is_some_and(|node| !node.keeps_unknown()) && !seen.contains(&name)
                    {
                        self.state.report("unknown");
                    }
                    members.next_value::<IgnoredAny>()?;
                }
                Some(Some(schema)) => {
                    members.next_value_seed(Walk {
                        node: Some(schema),
                        state: &mut *self.state,
                    })?;
                }
                None => members.next_value_seed(Walk {
                    node: None,
                    state: &mut *self.state,
                })?,
            }
            self.state.path.truncate(length);
            seen.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let length = self.state.path.len();
        let node = self.node.map(|node| node.items.as_ref());
        for index in 0.. {
            push_index(&mut self.state.path, index);
            let next = match node {
                Some(None) => items.next_element::<IgnoredAny>()?.map(|_| ()),
                Some(Some(schema)) => items.next_element_seed(Walk {
                    node: Some(schema),
                    state: &mut *self.state,
                })?,
                None => items.next_element_seed(Walk {
                    node: None,
                    state: &mut *self.state,
                })?,
            };
            self.state.path.truncate(length);
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_at_any_depth() {
        let json = br#"{"spec": {"a": 1, "list": [{"x": 1, "x": 2}], "a": 2}, "spec": 1}"#;
        assert_eq!(
            duplicate_fields(json),
            [
                r#"duplicate field "spec.list[0].x""#,
                r#"duplicate field "spec.a""#,
                r#"duplicate field "spec""#
            ]
        );
        assert_eq!(duplicate_fields(b"not json"), Vec::<String>::new());
    }

    #[test]
    fn unknown_fields_come_in_document_order() {
        let schema = Schema::built_in("", "v1", "ConfigMap").expect("built in");
        let json = br#"{"zzz": {"a": 1, "a": 2}, "metadata": {"nope": 1, "name": "x", "name": "y"}, "Data": 1}"#;
        assert_eq!(
            strict_errors(&schema, json),
            [
                r#"unknown field "zzz""#,
                r#"unknown field "metadata.nope""#,
                r#"duplicate field "metadata.name""#,
                r#"unknown field "Data""#
            ]
        );
    }
}
