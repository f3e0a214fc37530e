//! Equality and order.
//!
//! Values of different types are different, numbers aside; nothing is an error except too much work: values
//! share parts, so a small one may stand for an enormous tree, and [`Work`] bounds how much of it is visited.

use std::cmp::Ordering;

use super::{List, Map, Object, Value, compare_numbers};
use crate::error::EvalError;
use crate::types::ListKind;

/// How many values may still be visited.
#[derive(Debug)]
pub struct Work {
    left: u64,
}

impl Work {
    /// Enough for this many values.
    pub fn new(values: u64) -> Self {
        Self { left: values }
    }

    /// Takes what walking over a text of this length is worth: the same text may be part of many values.
    pub fn take_bytes(&mut self, length: usize) -> Result<(), EvalError> {
        self.take((length / BYTES_PER_VALUE) as u64)
    }

    /// Takes some of it.
    pub fn take(&mut self, values: u64) -> Result<(), EvalError> {
        match self.left.checked_sub(values) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(EvalError::too_large(
                "the work of comparing and copying values",
                WORK_DEFAULT as usize,
            )),
        }
    }
}

/// Bytes that count as one value.
const BYTES_PER_VALUE: usize = 64;
/// Texts up to this length are part of the value that holds them.
const FREE_BYTES: usize = 256;

/// Values visited by one evaluation, besides what cost accounts for.
const WORK_DEFAULT: u64 = 20_000_000;

impl Default for Work {
    fn default() -> Self {
        Self::new(WORK_DEFAULT)
    }
}

/// CEL's `==`.
pub fn equal(a: &Value<'_>, b: &Value<'_>, work: &mut Work) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => {
            if a.len() == b.len() && a.len() > FREE_BYTES {
                work.take_bytes(a.len())?;
            }
            **a == **b
        }
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Null, Value::Null) => true,
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => compare_numbers(a, b) == Some(Ordering::Equal),
        (Value::Bytes(a), Value::Bytes(b)) => {
            if a.len() == b.len() {
                work.take_bytes(a.len())?;
            }
            **a == **b
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::List(a), Value::List(b)) => return equal_lists(a, b, work),
        (Value::Map(a), Value::Map(b)) => return equal_maps(a, b, work),
        (Value::Object(a), Value::Object(b)) => return equal_objects(a, b, work),
        (Value::Object(a), Value::Map(b)) | (Value::Map(b), Value::Object(a)) => {
            return match a.as_json() {
                Some(json) => equal_maps(&Map::json(json), b, work),
                None => Ok(false),
            };
        }
        (Value::Optional(a), Value::Optional(b)) => {
            return match (a, b) {
                (Some(a), Some(b)) => equal(a, b, work),
                (a, b) => Ok(a.is_none() && b.is_none()),
            };
        }
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::Opaque(opaque), other) | (other, Value::Opaque(opaque)) => {
            return match (opaque.0.comparison_error(), other) {
                (Some(error), _) => Err(error),
                (None, Value::Opaque(_)) => match (a, b) {
                    (Value::Opaque(a), Value::Opaque(b)) => match b.0.comparison_error() {
                        Some(error) => Err(error),
                        None => Ok(a.0.equals(&*b.0)),
                    },
                    _ => Ok(false),
                },
                (None, _) => Ok(false),
            };
        }
        _ => false,
    })
}

fn equal_lists(a: &List<'_>, b: &List<'_>, work: &mut Work) -> Result<bool, EvalError> {
    work.take(1)?;
    if a.len() != b.len() {
        return Ok(false);
    }
    let kind = if matches!(a.kind(), ListKind::Atomic) {
        b.kind()
    } else {
        a.kind()
    };
    if !matches!(kind, ListKind::Atomic) {
        return equal_in_any_order(a, b, work);
    }
    for (a, b) in a.iter().zip(b.iter()) {
        work.take(1)?;
        if !equal(&a?, &b?, work)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sets and maps written as lists: every element of one is in the other.
fn equal_in_any_order(a: &List<'_>, b: &List<'_>, work: &mut Work) -> Result<bool, EvalError> {
    for element in a.iter() {
        let element = element?;
        let mut found = false;
        for other in b.iter() {
            work.take(1)?;
            if equal(&element, &other?, work)? {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps<'a>(a: &Map<'a>, b: &Map<'a>, work: &mut Work) -> Result<bool, EvalError> {
    work.take(1)?;
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in a.entries() {
        work.take(1)?;
        match b.get(&key) {
            Some(other) => {
                if !equal(&value?, &other?, work)? {
                    return Ok(false);
                }
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}

fn equal_objects<'a>(a: &Object<'a>, b: &Object<'a>, work: &mut Work) -> Result<bool, EvalError> {
    work.take(1)?;
    if a.object_type().name() != b.object_type().name() || a.len() != b.len() {
        return Ok(false);
    }
    let others = b.fields();
    for (name, value) in a.fields() {
        work.take(1)?;
        match others.iter().find(|(other, _)| *other == name) {
            Some((_, other)) => {
                if !equal(&value?, &other.clone()?, work)? {
                    return Ok(false);
                }
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// CEL's order, of two values of types that have one together; `None` if they have none, NaN included.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some((**a).cmp(&**b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => compare_numbers(a, b),
    }
}
