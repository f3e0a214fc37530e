//! Lists: a JSON array that is looked into, or elements made by evaluation.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Value;
use crate::error::EvalError;
use crate::types::{ListKind, ListType, Type};

/// A list.
#[derive(Clone, Debug)]
pub struct List<'a>(Inner<'a>);

#[derive(Clone, Debug)]
enum Inner<'a> {
    Json(&'a [Json]),
    Typed(&'a [Json], &'a ListType),
    Shared(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// A JSON array.
    #[must_use]
    pub fn json(array: &'a [Json]) -> Self {
        Self(Inner::Json(array))
    }

    /// A JSON array whose elements follow a declared type.
    #[must_use]
    pub fn typed(array: &'a [Json], ty: &'a ListType) -> Self {
        Self(Inner::Typed(array, ty))
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Json(array) | Inner::Typed(array, _) => array.len(),
            Inner::Shared(elements) => elements.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at a position. An error if JSON data does not follow its declared type.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match &self.0 {
            Inner::Json(array) => array.get(index).map(|json| Ok(Value::from_json(json))),
            Inner::Typed(array, ty) => array
                .get(index)
                .map(|json| Value::from_typed(json, &ty.element)),
            Inner::Shared(elements) => elements.get(index).cloned().map(Ok),
        }
    }

    /// The JSON array it looks into, if it does and no type was declared for it.
    pub(crate) fn as_json(&self) -> Option<&'a [Json]> {
        match &self.0 {
            Inner::Json(array) => Some(array),
            _ => None,
        }
    }

    /// The elements, if they are values already.
    pub(crate) fn values(&self) -> Option<&[Value<'a>]> {
        match &self.0 {
            Inner::Shared(elements) => Some(elements),
            _ => None,
        }
    }

    /// The JSON array it looks into, with the type declared for its elements.
    pub(crate) fn data(&self) -> Option<(&'a [Json], Option<&'a Type>)> {
        match &self.0 {
            Inner::Json(array) => Some((array, None)),
            Inner::Typed(array, ty) => Some((array, Some(&ty.element))),
            Inner::Shared(_) => None,
        }
    }

    /// The JSON array behind the list, declared type or not.
    #[must_use]
    pub fn source_json(&self) -> Option<&'a [Json]> {
        match &self.0 {
            Inner::Json(array) | Inner::Typed(array, _) => Some(array),
            Inner::Shared(_) => None,
        }
    }

    /// The elements in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<Value<'a>, EvalError>> + '_ {
        // Invariant: indexes below `len` exist.
        (0..self.len()).map(|index| self.get(index).unwrap_or(Ok(Value::Null)))
    }

    /// The elements in a vector.
    pub fn to_vec(&self) -> Result<Vec<Value<'a>>, EvalError> {
        match &self.0 {
            Inner::Shared(elements) => Ok(elements.to_vec()),
            _ => self.iter().collect(),
        }
    }

    /// How equality and `+` treat the list.
    #[must_use]
    pub fn kind(&self) -> &ListKind {
        match &self.0 {
            Inner::Typed(_, ty) => &ty.kind,
            _ => &ListKind::Atomic,
        }
    }
}

impl<'a> From<Vec<Value<'a>>> for List<'a> {
    fn from(elements: Vec<Value<'a>>) -> Self {
        Self(Inner::Shared(Arc::new(elements)))
    }
}
