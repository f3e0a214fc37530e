//! The built-in types: generated text, parsed one definition at a time when first used.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::Value;

use crate::compile;
use crate::node::Node;

static DEFINITIONS: &str = include_str!("generated/definitions.txt");
static KINDS: &str = include_str!("generated/kinds.txt");

pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One built-in definition.
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    json: &'static str,
    node: OnceLock<Node>,
}

struct Table {
    definitions: Vec<Definition>,
    by_name: HashMap<&'static str, usize>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
}

/// Splitting lines is all that happens here; it takes well under a millisecond.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let definitions: Vec<Definition> = DEFINITIONS
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, json)| Definition {
            name,
            json,
            node: OnceLock::new(),
        })
        .collect();
    let by_name: HashMap<_, _> = definitions
        .iter()
        .enumerate()
        .map(|(index, found)| (found.name, index))
        .collect();
    let by_kind = KINDS
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let key = (words.next()?, words.next()?, words.next()?);
            Some((key, *by_name.get(words.next()?)?))
        })
        .collect();
    Table {
        definitions,
        by_name,
        by_kind,
    }
});

impl Definition {
    pub(crate) fn node(&'static self) -> &'static Node {
        self.node
            .get_or_init(|| compile::built_in(self.name, &self.parse()))
    }

    fn parse(&self) -> Value {
        serde_json::from_str(self.json).expect("generated definitions are JSON")
    }
}

pub(crate) fn by_name(name: &str) -> Option<&'static Definition> {
    TABLE
        .by_name
        .get(name)
        .map(|index| &TABLE.definitions[*index])
}

pub(crate) fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    TABLE
        .by_kind
        .get(&(group, version, kind))
        .map(|index| &TABLE.definitions[*index])
}

/// The published form of a built-in definition: references are bare definition names.
pub fn definition_json(name: &str) -> Option<Value> {
    let mut schema = by_name(name)?.parse();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flatten() {
        if let Some(members) = property.1.as_object_mut() {
            members.remove("x-go");
        }
    }
    Some(schema)
}

/// The names of all definitions.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.definitions.iter().map(|found| found.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;

    #[test]
    fn every_definition_compiles_and_every_kind_is_found() {
        assert!(names().count() > 500);
        for name in names() {
            let schema = Schema::definition(name).expect("listed");
            for (field, property) in &schema.properties {
                assert!(property.go.is_some(), "{name}.{field}");
            }
        }
        assert!(TABLE.by_kind.len() > 100);
        assert!(by_kind("apps", "v1", "Deployment").is_some());
        assert!(by_kind("", "v1", "Nonsense").is_none());
    }

    #[test]
    fn types_may_contain_themselves() {
        let schema = Schema::definition(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        )
        .expect("built in");
        let not = &schema.properties["not"].schema;
        assert!(not.same(&schema));
    }

    #[test]
    fn published_definitions_carry_no_facts_of_go() {
        let schema = definition_json("io.k8s.api.core.v1.Container").expect("built in");
        assert!(!schema.to_string().contains("x-go"));
    }
}
