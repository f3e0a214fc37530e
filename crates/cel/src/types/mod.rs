//! Types: what the checker deduces, what variables and functions are declared with, what object types
//! look like.
//!
//! A [`Type`] is two words and cheap to clone. Object types carry their fields, so a schema becomes one
//! value that can be declared, walked and compared; two object types are the same if their names are.

mod assign;
mod object;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::assign::{Substitution, most_general};
pub use self::object::{Field, ObjectType};

/// A CEL type.
#[derive(Clone, Debug, Default)]
pub enum Type {
    /// Not known before evaluation; fits everywhere.
    #[default]
    Dyn,
    /// `google.protobuf.Any`; like `dyn`.
    Any,
    /// The type of `null`.
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `list(T)`
    List(Arc<ListType>),
    /// `map(K, V)`
    Map(Arc<MapType>),
    /// An object with declared fields.
    Object(Arc<ObjectType>),
    /// `optional_type(T)`
    Optional(Arc<Type>),
    /// A scalar that may be null: `wrapper(int)`.
    Wrapper(Arc<Type>),
    /// A type only its own functions look into: `net.IP`, `kubernetes.Quantity`.
    Opaque(Arc<OpaqueType>),
    /// The type of types: `type(T)`.
    Type(Option<Arc<Type>>),
    /// A type parameter in the signature of a function: `T`.
    Param(u8),
    /// A type variable of a running check.
    Variable(u32),
    /// What a faulty expression has; fits everywhere so that one mistake is reported once.
    Error,
}

/// How equality and `+` treat a list; Kubernetes' `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Order counts, `+` appends.
    #[default]
    Atomic,
    /// Order does not count, `+` makes the union.
    Set,
    /// Elements are objects identified by these fields; order does not count, `+` replaces and appends.
    Map(Arc<[String]>),
}

/// `list(T)`
#[derive(Clone, Debug)]
pub struct ListType {
    /// The type of the elements.
    pub element: Type,
    /// How equality and `+` treat it.
    pub kind: ListKind,
}

/// `map(K, V)`
#[derive(Clone, Debug)]
pub struct MapType {
    /// The type of the keys.
    pub key: Type,
    /// The type of the values.
    pub value: Type,
}

/// A type only its own functions look into.
#[derive(Clone, Debug)]
pub struct OpaqueType {
    /// Its name.
    pub name: Arc<str>,
    /// Its parameters.
    pub parameters: Vec<Type>,
}

impl Type {
    /// `list(element)`
    #[must_use]
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(ListType {
            element,
            kind: ListKind::Atomic,
        }))
    }

    /// `map(key, value)`
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(MapType { key, value }))
    }

    /// `optional_type(inner)`
    #[must_use]
    pub fn optional(inner: Self) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// The type of an object.
    #[must_use]
    pub fn object(object: ObjectType) -> Self {
        Self::Object(Arc::new(object))
    }

    /// An opaque type without parameters.
    #[must_use]
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(Arc::new(OpaqueType {
            name: name.into(),
            parameters: Vec::new(),
        }))
    }

    /// `wrapper(inner)`
    #[must_use]
    pub fn wrapper(inner: Self) -> Self {
        Self::Wrapper(Arc::new(inner))
    }

    /// The type of the type `inner`.
    #[must_use]
    pub fn type_of(inner: Self) -> Self {
        Self::Type(Some(Arc::new(inner)))
    }

    /// Whether anything may be done with it before evaluation.
    #[must_use]
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    /// The type of a list's elements.
    #[must_use]
    pub fn element(&self) -> Option<&Self> {
        match self {
            Self::List(list) => Some(&list.element),
            _ => None,
        }
    }

    /// The types of a map's keys and values.
    #[must_use]
    pub fn key_value(&self) -> Option<(&Self, &Self)> {
        match self {
            Self::Map(map) => Some((&map.key, &map.value)),
            _ => None,
        }
    }

    /// The object type, if it is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&ObjectType> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// `T` of `optional_type(T)`, anything else itself.
    #[must_use]
    pub fn unwrap_optional(&self) -> &Self {
        match self {
            Self::Optional(inner) => inner,
            other => other,
        }
    }

    /// The name by which expressions and messages know the type, without parameters.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Any => "any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(object) => object.name(),
            Self::Optional(_) => "optional_type",
            Self::Wrapper(inner) => inner.name(),
            Self::Opaque(opaque) => &opaque.name,
            Self::Type(_) => "type",
            Self::Param(_) => "type_param",
            Self::Variable(_) => "type_var",
            Self::Error => "!error!",
        }
    }

    /// Whether both are the same type, names of object types deciding for those.
    #[must_use]
    pub fn is_exactly(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => Arc::ptr_eq(a, b) || a.element.is_exactly(&b.element),
            (Self::Map(a), Self::Map(b)) => {
                Arc::ptr_eq(a, b) || (a.key.is_exactly(&b.key) && a.value.is_exactly(&b.value))
            }
            (Self::Object(a), Self::Object(b)) => a.name() == b.name(),
            (Self::Optional(a), Self::Optional(b)) | (Self::Wrapper(a), Self::Wrapper(b)) => {
                a.is_exactly(b)
            }
            (Self::Opaque(a), Self::Opaque(b)) => {
                a.name == b.name
                    && a.parameters.len() == b.parameters.len()
                    && a.parameters
                        .iter()
                        .zip(&b.parameters)
                        .all(|(a, b)| a.is_exactly(b))
            }
            (Self::Type(a), Self::Type(b)) => match (a, b) {
                (Some(a), Some(b)) => a.is_exactly(b),
                (None, None) => true,
                _ => false,
            },
            (Self::Param(a), Self::Param(b)) => a == b,
            (Self::Variable(a), Self::Variable(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether a value of type `other` fits where `self` is expected, by cel-go's rules: object types by name,
    /// `dyn` on either side always, `null` for objects, wrappers and opaque types.
    ///
    /// ```
    /// use cel::Type;
    /// assert!(Type::list(Type::Dyn).is_assignable_from(&Type::list(Type::Int)));
    /// assert!(!Type::Double.is_assignable_from(&Type::Int));
    /// ```
    #[must_use]
    pub fn is_assignable_from(&self, other: &Self) -> bool {
        Substitution::default().is_assignable(other, self)
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        self.is_exactly(other)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => write!(f, "list({})", list.element),
            Self::Map(map) => write!(f, "map({}, {})", map.key, map.value),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Wrapper(inner) => write!(f, "wrapper({inner})"),
            Self::Opaque(opaque) if !opaque.parameters.is_empty() => {
                let parameters: Vec<String> =
                    opaque.parameters.iter().map(ToString::to_string).collect();
                write!(f, "{}({})", opaque.name, parameters.join(", "))
            }
            Self::Type(Some(inner)) => write!(f, "type({inner})"),
            Self::Param(index) => write!(f, "{}", char::from(b'A' + index % 26)),
            Self::Variable(index) => write!(f, "_var{index}"),
            other => f.write_str(other.name()),
        }
    }
}
