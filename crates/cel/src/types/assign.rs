//! Assignability and type variables: the unification of cel-go's checker.
//!
//! A [`Substitution`] maps type variables to types. Trying an overload may bind variables; if the overload does
//! not fit, the bindings are undone from a log.

use super::{ListType, MapType, OpaqueType, Type};
use std::sync::Arc;

/// How deep types are compared; deeper ones count as different. Types nest as deep as expressions do.
const DEPTH_MAX: usize = 600;

/// The bindings of type variables.
#[derive(Debug, Default)]
pub struct Substitution {
    bindings: Vec<Option<Type>>,
    log: Vec<(u32, Option<Type>)>,
    depth: usize,
}

impl Substitution {
    /// A new, unbound variable.
    pub fn fresh(&mut self) -> Type {
        self.bindings.push(None);
        Type::Variable(self.bindings.len() as u32 - 1)
    }

    fn find(&self, variable: u32) -> Option<&Type> {
        self.bindings.get(variable as usize)?.as_ref()
    }

    fn bind(&mut self, variable: u32, ty: Type) {
        if let Some(slot) = self.bindings.get_mut(variable as usize) {
            let old = slot.replace(ty);
            self.log.push((variable, old));
        }
    }

    /// Runs `attempt`; keeps the bindings it makes only if it succeeds.
    pub fn attempt(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        let mark = self.log.len();
        if attempt(self) {
            return true;
        }
        while self.log.len() > mark {
            if let Some((variable, old)) = self.log.pop() {
                self.bindings[variable as usize] = old;
            }
        }
        false
    }

    /// Whether a value of type `from` fits where `to` is expected, binding variables as needed.
    pub fn is_assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.attempt(|substitution| substitution.assignable(from, to))
    }

    fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.depth += 1;
        let result = self.depth < DEPTH_MAX && self.assignable_inner(from, to);
        self.depth -= 1;
        result
    }

    fn assignable_inner(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Variable(variable) = to {
            let (valid, bound) = self.substitute_variable(from, *variable, to);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Variable(variable) = from {
            return self.substitute_variable(to, *variable, from).0;
        }
        match (from, to) {
            (Type::Dyn | Type::Any | Type::Error, _) | (_, Type::Dyn | Type::Any | Type::Error) => {
                true
            }
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::Wrapper(a), Type::Wrapper(b)) => a.is_exactly(b),
            (inner, Type::Wrapper(wrapped)) | (Type::Wrapper(wrapped), inner) => {
                wrapped.is_exactly(inner)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.assignable(&a.element, &b.element),
            (Type::Map(a), Type::Map(b)) => {
                self.assignable(&a.key, &b.key) && self.assignable(&a.value, &b.value)
            }
            (Type::Optional(a), Type::Optional(b)) => self.assignable(a, b),
            (Type::Opaque(a), Type::Opaque(b)) => {
                a.name == b.name
                    && a.parameters.len() == b.parameters.len()
                    && a.parameters
                        .iter()
                        .zip(&b.parameters)
                        .all(|(a, b)| self.assignable(a, b))
            }
            (a, b) => a.is_exactly(b),
        }
    }

    /// Whether `ty` may stand for the variable, and whether the variable was bound already.
    fn substitute_variable(&mut self, ty: &Type, variable: u32, itself: &Type) -> (bool, bool) {
        if ty.is_exactly(itself) {
            return (true, true);
        }
        if let Some(bound) = self.find(variable).cloned() {
            if ty.is_exactly(&bound) {
                return (true, true);
            }
            if self.assignable(ty, &bound) {
                let general = if is_equal_or_less_specific(ty, &bound) {
                    ty.clone()
                } else {
                    bound
                };
                if !self.occurs(variable, &general) {
                    self.bind(variable, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(variable, ty) {
            return (false, false);
        }
        self.bind(variable, ty.clone());
        (true, false)
    }

    fn occurs(&self, variable: u32, ty: &Type) -> bool {
        match ty {
            Type::Variable(other) => {
                *other == variable
                    || self
                        .find(*other)
                        .is_some_and(|bound| self.occurs(variable, bound))
            }
            Type::List(list) => self.occurs(variable, &list.element),
            Type::Map(map) => self.occurs(variable, &map.key) || self.occurs(variable, &map.value),
            Type::Optional(inner) | Type::Wrapper(inner) | Type::Type(Some(inner)) => {
                self.occurs(variable, inner)
            }
            Type::Opaque(opaque) => opaque
                .parameters
                .iter()
                .any(|parameter| self.occurs(variable, parameter)),
            _ => false,
        }
    }

    /// The type with its variables replaced; unbound ones become `dyn` if `close`.
    pub fn resolve(&self, ty: &Type, close: bool) -> Type {
        match ty {
            Type::Variable(variable) => match self.find(*variable) {
                Some(bound) => self.resolve(bound, close),
                None if close => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(list) if has_variable(&list.element) => {
                let element = self.resolve(&list.element, close);
                Type::List(Arc::new(ListType {
                    element,
                    kind: list.kind.clone(),
                }))
            }
            Type::Map(map) if has_variable(&map.key) || has_variable(&map.value) => {
                Type::Map(Arc::new(MapType {
                    key: self.resolve(&map.key, close),
                    value: self.resolve(&map.value, close),
                }))
            }
            Type::Optional(inner) if has_variable(inner) => {
                Type::optional(self.resolve(inner, close))
            }
            Type::Type(Some(inner)) if has_variable(inner) => {
                Type::type_of(self.resolve(inner, close))
            }
            Type::Opaque(opaque) if opaque.parameters.iter().any(has_variable) => {
                let parameters = opaque
                    .parameters
                    .iter()
                    .map(|parameter| self.resolve(parameter, close))
                    .collect();
                Type::Opaque(Arc::new(OpaqueType {
                    name: Arc::clone(&opaque.name),
                    parameters,
                }))
            }
            other => other.clone(),
        }
    }
}

fn has_variable(ty: &Type) -> bool {
    match ty {
        Type::Variable(_) => true,
        Type::List(list) => has_variable(&list.element),
        Type::Map(map) => has_variable(&map.key) || has_variable(&map.value),
        Type::Optional(inner) | Type::Type(Some(inner)) => has_variable(inner),
        Type::Opaque(opaque) => opaque.parameters.iter().any(has_variable),
        _ => false,
    }
}

/// Types that take `null` for reasons of history.
fn is_nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null
            | Type::Object(_)
            | Type::Duration
            | Type::Timestamp
            | Type::Opaque(_)
            | Type::Optional(_)
            | Type::Wrapper(_)
    )
}

/// The more general of two types that fit each other.
pub fn most_general(first: &Type, second: &Type) -> Type {
    match (first, second) {
        (Type::Null, other) | (other, Type::Null) => other.clone(),
        (Type::Wrapper(_), _) => first.clone(),
        (_, Type::Wrapper(_)) => second.clone(),
        _ if is_equal_or_less_specific(first, second) => first.clone(),
        _ => second.clone(),
    }
}

fn is_equal_or_less_specific(first: &Type, second: &Type) -> bool {
    match (first, second) {
        (Type::Dyn | Type::Any | Type::Variable(_), _) => true,
        (_, Type::Dyn | Type::Any | Type::Variable(_)) => false,
        (Type::List(a), Type::List(b)) => is_equal_or_less_specific(&a.element, &b.element),
        (Type::Map(a), Type::Map(b)) => {
            is_equal_or_less_specific(&a.key, &b.key)
                && is_equal_or_less_specific(&a.value, &b.value)
        }
        (Type::Optional(a), Type::Optional(b)) => is_equal_or_less_specific(a, b),
        (Type::Opaque(a), Type::Opaque(b)) => {
            a.name == b.name
                && a.parameters.len() == b.parameters.len()
                && a.parameters
                    .iter()
                    .zip(&b.parameters)
                    .all(|(a, b)| is_equal_or_less_specific(a, b))
        }
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a.is_exactly(b),
    }
}
