//! Objects: values with a declared type, backed by JSON data or made by a struct literal.

use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

use super::Value;
use crate::error::EvalError;
use crate::types::{ObjectType, Type};

/// An object with a declared type.
#[derive(Clone, Debug)]
pub struct Object<'a>(Inner<'a>);

#[derive(Clone, Debug)]
enum Inner<'a> {
    Json(&'a JsonMap<String, Json>, &'a Arc<ObjectType>),
    Shared(Arc<Record<'a>>),
}

/// An object made by a struct literal or by a library.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its type.
    pub ty: Arc<ObjectType>,
    /// The fields that are set.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    /// A JSON object that follows a declared type.
    #[must_use]
    pub fn json(object: &'a JsonMap<String, Json>, ty: &'a Arc<ObjectType>) -> Self {
        Self(Inner::Json(object, ty))
    }

    /// An object made of fields.
    #[must_use]
    pub fn record(record: Record<'a>) -> Self {
        Self(Inner::Shared(Arc::new(record)))
    }

    /// The declared type.
    #[must_use]
    pub fn object_type(&self) -> &Arc<ObjectType> {
        match &self.0 {
            Inner::Json(_, ty) => ty,
            Inner::Shared(record) => &record.ty,
        }
    }

    /// The declared type as a type.
    #[must_use]
    pub fn type_of(&self) -> Type {
        Type::Object(Arc::clone(self.object_type()))
    }

    /// The value of a set field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        match &self.0 {
            Inner::Json(object, ty) => {
                if let Some(field) = ty.find(name) {
                    let json = object.get(field.key.as_deref().unwrap_or(name))?;
                    if json.is_null() && !field.nullable {
                        return Some(Err(unexpected_null(name)));
                    }
                    Some(Value::from_typed(json, &field.ty))
                } else {
                    let ty = ty.additional()?;
                    object.get(name).map(|json| Value::from_typed(json, ty))
                }
            }
            Inner::Shared(record) => record
                .fields
                .iter()
                .find(|(field, _)| **field == *name)
                .map(|(_, value)| Ok(value.clone())),
        }
    }

    /// Whether the type has the field, declared or by being open.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        self.object_type().field_type(name).is_some()
    }

    /// Whether the field is set.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match &self.0 {
            Inner::Json(object, ty) => match ty.find(name) {
                Some(field) => object.contains_key(field.key.as_deref().unwrap_or(name)),
                None => ty.is_open() && object.contains_key(name),
            },
            Inner::Shared(record) => record.fields.iter().any(|(field, _)| **field == *name),
        }
    }

    /// The set fields with their keys in JSON.
    #[must_use]
    pub fn fields(&self) -> Vec<(&str, Result<Value<'a>, EvalError>)> {
        match &self.0 {
            Inner::Json(object, ty) => object
                .iter()
                .map(|(key, json)| {
                    let ty = ty
                        .find_key(key)
                        .map(|(_, field)| &field.ty)
                        .or(ty.additional());
                    (
                        key.as_str(),
                        ty.map_or_else(
                            || Ok(Value::from_json(json)),
                            |ty| Value::from_typed(json, ty),
                        ),
                    )
                })
                .collect(),
            Inner::Shared(record) => record
                .fields
                .iter()
                .map(|(name, value)| (&**name, Ok(value.clone())))
                .collect(),
        }
    }

    /// The number of set fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Json(object, _) => object.len(),
            Inner::Shared(record) => record.fields.len(),
        }
    }

    /// Whether no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The JSON object behind it, if there is one.
    #[must_use]
    pub fn as_json(&self) -> Option<&'a JsonMap<String, Json>> {
        match &self.0 {
            Inner::Json(object, _) => Some(object),
            Inner::Shared(_) => None,
        }
    }
}

/// The error of a `null` where the schema allows none.
#[cold]
pub fn unexpected_null(name: &str) -> EvalError {
    EvalError::invalid(format!(
        "invalid data, got null for the field '{name}', which is not nullable"
    ))
}
