//! Maps: a JSON object that is looked into, or entries made by evaluation.
//!
//! Keys are strings, integers or truth values; numbers of different types that are equal are the same key.
//! Entries keep the order in which they were made.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

use super::{Str, Value, double_to_int, double_to_uint};
use crate::error::EvalError;
use crate::types::Type;

/// A map.
#[derive(Clone, Debug)]
pub struct Map<'a>(Inner<'a>);

#[derive(Clone, Debug)]
enum Inner<'a> {
    Json(&'a JsonMap<String, Json>),
    Typed(&'a JsonMap<String, Json>, &'a Type),
    Shared(Arc<Table<'a>>),
}

#[derive(Debug, Default)]
struct Table<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    /// Positions by key, for tables too large to search in order.
    index: Option<HashMap<Key<'a>, usize>>,
}

/// Tables up to this size are searched in order.
const LINEAR_ENTRIES_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(TextKey<'a>),
}

#[derive(Clone, Debug)]
struct TextKey<'a>(Str<'a>);

impl PartialEq for TextKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for TextKey<'_> {}

impl std::hash::Hash for TextKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self.0).hash(state);
    }
}

impl<'a> Key<'a> {
    /// The key a value looks up, with equal numbers of any type the same; `None` if it can be no key.
    fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::Double(value) if value.fract() == 0.0 => match double_to_int(*value) {
                Some(value) => Self::Int(value),
                None => Self::Uint(double_to_uint(*value)?),
            },
            Value::String(text) => Self::String(TextKey(text.clone())),
            _ => return None,
        })
    }

    fn is(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Int(a), Value::Int(b)) => a == b,
            (Self::Int(a), Value::Uint(b)) => u64::try_from(*a).is_ok_and(|a| a == *b),
            (Self::Uint(a), Value::Uint(b)) => a == b,
            (Self::String(a), Value::String(b)) => *a.0 == **b,
            _ => false,
        }
    }
}

impl<'a> Table<'a> {
    fn position(&self, key: &Key<'a>) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self
                .entries
                .iter()
                .position(|(candidate, _)| key.is(candidate)),
        }
    }
}

impl<'a> Map<'a> {
    /// A JSON object.
    #[must_use]
    pub fn json(object: &'a JsonMap<String, Json>) -> Self {
        Self(Inner::Json(object))
    }

    /// A JSON object whose values follow a declared type.
    #[must_use]
    pub fn typed(object: &'a JsonMap<String, Json>, value: &'a Type) -> Self {
        Self(Inner::Typed(object, value))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Json(object) | Inner::Typed(object, _) => object.len(),
            Inner::Shared(table) => table.entries.len(),
        }
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value below a string key.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<Result<Value<'a>, EvalError>> {
        match &self.0 {
            Inner::Json(object) => object.get(key).map(|json| Ok(Value::from_json(json))),
            Inner::Typed(object, ty) => object.get(key).map(|json| Value::from_typed(json, ty)),
            Inner::Shared(table) if table.index.is_none() => table
                .entries
                .iter()
                .find(|(candidate, _)| candidate.as_str() == Some(key))
                .map(|(_, value)| Ok(value.clone())),
            Inner::Shared(table) => {
                let key = Key::String(TextKey(Str::Shared(Arc::from(key))));
                table
                    .position(&key)
                    .map(|at| Ok(table.entries[at].1.clone()))
            }
        }
    }

    /// The value below a key of any type.
    #[must_use]
    pub fn get(&self, key: &Value<'a>) -> Option<Result<Value<'a>, EvalError>> {
        match (&self.0, key) {
            (_, Value::String(text)) if !matches!(self.0, Inner::Shared(_)) => self.get_str(text),
            (Inner::Shared(table), _) => {
                let at = table.position(&Key::of(key)?)?;
                Some(Ok(table.entries[at].1.clone()))
            }
            _ => None,
        }
    }

    /// Whether there is an entry below the key.
    #[must_use]
    pub fn contains(&self, key: &Value<'a>) -> bool {
        match (&self.0, key) {
            (Inner::Json(object) | Inner::Typed(object, _), Value::String(text)) => {
                object.contains_key(&**text)
            }
            (Inner::Shared(table), _) => {
                Key::of(key).is_some_and(|key| table.position(&key).is_some())
            }
            _ => false,
        }
    }

    /// The JSON object it looks into, if it does and no type was declared for it.
    pub(crate) fn as_json(&self) -> Option<&'a JsonMap<String, Json>> {
        match &self.0 {
            Inner::Json(object) => Some(object),
            _ => None,
        }
    }

    /// The JSON object behind the map, declared type or not.
    #[must_use]
    pub fn source_json(&self) -> Option<&'a JsonMap<String, Json>> {
        match &self.0 {
            Inner::Json(object) | Inner::Typed(object, _) => Some(object),
            Inner::Shared(_) => None,
        }
    }

    /// The entries in order.
    #[must_use]
    pub fn entries(&self) -> MapEntries<'a> {
        match &self.0 {
            Inner::Json(object) => MapEntries(Entries::Json(object.iter(), None)),
            Inner::Typed(object, ty) => MapEntries(Entries::Json(object.iter(), Some(ty))),
            Inner::Shared(table) => MapEntries(Entries::Shared(Arc::clone(table), 0)),
        }
    }
}

/// Iterates over the entries of a map.
pub struct MapEntries<'a>(Entries<'a>);

enum Entries<'a> {
    Json(serde_json::map::Iter<'a>, Option<&'a Type>),
    Shared(Arc<Table<'a>>, usize),
}

impl<'a> Iterator for MapEntries<'a> {
    type Item = (Value<'a>, Result<Value<'a>, EvalError>);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Entries::Json(iter, ty) => {
                let (key, json) = iter.next()?;
                let value = match ty {
                    Some(ty) => Value::from_typed(json, ty),
                    None => Ok(Value::from_json(json)),
                };
                Some((Value::String(Str::Borrowed(key)), value))
            }
            Entries::Shared(table, at) => {
                let (key, value) = table.entries.get(*at)?;
                *at += 1;
                Some((key.clone(), Ok(value.clone())))
            }
        }
    }
}

/// Makes a map entry by entry.
#[derive(Debug, Default)]
pub struct MapBuilder<'a>(Table<'a>);

impl<'a> MapBuilder<'a> {
    /// A builder with room for this many entries.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Table {
            entries: Vec::with_capacity(capacity),
            index: None,
        })
    }

    /// Adds an entry. Fails for keys that can be none and for repeated keys.
    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
        if matches!(key, Value::Double(_)) {
            return Err(EvalError::invalid("unsupported key type: double"));
        }
        let found = Key::of(&key).ok_or_else(|| {
            EvalError::invalid(format!("unsupported key type: {}", key.type_name()))
        })?;
        if self.0.position(&found).is_some() {
            return Err(EvalError::invalid(format!(
                "Failed with repeated key: {}",
                key.to_display()
            )));
        }
        if let Some(index) = &mut self.0.index {
            index.insert(found, self.0.entries.len());
        } else if self.0.entries.len() == LINEAR_ENTRIES_MAX {
            let mut index = HashMap::with_capacity(LINEAR_ENTRIES_MAX * 4);
            for (at, (key, _)) in self.0.entries.iter().enumerate() {
                index.extend(Key::of(key).map(|key| (key, at)));
            }
            index.insert(found, LINEAR_ENTRIES_MAX);
            self.0.index = Some(index);
        }
        self.0.entries.push((key, value));
        Ok(())
    }

    /// Adds an entry or replaces the value below an equal key.
    pub fn put(&mut self, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
        if let Some(at) = Key::of(&key).and_then(|key| self.0.position(&key)) {
            self.0.entries[at].1 = value;
            return Ok(());
        }
        self.insert(key, value)
    }

    /// The number of entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there are no entries so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// The map.
    #[must_use]
    pub fn build(self) -> Map<'a> {
        Map(Inner::Shared(Arc::new(self.0)))
    }
}
