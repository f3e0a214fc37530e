//! Results to JSON, as templates need them.

use cel::Value;
use serde_json::{Map, Number, Value as Json};

use crate::kro::Omit;

/// A result that has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConvertError(pub String);

/// A result as JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Converted {
    /// A value.
    Value(Json),
    /// `omit()`: the field is to be left out.
    Omit,
}

/// Nesting of a result.
const DEPTH_MAX: usize = 512;
/// Parts of a result: values share parts, so a small one may stand for an enormous tree.
const PARTS_MAX: usize = 1_000_000;
/// Bytes that count as one part: a long text may be part of many values.
const BYTES_PER_PART: usize = 64;

/// Whether the value is the result of `omit()`.
#[must_use]
pub fn is_omit(value: &Value<'_>) -> bool {
    value.as_opaque::<Omit>().is_some()
}

/// The value as JSON: optionals become their value or `null`, durations and timestamps text, unsigned integers
/// integers; bytes, types and opaque values are errors. `omit()` removes the entry or element that holds it.
///
/// ```
/// let env = cel_kube::kro_env();
/// let program = env.compile("{'a': optional.of(1), 'b': omit(), 'c': duration('90s')}")?;
/// let activation = cel::Activation::new();
/// let converted = cel_kube::to_json(&program.eval(&activation)?)?;
/// assert_eq!(converted, cel_kube::Converted::Value(serde_json::json!({"a": 1, "c": "1m30s"})));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn to_json(value: &Value<'_>) -> Result<Converted, ConvertError> {
    let mut parts = PARTS_MAX;
    Ok(match convert(value, 0, &mut parts)? {
        Some(json) => Converted::Value(json),
        None => Converted::Omit,
    })
}

/// `None` for `omit()`.
fn convert(
    value: &Value<'_>,
    depth: usize,
    parts: &mut usize,
) -> Result<Option<Json>, ConvertError> {
    if depth > DEPTH_MAX {
        return Err(ConvertError(format!(
            "the value nests deeper than {DEPTH_MAX} levels"
        )));
    }
    *parts = parts
        .checked_sub(1)
        .ok_or_else(|| ConvertError(format!("the value has more than {PARTS_MAX} parts")))?;
    if let Value::String(text) = value {
        *parts = parts
            .checked_sub(text.len() / BYTES_PER_PART)
            .ok_or_else(|| {
                ConvertError(format!(
                    "the texts of the value exceed {} bytes",
                    PARTS_MAX * BYTES_PER_PART
                ))
            })?;
    }
    let failed = |error: cel::EvalError| ConvertError(error.message().to_owned());
    Ok(Some(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => match i64::try_from(*value) {
            Ok(value) => Json::from(value),
            Err(_) => return Err(ConvertError(format!("{value} overflows an integer"))),
        },
        Value::Double(value) => match Number::from_f64(*value) {
            Some(number) => Json::Number(number),
            None => return Err(ConvertError(format!("{value} is no JSON number"))),
        },
        Value::String(text) => Json::String((**text).to_owned()),
        Value::Duration(duration) => Json::String(duration.to_string()),
        Value::Timestamp(timestamp) => Json::String(timestamp.to_string()),
        // What came from JSON goes back as it was.
        Value::List(list) => {
            if let Some(array) = list.source_json() {
                Json::Array(array.to_vec())
            } else {
                let mut out = Vec::with_capacity(list.len());
                for element in list.iter() {
                    out.extend(convert(&element.map_err(failed)?, depth + 1, parts)?);
                }
                Json::Array(out)
            }
        }
        Value::Map(map) => {
            if let Some(object) = map.source_json() {
                Json::Object(object.clone())
            } else {
                let mut out = Map::new();
                for (key, value) in map.entries() {
                    let Some(key) = key.as_str() else {
                        let ty = key.type_of();
                        return Err(ConvertError(format!(
                            "a key of type {ty} cannot be one of a JSON object"
                        )));
                    };
                    if let Some(json) = convert(&value.map_err(failed)?, depth + 1, parts)? {
                        out.insert(key.to_owned(), json);
                    }
                }
                Json::Object(out)
            }
        }
        Value::Object(object) => {
            if let Some(json) = object.as_json() {
                Json::Object(json.clone())
            } else {
                let name = object.object_type().name();
                return Err(ConvertError(format!(
                    "a value of type {name} cannot be written into an object"
                )));
            }
        }
        Value::Optional(Some(inner)) => return convert(inner, depth + 1, parts),
        Value::Bytes(_) => {
            return Err(ConvertError(
                "bytes cannot be written into an object; encode them with base64.encode()".into(),
            ));
        }
        Value::Opaque(_) if is_omit(value) => return Ok(None),
        Value::Type(_) | Value::Opaque(_) => {
            let ty = value.type_of();
            return Err(ConvertError(format!(
                "a value of type {ty} cannot be written into an object"
            )));
        }
    }))
}
