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
    /// Notes the size at `path` and below; gives the least number of bytes a value takes in a request.
    fn read(&mut self, path: &mut Vec<Name>, schema: &Json) -> u64 {
        if path.len() > DEPTH_MAX {
            return 2;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return self.follow(path, reference);
        }
        if schema["x-kubernetes-int-or-string"] == true {
            self.note(
                path,
                schema["maxLength"]
                    .as_u64()
                    .unwrap_or(REQUEST_BYTES_MAX - 2),
            );
            return 1;
        }
        match schema["type"].as_str() {
            Some("string") => {
                self.note(path, longest_text(schema));
                2
            }
            Some("array") => {
                let element = self.below(path, "@items", &schema["items"]);
                let limit = schema["maxItems"].as_u64();
                self.note(path, limit.unwrap_or_else(|| most_elements(element)));
                2
            }
            Some("object") => self.object(path, schema),
            Some("boolean") => 4,
            _ => 1,
        }
    }

    fn object(&mut self, path: &mut Vec<Name>, schema: &Json) -> u64 {
        if let Some(properties) = schema["properties"].as_object() {
            let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
            let mut least = 2;
            for (key, property) in properties {
                let Some(name) = crate::escape(key) else {
                    continue;
                };
                let bytes = self.below(path, &name, property);
                if name != *key {
                    self.below(path, key, property);
                }
                let is_required = required
                    .iter()
                    .any(|required| required.as_str() == Some(key));
                if is_required && property.get("default").is_none() {
                    least += key.len() as u64 + 3 + bytes;
                }
            }
            return least;
        }
        let values = &schema["additionalProperties"];
        if values.is_object() {
            let value = self.below(path, "@values", values);
            let limit = schema["maxProperties"].as_u64();
            self.note(path, limit.unwrap_or_else(|| most_elements(value + 3)));
            path.push("@keys".into());
            self.note(path, REQUEST_BYTES_MAX - 2);
            path.pop();
        }
        2
    }

    fn below(&mut self, path: &mut Vec<Name>, step: &str, schema: &Json) -> u64 {
        path.push(step.into());
        let bytes = self.read(path, schema);
        path.pop();
        bytes
    }

    fn follow(&mut self, path: &mut Vec<Name>, reference: &str) -> u64 {
        if self.following.iter().any(|followed| followed == reference) {
            return 2;
        }
        let Some(schema): Option<Arc<Json>> = (self.resolver)(reference) else {
            return 2;
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

/// Elements of at least this many bytes, and a comma each, that fit a request.
fn most_elements(element_bytes: u64) -> u64 {
    (REQUEST_BYTES_MAX - 2) / (element_bytes + 1)
}

/// Characters a string may have, by its schema.
fn longest_text(schema: &Json) -> u64 {
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .filter_map(Json::as_str)
            .map(|text| text.len() as u64)
            .max()
            .unwrap_or(0);
    }
    if let Some(limit) = schema["maxLength"].as_u64() {
        return limit;
    }
    match schema["format"].as_str() {
        Some("duration") => 32,
        Some("date") => 10,
        Some("date-time") => 35,
        _ => REQUEST_BYTES_MAX - 2,
    }
}
