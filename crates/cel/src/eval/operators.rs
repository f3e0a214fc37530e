//! Operators: arithmetic with its overflows, comparison, containment.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::attribute::Place;
use super::{Evaluated, Evaluator};
use crate::ast::BinaryOperator;
use crate::cost::{self, SELECT_AND_IDENT};
use crate::error::{ErrorKind, EvalError};
use crate::program::node::{Binary, Chain, Node};
use crate::source::Span;
use crate::types::{ListKind, Type};
use crate::value::{List, Value, compare, equal};

impl<'a> Evaluator<'a, '_> {
    pub(super) fn negate(&mut self, operand: &'a Node, span: Span) -> Evaluated<'a> {
        let value = self.eval(operand)?;
        self.charge(1)?;
        match value {
            Value::Int(value) => value
                .checked_neg()
                .map(Value::Int)
                .ok_or_else(|| overflow("integer overflow").at(span)),
            Value::Double(value) => Ok(Value::Double(-value)),
            _ => Err(EvalError::no_such_overload().at(span)),
        }
    }

    pub(super) fn compare(&mut self, binary: &'a Binary) -> Result<bool, EvalError> {
        if let (Node::Attribute(attribute), Node::Constant(constant)) =
            (&binary.left, &binary.right)
        {
            let place = self.place(attribute, SELECT_AND_IDENT)?;
            if let Some(result) = self.compare_data(binary.operator, &place, constant) {
                return result;
            }
            let left = place.into_value()?;
            return self.compare_values(binary, &left, &constant.reborrow());
        }
        let [left, right] = self.both(&binary.left, &binary.right)?;
        self.compare_values(binary, &left, &right)
    }

    /// Compares data with a constant where both are integers or strings, without making a value of the data.
    #[inline]
    fn compare_data(
        &mut self,
        operator: BinaryOperator,
        place: &Place<'a>,
        constant: &Value<'static>,
    ) -> Option<Result<bool, EvalError>> {
        let json = match place {
            Place::Json(json) | Place::Typed(json, Type::Int | Type::String) => json,
            _ => return None,
        };
        let (ordering, cost) = match (json, constant) {
            (Json::Number(number), Value::Int(constant)) => (number.as_i64()?.cmp(constant), 1),
            (Json::String(text), Value::String(constant)) => {
                let cost = cost::traverse(cost::text_size(text).min(cost::text_size(constant)));
                match operator {
                    // Most strings that differ differ in length.
                    BinaryOperator::Equal | BinaryOperator::NotEqual
                        if text.len() != constant.len() =>
                    {
                        (Ordering::Less, cost)
                    }
                    _ => (text.as_str().cmp(constant), cost),
                }
            }
            _ => return None,
        };
        let result = match operator {
            BinaryOperator::Equal => ordering == Ordering::Equal,
            BinaryOperator::NotEqual => ordering != Ordering::Equal,
            BinaryOperator::In => return None,
            operator => holds(operator, ordering),
        };
        Some(self.charge(cost).map(|()| result))
    }

    fn compare_values(
        &mut self,
        binary: &'a Binary,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<bool, EvalError> {
        let result = match binary.operator {
            BinaryOperator::Equal => self.equal(left, right),
            BinaryOperator::NotEqual => self.equal(left, right).map(|equal| !equal),
            BinaryOperator::In => self.contains(left, right),
            operator => self.order(operator, left, right),
        };
        result.map_err(|error| error.at(binary.span))
    }

    fn equal(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool, EvalError> {
        self.charge(cost::traverse_smaller(left, right))?;
        equal(left, right, &mut self.context.work)
    }

    fn order(
        &mut self,
        operator: BinaryOperator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<bool, EvalError> {
        self.charge(match left {
            Value::String(_) | Value::Bytes(_) => cost::traverse_smaller(left, right),
            _ => 1,
        })?;
        let Some(ordering) = compare(left, right) else {
            // NaN compares false with every number; everything else has no order with it.
            let number = |value: &Value<'_>| {
                matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
            };
            return if number(left) && number(right) {
                Ok(false)
            } else {
                Err(EvalError::no_such_overload())
            };
        };
        Ok(holds(operator, ordering))
    }

    fn contains(&mut self, element: &Value<'a>, container: &Value<'a>) -> Result<bool, EvalError> {
        match container {
            Value::List(list) => {
                self.charge(list.len() as u64)?;
                for candidate in list.iter() {
                    if equal(element, &candidate?, &mut self.context.work)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Map(map) => {
                self.charge(1)?;
                Ok(map.contains(element))
            }
            Value::Object(object) => {
                self.charge(1)?;
                Ok(element.as_str().is_some_and(|field| object.has(field)))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// `a + b - c ...`. Neighbouring additions of strings make one string.
    pub(super) fn chain(&mut self, chain: &'a Chain) -> Evaluated<'a> {
        let mut result = self.eval(&chain.first);
        let mut rest = &*chain.rest;
        while let [(operator, node, span), tail @ ..] = rest {
            let right = self.eval(node);
            rest = tail;
            result = match (result, right) {
                (Ok(Value::String(left)), Ok(Value::String(right)))
                    if *operator == BinaryOperator::Add =>
                {
                    self.concatenate(&left, &right, &mut rest, *span)
                }
                (Ok(left), Ok(right)) => self
                    .arithmetic(*operator, &left, &right)
                    .map_err(|error| error.at(*span)),
                (Err(left), Err(right)) => Err(left.merge(right)),
                (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            };
            if let Err(error) = &result
                && error.kind() != ErrorKind::Unknown
            {
                return result;
            }
        }
        result
    }

    /// Adds `right` to `left`, and all strings that follow.
    fn concatenate(
        &mut self,
        left: &str,
        right: &str,
        rest: &mut &'a [(BinaryOperator, Node, Span)],
        span: Span,
    ) -> Evaluated<'a> {
        let mut text =
            String::with_capacity((left.len() + right.len()) * if rest.is_empty() { 1 } else { 4 });
        text.push_str(left);
        self.append(&mut text, right, span)?;
        while let [(BinaryOperator::Add, node, span), tail @ ..] = *rest {
            match self.eval(node)? {
                Value::String(right) => self.append(&mut text, &right, *span)?,
                _ => return Err(EvalError::no_such_overload().at(*span)),
            }
            *rest = tail;
        }
        Ok(Value::string(text))
    }

    fn append(&mut self, text: &mut String, right: &str, span: Span) -> Result<(), EvalError> {
        self.charge(cost::traverse(
            cost::text_size(text) + cost::text_size(right),
        ))?;
        self.context
            .check_bytes(text.len() + right.len())
            .map_err(|error| error.at(span))?;
        text.push_str(right);
        Ok(())
    }

    fn arithmetic(
        &mut self,
        operator: BinaryOperator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Evaluated<'a> {
        match (operator, left, right) {
            (BinaryOperator::Add, Value::Bytes(a), Value::Bytes(b)) => {
                self.charge(cost::traverse((a.len() + b.len()) as u64))?;
                self.context.check_bytes(a.len() + b.len())?;
                Ok(Value::bytes([&**a, &**b].concat()))
            }
            (BinaryOperator::Add, Value::List(a), Value::List(b)) => {
                self.charge(1)?;
                self.add_lists(a, b)
            }
            _ => {
                self.charge(1)?;
                scalar_arithmetic(operator, left, right)
            }
        }
    }

    fn add_lists(&mut self, a: &List<'a>, b: &List<'a>) -> Evaluated<'a> {
        self.context.check_elements(a.len() + b.len())?;
        let mut elements = Vec::with_capacity(a.len() + b.len());
        for element in a.iter() {
            elements.push(element?);
        }
        match a.kind() {
            ListKind::Atomic => {
                for element in b.iter() {
                    elements.push(element?);
                }
            }
            ListKind::Set => {
                for element in b.iter() {
                    let element = element?;
                    if !self
                        .find(&elements, |known, work| equal(known, &element, work))?
                        .is_some()
                    {
                        elements.push(element);
                    }
                }
            }
            ListKind::Map(keys) => {
                for element in b.iter() {
                    let element = element?;
                    let found = self.find(&elements, |known, work| {
                        for key in keys.iter() {
                            if !equal(&field(known, key), &field(&element, key), work)? {
                                return Ok(false);
                            }
                        }
                        Ok(true)
                    })?;
                    match found {
                        Some(at) => elements[at] = element,
                        None => elements.push(element),
                    }
                }
            }
        }
        Ok(Value::list(elements))
    }

    fn find(
        &mut self,
        elements: &[Value<'a>],
        mut is: impl FnMut(&Value<'a>, &mut crate::value::Work) -> Result<bool, EvalError>,
    ) -> Result<Option<usize>, EvalError> {
        for (at, known) in elements.iter().enumerate() {
            self.context.work.take(1)?;
            if is(known, &mut self.context.work)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

/// A field of a map or object; absent ones count as null.
fn field<'a>(value: &Value<'a>, name: &str) -> Value<'a> {
    let found = match value {
        Value::Map(map) => map.get_str(name),
        Value::Object(object) => object.get(name),
        _ => None,
    };
    found.and_then(Result::ok).unwrap_or_default()
}

/// Whether an order is one the operator asks for.
fn holds(operator: BinaryOperator, ordering: Ordering) -> bool {
    match operator {
        BinaryOperator::Less => ordering == Ordering::Less,
        BinaryOperator::LessEqual => ordering != Ordering::Greater,
        BinaryOperator::Greater => ordering == Ordering::Greater,
        _ => ordering != Ordering::Less,
    }
}

#[cold]
fn overflow(message: &str) -> EvalError {
    EvalError::overflow(message)
}

#[cold]
fn divide_by_zero(operator: BinaryOperator) -> EvalError {
    let message = if operator == BinaryOperator::Modulo {
        "modulus by zero"
    } else {
        "division by zero"
    };
    EvalError::new(ErrorKind::DivideByZero, message)
}

fn scalar_arithmetic<'a>(
    operator: BinaryOperator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Evaluated<'a> {
    use BinaryOperator::{Add, Divide, Modulo, Multiply, Subtract};
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            let (a, b) = (*a, *b);
            if b == 0 && matches!(operator, Divide | Modulo) {
                return Err(divide_by_zero(operator));
            }
            let result = match operator {
                Add => a.checked_add(b),
                Subtract => a.checked_sub(b),
                Multiply => a.checked_mul(b),
                Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            result
                .map(Value::Int)
                .ok_or_else(|| overflow("integer overflow"))
        }
        (Value::Uint(a), Value::Uint(b)) => {
            let (a, b) = (*a, *b);
            if b == 0 && matches!(operator, Divide | Modulo) {
                return Err(divide_by_zero(operator));
            }
            let result = match operator {
                Add => a.checked_add(b),
                Subtract => a.checked_sub(b),
                Multiply => a.checked_mul(b),
                Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            result
                .map(Value::Uint)
                .ok_or_else(|| overflow("unsigned integer overflow"))
        }
        (Value::Double(a), Value::Double(b)) => match operator {
            Add => Ok(Value::Double(a + b)),
            Subtract => Ok(Value::Double(a - b)),
            Multiply => Ok(Value::Double(a * b)),
            Divide => Ok(Value::Double(a / b)),
            _ => Err(EvalError::no_such_overload()),
        },
        (Value::Duration(a), Value::Duration(b)) => {
            let result = match operator {
                Add => a.checked_add(*b),
                Subtract => a.checked_sub(*b),
                _ => return Err(EvalError::no_such_overload()),
            };
            result
                .map(Value::Duration)
                .ok_or_else(|| overflow("integer overflow: duration out of range"))
        }
        (Value::Timestamp(a), Value::Duration(b)) => {
            let result = match operator {
                Add => a.checked_add(*b),
                Subtract => a.checked_sub(*b),
                _ => return Err(EvalError::no_such_overload()),
            };
            result
                .map(Value::Timestamp)
                .ok_or_else(|| overflow("timestamp overflow: out of range"))
        }
        (Value::Duration(a), Value::Timestamp(b)) if operator == Add => b
            .checked_add(*a)
            .map(Value::Timestamp)
            .ok_or_else(|| overflow("timestamp overflow: out of range")),
        (Value::Timestamp(a), Value::Timestamp(b)) if operator == Subtract => a
            .since(*b)
            .map(Value::Duration)
            .ok_or_else(|| overflow("integer overflow: duration out of range")),
        _ => Err(EvalError::no_such_overload()),
    }
}
