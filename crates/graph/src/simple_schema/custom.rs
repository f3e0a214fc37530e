//! The named types of `schema.types`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_type::FieldType;
use super::{Builder, SchemaError, json_kind};
use crate::nearest::suggestion;

/// A custom type, built.
pub(crate) struct CustomType {
    pub schema: Value,
    /// Whether a field directly of this type is required.
    pub required: bool,
    /// How many nodes a copy adds.
    pub nodes: usize,
}

#[derive(Default)]
pub(crate) struct CustomTypes {
    built: BTreeMap<String, CustomType>,
}

impl CustomTypes {
    pub fn get(&self, name: &str) -> Option<&CustomType> {
        self.built.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.built.keys().map(String::as_str)
    }

    /// Builds all types, each after those it is made of.
    pub fn load(types: &Value) -> Result<Self, SchemaError> {
        let definitions = match types {
            Value::Null => return Ok(Self::default()),
            Value::Object(definitions) => definitions,
            other => {
                let message = format!("expected a map of types, got {}", json_kind(other));
                return Err(SchemaError::at("types", message));
            }
        };
        let mut this = Self::default();
        for name in order(definitions)? {
            let path = format!("types.{name}");
            let mut builder = Builder {
                custom: &this,
                nodes: 0,
            };
            let (schema, required) = match &definitions[name] {
                Value::String(text) => {
                    let field = builder.field(&path, text)?;
                    (Value::Object(field.schema), field.required)
                }
                Value::Object(fields) => (builder.structure(&path, fields, 0)?, false),
                other => {
                    let message = format!("unexpected type: {}", json_kind(other));
                    return Err(SchemaError::at(&path, message));
                }
            };
            let nodes = builder.nodes;
            this.built.insert(
                name.to_owned(),
                CustomType {
                    schema,
                    required,
                    nodes,
                },
            );
        }
        Ok(this)
    }
}

/// Names of the types in an order in which each comes after those it uses.
fn order(definitions: &Map<String, Value>) -> Result<Vec<&str>, SchemaError> {
    let mut uses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, definition) in definitions {
        let mut used = Vec::new();
        collect(definition, 0, &mut used);
        for used in &used {
            if !definitions.contains_key(used) {
                let known = FieldType::NAMES
                    .into_iter()
                    .chain(definitions.keys().map(String::as_str));
                let message = format!("unknown type: {used}{}", suggestion(used, known));
                return Err(SchemaError::at(&format!("types.{name}"), message));
            }
        }
        uses.insert(name, used);
    }
    let mut order: Vec<&str> = Vec::new();
    while order.len() < uses.len() {
        let next = uses.iter().find(|(name, used)| {
            !order.contains(name) && used.iter().all(|used| order.contains(&used.as_str()))
        });
        let Some((name, _)) = next else {
            let stuck = uses
                .keys()
                .find(|name| !order.contains(*name))
                .copied()
                .unwrap_or_default();
            let message = format!(
                "cyclic dependency in type {stuck}: {}",
                cycle(&uses, &order, stuck)
            );
            return Err(SchemaError::at(&format!("types.{stuck}"), message));
        };
        order.push(name);
    }
    Ok(order)
}

/// Follows unresolved uses from a stuck type until one repeats.
fn cycle(uses: &BTreeMap<&str, Vec<String>>, resolved: &[&str], start: &str) -> String {
    let mut walk = vec![start.to_owned()];
    loop {
        let at = walk.last().map(String::as_str).unwrap_or_default();
        let Some(next) = uses
            .get(at)
            .and_then(|used| used.iter().find(|used| !resolved.contains(&used.as_str())))
        else {
            return walk.join(" -> ");
        };
        if let Some(first) = walk.iter().position(|seen| seen == next) {
            walk.push(next.clone());
            return walk[first..].join(" -> ");
        }
        walk.push(next.clone());
    }
}

fn collect(definition: &Value, depth: usize, used: &mut Vec<String>) {
    match definition {
        // Types that cannot be parsed are reported when they are built.
        Value::String(text) => {
            let type_text = text
                .split_once('|')
                .map_or(text.as_str(), |(type_text, _)| type_text);
            if let Ok(field_type) = FieldType::parse(type_text)
                && let Some(name) = field_type.custom_name()
            {
                used.push(name.to_owned());
            }
        }
        Value::Object(fields) if depth < super::STRUCT_NESTING_LIMIT => {
            fields
                .values()
                .for_each(|field| collect(field, depth + 1, used));
        }
        _ => {}
    }
}
