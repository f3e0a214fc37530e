//! Kubernetes' own libraries.

mod authorizer;
mod format;
mod lists;
mod mutation;
mod quantity;
mod regex;
mod semver;
mod urls;

pub use self::authorizer::{
    AuthorizationAttributes, AuthorizationDecision, Authorizer, authorizer_library,
    authorizer_type, authorizer_value, resource_check_type, resource_check_value,
};
pub use self::mutation::{ApplyConfigurationTypes, json_patch_library, json_patch_type};
use cel::cost::{self, CallEstimate, Operand, Range};
use cel::{EvalError, Library, List, Type, Value};

/// What expressions of resource graphs have of Kubernetes.
pub fn common_libraries() -> Vec<Library> {
    vec![
        lists::library(),
        regex::library(),
        urls::library(),
        quantity::library(),
        semver::library(),
    ]
}

/// What rules and policies have.
pub fn libraries() -> Vec<Library> {
    common_libraries()
        .into_iter()
        .chain([format::library()])
        .collect()
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
    cost::traverse(cost::size(&arguments[0]))
}

/// The estimate for reading the text of the first argument.
pub fn reading(operands: &[Operand]) -> CallEstimate {
    CallEstimate {
        cost: operands[0].size.scaled(cost::STRING_TRAVERSAL_FACTOR),
        result_size: None,
    }
}

/// The estimate for one pass over a list, with its strings.
pub fn passing(operands: &[Operand]) -> CallEstimate {
    let is_text = matches!(operands[0].ty.element(), Some(Type::String | Type::Bytes));
    let one = Range::exactly(1);
    let element = if is_text {
        one.plus(
            operands[0]
                .element_size
                .scaled(cost::STRING_TRAVERSAL_FACTOR),
        )
    } else {
        one
    };
    CallEstimate {
        cost: operands[0].size.times(element),
        result_size: None,
    }
}

/// The estimate for finding a pattern in a text: in the worst case every character is a match.
pub fn finding(operands: &[Operand]) -> CallEstimate {
    let text = operands[0]
        .size
        .plus(Range::exactly(1))
        .scaled(cost::STRING_TRAVERSAL_FACTOR);
    let pattern = operands[1].size.scaled(cost::REGEX_LENGTH_FACTOR);
    let result = Range {
        min: 0,
        max: operands[0].size.max,
    };
    CallEstimate {
        cost: text.times(pattern),
        result_size: Some(result),
    }
}
