//! Operators: their signatures, and the conditional.

use super::Checker;
use crate::ast::{BinaryOperator, ExprId, UnaryOperator};
use crate::types::{ListType, Type, most_general};
use std::sync::Arc;

/// Left, right and result types of the arithmetic operators on scalars.
const ADD: &[(Type, Type, Type)] = &[
    (Type::Bytes, Type::Bytes, Type::Bytes),
    (Type::Double, Type::Double, Type::Double),
    (Type::Duration, Type::Duration, Type::Duration),
    (Type::Duration, Type::Timestamp, Type::Timestamp),
    (Type::Timestamp, Type::Duration, Type::Timestamp),
    (Type::Int, Type::Int, Type::Int),
    (Type::String, Type::String, Type::String),
    (Type::Uint, Type::Uint, Type::Uint),
];
const SUBTRACT: &[(Type, Type, Type)] = &[
    (Type::Double, Type::Double, Type::Double),
    (Type::Duration, Type::Duration, Type::Duration),
    (Type::Int, Type::Int, Type::Int),
    (Type::Timestamp, Type::Duration, Type::Timestamp),
    (Type::Timestamp, Type::Timestamp, Type::Duration),
    (Type::Uint, Type::Uint, Type::Uint),
];
const MULTIPLY: &[(Type, Type, Type)] = &[
    (Type::Double, Type::Double, Type::Double),
    (Type::Int, Type::Int, Type::Int),
    (Type::Uint, Type::Uint, Type::Uint),
];
const MODULO: &[(Type, Type, Type)] = &[
    (Type::Int, Type::Int, Type::Int),
    (Type::Uint, Type::Uint, Type::Uint),
];

/// Types that have an order. Numbers are ordered across types too.
const ORDERED: &[Type] = &[
    Type::Bool,
    Type::Int,
    Type::Uint,
    Type::Double,
    Type::String,
    Type::Bytes,
    Type::Timestamp,
    Type::Duration,
];

impl Checker<'_> {
    pub(super) fn check_unary(
        &mut self,
        id: ExprId,
        operator: UnaryOperator,
        operand: &Type,
    ) -> Type {
        let allowed: &[Type] = match operator {
            UnaryOperator::Not => &[Type::Bool],
            UnaryOperator::Negate => &[Type::Double, Type::Int],
        };
        let mut result = None;
        for ty in allowed {
            if self.substitution.is_assignable(operand, ty) {
                result = Some(if result.is_some() {
                    Type::Dyn
                } else {
                    ty.clone()
                });
            }
        }
        result.unwrap_or_else(|| self.no_operator(id, operator.function(), &[operand]))
    }

    pub(super) fn check_binary(
        &mut self,
        id: ExprId,
        operator: BinaryOperator,
        left: &Type,
        right: &Type,
    ) -> Type {
        let result = match operator {
            BinaryOperator::Equal | BinaryOperator::NotEqual => {
                self.unify(left, right).map(|_| Type::Bool)
            }
            BinaryOperator::Less
            | BinaryOperator::LessEqual
            | BinaryOperator::Greater
            | BinaryOperator::GreaterEqual => self.comparable(left, right).then_some(Type::Bool),
            BinaryOperator::In => self.contains(left, right).then_some(Type::Bool),
            BinaryOperator::Add => self.add(left, right),
            BinaryOperator::Subtract => self.arithmetic(SUBTRACT, left, right),
            BinaryOperator::Multiply | BinaryOperator::Divide => {
                self.arithmetic(MULTIPLY, left, right)
            }
            BinaryOperator::Modulo => self.arithmetic(MODULO, left, right),
        };
        result.unwrap_or_else(|| self.no_operator(id, operator.function(), &[left, right]))
    }

    /// The common type of both, if they have one.
    fn unify(&mut self, left: &Type, right: &Type) -> Option<Type> {
        if is_scalar(left) && is_scalar(right) {
            return left.is_exactly(right).then(|| left.clone());
        }
        let common = self.substitution.fresh();
        let fits = self.substitution.attempt(|substitution| {
            substitution.is_assignable(left, &common) && substitution.is_assignable(right, &common)
        });
        fits.then(|| self.substitution.resolve(&common, false))
    }

    fn comparable(&mut self, left: &Type, right: &Type) -> bool {
        let number = |ty: &Type| matches!(ty, Type::Int | Type::Uint | Type::Double);
        if number(left) && number(right) {
            return true;
        }
        let mut fits = |first: &Type, second: &Type| {
            self.substitution.attempt(|substitution| {
                substitution.is_assignable(left, first) && substitution.is_assignable(right, second)
            })
        };
        let numbers = [Type::Int, Type::Uint, Type::Double];
        ORDERED.iter().any(|ty| fits(ty, ty))
            || numbers.iter().any(|a| numbers.iter().any(|b| fits(a, b)))
    }

    fn contains(&mut self, element: &Type, container: &Type) -> bool {
        let variable = self.substitution.fresh();
        let value = self.substitution.fresh();
        let list = Type::list(variable.clone());
        let map = Type::map(variable.clone(), value);
        [list, map].iter().any(|wanted| {
            self.substitution.attempt(|substitution| {
                substitution.is_assignable(element, &variable)
                    && substitution.is_assignable(container, wanted)
            })
        })
    }

    fn add(&mut self, left: &Type, right: &Type) -> Option<Type> {
        let scalar = self.arithmetic(ADD, left, right);
        if is_scalar(left) || is_scalar(right) {
            return scalar;
        }
        let element = self.substitution.fresh();
        let list = Type::list(element);
        let fits = self.substitution.attempt(|substitution| {
            substitution.is_assignable(left, &list) && substitution.is_assignable(right, &list)
        });
        if !fits {
            return scalar;
        }
        if scalar.is_some() {
            return Some(Type::Dyn);
        }
        let kind = match left {
            Type::List(left) => left.kind.clone(),
            _ => Default::default(),
        };
        match self.substitution.resolve(&list, false) {
            Type::List(list) => Some(Type::List(Arc::new(ListType {
                element: list.element.clone(),
                kind,
            }))),
            other => Some(other),
        }
    }

    fn arithmetic(
        &mut self,
        table: &[(Type, Type, Type)],
        left: &Type,
        right: &Type,
    ) -> Option<Type> {
        let mut result: Option<Type> = None;
        for (first, second, ty) in table {
            let fits = self.substitution.attempt(|substitution| {
                substitution.is_assignable(left, first) && substitution.is_assignable(right, second)
            });
            if fits {
                result = Some(match result {
                    Some(previous) if !previous.is_exactly(ty) => Type::Dyn,
                    _ => ty.clone(),
                });
            }
        }
        result
    }

    pub(super) fn check_logical(
        &mut self,
        id: ExprId,
        function: &str,
        operands: &[ExprId],
    ) -> Type {
        let types: Vec<Type> = operands
            .iter()
            .map(|operand| self.check(*operand))
            .collect();
        for (index, ty) in types.iter().enumerate() {
            if !self.substitution.is_assignable(ty, &Type::Bool) {
                let other = if index == 0 {
                    types.get(1)
                } else {
                    types.first()
                }
                .cloned()
                .unwrap_or_default();
                let pair = if index == 0 {
                    [ty, &other]
                } else {
                    [&other, ty]
                };
                return self.no_operator(id, function, &pair);
            }
        }
        Type::Bool
    }

    pub(super) fn check_conditional(&mut self, id: ExprId, types: &[Type; 3]) -> Type {
        let [condition, then, otherwise] = types;
        let condition_fits = self.substitution.is_assignable(condition, &Type::Bool);
        match self.unify(then, otherwise) {
            Some(ty) if condition_fits => match ty {
                Type::Null => most_general(then, otherwise),
                ty => ty,
            },
            _ => self.no_operator(id, "_?_:_", &[condition, then, otherwise]),
        }
    }

    fn no_operator(&mut self, id: ExprId, function: &str, types: &[&Type]) -> Type {
        if types.iter().any(|ty| matches!(ty, Type::Error)) {
            return Type::Error;
        }
        let owned: Vec<Type> = types.iter().map(|ty| self.shown(ty)).collect();
        let message = format!(
            "found no matching overload for '{function}' applied to '{}'",
            self.signature(&owned, false)
        );
        let hint = operator_hint(function, &owned);
        self.issue(id, message, hint)
    }
}

/// Types without parts, which are the same or different and nothing in between.
fn is_scalar(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Bytes
            | Type::Duration
            | Type::Timestamp
    )
}

fn operator_hint(function: &str, types: &[Type]) -> Option<String> {
    match (function, types) {
        ("_+_", [Type::String, other] | [other, Type::String]) if is_scalar(other) => {
            Some(format!("convert the {other} with string()"))
        }
        (_, [a, b]) if is_scalar(a) && is_scalar(b) => {
            Some(format!("convert one side: {a} and {b} do not mix"))
        }
        (_, [Type::Optional(_), _] | [_, Type::Optional(_)]) => {
            Some("take the value of the optional with orValue()".to_owned())
        }
        _ => None,
    }
}
