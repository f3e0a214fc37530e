//! The short way through data: chains of plain fields and constant indexes, which nearly all attributes are.
//!
//! It is followed by reference, and what one attribute has found on the way others start from. As soon as anything is
//! missing, optional, unknown or not as declared, the long way in [`attribute`](super::attribute) decides what that means.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::attribute::Cached;
use super::{Evaluator, Local};
use crate::activation::Binding;
use crate::program::node::{Attribute, Base, Qualifier, QualifierKind};
use crate::types::Type;
use crate::value::Value;

/// Data, and the type declared for it.
pub(super) type Data<'a> = (&'a Json, Option<&'a Type>);

impl<'a> Evaluator<'a, '_> {
    /// The end of a chain of plain steps through data, with its declared type, if it is such a chain and nothing is
    /// missing: what nearly all attributes are. Everything else takes the long way.
    pub(super) fn data(&mut self, attribute: &'a Attribute) -> Option<Data<'a>> {
        if !attribute.is_plain {
            return None;
        }
        let mut steps = &*attribute.qualifiers;
        let mut data = match &attribute.base {
            Base::Local(slot) => match self.locals.get(*slot as usize) {
                Some(Local::Json(json)) => (*json, None),
                Some(Local::Typed(json, ty)) => (*json, Some(*ty)),
                Some(Local::Value(Value::Map(map))) => {
                    let [
                        Qualifier {
                            kind: QualifierKind::Field(field),
                            ..
                        },
                        rest @ ..,
                    ] = steps
                    else {
                        return None;
                    };
                    steps = rest;
                    (lookup(map.as_json()?, field)?, None)
                }
                _ => return None,
            },
            Base::Variable(name, cache) => {
                let (data, rest) = self.shared_data(name, *cache, steps)?;
                steps = rest;
                data
            }
            _ => return None,
        };
        for step in steps {
            data = match data {
                (json, None) => (step_into(json, step)?, None),
                (json, Some(ty)) => typed_step_into(json, ty, step)?,
            };
            self.remember_data(step.cache, data);
        }
        Some(data)
    }

    /// The longest part of a chain that was followed before, and the steps behind it.
    #[inline]
    fn shared_data(
        &mut self,
        name: &str,
        cache: u8,
        steps: &'a [Qualifier],
    ) -> Option<(Data<'a>, &'a [Qualifier])> {
        for (index, step) in steps.iter().enumerate().rev() {
            if let Some(data) = self.recall_data(step.cache) {
                return Some((data, &steps[index + 1..]));
            }
        }
        if let Some(data) = self.recall_data(cache) {
            return Some((data, steps));
        }
        let data = match self.activation.find(name)? {
            Binding::Json(json) => (*json, None),
            Binding::Typed(json, ty) => (*json, declared(ty)),
            Binding::Value(_) => return None,
        };
        self.remember_data(cache, data);
        Some((data, steps))
    }

    #[inline]
    fn recall_data(&self, slot: u8) -> Option<Data<'a>> {
        match self.places.get(usize::from(slot)) {
            Some(Cached::Json(json)) => Some((json, None)),
            Some(Cached::Typed(json, ty)) => Some((json, Some(ty))),
            _ => None,
        }
    }

    #[inline]
    fn remember_data(&mut self, slot: u8, data: Data<'a>) {
        if let Some(cached) = self.places.get_mut(usize::from(slot)) {
            *cached = match data {
                (json, None) => Cached::Json(json),
                (json, Some(ty)) => Cached::Typed(json, ty),
            };
        }
    }
}

/// A type that says anything.
#[inline]
fn declared(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Dyn | Type::Any => None,
        ty => Some(ty),
    }
}

/// A plain step through undeclared data.
#[inline]
fn step_into<'a>(json: &'a Json, step: &Qualifier) -> Option<&'a Json> {
    match (json, &step.kind) {
        (Json::Object(object), QualifierKind::Field(field)) => lookup(object, field),
        (Json::Array(array), QualifierKind::Constant(Value::Int(index))) => {
            array.get(usize::try_from(*index).ok()?)
        }
        (Json::Object(object), QualifierKind::Constant(Value::String(key))) => lookup(object, key),
        _ => None,
    }
}

/// A plain step through declared data.
#[inline]
fn typed_step_into<'a>(json: &'a Json, ty: &'a Type, step: &'a Qualifier) -> Option<Data<'a>> {
    match (json, ty, &step.kind) {
        (Json::Object(object), Type::Object(ty), QualifierKind::Field(name)) => {
            let field = match &step.declared {
                Some(known) if Arc::ptr_eq(&known.object, ty) => &known.field,
                _ => ty.find(name)?,
            };
            let json = lookup(object, field.key.as_deref().unwrap_or(name))?;
            // A null that must not be is told of on the long way.
            (field.nullable || !json.is_null()).then(|| (json, declared(&field.ty)))
        }
        (Json::Object(_), Type::Map(map), _) => {
            Some((step_into(json, step)?, declared(&map.value)))
        }
        (Json::Array(_), Type::List(list), _) => {
            Some((step_into(json, step)?, declared(&list.element)))
        }
        _ => None,
    }
}

/// Objects up to this size are searched from the front: most keys differ in length, so hardly any are compared.
const SMALL_OBJECT: usize = 12;

#[inline]
pub(super) fn lookup<'a>(object: &'a Map<String, Json>, field: &str) -> Option<&'a Json> {
    if object.len() > SMALL_OBJECT {
        return object.get(field);
    }
    for (key, json) in object {
        if key.len() == field.len() && key.as_bytes() == field.as_bytes() {
            return Some(json);
        }
    }
    None
}
