//! Values: what expressions evaluate to and what they read.
//!
//! A [`Value`] borrows what it can: strings from JSON data or from the program's constants, lists and maps
//! from JSON arrays and objects, which are looked into, never converted as a whole. What evaluation
//! makes is shared by reference counting, so that cloning a value never copies its content.

mod compare;
mod convert;
mod json;
mod list;
mod map;
mod number;
mod object;
mod text;
mod time;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

pub(crate) use self::compare::{Work, compare, equal};
pub use self::json::{JsonError, JsonOptions};
pub use self::list::List;
pub use self::map::{Map, MapBuilder};
pub(crate) use self::number::{compare_numbers, double_to_int, double_to_uint, format_double};
pub(crate) use self::object::unexpected_null;
pub use self::object::{Object, Record};
pub use self::text::{Blob, Str};
pub(crate) use self::time::{Civil, Zone};
pub use self::time::{Duration, Timestamp};

use crate::error::EvalError;
use crate::types::Type;

/// A CEL value.
#[derive(Clone, Debug, Default)]
pub enum Value<'a> {
    /// `null`
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Str<'a>),
    /// Bytes.
    Bytes(Blob<'a>),
    /// A span of time.
    Duration(Duration),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// An object with a declared type.
    Object(Object<'a>),
    /// A value that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// A type.
    Type(Type),
    /// A value only its own functions look into.
    Opaque(OpaqueValue),
}

/// A value that only its library's functions look into: an IP address, a quantity.
pub trait Opaque: Any + fmt::Debug + Send + Sync {
    /// Its type.
    fn type_of(&self) -> Type;

    /// Whether it equals another opaque value.
    fn equals(&self, other: &dyn Opaque) -> bool;

    /// For downcasting to the concrete type.
    fn as_any(&self) -> &dyn Any;

    /// The field `name`, for values that show fields. It may be worked out now.
    fn field(&self, name: &str) -> Option<Result<Value<'static>, EvalError>> {
        let _ = name;
        None
    }

    /// The error of comparing the value with anything, for values that must not be looked at.
    fn comparison_error(&self) -> Option<EvalError> {
        None
    }

    /// How the value is written as text by `string()` and in messages, if it can be.
    fn to_text(&self) -> Option<String> {
        None
    }
}

/// A shared [`Opaque`].
#[derive(Clone, Debug)]
pub struct OpaqueValue(pub Arc<dyn Opaque>);

impl OpaqueValue {
    /// The concrete value, if it is a `T`.
    #[must_use]
    pub fn downcast<T: Opaque>(&self) -> Option<&T> {
        self.0.as_any().downcast_ref()
    }
}

impl<'a> Value<'a> {
    /// A string that is not borrowed.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(Str::Shared(text.into()))
    }

    /// Bytes that are not borrowed.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(Blob::Shared(bytes.into()))
    }

    /// A list of these elements.
    #[must_use]
    pub fn list(elements: Vec<Value<'a>>) -> Self {
        Self::List(List::from(elements))
    }

    /// An opaque value.
    pub fn opaque(value: impl Opaque) -> Self {
        Self::Opaque(OpaqueValue(Arc::new(value)))
    }

    /// An optional that holds `value`.
    #[must_use]
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The opaque value inside, if it is a `T`.
    #[must_use]
    pub fn as_opaque<T: Opaque>(&self) -> Option<&T> {
        match self {
            Self::Opaque(opaque) => opaque.downcast(),
            _ => None,
        }
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The type of the value; elements and fields count as `dyn`.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Object(object) => object.type_of(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Type(_) => Type::Type(None),
            Self::Opaque(opaque) => opaque.0.type_of(),
        }
    }

    /// The name of the value's type, for messages.
    #[must_use]
    pub fn type_name(&self) -> String {
        self.type_of().name().to_owned()
    }

    /// A view that lives as long as `self` and shares or borrows everything.
    pub(crate) fn reborrow(&'a self) -> Value<'a> {
        match self {
            Self::String(text) => Self::String(Str::Borrowed(text)),
            Self::Bytes(bytes) => Self::Bytes(Blob::Borrowed(bytes)),
            other => other.clone(),
        }
    }

    /// The same value, borrowing from nothing.
    ///
    /// Fails where data does not follow its declared type.
    pub fn into_owned(self) -> Result<Value<'static>, EvalError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Uint(value) => Value::Uint(value),
            Self::Double(value) => Value::Double(value),
            Self::String(text) => Value::string(&*text),
            Self::Bytes(bytes) => Value::bytes(&*bytes),
            Self::Duration(value) => Value::Duration(value),
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::List(list) => {
                let elements: Result<Vec<_>, EvalError> =
                    list.iter().map(|element| element?.into_owned()).collect();
                Value::list(elements?)
            }
            Self::Map(map) => {
                let mut copy = MapBuilder::with_capacity(map.len());
                for entry in map.entries() {
                    let (key, value) = entry;
                    copy.put(key.into_owned()?, value?.into_owned()?)?;
                }
                Value::Map(copy.build())
            }
            Self::Object(object) => {
                let ty = Arc::clone(object.object_type());
                let mut fields = Vec::with_capacity(object.len());
                for (key, value) in object.fields() {
                    let name = ty.find_key(key).map_or(key, |(name, _)| name);
                    fields.push((Arc::from(name), value?.into_owned()?));
                }
                Value::Object(Object::record(Record { ty, fields }))
            }
            Self::Optional(None) => Value::Optional(None),
            Self::Optional(Some(value)) => Value::some((*value).clone().into_owned()?),
            Self::Type(ty) => Value::Type(ty),
            Self::Opaque(opaque) => Value::Opaque(opaque),
        })
    }

    /// CEL's order of two values of types that have one together; `None` if they have none, NaN included.
    #[must_use]
    pub fn compare(&self, other: &Value<'_>) -> Option<std::cmp::Ordering> {
        compare(self, other)
    }

    /// Whether it is the value variables of its type start with: what `optional.ofNonZeroValue` drops.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(duration) => duration.nanoseconds() == 0,
            Self::Timestamp(timestamp) => timestamp.is_zero(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Object(object) => object.is_empty(),
            Self::Optional(inner) => inner.is_none(),
            Self::Type(_) | Self::Opaque(_) => false,
        }
    }
}

impl PartialEq for Value<'_> {
    /// CEL's equality. Values too large to compare within the default limits count as different.
    fn eq(&self, other: &Self) -> bool {
        equal(self, other, &mut Work::default()).unwrap_or(false)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::string(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::String(Str::Borrowed(value))
    }
}
