//! Libraries: the functions and macros expressions may use, by name.

pub(crate) mod bindings;
pub(crate) mod encoders;
mod format;
pub(crate) mod lists;
pub(crate) mod math;
pub(crate) mod network;
pub(crate) mod optionals;
pub(crate) mod regex;
pub(crate) mod sets;
pub(crate) mod standard;
pub(crate) mod strings;
mod time;
pub(crate) mod well_known;

use crate::env::Library;
use crate::error::EvalError;
use crate::value::{List, Str, Value};

/// The libraries of this crate besides the standard one.
pub const NAMES: [&str; 11] = [
    "strings",
    "lists",
    "sets",
    "math",
    "encoders",
    "bindings",
    "blocks",
    "optionals",
    "two-variable-comprehensions",
    "network",
    "regex",
];

/// The library with this name. Besides those of [`NAMES`] there is `network-strict`, which refuses every IPv6 address that
/// maps an IPv4 one, as Kubernetes does.
#[must_use]
pub fn find(name: &str) -> Option<Library> {
    Some(match name {
        "strings" => strings::library(),
        "lists" => lists::library(),
        "sets" => sets::library(),
        "math" => math::library(),
        "encoders" => encoders::library(),
        "bindings" => bindings::bindings(),
        "blocks" => bindings::blocks(),
        "optionals" => optionals::library(),
        "two-variable-comprehensions" => bindings::two_variable_comprehensions(),
        "network" => network::library(),
        "network-strict" => network::strict_library(),
        "regex" => regex::library(),
        _ => return None,
    })
}

/// The argument as text. Arguments fit the declared parameters, so the error is never seen.
pub(crate) fn text<'v>(arguments: &'v [Value<'_>], index: usize) -> Result<&'v str, EvalError> {
    arguments
        .get(index)
        .and_then(Value::as_str)
        .ok_or_else(EvalError::no_such_overload)
}

/// The argument as an integer.
pub(crate) fn int(arguments: &[Value<'_>], index: usize) -> Result<i64, EvalError> {
    arguments
        .get(index)
        .and_then(Value::as_int)
        .ok_or_else(EvalError::no_such_overload)
}

/// The argument as a list.
pub(crate) fn list<'v, 'a>(
    arguments: &'v [Value<'a>],
    index: usize,
) -> Result<&'v List<'a>, EvalError> {
    match arguments.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A string that borrows when the original does, and shares otherwise.
pub(crate) fn sub_text<'a>(original: &Value<'a>, range: std::ops::Range<usize>) -> Value<'a> {
    match original {
        Value::String(Str::Borrowed(text)) => {
            Value::String(Str::Borrowed(text.get(range).unwrap_or_default()))
        }
        Value::String(Str::Shared(text)) => Value::string(text.get(range).unwrap_or_default()),
        _ => Value::Null,
    }
}
