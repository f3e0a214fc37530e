//! Attributes: variables and what is read from them.
//!
//! As long as a chain stays in JSON data it is followed by reference; only its end becomes a value.

use serde_json::Value as Json;

use super::{Evaluated, Evaluator};
use crate::activation::Binding;
use crate::error::{ErrorKind, EvalError};
use crate::program::node::{Attribute, Base, Qualifier, QualifierKind};
use crate::types::Type;
use crate::unknown;
use crate::value::{Value, double_to_int};

/// Where a chain has come to.
enum Place<'a> {
    Json(&'a Json),
    Value(Value<'a>),
}

impl<'a> Place<'a> {
    fn into_value(self) -> Value<'a> {
        match self {
            Self::Json(json) => Value::from_json(json),
            Self::Value(value) => value,
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
    pub(super) fn attribute(&mut self, attribute: &'a Attribute, base_cost: u64) -> Evaluated<'a> {
        if self.has_unknowns {
            self.check_unknown(attribute)?;
        }
        let (place, mut qualifiers) = self.base(attribute)?;
        let mut cost = base_cost + qualifiers.len() as u64;
        if attribute.test {
            if !self.context.limits.presence_test_has_cost {
                cost = cost.saturating_sub(1);
            }
            self.charge(cost)?;
            return self.test(place, qualifiers, attribute);
        }
        self.charge(cost)?;
        let mut place = place;
        // The common case first: fields in JSON data, none of them optional.
        while let Place::Json(Json::Object(object)) = place
            && let [
                Qualifier {
                    kind: QualifierKind::Field(field),
                    optional: false,
                    span,
                },
                rest @ ..,
            ] = qualifiers
        {
            match object.get(&**field) {
                Some(json) => place = Place::Json(json),
                None => return Err(EvalError::no_such_key(field).at(*span)),
            }
            qualifiers = rest;
        }
        if qualifiers.is_empty() {
            return Ok(place.into_value());
        }
        let mut is_optional = false;
        for qualifier in qualifiers {
            is_optional |= qualifier.optional;
            place = match self.unwrap_optional(place, &mut is_optional) {
                Some(inner) => inner,
                None => return Ok(Value::Optional(None)),
            };
            match self.read(&place, qualifier)? {
                Some(next) => place = next,
                None if is_optional => return Ok(Value::Optional(None)),
                None => {
                    return Err(
                        missing(&place, qualifier, &self.key_text(qualifier)).at(qualifier.span)
                    );
                }
            }
        }
        let value = place.into_value();
        Ok(match value {
            value if is_optional => Value::some(value),
            value => value,
        })
    }

    /// `has(...)`: everything but the last field must be there, unless it is optional.
    fn test(
        &mut self,
        mut place: Place<'a>,
        qualifiers: &'a [Qualifier],
        attribute: &'a Attribute,
    ) -> Evaluated<'a> {
        let Some((last, before)) = qualifiers.split_last() else {
            return Err(EvalError::no_such_overload().at(attribute.span));
        };
        let mut is_optional = false;
        for qualifier in before {
            is_optional |= qualifier.optional;
            place = match self.unwrap_optional(place, &mut is_optional) {
                Some(inner) => inner,
                None => return Ok(Value::Bool(false)),
            };
            match self.read(&place, qualifier)? {
                Some(next) => place = next,
                None if is_optional => return Ok(Value::Bool(false)),
                None => {
                    return Err(
                        missing(&place, qualifier, &self.key_text(qualifier)).at(qualifier.span)
                    );
                }
            }
        }
        place = match self.unwrap_optional(place, &mut is_optional) {
            Some(inner) => inner,
            None => return Ok(Value::Bool(false)),
        };
        if let (Place::Value(Value::Object(object)), QualifierKind::Field(field)) =
            (&place, &last.kind)
        {
            return Ok(Value::Bool(object.has(field)));
        }
        Ok(Value::Bool(self.read(&place, last)?.is_some()))
    }

    fn unwrap_optional(&self, place: Place<'a>, is_optional: &mut bool) -> Option<Place<'a>> {
        match place {
            Place::Value(Value::Optional(inner)) => {
                *is_optional = true;
                inner.map(|inner| Place::Value((*inner).clone()))
            }
            other => Some(other),
        }
    }

    /// Where the chain starts, and the qualifiers that are left to follow.
    fn base(
        &mut self,
        attribute: &'a Attribute,
    ) -> Result<(Place<'a>, &'a [Qualifier]), EvalError> {
        let qualifiers = &*attribute.qualifiers;
        Ok(match &attribute.base {
            Base::Variable(name) => match self.activation.find(name) {
                Some(binding) => (
                    place_of(binding).map_err(|error| error.at(attribute.span))?,
                    qualifiers,
                ),
                None => return Err(no_such_attribute(name).at(attribute.span)),
            },
            Base::Local(slot) => (Place::Value(self.local(*slot)?), qualifiers),
            Base::Value(node) => (Place::Value(self.eval(node)?), qualifiers),
            Base::Candidates(candidates) => {
                for (name, taken) in candidates {
                    if let Some(binding) = self.activation.find(name) {
                        let place = place_of(binding).map_err(|error| error.at(attribute.span))?;
                        return Ok((place, qualifiers.get(*taken..).unwrap_or_default()));
                    }
                    if let Some(ty) = self.program.env().find_type(name) {
                        return Ok((
                            Place::Value(Value::Type(ty)),
                            qualifiers.get(*taken..).unwrap_or_default(),
                        ));
                    }
                    if &**name == "google.protobuf.NullValue.NULL_VALUE" {
                        return Ok((
                            Place::Value(Value::Null),
                            qualifiers.get(*taken..).unwrap_or_default(),
                        ));
                    }
                }
                let name = candidates.last().map_or("", |(name, _)| name);
                return Err(no_such_attribute(name).at(attribute.span));
            }
        })
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
                    crate::program::node::Node::Attribute(attribute)
                        if !attribute.is_relative() =>
                    {
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
        let Base::Variable(variable) = &attribute.base else {
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

fn place_of<'a>(binding: &'a Binding<'a>) -> Result<Place<'a>, EvalError> {
    Ok(match binding {
        Binding::Json(json) => Place::Json(json),
        Binding::Typed(json, Type::Dyn | Type::Any) => Place::Json(json),
        Binding::Typed(json, ty) => Place::Value(Value::from_typed(json, ty)?),
        Binding::Value(value) => Place::Value(value.reborrow()),
    })
}

#[cold]
fn no_such_attribute(name: &str) -> EvalError {
    EvalError::new(
        ErrorKind::NoSuchAttribute,
        format!("no such attribute(s): {name}"),
    )
}

fn read_field<'a>(place: &Place<'a>, field: &str) -> Result<Option<Place<'a>>, EvalError> {
    let value = match place {
        Place::Json(Json::Object(object)) => return Ok(object.get(field).map(Place::Json)),
        Place::Json(json) => return Err(unsupported(&Value::from_json(json), field)),
        Place::Value(value) => value,
    };
    let found = match value {
        Value::Map(map) => match map.as_json() {
            Some(object) => return Ok(object.get(field).map(Place::Json)),
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
                Some(value) => Ok(Some(Place::Value(value))),
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
            Ok(object.get(&**text).map(Place::Json))
        }
        (Place::Json(Json::Array(array)), _) => {
            let index = list_index(key)?;
            Ok(usize::try_from(index)
                .ok()
                .and_then(|index| array.get(index))
                .map(Place::Json))
        }
        (Place::Json(json), _) => read_value(&Value::from_json(json), key),
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
        Place::Json(Json::Array(_)) | Place::Value(Value::List(_))
    );
    match &qualifier.kind {
        QualifierKind::Field(_) => EvalError::no_such_key(key),
        _ if is_list => EvalError::index_out_of_bounds(key),
        _ => EvalError::no_such_key(key),
    }
}
