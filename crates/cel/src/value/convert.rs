//! Conversions between types: `int(x)`, `string(x)` and the rest of the standard conversions.

use super::{Duration, Timestamp, Value, double_to_int, double_to_uint, format_double};
use crate::error::EvalError;

fn range(to: &str) -> EvalError {
    match to {
        "uint" => EvalError::overflow("unsigned integer overflow: value out of range"),
        _ => EvalError::overflow(format!("integer overflow: value out of {to} range")),
    }
}

fn conversion(from: &Value<'_>, to: &str) -> EvalError {
    let text = from.to_display();
    EvalError::invalid(format!(
        "type conversion error from '{}' to '{to}': {text}",
        from.type_name()
    ))
}

impl<'a> Value<'a> {
    /// `int(self)`
    pub fn to_int(&self) -> Result<Value<'a>, EvalError> {
        Ok(Value::Int(match self {
            Self::Int(value) => *value,
            Self::Uint(value) => i64::try_from(*value).map_err(|_| range("int"))?,
            Self::Double(value) => double_to_int(*value).ok_or_else(|| range("int"))?,
            Self::String(text) => parse_int(text).ok_or_else(|| conversion(self, "int"))?,
            Self::Timestamp(timestamp) => timestamp.seconds(),
            Self::Duration(duration) => duration.nanoseconds(),
            _ => return Err(EvalError::no_such_overload()),
        }))
    }

    /// `uint(self)`
    pub fn to_uint(&self) -> Result<Value<'a>, EvalError> {
        Ok(Value::Uint(match self {
            Self::Uint(value) => *value,
            Self::Int(value) => u64::try_from(*value).map_err(|_| range("uint"))?,
            Self::Double(value) => double_to_uint(*value).ok_or_else(|| range("uint"))?,
            Self::String(text) if !text.starts_with('+') => {
                text.parse().map_err(|_| conversion(self, "uint"))?
            }
            Self::String(_) => return Err(conversion(self, "uint")),
            _ => return Err(EvalError::no_such_overload()),
        }))
    }

    /// `double(self)`
    pub fn to_double(&self) -> Result<Value<'a>, EvalError> {
        Ok(Value::Double(match self {
            Self::Double(value) => *value,
            Self::Int(value) => *value as f64,
            Self::Uint(value) => *value as f64,
            Self::String(text) => text.parse().map_err(|_| conversion(self, "double"))?,
            _ => return Err(EvalError::no_such_overload()),
        }))
    }

    /// `bool(self)`
    pub fn to_bool(&self) -> Result<Value<'a>, EvalError> {
        match self {
            Self::Bool(value) => Ok(Value::Bool(*value)),
            Self::String(text) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
                _ => Err(conversion(self, "bool")),
            },
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `string(self)`
    pub fn to_text(&self) -> Result<Value<'a>, EvalError> {
        Ok(match self {
            Self::String(_) => self.clone(),
            Self::Bool(value) => Value::string(if *value { "true" } else { "false" }),
            Self::Int(value) => int_text(*value),
            Self::Uint(value) => Value::string(value.to_string()),
            Self::Double(value) => Value::string(format_double(*value)),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::string(text),
                Err(_) => {
                    return Err(EvalError::invalid(
                        "invalid UTF-8 in bytes, cannot convert to string",
                    ));
                }
            },
            Self::Timestamp(timestamp) => Value::string(timestamp.to_string()),
            Self::Duration(duration) => Value::string(duration.to_seconds_text()),
            Self::Opaque(opaque) => {
                Value::string(opaque.0.to_text().ok_or_else(EvalError::no_such_overload)?)
            }
            _ => return Err(EvalError::no_such_overload()),
        })
    }

    /// `bytes(self)`
    pub fn to_bytes(&self) -> Result<Value<'a>, EvalError> {
        match self {
            Self::Bytes(_) => Ok(self.clone()),
            Self::String(text) => Ok(Value::bytes(text.as_bytes())),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `duration(self)`
    pub fn to_duration(&self) -> Result<Value<'a>, EvalError> {
        match self {
            Self::Duration(duration) => Ok(Value::Duration(*duration)),
            Self::Int(nanoseconds) => Ok(Value::Duration(Duration::from_nanoseconds(*nanoseconds))),
            Self::String(text) => Duration::parse(text).map(Value::Duration).ok_or_else(|| {
                EvalError::invalid(format!(
                    "invalid duration or out of range: \"{}\"",
                    shorten(text)
                ))
            }),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `timestamp(self)`
    pub fn to_timestamp(&self) -> Result<Value<'a>, EvalError> {
        match self {
            Self::Timestamp(timestamp) => Ok(Value::Timestamp(*timestamp)),
            Self::Int(seconds) => Timestamp::new(*seconds, 0)
                .map(Value::Timestamp)
                .ok_or_else(|| EvalError::overflow("timestamp overflow: value out of range")),
            Self::String(text) => Timestamp::parse(text).map(Value::Timestamp).ok_or_else(|| {
                EvalError::invalid(format!(
                    "invalid timestamp or out of range: \"{}\"",
                    shorten(text)
                ))
            }),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The value in a message: short, never failing.
    #[must_use]
    pub fn to_display(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::String(text) => shorten(text),
            Self::Type(ty) => ty.to_string(),
            other => match other.to_text() {
                Ok(Value::String(text)) => shorten(&text),
                _ => format!("a value of type {}", self.type_name()),
            },
        }
    }
}

/// The digits of an integer, written on the stack: one allocation instead of two.
fn int_text<'a>(value: i64) -> Value<'a> {
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    // Invariant: digits and a sign are ASCII.
    Value::string(std::str::from_utf8(&buffer[at..]).unwrap_or_default())
}

/// Go's `strconv.ParseInt(text, 10, 64)`.
fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// The beginning of a text that may be huge.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
