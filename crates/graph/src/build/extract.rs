//! Walks a template along its schema: finds the expressions and checks everything that is no expression.

use std::sync::Arc;

use serde_json::Value;

use super::error::BuildError;
use crate::kinds::{Definitions, Kind};
use crate::nearest::suggestion;
use crate::simple_schema::json_kind;
use crate::template::{FieldPath, Part, Template};

/// Objects nest no deeper than this.
const DEPTH_LIMIT: usize = 128;

/// A string with expressions in it, not yet compiled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawField {
    pub path: FieldPath,
    /// One expression for the whole value, or text with expressions.
    pub parts: RawParts,
    /// Whether it is within `defer()`; told by the check of references.
    pub is_deferred: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RawParts {
    Standalone(String),
    Mixed(Vec<Part>),
}

impl RawField {
    /// The sources of all expressions.
    pub fn sources(&self) -> Vec<&str> {
        self.parts.sources()
    }
}

impl RawParts {
    /// The sources of all expressions.
    pub fn sources(&self) -> Vec<&str> {
        match self {
            Self::Standalone(source) => vec![source],
            Self::Mixed(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Expression(source) => Some(source.as_str()),
                    Part::Literal(_) => None,
                })
                .collect(),
        }
    }
}

/// A key with expressions in it, not yet compiled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawKey {
    /// Where it stands; the last step is the key as it is written.
    pub path: FieldPath,
    /// What is in it.
    pub parts: RawParts,
    /// The names it may become where the schema lists them.
    pub fields: Option<Vec<String>>,
}

/// Finds the expressions of a template that must fit the schema of its kind: in values, and in keys.
pub(crate) fn with_schema(
    id: &str,
    template: &Value,
    kind: &Kind,
) -> Result<(Vec<RawField>, Vec<RawKey>), BuildError> {
    let mut walk = Walk {
        id,
        definitions: Some(&kind.definitions),
        fields: Vec::new(),
        keys: Vec::new(),
        literals: Vec::new(),
    };
    walk.value(template, Some(&kind.schema), &FieldPath::root())?;
    Ok((walk.fields, walk.keys))
}

/// What a document without schema holds.
pub(crate) struct Extracted {
    pub fields: Vec<RawField>,
    /// Paths of the leaves that hold no expression.
    pub literals: Vec<FieldPath>,
}

/// Finds the expressions of a document whatever its shape.
pub(crate) fn without_schema(id: &str, document: &Value) -> Result<Extracted, BuildError> {
    let mut walk = Walk {
        id,
        definitions: None,
        fields: Vec::new(),
        keys: Vec::new(),
        literals: Vec::new(),
    };
    walk.value(document, None, &FieldPath::root())?;
    Ok(Extracted {
        fields: walk.fields,
        literals: walk.literals,
    })
}

struct Walk<'a> {
    id: &'a str,
    definitions: Option<&'a Definitions>,
    fields: Vec<RawField>,
    keys: Vec<RawKey>,
    literals: Vec<FieldPath>,
}

impl Walk<'_> {
    fn fail<T>(&self, path: &FieldPath, message: impl Into<String>) -> Result<T, BuildError> {
        let error = BuildError::new(message).at(path);
        let resource = Some(self.id).filter(|id| !id.is_empty()).map(str::to_owned);
        Err(BuildError { resource, ..error })
    }

    /// `schema` is `None` where anything goes.
    fn value(
        &mut self,
        value: &Value,
        schema: Option<&Arc<Value>>,
        path: &FieldPath,
    ) -> Result<(), BuildError> {
        if path.steps().len() > DEPTH_LIMIT {
            return self.fail(path, format!("nested deeper than {DEPTH_LIMIT} levels"));
        }
        let schema = match (schema, self.definitions) {
            (Some(schema), Some(definitions)) => {
                Some(definitions.follow(schema)).filter(|s| !keeps_unknown(s))
            }
            _ => None,
        };
        match value {
            Value::Null if self.definitions.is_some() => Ok(()),
            Value::String(text) => self.string(text, schema.as_deref(), path),
            Value::Object(fields) => {
                self.expect("object", schema.as_deref(), path)?;
                for (name, value) in fields {
                    let path = path.field(name);
                    let is_dynamic = self.key(name, schema.as_deref(), &path)?;
                    let below = match schema.as_deref() {
                        Some(schema) if is_dynamic => Some(values_schema(schema)),
                        Some(schema) => Some(self.field_schema(schema, name, &path)?),
                        None => None,
                    };
                    self.value(value, below.as_ref(), &path)?;
                }
                Ok(())
            }
            Value::Array(items) => {
                self.expect("array", schema.as_deref(), path)?;
                let below = schema
                    .as_deref()
                    .and_then(|s| s.get("items"))
                    .cloned()
                    .map(Arc::new);
                for (index, value) in items.iter().enumerate() {
                    self.value(value, below.as_ref(), &path.index(index))?;
                }
                Ok(())
            }
            scalar => {
                self.expect(scalar_kind(scalar), schema.as_deref(), path)?;
                self.literals.push(path.clone());
                Ok(())
            }
        }
    }

    /// Notes a key with expressions; says whether it is one. Only templates have such keys.
    fn key(
        &mut self,
        name: &str,
        schema: Option<&Value>,
        path: &FieldPath,
    ) -> Result<bool, BuildError> {
        if self.definitions.is_none() {
            return Ok(false);
        }
        let parts = match Template::parse(name) {
            Ok(Template::Literal) => return Ok(false),
            Ok(Template::Standalone(source)) => RawParts::Standalone(source),
            Ok(Template::Mixed(parts)) => RawParts::Mixed(parts),
            Err(error) => return self.fail(path, error.to_string()),
        };
        let listed = schema
            .filter(|schema| schema.get("additionalProperties").is_none())
            .and_then(|schema| schema["properties"].as_object())
            .filter(|fields| !fields.is_empty());
        self.keys.push(RawKey {
            path: path.clone(),
            parts,
            fields: listed.map(|fields| fields.keys().cloned().collect()),
        });
        Ok(true)
    }

    fn string(
        &mut self,
        text: &str,
        schema: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), BuildError> {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => return self.fail(path, error.to_string()),
        };
        match template {
            // What the expression gives is checked when it is compiled.
            Template::Standalone(source) => {
                self.fields.push(RawField {
                    path: path.clone(),
                    parts: RawParts::Standalone(source),
                    is_deferred: false,
                });
            }
            Template::Mixed(parts) => {
                self.expect("string", schema, path)?;
                self.fields.push(RawField {
                    path: path.clone(),
                    parts: RawParts::Mixed(parts),
                    is_deferred: false,
                });
            }
            Template::Literal => {
                self.expect("string", schema, path)?;
                self.literals.push(path.clone());
            }
        }
        Ok(())
    }

    fn expect(
        &self,
        found: &str,
        schema: Option<&Value>,
        path: &FieldPath,
    ) -> Result<(), BuildError> {
        let Some(schema) = schema else { return Ok(()) };
        let expected = expected_types(schema);
        let fits = expected.is_empty()
            || expected
                .iter()
                .any(|wanted| wanted == found || (wanted == "number" && found == "integer"));
        if fits {
            return Ok(());
        }
        self.fail(
            path,
            format!(
                "expected {} type for path {path}, got {found}",
                expected.join(" or ")
            ),
        )
    }

    fn field_schema(
        &self,
        schema: &Value,
        name: &str,
        path: &FieldPath,
    ) -> Result<Arc<Value>, BuildError> {
        if let Some(found) = schema["properties"].get(name) {
            return Ok(Arc::new(found.clone()));
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) | None => {}
            Some(Value::Bool(true)) => return Ok(anything()),
            Some(found) => return Ok(Arc::new(found.clone())),
        }
        let known = schema["properties"].as_object();
        // An object without any declared field holds anything.
        if known.is_none_or(serde_json::Map::is_empty) {
            return Ok(anything());
        }
        let names = known
            .into_iter()
            .flat_map(serde_json::Map::keys)
            .map(String::as_str);
        let hint = suggestion(name, names);
        self.fail(path, format!("schema not found for field {name}{hint}"))
    }
}

/// The type of a scalar: numbers without a fraction are integers, however they are written.
fn scalar_kind(scalar: &Value) -> &'static str {
    match scalar.as_f64() {
        Some(number) if number.fract() == 0.0 => "integer",
        _ => json_kind(scalar),
    }
}

/// The schema of a value whose key is not known yet.
fn values_schema(schema: &Value) -> Arc<Value> {
    match schema.get("additionalProperties") {
        Some(found) if found.is_object() => Arc::new(found.clone()),
        _ => anything(),
    }
}

fn anything() -> Arc<Value> {
    Arc::new(serde_json::json!({"x-kubernetes-preserve-unknown-fields": true}))
}

fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// The JSON types a schema takes; empty when it does not say.
fn expected_types(schema: &Value) -> Vec<String> {
    if schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string" {
        return vec!["string".to_owned(), "integer".to_owned()];
    }
    for branches in ["oneOf", "anyOf"] {
        let types = branch_types(&schema[branches]);
        if !types.is_empty() {
            return types;
        }
    }
    schema["type"]
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .into_iter()
        .collect()
}

fn branch_types(branches: &Value) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !types.iter().any(|known| known == name) {
            types.push(name.to_owned());
        }
    };
    for branch in branches.as_array().into_iter().flatten() {
        if branch.get("required").is_some() || branch.get("not").is_some() {
            add("object");
        }
        if let Some(name) = branch["type"].as_str() {
            add(name);
        }
    }
    types
}
