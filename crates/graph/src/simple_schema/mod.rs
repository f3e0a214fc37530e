//! SimpleSchema: the short way kro's users write the schema of their API, turned into OpenAPI.
//!
//! `replicas: integer | default=3` becomes `{"type": "integer", "default": 3}`. Structs are maps; custom types are named
//! in `types` and copied where used. Required fields and defaults bubble up through structs, so that a tree in which
//! everything has a default appears even if the user writes none of it.

mod custom;
mod field_type;
mod markers;

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::nearest::suggestion;
use custom::CustomTypes;
use field_type::FieldType;
use markers::Marker;

/// Matches kro's limit.
pub(crate) const NESTING_LIMIT: usize = 16;
/// Structs nest deeper than types, but not without end.
const STRUCT_NESTING_LIMIT: usize = 64;
/// A schema that grew beyond this many nodes through copied types is refused.
const NODE_LIMIT: usize = 100_000;

/// Why a schema cannot be built, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {message}")]
pub struct SchemaError {
    /// The field, from the root of the schema: `spec.ingress.enabled`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl SchemaError {
    fn at(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

/// Turns the fields of `schema.spec` into an OpenAPI object schema; `types` holds the custom types.
pub fn build(spec: &Value, types: &Value) -> Result<Value, SchemaError> {
    let custom = CustomTypes::load(types)?;
    let mut builder = Builder {
        custom: &custom,
        nodes: 0,
    };
    match spec {
        Value::Null => builder.structure("spec", &Map::new(), 0),
        Value::Object(fields) => builder.structure("spec", fields, 0),
        other => Err(SchemaError::at(
            "spec",
            format!("expected a map of fields, got {}", json_kind(other)),
        )),
    }
}

/// A field's schema and whether it makes itself required.
pub(crate) struct Field {
    pub schema: Map<String, Value>,
    pub required: bool,
}

pub(crate) struct Builder<'a> {
    custom: &'a CustomTypes,
    nodes: usize,
}

impl Builder<'_> {
    fn structure(
        &mut self,
        path: &str,
        fields: &Map<String, Value>,
        depth: usize,
    ) -> Result<Value, SchemaError> {
        if depth >= STRUCT_NESTING_LIMIT {
            return Err(SchemaError::at(
                path,
                format!("nested deeper than {STRUCT_NESTING_LIMIT} levels"),
            ));
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, field) in fields {
            let field_path = format!("{path}.{name}");
            let built = match field {
                Value::String(text) => self.field(&field_path, text)?,
                Value::Object(fields) => {
                    let schema = self.structure(&field_path, fields, depth + 1)?;
                    Field {
                        schema: into_map(schema),
                        required: false,
                    }
                }
                other => {
                    let message = format!(
                        "unexpected type: {} (a field is a type such as \"string\", or a map of fields)",
                        json_kind(other)
                    );
                    return Err(SchemaError::at(&field_path, message));
                }
            };
            if built.required {
                required.push(Value::from(name.as_str()));
            }
            properties.insert(name.clone(), Value::Object(built.schema));
        }
        // An empty object satisfies the struct only if nothing in it is required.
        let default = required.is_empty()
            && properties
                .values()
                .any(|property| property.get("default").is_some());
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        if default {
            schema["default"] = json!({});
        }
        Ok(schema)
    }

    /// Builds `TYPE | MARKERS`.
    fn field(&mut self, path: &str, text: &str) -> Result<Field, SchemaError> {
        let (type_text, marker_text) = match text.split_once('|') {
            Some((type_text, markers)) => (type_text, Some(markers)),
            None => (text, None),
        };
        let field_type =
            FieldType::parse(type_text.trim()).map_err(|message| SchemaError::at(path, message))?;
        let schema = self.schema_of(path, &field_type)?;
        let mut field = Field {
            schema: into_map(schema),
            required: self.requires_itself(&field_type),
        };
        if let Some(text) = marker_text {
            let markers =
                Marker::parse_all(text).map_err(|message| SchemaError::at(path, message))?;
            markers::apply(&mut field, &markers)
                .map_err(|message| SchemaError::at(path, message))?;
        }
        Ok(field)
    }

    fn requires_itself(&self, field_type: &FieldType) -> bool {
        match field_type {
            FieldType::Custom(name) => self.custom.get(name).is_some_and(|custom| custom.required),
            _ => false,
        }
    }

    fn schema_of(&mut self, path: &str, field_type: &FieldType) -> Result<Value, SchemaError> {
        self.nodes += 1;
        if self.nodes > NODE_LIMIT {
            return Err(SchemaError::at(
                path,
                format!("the schema has more than {NODE_LIMIT} nodes"),
            ));
        }
        Ok(match field_type {
            FieldType::Atomic(name) => json!({"type": name}),
            FieldType::Object => {
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
            }
            FieldType::List(element) => {
                json!({"type": "array", "items": self.schema_of(path, element)?})
            }
            FieldType::Map(value) => {
                json!({"type": "object", "additionalProperties": self.schema_of(path, value)?})
            }
            FieldType::Custom(name) => {
                let Some(custom) = self.custom.get(name) else {
                    let known = FieldType::NAMES.into_iter().chain(self.custom.names());
                    let message = format!("unknown type: {name}{}", suggestion(name, known));
                    return Err(SchemaError::at(path, message));
                };
                self.nodes += custom.nodes;
                if self.nodes > NODE_LIMIT {
                    let message = format!("the schema has more than {NODE_LIMIT} nodes");
                    return Err(SchemaError::at(path, message));
                }
                custom.schema.clone()
            }
        })
    }
}

fn into_map(schema: Value) -> Map<String, Value> {
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The JSON type of a value, for messages.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
