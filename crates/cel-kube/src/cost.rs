//! What rules of custom resources and policies may cost, and the sizes a schema promises.

use std::collections::HashMap;
use std::sync::Arc;

use cel::cost::{Range, SizeHints};
use cel::{Checked, Name, Type};
use serde_json::Value as Json;

use crate::declare::Resolver;

/// What one evaluation of an expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all expressions for one object may cost.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// What one rule of a custom resource may be estimated to cost.
pub const STATIC_RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a custom resource definition may be estimated to cost.
pub const STATIC_TOTAL_LIMIT: u64 = 100_000_000;

/// The largest request an API server takes: nothing in it can be larger.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// How deep a schema is read for hints.
const DEPTH_MAX: usize = 100;

/// The estimate for a checked expression, counted as Kubernetes counts.
///
/// ```
/// use cel_kube::{SchemaSizes, declare, estimate, kubernetes_env, no_refs};
/// let schema = serde_json::json!({"type": "object", "properties": {
///     "names": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}}}});
/// let env = kubernetes_env().extend().variable("self", declare("Self", &schema, &no_refs)?).build()?;
/// let checked = env.check(&env.parse("self.names.all(name, name.startsWith('a'))")?)?;
/// let sizes = SchemaSizes::new("self", &schema, &no_refs);
/// assert!(estimate(&checked, &sizes).max < 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn estimate(checked: &Checked, sizes: &SchemaSizes) -> Range {
    cel::cost::estimate(checked, sizes, false)
}

/// The largest sizes a schema allows, by path.
#[derive(Debug, Default)]
pub struct SchemaSizes {
    by_path: HashMap<Vec<Name>, u64>,
}

impl SchemaSizes {
    /// The sizes of a variable whose data follows `schema`.
    pub fn new(variable: &str, schema: &Json, resolver: &Resolver<'_>) -> Self {
        Self::default().with(variable, schema, resolver)
    }

    /// The same with another variable.
    #[must_use]
    pub fn with(mut self, variable: &str, schema: &Json, resolver: &Resolver<'_>) -> Self {
        let mut reader = Reader {
            sizes: &mut self.by_path,
            resolver,
            following: Vec::new(),
        };
        let mut path = vec![Name::from(variable)];
        reader.read(&mut path, schema);
        self
    }
}

impl SizeHints for SchemaSizes {
    fn size(&self, path: &[Name], _: &Type) -> Option<Range> {
        self.by_path
            .get(path)
            .map(|max| Range { min: 0, max: *max })
    }
}

struct Reader<'r> {
    sizes: &'r mut HashMap<Vec<Name>, u64>,
    resolver: &'r Resolver<'r>,
    following: Vec<String>,
}

impl Reader<'_> {
    /// Notes the size at `path` and below; gives the least number of bytes a value takes in a request, or
    /// nothing for what rules do not see.
    fn read(&mut self, path: &mut Vec<Name>, schema: &Json) -> Option<u64> {
        if path.len() > DEPTH_MAX {
            return Some(2);
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return self.follow(path, reference);
        }
        if schema["x-kubernetes-int-or-string"] == true {
            self.note(path, max_length(schema).unwrap_or(REQUEST_BYTES_MAX - 2));
            return Some(1);
        }
        match schema["type"].as_str()? {
            "string" => {
                self.note(path, longest_text(schema));
                Some(match schema["format"].as_str() {
                    Some("duration") => 3,
                    Some("date") => 12,
                    Some("date-time") => 21,
                    _ => 2,
                })
            }
            "array" => {
                let element = self.below(path, "@items", &schema["items"])?;
                let limit = limit(schema, "maxItems");
                self.note(
                    path,
                    limit.unwrap_or((REQUEST_BYTES_MAX - 2) / (element + 1)),
                );
                Some(2)
            }
            "object" => self.object(path, schema),
            "boolean" => Some(4),
            "integer" | "number" => Some(1),
            _ => None,
        }
    }

    fn object(&mut self, path: &mut Vec<Name>, schema: &Json) -> Option<u64> {
        let values = &schema["additionalProperties"];
        if values.is_object() {
            let value = self.below(path, "@values", values)?;
            let limit = limit(schema, "maxProperties");
            // A key takes its quotes, a colon and a comma, and two bytes at least.
            self.note(path, limit.unwrap_or((REQUEST_BYTES_MAX - 2) / (value + 6)));
            // As upstream: keys have no limit, and count as if they had no length.
            path.push("@keys".into());
            self.note(path, 0);
            path.pop();
            return Some(2);
        }
        // As upstream: what has fields has no size, and costs nothing to compare.
        self.note(path, 0);
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let mut least = 2;
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let name = crate::escape(key).unwrap_or_else(|| key.clone());
            let Some(bytes) = self.below(path, &name, property) else {
                continue;
            };
            if name != *key {
                self.below(path, key, property);
            }
            let is_required = required
                .iter()
                .any(|required| required.as_str() == Some(key));
            if is_required && property.get("default").is_none_or(Json::is_null) {
                least += key.len() as u64 + bytes + 4;
            }
        }
        Some(least)
    }

    fn below(&mut self, path: &mut Vec<Name>, step: &str, schema: &Json) -> Option<u64> {
        path.push(step.into());
        let bytes = self.read(path, schema);
        path.pop();
        bytes
    }

    fn follow(&mut self, path: &mut Vec<Name>, reference: &str) -> Option<u64> {
        if self.following.iter().any(|followed| followed == reference) {
            return Some(2);
        }
        let Some(schema): Option<Arc<Json>> = (self.resolver)(reference) else {
            return Some(2);
        };
        self.following.push(reference.to_owned());
        let bytes = self.read(path, &schema);
        self.following.pop();
        bytes
    }

    fn note(&mut self, path: &[Name], size: u64) {
        self.sizes.insert(path.to_vec(), size);
    }
}

/// How often data of a schema can occur in one request: what the cost of its rules is multiplied with
/// where no limit of a list or map around it says better.
pub fn occurrences_max(schema: &Json, resolver: &Resolver<'_>) -> u64 {
    let mut reader = Reader {
        sizes: &mut HashMap::new(),
        resolver,
        following: Vec::new(),
    };
    let least = reader.read(&mut vec![Name::from("self")], schema);
    REQUEST_BYTES_MAX / (least.unwrap_or(2) + 1)
}

/// A limit of a schema; one below zero lets nothing through.
fn limit(schema: &Json, name: &str) -> Option<u64> {
    let limit = schema[name].as_i64()?;
    Some(u64::try_from(limit).unwrap_or(0))
}

/// `maxLength` counts characters, sizes are bytes: up to four for one.
fn max_length(schema: &Json) -> Option<u64> {
    limit(schema, "maxLength").map(|limit| limit.saturating_mul(4))
}

/// Bytes a string may have, by its schema.
fn longest_text(schema: &Json) -> u64 {
    match schema["format"].as_str() {
        Some("byte") => {
            return limit(schema, "maxLength").unwrap_or(REQUEST_BYTES_MAX - 2);
        }
        Some("duration") => return 32,
        Some("date") => return 12,
        Some("date-time") => return 32,
        _ => {}
    }
    if let Some(limit) = max_length(schema) {
        return limit;
    }
    match schema["enum"].as_array() {
        Some(values) if !values.is_empty() => values
            .iter()
            .filter_map(Json::as_str)
            .map(|text| text.len() as u64)
            .max()
            .unwrap_or(0),
        _ => REQUEST_BYTES_MAX - 2,
    }
}
