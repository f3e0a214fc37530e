//! What evaluation costs, in the units of cel-go and Kubernetes.
//!
//! Reading a variable or field costs one, a call one, creating a list ten; walking over text costs a tenth per
//! character. The numbers are part of Kubernetes' contract: a rule that is accepted by one API server must be by
//! another.

mod estimate;

pub use self::estimate::{NoHints, SizeHints, estimate};
use crate::value::Value;

/// What a call costs at run time, from its arguments and its result.
pub type CallCost = dyn Fn(&[Value<'_>], &Value<'_>) -> u64 + Send + Sync;

/// What a call is estimated to cost, from what is known of its operands.
pub type Estimate = dyn Fn(&[Operand]) -> CallEstimate + Send + Sync;

/// Reading a variable, or a field.
pub const SELECT_AND_IDENT: u64 = 1;
/// Creating a list.
pub const LIST_CREATE: u64 = 10;
/// Creating a map.
pub const MAP_CREATE: u64 = 30;
/// Creating an object.
pub const STRUCT_CREATE: u64 = 40;
/// Walking over a string, per character.
pub const STRING_TRAVERSAL_FACTOR: f64 = 0.1;
/// Matching a regular expression, per character of the pattern.
pub const REGEX_LENGTH_FACTOR: f64 = 0.25;

/// The least and the most of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Range {
    /// Exactly `value`.
    #[must_use]
    pub fn exactly(value: u64) -> Self {
        Self {
            min: value,
            max: value,
        }
    }

    /// Anything.
    #[must_use]
    pub fn unbounded() -> Self {
        Self {
            min: 0,
            max: u64::MAX,
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    /// The product of both.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    /// Each end times a factor, rounded up.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let scale = |value: u64| {
            let scaled = (value as f64 * factor).ceil();
            if scaled >= u64::MAX as f64 {
                u64::MAX
            } else {
                scaled as u64
            }
        };
        Self {
            min: scale(self.min),
            max: scale(self.max),
        }
    }

    /// The range that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// What is known of an operand before evaluation.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Its type.
    pub ty: crate::types::Type,
    /// Its size: characters, bytes, elements; one for scalars.
    pub size: Range,
    /// The size of its elements, if it is a list.
    pub element_size: Range,
    /// Its value, if it is a constant integer.
    pub constant: Option<i64>,
}

/// The estimate for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEstimate {
    /// What the call costs.
    pub cost: Range,
    /// The size of its result, if anything is known of it.
    pub result_size: Option<Range>,
}

/// The size of a value as cost counts it: characters, bytes, elements; one for scalars.
#[must_use]
pub fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => text_size(text),
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(list) => list.len() as u64,
        Value::Map(map) => map.len() as u64,
        Value::Object(object) => object.len() as u64,
        Value::Optional(Some(inner)) => size(inner),
        _ => 1,
    }
}

pub(crate) fn text_size(text: &str) -> u64 {
    // Counting characters of ASCII text is counting bytes.
    if text.is_ascii() {
        text.len() as u64
    } else {
        text.chars().count() as u64
    }
}

/// Walking over something of this size once.
#[must_use]
pub fn traverse(size: u64) -> u64 {
    // A tenth, rounded up, exactly; see STRING_TRAVERSAL_FACTOR.
    size.div_ceil(10)
}

/// Walking over the smaller of two values: what comparing them costs.
pub(crate) fn traverse_smaller(a: &Value<'_>, b: &Value<'_>) -> u64 {
    match (a, b) {
        (
            Value::Int(_) | Value::Bool(_) | Value::Double(_) | Value::Uint(_) | Value::Null,
            Value::Int(_) | Value::Bool(_) | Value::Double(_) | Value::Uint(_) | Value::Null,
        ) => 1,
        _ => traverse(size(a).min(size(b))),
    }
}

/// Matching a text against a pattern.
#[must_use]
pub fn matches(text: &str, pattern: &str) -> u64 {
    traverse(text_size(text) + 1) * text_size(pattern).div_ceil(4)
}
