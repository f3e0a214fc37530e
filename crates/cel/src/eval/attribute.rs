//! Attributes: variables and what is read from them.
//!
//! As long as a chain stays in JSON data it is followed by reference; only its end becomes a value.

use serde_json::Value as Json;

use super::data::lookup;
use super::{Evaluated, Evaluator};
use crate::activation::Binding;
use crate::ast::Name;
use crate::cost::SELECT_AND_IDENT;
use crate::error::{ErrorKind, EvalError};
use crate::program::node::{Attribute, Base, Node, Qualifier, QualifierKind};
use crate::types::Type;
use crate::unknown;
use crate::value::{Value, double_to_int, unexpected_null};

/// Where a chain has come to.
pub(super) enum Place<'a> {
    Json(&'a Json),
    Typed(&'a Json, &'a Type),
    Value(Value<'a>),
}

/// A place that another attribute of the program may start from.
#[derive(Clone, Copy)]
pub(super) enum Cached<'a> {
    Empty,
    Json(&'a Json),
    Typed(&'a Json, &'a Type),
}

impl<'a> Place<'a> {
    pub(super) fn into_value(self) -> Evaluated<'a> {
        match self {
            Self::Json(json) => Ok(Value::from_json(json)),
            Self::Typed(json, ty) => Value::from_typed(json, ty),
            Self::Value(value) => Ok(value),
        }
    }

    fn typed(json: &'a Json, ty: &'a Type) -> Self {
        match ty {
            Type::Dyn | Type::Any => Self::Json(json),
            _ => Self::Typed(json, ty),
        }
    }

    fn of(binding: &'a Binding<'a>) -> Self {
        match binding {
            Binding::Json(json) => Self::Json(json),
            Binding::Typed(json, ty) => Self::typed(json, ty),
            Binding::Value(value) => Self::Value(value.reborrow()),
        }
    }

    fn cached(&self) -> Cached<'a> {
        match self {
            Self::Json(json) => Cached::Json(json),
            Self::Typed(json, ty) => Cached::Typed(json, ty),
            Self::Value(_) => Cached::Empty,
        }
    }
}

impl Attribute {
    /// Whether it starts from a value that is worked out, not from a variable.
    pub fn is_relative(&self) -> bool {
        matches!(self.base, Base::Value(_))
    }
}

impl<'a> Evaluator<'a, '_> {
    /// Evaluates an attribute; `base_cost` is what reading its variable costs.
    #[inline]
    pub(super) fn attribute(&mut self, attribute: &'a Attribute, base_cost: u64) -> Evaluated<'a> {
        self.place(attribute, base_cost)?.into_value()
    }

    /// `has(...)` without making a value of the answer.
    pub(super) fn is_present(&mut self, attribute: &'a Attribute) -> Result<bool, EvalError> {
        if self.data(attribute).is_some() {
            let free = u64::from(!self.context.limits.presence_test_has_cost);
            self.charge(SELECT_AND_IDENT + attribute.qualifiers.len() as u64 - free)?;
            return Ok(true);
        }
        match self.attribute(attribute, SELECT_AND_IDENT)? {
            Value::Bool(present) => Ok(present),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// Follows an attribute to where it leads.
    pub(super) fn place(
        &mut self,
        attribute: &'a Attribute,
        base_cost: u64,
    ) -> Result<Place<'a>, EvalError> {
        if self.has_unknowns {
            self.check_unknown(attribute)?;
        }
        if let Some((json, ty)) = self.data(attribute) {
            let free = u64::from(attribute.test && !self.context.limits.presence_test_has_cost);
            self.charge((base_cost + attribute.qualifiers.len() as u64).saturating_sub(free))?;
            return Ok(match ty {
                _ if attribute.test => Place::Value(Value::Bool(true)),
                Some(ty) => Place::Typed(json, ty),
                None => Place::Json(json),
            });
        }
        let (mut place, mut qualifiers) = self.base(attribute)?;
        let mut cost = base_cost + attribute.qualifiers.len() as u64;
        if let Base::Candidates(_) = attribute.base {
            cost = base_cost + qualifiers.len() as u64;
        }
        if attribute.test {
            if !self.context.limits.presence_test_has_cost {
                cost = cost.saturating_sub(1);
            }
            self.charge(cost)?;
            return self
                .test(place, qualifiers, attribute)
                .map(|found| Place::Value(Value::Bool(found)));
        }
        self.charge(cost)?;
        // The common case first: fields in data, none of them optional.
        while let [qualifier, rest @ ..] = qualifiers
            && let QualifierKind::Field(field) = &qualifier.kind
            && !qualifier.optional
            && !matches!(place, Place::Value(_))
        {
            match read_field(&place, field) {
                Ok(Some(next)) => place = next,
                Ok(None) => return Err(EvalError::no_such_key(field).at(qualifier.span)),
                Err(error) => return Err(error.at(qualifier.span)),
            }
            self.remember(qualifier.cache, &place);
            qualifiers = rest;
        }
        if qualifiers.is_empty() {
            return Ok(place);
        }
        let mut is_optional = false;
        match self.follow(place, qualifiers, &mut is_optional)? {
            None => Ok(Place::Value(Value::Optional(None))),
            Some(place) if is_optional => place
                .into_value()
                .map(|value| Place::Value(Value::some(value))),
            Some(place) => Ok(place),
        }
    }

    /// Follows qualifiers of any kind. `None` if something optional is missing.
    fn follow(
        &mut self,
        mut place: Place<'a>,
        qualifiers: &'a [Qualifier],
        is_optional: &mut bool,
    ) -> Result<Option<Place<'a>>, EvalError> {
        for qualifier in qualifiers {
            *is_optional |= qualifier.optional;
            place = match unwrap_optional(place, is_optional) {
                Some(inner) => inner,
                None => return Ok(None),
            };
            match self.read(&place, qualifier)? {
                Some(next) => place = next,
                None if *is_optional => return Ok(None),
                None => {
                    let key = self.key_text(qualifier);
                    return Err(missing(&place, qualifier, &key).at(qualifier.span));
                }
            }
        }
        Ok(Some(place))
    }

    /// `has(...)`: everything but the last field must be there, unless it is optional.
    fn test(
        &mut self,
        place: Place<'a>,
        qualifiers: &'a [Qualifier],
        attribute: &'a Attribute,
    ) -> Result<bool, EvalError> {
        let Some((last, before)) = qualifiers.split_last() else {
            return Err(EvalError::no_such_overload().at(attribute.span));
        };
        let mut is_optional = false;
        let Some(place) = self.follow(place, before, &mut is_optional)? else {
            return Ok(false);
        };
        let Some(place) = unwrap_optional(place, &mut is_optional) else {
            return Ok(false);
        };
        if let (Place::Value(Value::Object(object)), QualifierKind::Field(field)) =
            (&place, &last.kind)
        {
            return Ok(object.has(field));
        }
        if let (Place::Typed(Json::Object(object), Type::Object(ty)), QualifierKind::Field(field)) =
            (&place, &last.kind)
            && let Some(declared) = ty.find(field)
        {
            return Ok(object.contains_key(declared.key.as_deref().unwrap_or(field)));
        }
        Ok(self.read(&place, last)?.is_some())
    }

    #[inline]
    fn remember(&mut self, slot: u8, place: &Place<'a>) {
        if let Some(cached) = self.places.get_mut(usize::from(slot)) {
            *cached = place.cached();
        }
    }

    /// Where the chain starts, and the qualifiers that are left to follow: behind the longest part that some
    /// attribute has followed before.
    fn base(
        &mut self,
        attribute: &'a Attribute,
    ) -> Result<(Place<'a>, &'a [Qualifier]), EvalError> {
        let qualifiers = &*attribute.qualifiers;
        Ok(match &attribute.base {
            Base::Variable(name, cache) => {
                for (index, qualifier) in qualifiers.iter().enumerate().rev() {
                    let place = match self.places.get(usize::from(qualifier.cache)) {
                        Some(Cached::Json(json)) => Place::Json(json),
                        Some(Cached::Typed(json, ty)) => Place::Typed(json, ty),
                        _ => continue,
                    };
                    return Ok((place, &qualifiers[index + 1..]));
                }
                let place = match self.places.get(usize::from(*cache)) {
                    Some(Cached::Json(json)) => Place::Json(json),
                    Some(Cached::Typed(json, ty)) => Place::Typed(json, ty),
                    _ => match self.activation.find(name) {
                        Some(binding) => {
                            let place = Place::of(binding);
                            self.remember(*cache, &place);
                            place
                        }
                        None => return Err(no_such_attribute(name).at(attribute.span)),
                    },
                };
                (place, qualifiers)
            }
            Base::Local(slot) => (self.local(*slot)?, qualifiers),
            Base::Value(node) => (Place::Value(self.eval(node)?), qualifiers),
            Base::Candidates(candidates) => return self.candidate(candidates, attribute),
        })
    }

    /// The first of the names that is bound, or names a type.
    fn candidate(
        &mut self,
        candidates: &'a [(Name, usize)],
        attribute: &'a Attribute,
    ) -> Result<(Place<'a>, &'a [Qualifier]), EvalError> {
        for (name, taken) in candidates {
            let found = if let Some(binding) = self.activation.find(name) {
                Place::of(binding)
            } else if let Some(ty) = self.program.env().find_type(name) {
                Place::Value(Value::Type(ty))
            } else if &**name == "google.protobuf.NullValue.NULL_VALUE" {
                Place::Value(Value::Null)
            } else {
                continue;
            };
            return Ok((
                found,
                attribute.qualifiers.get(*taken..).unwrap_or_default(),
            ));
        }
        let name = candidates.last().map_or("", |(name, _)| name);
        Err(no_such_attribute(name).at(attribute.span))
    }

    /// One step. `None` if the key, index or field is missing.
    fn read(
        &mut self,
        place: &Place<'a>,
        qualifier: &'a Qualifier,
    ) -> Result<Option<Place<'a>>, EvalError> {
        let dynamic;
        let key = match &qualifier.kind {
            QualifierKind::Field(field) => {
                return read_field(place, field).map_err(|error| error.at(qualifier.span));
            }
            QualifierKind::Constant(value) => value,
            QualifierKind::Dynamic(node) => {
                dynamic = match node {
                    Node::Attribute(attribute) if !attribute.is_relative() => {
                        self.attribute(attribute, 0)?
                    }
                    other => self.eval(other)?,
                };
                &dynamic
            }
        };
        read_key(place, key).map_err(|error| error.at(qualifier.span))
    }

    /// The key for an error message.
    #[cold]
    fn key_text(&mut self, qualifier: &'a Qualifier) -> String {
        match &qualifier.kind {
            QualifierKind::Field(field) => field.to_string(),
            QualifierKind::Constant(value) => value.to_display(),
            QualifierKind::Dynamic(node) => self
                .eval(node)
                .map(|value| value.to_display())
                .unwrap_or_default(),
        }
    }

    #[cold]
    fn check_unknown(&mut self, attribute: &'a Attribute) -> Result<(), EvalError> {
        let Base::Variable(variable, _) = &attribute.base else {
            return Ok(());
        };
        let activation = self.activation;
        if !activation
            .unknown_patterns()
            .any(|pattern| pattern.variable() == &**variable)
        {
            return Ok(());
        }
        let mut path = Vec::with_capacity(attribute.qualifiers.len());
        for qualifier in &attribute.qualifiers {
            path.push(match &qualifier.kind {
                QualifierKind::Field(field) => unknown::PathElement::Field(field.to_string()),
                QualifierKind::Constant(value) => path_element(value),
                QualifierKind::Dynamic(node) => path_element(&self.eval(node)?),
            });
        }
        if activation
            .unknown_patterns()
            .any(|pattern| pattern.matches(variable, &path))
        {
            let attribute = unknown::Attribute {
                variable: variable.to_string(),
                path,
            };
            return Err(EvalError::unknown(vec![attribute]));
        }
        Ok(())
    }
}

fn path_element(key: &Value<'_>) -> unknown::PathElement {
    match key {
        Value::String(text) => unknown::PathElement::Field((**text).to_owned()),
        Value::Int(index) => unknown::PathElement::Index(*index),
        _ => unknown::PathElement::Any,
    }
}

fn unwrap_optional<'a>(place: Place<'a>, is_optional: &mut bool) -> Option<Place<'a>> {
    match place {
        Place::Value(Value::Optional(inner)) => {
            *is_optional = true;
            inner.map(|inner| Place::Value((*inner).clone()))
        }
        other => Some(other),
    }
}

#[cold]
fn no_such_attribute(name: &str) -> EvalError {
    EvalError::new(
        ErrorKind::NoSuchAttribute,
        format!("no such attribute(s): {name}"),
    )
}

#[inline]
fn read_field<'a>(place: &Place<'a>, field: &str) -> Result<Option<Place<'a>>, EvalError> {
    match place {
        Place::Json(Json::Object(object)) => Ok(lookup(object, field).map(Place::Json)),
        Place::Json(json) => Err(unsupported(&Value::from_json(json), field)),
        Place::Typed(json, ty) => read_typed_field(json, ty, field),
        Place::Value(value) => read_value_field(value, field),
    }
}

fn read_typed_field<'a>(
    json: &'a Json,
    ty: &'a Type,
    field: &str,
) -> Result<Option<Place<'a>>, EvalError> {
    match (json, ty) {
        (Json::Object(object), Type::Object(ty)) => {
            let Some(declared) = ty.find(field) else {
                return match ty.additional() {
                    Some(ty) => Ok(object.get(field).map(|json| Place::typed(json, ty))),
                    None => Err(EvalError::no_such_field(field)),
                };
            };
            let Some(json) = lookup(object, declared.key.as_deref().unwrap_or(field)) else {
                return Ok(None);
            };
            if json.is_null() && !declared.nullable {
                return Err(unexpected_null(field));
            }
            Ok(Some(Place::typed(json, &declared.ty)))
        }
        (Json::Object(object), Type::Map(map)) => {
            Ok(object.get(field).map(|json| Place::typed(json, &map.value)))
        }
        _ => read_value_field(&Value::from_typed(json, ty)?, field),
    }
}

fn read_value_field<'a>(value: &Value<'a>, field: &str) -> Result<Option<Place<'a>>, EvalError> {
    let found = match value {
        Value::Map(map) => match map.as_json() {
            Some(object) => return Ok(lookup(object, field).map(Place::Json)),
            None => map.get_str(field),
        },
        Value::Object(object) => {
            if !object.declares(field) {
                return Err(EvalError::no_such_field(field));
            }
            object.get(field)
        }
        Value::Opaque(opaque) => {
            return match opaque.0.field(field) {
                Some(value) => value.map(|value| Some(Place::Value(value))),
                None => Err(EvalError::no_such_field(field)),
            };
        }
        other => return Err(unsupported(other, field)),
    };
    found.transpose().map(|value| value.map(Place::Value))
}

/// Reading a field of what has none.
#[cold]
fn unsupported(value: &Value<'_>, field: &str) -> EvalError {
    match value {
        Value::List(_) => EvalError::invalid("unsupported index type 'string' in list"),
        _ => EvalError::no_such_key(field),
    }
}

fn read_key<'a>(place: &Place<'a>, key: &Value<'a>) -> Result<Option<Place<'a>>, EvalError> {
    match (place, key) {
        (Place::Json(Json::Object(object)), Value::String(text)) => {
            Ok(lookup(object, text).map(Place::Json))
        }
        (Place::Json(Json::Array(array)), _) => {
            let index = list_index(key)?;
            Ok(usize::try_from(index)
                .ok()
                .and_then(|index| array.get(index))
                .map(Place::Json))
        }
        (Place::Json(json), _) => read_value(&Value::from_json(json), key),
        (Place::Typed(json, ty), _) => read_value(&Value::from_typed(json, ty)?, key),
        (Place::Value(value), _) => read_value(value, key),
    }
}

fn read_value<'a>(value: &Value<'a>, key: &Value<'a>) -> Result<Option<Place<'a>>, EvalError> {
    let found = match value {
        Value::List(list) => match usize::try_from(list_index(key)?) {
            Ok(index) => match list.as_json() {
                Some(array) => return Ok(array.get(index).map(Place::Json)),
                None => list.get(index),
            },
            Err(_) => None,
        },
        Value::Map(map) => map.get(key),
        Value::Object(object) => match key {
            Value::String(field) => object.get(field),
            _ => return Err(EvalError::no_such_overload()),
        },
        _ => return Err(EvalError::no_such_overload()),
    };
    found.transpose().map(|value| value.map(Place::Value))
}

/// Lists are indexed by integers, and by other numbers without a fraction.
fn list_index(key: &Value<'_>) -> Result<i64, EvalError> {
    match key {
        Value::Int(index) => Ok(*index),
        Value::Uint(index) => Ok(i64::try_from(*index).unwrap_or(i64::MAX)),
        Value::Double(index) if index.fract() == 0.0 => {
            double_to_int(*index).ok_or_else(|| EvalError::index_out_of_bounds(index))
        }
        other => Err(EvalError::invalid(format!(
            "unsupported index type '{}' in list",
            other.type_name()
        ))),
    }
}

/// The error for what is not there.
#[cold]
fn missing(place: &Place<'_>, qualifier: &Qualifier, key: &str) -> EvalError {
    let is_list = matches!(
        place,
        Place::Json(Json::Array(_))
            | Place::Typed(Json::Array(_), _)
            | Place::Value(Value::List(_))
    );
    match &qualifier.kind {
        QualifierKind::Field(_) => EvalError::no_such_key(key),
        _ if is_list => EvalError::index_out_of_bounds(key),
        _ => EvalError::no_such_key(key),
    }
}
