//! Kubernetes' own libraries.

mod lists;
mod quantity;
mod regex;
mod semver;
mod urls;

use cel::{EvalError, Library, List, Value};

/// All of them.
pub fn libraries() -> Vec<Library> {
    vec![
        lists::library(),
        regex::library(),
        urls::library(),
        quantity::library(),
        semver::library(),
    ]
}

/// The argument as text. Arguments fit the declared parameters, so the error is never seen.
pub fn text<'v>(arguments: &'v [Value<'_>], index: usize) -> Result<&'v str, EvalError> {
    arguments
        .get(index)
        .and_then(Value::as_str)
        .ok_or_else(EvalError::no_such_overload)
}

/// The argument as an integer.
pub fn int(arguments: &[Value<'_>], index: usize) -> Result<i64, EvalError> {
    arguments
        .get(index)
        .and_then(Value::as_int)
        .ok_or_else(EvalError::no_such_overload)
}

/// The argument as a list.
pub fn list<'v, 'a>(arguments: &'v [Value<'a>], index: usize) -> Result<&'v List<'a>, EvalError> {
    match arguments.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Walking over the text of the first argument.
pub fn walked(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cel::cost::traverse(cel::cost::size(&arguments[0]))
}
