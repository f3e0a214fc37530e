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
        if self.has_unknowns || binary.operator == BinaryOperator::In {
            let [left, right] = self.both(&binary.left, &binary.right)?;
            return self.compare_values(binary, &left, &right);
        }
        if let (Node::Attribute(attribute), Node::Constant(constant)) =
            (&binary.left, &binary.right)
            && !attribute.test
            && let Some(json) = self.data(attribute)
            && let Some((holds, cost)) = compare_data(binary.operator, json, constant)
        {
            self.charge(SELECT_AND_IDENT + attribute.qualifiers.len() as u64 + cost)?;
            return Ok(holds);
        }
        let (left, right) = (self.operand(&binary.left)?, self.operand(&binary.right)?);
        if let Some((ordering, cost)) = order_of_data(binary.operator, &left, &right) {
            self.charge(cost)?;
            return Ok(holds(binary.operator, ordering));
        }
        self.compare_values(binary, &left.into_value()?, &right.into_value()?)
    }

    /// An operand as it lies in the data, without making a value of it.
    #[inline]
    fn operand(&mut self, node: &'a Node) -> Result<Place<'a>, EvalError> {
        match node {
            Node::Attribute(attribute) => self.place(attribute, SELECT_AND_IDENT),
            Node::Constant(value) => Ok(Place::Value(value.reborrow())),
            other => self.eval(other).map(Place::Value),
        }
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
                if let Some(values) = list.values() {
                    for candidate in values {
                        if equal(element, candidate, &mut self.context.work)? {
                            return Ok(true);
                        }
                    }
                    return Ok(false);
                }
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
        let mut text = Text::new(left);
        self.append(&mut text, right, span)?;
        while let [(BinaryOperator::Add, node, span), tail @ ..] = *rest {
            match self.eval(node)? {
                Value::String(right) => self.append(&mut text, &right, *span)?,
                _ => return Err(EvalError::no_such_overload().at(*span)),
            }
            *rest = tail;
        }
        Ok(Value::string(text.as_str()))
    }

    fn append(&mut self, text: &mut Text, right: &str, span: Span) -> Result<(), EvalError> {
        let size = text.size + cost::text_size(right);
        self.charge(cost::traverse(size))?;
        self.context
            .check_bytes(text.length + right.len())
            .map_err(|error| error.at(span))?;
        text.push(right, size);
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
                    if self
                        .find(&elements, |known, work| equal(known, &element, work))?
                        .is_none()
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

/// A text that grows: on the stack while it is short, as most are.
struct Text {
    buffer: [u8; SHORT_TEXT],
    /// Everything, once it is too long for the buffer.
    long: String,
    /// In bytes.
    length: usize,
    /// In characters.
    size: u64,
}

const SHORT_TEXT: usize = 96;

impl Text {
    fn new(start: &str) -> Self {
        let mut text = Self {
            buffer: [0; SHORT_TEXT],
            long: String::new(),
            length: 0,
            size: 0,
        };
        text.push(start, cost::text_size(start));
        text
    }

    /// Adds a part; `size` is that of the whole.
    fn push(&mut self, part: &str, size: u64) {
        let length = self.length + part.len();
        if let Some(room) = self.buffer.get_mut(self.length..length) {
            room.copy_from_slice(part.as_bytes());
        } else {
            if self.long.is_empty() {
                let short = self.as_str().to_owned();
                self.long.reserve(length * 2);
                self.long.push_str(&short);
            }
            self.long.push_str(part);
        }
        (self.length, self.size) = (length, size);
    }

    fn as_str(&self) -> &str {
        if !self.long.is_empty() {
            return &self.long;
        }
        // Invariant: only whole strings are pushed.
        std::str::from_utf8(&self.buffer[..self.length]).unwrap_or_default()
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

/// Data compared with a constant, for integers and strings: the commonest comparison of all.
#[inline]
fn compare_data(
    operator: BinaryOperator,
    json: &Json,
    constant: &Value<'static>,
) -> Option<(bool, u64)> {
    match (json, constant) {
        (Json::Number(number), Value::Int(constant)) => {
            Some((holds(operator, number.as_i64()?.cmp(constant)), 1))
        }
        (Json::String(text), Value::String(constant)) => {
            let cost = cost::traverse(cost::text_size(text).min(cost::text_size(constant)));
            let result = match operator {
                BinaryOperator::Equal => text.as_str() == &**constant,
                BinaryOperator::NotEqual => text.as_str() != &**constant,
                other => holds(other, text.as_str().cmp(constant)),
            };
            Some((result, cost))
        }
        _ => None,
    }
}

/// The order of two operands that are both integers or both strings, and what comparing them costs.
#[inline]
fn order_of_data(
    operator: BinaryOperator,
    left: &Place<'_>,
    right: &Place<'_>,
) -> Option<(Ordering, u64)> {
    if let (Some(left), Some(right)) = (text_of(left), text_of(right)) {
        let cost = cost::traverse(cost::text_size(left).min(cost::text_size(right)));
        let is_equality = matches!(operator, BinaryOperator::Equal | BinaryOperator::NotEqual);
        // Most strings that differ differ in length.
        if is_equality && left.len() != right.len() {
            return Some((Ordering::Less, cost));
        }
        return Some((left.cmp(right), cost));
    }
    Some((int_of(left)?.cmp(&int_of(right)?), 1))
}

#[inline]
fn text_of<'p>(place: &'p Place<'_>) -> Option<&'p str> {
    match place {
        Place::Json(Json::String(text)) | Place::Typed(Json::String(text), Type::String) => {
            Some(text)
        }
        Place::Value(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[inline]
fn int_of(place: &Place<'_>) -> Option<i64> {
    match place {
        Place::Json(Json::Number(number)) | Place::Typed(Json::Number(number), Type::Int) => {
            number.as_i64()
        }
        Place::Value(Value::Int(value)) => Some(*value),
        _ => None,
    }
}

/// Whether an order is one the operator asks for.
fn holds(operator: BinaryOperator, ordering: Ordering) -> bool {
    match operator {
        BinaryOperator::Equal => ordering == Ordering::Equal,
        BinaryOperator::NotEqual => ordering != Ordering::Equal,
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
