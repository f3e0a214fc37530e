//! Objects seen through their schema, as server-side apply sees them: maps, lists and scalars,
//! each either merged piece by piece or owned as a whole.

mod compare;
mod fields;
mod merge;
mod remove;
mod validate;

use schema::{Additional, Field, ListType, MapType, Node, Schema, Special, ValueType};
use serde_json::Value;

use crate::path::PathElement;

pub(crate) use compare::{Comparison, compare};
pub(crate) use fields::{ensure_named, field_set, reconcile};
pub(crate) use merge::merge;
pub(crate) use remove::remove;
pub(crate) use validate::{go_plain, validate};

/// The type of a value: a node of a schema, or none, in which case it is deduced from the value
/// (maps member by member, lists as a whole).
#[derive(Clone, Copy)]
pub(crate) struct Type<'a> {
    node: Option<&'a Node>,
    map_relation: Option<MapType>,
    /// Whether a schema further up keeps unknown members.
    preserve: bool,
}

/// What a value is treated as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Map,
    List,
    Scalar,
}

/// The scalars a schema may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scalar {
    Untyped,
    String,
    Numeric,
    Boolean,
}

impl<'a> Type<'a> {
    pub(crate) fn of(schema: &'a Schema) -> Self {
        Self::new(schema, None, false)
    }

    fn new(node: &'a Node, map_relation: Option<MapType>, preserve: bool) -> Self {
        Self {
            node: Some(node),
            map_relation,
            preserve: preserve || node.preserve_unknown,
        }
    }

    const DEDUCED: Self = Self {
        node: None,
        map_relation: None,
        preserve: true,
    };

    /// What kind of thing `value` is to be treated as: by its own form where the type leaves a
    /// choice, else by the type.
    pub(crate) fn shape(&self, value: Option<&Value>) -> Shape {
        match self.node.map(|node| node.value_type) {
            Some(ValueType::Object) => Shape::Map,
            Some(ValueType::Array) => Shape::List,
            Some(
                ValueType::String | ValueType::Integer | ValueType::Number | ValueType::Boolean,
            ) => Shape::Scalar,
            _ => match value {
                Some(Value::Array(_)) => Shape::List,
                Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Shape::Scalar,
                _ => Shape::Map,
            },
        }
    }

    pub(crate) fn scalar(&self) -> Scalar {
        let Some(node) = self.node else {
            return Scalar::Untyped;
        };
        match node.value_type {
            ValueType::String => match node.format.as_deref() {
                None | Some("byte") => Scalar::String,
                Some(_) => Scalar::Untyped,
            },
            ValueType::Integer | ValueType::Number => Scalar::Numeric,
            ValueType::Boolean => Scalar::Boolean,
            _ => Scalar::Untyped,
        }
    }

    pub(crate) fn is_atomic_map(&self) -> bool {
        let declared = self.node.map(|node| node.map_type);
        // What a built-in type holds as any JSON belongs to whoever wrote it, as a whole.
        let opaque = self.node.is_some_and(|node| node.special == Special::Json);
        opaque || self.map_relation.or(declared) == Some(MapType::Atomic)
    }

    pub(crate) fn is_atomic_list(&self) -> bool {
        self.node
            .is_none_or(|node| node.list_type == ListType::Atomic)
    }

    /// The declared field `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&'a Field> {
        self.node.and_then(|node| node.properties.get(name))
    }

    /// The type of member `name`; `None` when the schema has no place for it.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        let Some(node) = self.node else {
            return Some(Self::DEDUCED);
        };
        if let Some(field) = node.properties.get(name) {
            return Some(Self::new(&field.schema, field.map_type, self.preserve));
        }
        match &node.additional {
            Additional::Schema(schema) => Some(Self::new(schema, None, self.preserve)),
            Additional::Any => Some(Self::DEDUCED),
            Additional::Forbidden => None,
            // An object without any properties is a free-form one.
            Additional::Unspecified if self.preserve || node.properties.is_empty() => {
                Some(Self::DEDUCED)
            }
            Additional::Unspecified => None,
        }
    }

    /// The type of elements.
    pub(crate) fn element(&self) -> Self {
        match self.node.and_then(|node| node.items.as_ref()) {
            Some(schema) => Self::new(schema, None, self.preserve),
            None => Self::DEDUCED,
        }
    }

    /// Whether everything below is deduced from the values.
    pub(crate) fn is_deduced_map(&self) -> bool {
        self.node.is_none_or(|node| {
            node.properties.is_empty() && !matches!(node.additional, Additional::Schema(_))
        })
    }

    /// The step that leads to an element of a list that is a set or has keys.
    pub(crate) fn step(&self, item: &Value) -> Result<PathElement, String> {
        let Some(node) = self.node.filter(|node| node.list_type != ListType::Atomic) else {
            return Err("invalid indexing of non-associative list".to_owned());
        };
        if node.list_type == ListType::Map {
            return keyed_step(node, item);
        }
        match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            value => Ok(PathElement::Value(value.clone())),
        }
    }
}

fn keyed_step(node: &Node, item: &Value) -> Result<PathElement, String> {
    let Value::Object(members) = item else {
        let what = if item.is_null() {
            "a null element"
        } else {
            "non-map elements"
        };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut keys: Vec<(String, Value)> = Vec::with_capacity(node.map_keys.len());
    for name in &node.map_keys {
        let default = || {
            let field = node.items.as_ref()?.properties.get(name)?;
            field.default.as_ref().or(field.schema.default.as_ref())
        };
        if let Some(value) = members.get(name).or_else(default) {
            keys.push((name.clone(), value.clone()));
        }
    }
    if keys.is_empty() && !node.map_keys.is_empty() {
        let names: Vec<String> = node
            .map_keys
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(PathElement::Key(keys))
}

/// Whether a value is absent or an empty object or list.
fn is_void(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(members)) => members.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    }
}

fn as_map(value: Option<&Value>) -> Option<&serde_json::Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn as_list(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array)
}

/// Whether two values are the same, `1` and `1.0` included.
pub(crate) fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|((name, value), (other_name, other_value))| {
                        name == other_name && equal(value, other_value)
                    })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64()
        }
        _ => one == other,
    }
}
