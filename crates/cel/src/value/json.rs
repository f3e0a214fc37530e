//! JSON in and out.
//!
//! Reading borrows: [`Value::from_json`] looks at one JSON value and never below it. With a declared type,
//! [`Value::from_typed`] also decodes what JSON has no types for: bytes, timestamps, durations, and checks
//! that the data is what the type says.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map as JsonMap, Number, Value as Json};

use super::{Duration, List, Map, Object, Str, Timestamp, Value};
use crate::error::EvalError;
use crate::types::Type;

/// A value has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub String);

/// How values without a natural JSON form are written.
#[derive(Clone, Copy, Debug)]
pub struct JsonOptions {
    /// Nesting of the result.
    pub depth_max: usize,
    /// Number of values in the result.
    pub values_max: usize,
    /// Bytes of all texts in the result together: the same text may be part of many values.
    pub bytes_max: usize,
    /// Whether bytes are written as base64 text instead of being an error.
    pub bytes_as_base64: bool,
    /// Whether durations are written as `3600s`, as CEL's `string()` does, instead of Go's `1h0m0s`.
    pub durations_in_seconds: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self {
            depth_max: 512,
            values_max: 1_000_000,
            bytes_max: 64 << 20,
            bytes_as_base64: true,
            durations_in_seconds: false,
        }
    }
}

impl<'a> Value<'a> {
    /// The value a JSON value stands for when no type is declared: numbers without a fraction are `int`, others
    /// `double`.
    #[must_use]
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Str::Borrowed(text)),
            Json::Array(array) => Self::List(List::json(array)),
            Json::Object(object) => Self::Map(Map::json(object)),
        }
    }

    /// The value a JSON value stands for where `ty` is declared.
    pub fn from_typed(json: &'a Json, ty: &'a Type) -> Result<Self, EvalError> {
        let unexpected = || {
            EvalError::invalid(format!(
                "invalid data, expected {ty}, got {}",
                kind_of(json)
            ))
        };
        Ok(match (ty, json) {
            (_, Json::Null) => Self::Null,
            (Type::Bool, Json::Bool(value)) => Self::Bool(*value),
            (Type::Int, Json::Number(number)) => Self::Int(whole(number).ok_or_else(unexpected)?),
            (Type::Uint, Json::Number(number)) => {
                Self::Uint(number.as_u64().ok_or_else(unexpected)?)
            }
            (Type::Double, Json::Number(number)) => {
                Self::Double(number.as_f64().ok_or_else(unexpected)?)
            }
            (Type::String, Json::String(text)) => Self::String(Str::Borrowed(text)),
            (Type::Bytes, Json::String(text)) => {
                let bytes = BASE64_STANDARD.decode(text);
                Self::bytes(bytes.map_err(|_| {
                    EvalError::invalid("invalid data, expected base64 text for bytes")
                })?)
            }
            (Type::Timestamp, Json::String(text)) => Self::Timestamp(
                Timestamp::parse(text)
                    .or_else(|| Timestamp::parse_date(text))
                    .ok_or_else(unexpected)?,
            ),
            (Type::Duration, Json::String(text)) => {
                Self::Duration(Duration::parse(text).ok_or_else(unexpected)?)
            }
            (Type::List(ty), Json::Array(array)) => Self::List(List::typed(array, ty)),
            (Type::Map(ty), Json::Object(object)) => Self::Map(Map::typed(object, &ty.value)),
            (Type::Object(ty), Json::Object(object)) => Self::Object(Object::json(object, ty)),
            (Type::Wrapper(inner), json) => return Self::from_typed(json, inner),
            (
                Type::Bool
                | Type::Int
                | Type::Uint
                | Type::Double
                | Type::String
                | Type::Bytes
                | Type::Timestamp
                | Type::Duration
                | Type::List(_)
                | Type::Map(_)
                | Type::Object(_),
                _,
            ) => return Err(unexpected()),
            _ => Self::from_json(json),
        })
    }

    /// The value as JSON. Optionals become their value or `null`; types and opaque values have no JSON form.
    ///
    /// ```
    /// let value = cel::Env::standard().compile("{'a': [1, 2.5, true]}")?.eval(&cel::Activation::new())?.to_json(
    ///     cel::JsonOptions::default(),
    /// )?;
    /// assert_eq!(value, serde_json::json!({"a": [1, 2.5, true]}));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_json(&self, options: JsonOptions) -> Result<Json, JsonError> {
        let mut left = Left {
            values: options.values_max,
            bytes: options.bytes_max,
        };
        write(self, options, 0, &mut left)
    }
}

fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let value = number.as_f64()?;
        (value.fract() == 0.0)
            .then(|| super::double_to_int(value))
            .flatten()
    })
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// What may still be written.
struct Left {
    values: usize,
    bytes: usize,
}

fn write(
    value: &Value<'_>,
    options: JsonOptions,
    depth: usize,
    left: &mut Left,
) -> Result<Json, JsonError> {
    if depth > options.depth_max {
        return Err(JsonError(format!(
            "the value nests deeper than {} levels",
            options.depth_max
        )));
    }
    let values = left.values.checked_sub(1);
    left.values = values.ok_or_else(|| {
        JsonError(format!(
            "the value has more than {} parts",
            options.values_max
        ))
    })?;
    let length = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len() * 2,
        _ => 0,
    };
    let bytes = left.bytes.checked_sub(length);
    left.bytes = bytes.ok_or_else(|| {
        JsonError(format!(
            "the texts of the value exceed {} bytes",
            options.bytes_max
        ))
    })?;
    let below = |value: &Value<'_>, left: &mut Left| write(value, options, depth + 1, left);
    let failed = |error: EvalError| JsonError(error.message().to_owned());
    Ok(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => match i64::try_from(*value) {
            Ok(value) => Json::from(value),
            Err(_) => {
                return Err(JsonError(format!(
                    "unsigned integer overflow: {value} does not fit an integer"
                )));
            }
        },
        Value::Double(value) => Number::from_f64(*value).map(Json::Number).ok_or_else(|| {
            JsonError(format!(
                "{} is no JSON number",
                super::format_double(*value)
            ))
        })?,
        Value::String(text) => Json::String((**text).to_owned()),
        Value::Bytes(bytes) if options.bytes_as_base64 => {
            Json::String(BASE64_STANDARD.encode(&**bytes))
        }
        Value::Bytes(_) => return Err(JsonError("bytes have no JSON form".to_owned())),
        Value::Duration(duration) if options.durations_in_seconds => {
            Json::String(duration.to_seconds_text())
        }
        Value::Duration(duration) => Json::String(duration.to_string()),
        Value::Timestamp(timestamp) => Json::String(timestamp.to_string()),
        Value::List(list) => {
            let mut out = Vec::with_capacity(list.len());
            for element in list.iter() {
                out.push(below(&element.map_err(failed)?, left)?);
            }
            Json::Array(out)
        }
        Value::Map(map) => {
            let mut out = JsonMap::new();
            for (key, value) in map.entries() {
                let key = key.as_str().map(str::to_owned).ok_or_else(|| {
                    JsonError(format!(
                        "a key of type {} cannot be one of a JSON object",
                        key.type_name()
                    ))
                })?;
                out.insert(key, below(&value.map_err(failed)?, left)?);
            }
            Json::Object(out)
        }
        Value::Object(object) => {
            if let Some(json) = object.as_json() {
                // What came from JSON goes back as it was.
                return Ok(Json::Object(json.clone()));
            }
            let mut out = JsonMap::new();
            for (name, value) in object.fields() {
                out.insert(name.to_owned(), below(&value.map_err(failed)?, left)?);
            }
            Json::Object(out)
        }
        Value::Optional(Some(inner)) => below(inner, left)?,
        Value::Type(ty) => return Err(JsonError(format!("the type {ty} has no JSON form"))),
        Value::Opaque(opaque) => {
            return Err(JsonError(format!(
                "a value of type {} has no JSON form",
                opaque.0.type_of()
            )));
        }
    })
}
