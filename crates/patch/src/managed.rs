//! `metadata.managedFields`: who owns which fields, since when, in which version.

use std::fmt;

use serde_json::{Map, Value};

use crate::field_set::FieldSet;

/// The operation through which fields came to be owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// What tells one owner from another. The version of an `Apply` owner is not part of it: an applier
/// has one entry, whatever version it last used.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// As conflicts name an owner: `"alice"`, `"editor" using v1`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) owner: Owner,
    /// RFC 3339 in seconds, UTC: such texts sort like the times they stand for.
    pub(crate) time: Option<String>,
    pub(crate) fields: FieldSet,
}

/// All entries of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Managed {
    pub(crate) entries: Vec<Entry>,
}

impl Managed {
    /// Reads `metadata.managedFields`. `None` when an entry is not one.
    pub(crate) fn parse(entries: Option<&Value>) -> Option<Self> {
        let mut managed = Self::default();
        let Some(entries) = entries.filter(|entries| !entries.is_null()) else {
            return Some(managed);
        };
        for entry in entries.as_array()? {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
                return None;
            }
            let owner = Owner {
                manager: text("manager").to_owned(),
                operation,
                api_version: text("apiVersion").to_owned(),
                subresource: text("subresource").to_owned(),
            };
            let fields = match entry.get("fieldsV1").filter(|fields| !fields.is_null()) {
                Some(fields) => FieldSet::parse(fields)?,
                None => FieldSet::new(),
            };
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            // Should one owner have two entries, the last one counts.
            managed.entries.retain(|entry| entry.owner != owner);
            managed.entries.push(Entry {
                owner,
                time,
                fields,
            });
        }
        Some(managed)
    }

    /// The entries in their fixed order: applied before updated, then by time and names.
    pub(crate) fn to_value(&self) -> Value {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| {
            let key = |entry: &'_ Entry| {
                (
                    entry.owner.operation,
                    entry.time.clone().unwrap_or_default(),
                )
            };
            key(a).cmp(&key(b)).then_with(|| {
                let names = |owner: &'_ Owner| {
                    (
                        owner.manager.clone(),
                        owner.api_version.clone(),
                        owner.subresource.clone(),
                    )
                };
                names(&a.owner).cmp(&names(&b.owner))
            })
        });
        entries.into_iter().map(Entry::to_value).collect()
    }

    pub(crate) fn position(&self, owner: &Owner) -> Option<usize> {
        self.entries.iter().position(|entry| entry.owner == *owner)
    }

    pub(crate) fn get(&self, owner: &Owner) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.owner == *owner)
    }
}

impl Entry {
    fn to_value(&self) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
        put("manager", Value::from(self.owner.manager.as_str()));
        let operation = match self.owner.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        put("operation", Value::from(operation));
        put("apiVersion", Value::from(self.owner.api_version.as_str()));
        if let Some(time) = &self.time {
            put("time", Value::from(time.as_str()));
        }
        put("fieldsType", Value::from("FieldsV1"));
        put("fieldsV1", self.fields.to_value());
        if !self.owner.subresource.is_empty() {
            put("subresource", Value::from(self.owner.subresource.as_str()));
        }
        Value::Object(entry)
    }
}

/// Whether these are the entries that ask for tracking to be forgotten: `[]` or `[{}]`.
pub(crate) fn is_reset(entries: Option<&Value>) -> bool {
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    }
}
