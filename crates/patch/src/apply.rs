//! Server-side apply, and the tracking of owned fields for all other writes.
//!
//! Every write moves ownership: what it changes it owns from then on, what it removes nobody owns.
//! An apply owns what it states, may change what others own only by force, and removes what it
//! stated before and no longer does, unless somebody else owns it too.

mod last_applied;
mod owners;

use std::borrow::Cow;

use schema::Schema;
use serde_json::{Map, Value};

use crate::Error;
use crate::conflict::Conflicts;
use crate::field_set::FieldSet;
use crate::managed::{Entry, Managed, Operation, Owner, is_reset};
use crate::typed::{self, Type};

/// The owner of what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, when, and through which door.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The field manager; empty means `unknown`.
    pub manager: &'a str,
    /// The subresource written through, or nothing.
    pub subresource: &'a str,
    /// The time, RFC 3339 in whole seconds, UTC.
    pub now: &'a str,
    /// The versions of the kind.
    pub versions: &'a dyn Versions,
    /// What such a write never changes and so never owns, such as `status`.
    pub reset_fields: &'a FieldSet,
}

/// The served versions of a kind.
pub trait Versions {
    /// The schema of a version; `None` when it is not served (any more).
    fn schema(&self, api_version: &str) -> Option<Schema>;
    /// An object in another version.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// The versions of a kind that has one.
pub struct OneVersion {
    /// The version: `v1`, `apps/v1`.
    pub api_version: String,
    /// Its schema.
    pub schema: Schema,
}

impl Versions for OneVersion {
    fn schema(&self, api_version: &str) -> Option<Schema> {
        (api_version == self.api_version).then(|| self.schema.clone())
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        (api_version == self.api_version).then(|| object.clone())
    }
}

/// Sets `new`'s `managedFields` for a create, an update or a patch other than apply. `live` is the
/// object as it was, if it was; `new` still carries the `managedFields` that the client sent, which
/// may edit the tracking, or reset it with `[{}]`.
///
/// Call it with the objects in the form they are stored in (see `schema::encode`). A write that
/// cannot be tracked leaves the tracking as it was.
pub fn track_update(write: &Write<'_>, live: Option<&Value>, new: &mut Value) {
    let sent = take_managed(new);
    let before = live.and_then(managed_of);
    let tracked = || Managed::parse(before);
    let managed = if !write.subresource.is_empty() {
        tracked()
    } else if is_reset(sent.as_ref()) {
        Some(Managed::default())
    } else {
        Managed::parse(sent.as_ref())
            .filter(|managed| !managed.entries.is_empty())
            .or_else(tracked)
    };
    let managed = managed.unwrap_or_default();
    // Whoever turned tracking off keeps it off.
    if managed.entries.is_empty() && live.is_some() {
        return;
    }
    let tracking = Tracking {
        write,
        api_version: text(new, "apiVersion").to_owned(),
    };
    let empty;
    let old = if let Some(live) = live {
        live
    } else {
        empty = tracking.empty_object(text(new, "kind"));
        &empty
    };
    match tracking.update(old, new, managed, write.manager) {
        Ok(managed) => put_managed(new, managed.to_value()),
        Err(_) => put_managed(new, before.cloned().unwrap_or(Value::Null)),
    }
}

/// Applies `config`: returns the live object with what it states, minus what its manager no longer
/// states, with new `managedFields`. Without a live object a new one comes out.
///
/// The result may hold nulls and lack defaults: decode, default and encode it before it is stored,
/// and let [`keep_timestamps`] see whether anything changed at all.
pub fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Error> {
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|found| !found.is_null())
    {
        return Err(Error::Malformed(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let tracking = Tracking {
        write,
        api_version: text(config, "apiVersion").to_owned(),
    };
    if tracking.schema().is_err() || text(config, "kind").is_empty() {
        let kind = kind_name(config);
        return Err(Error::Malformed(format!("invalid object type: {kind}")));
    }
    let empty = tracking.empty_object(text(config, "kind"));
    let live = live.unwrap_or(&empty);
    let mut managed = Managed::parse(managed_of(live))
        .ok_or_else(|| Error::Internal("failed to decode managed fields".to_owned()))?;
    if managed.entries.is_empty() {
        managed = tracking
            .update(&empty, live, managed, BEFORE_FIRST_APPLY)
            .map_err(|error| {
                Error::Internal(format!(
                    "failed to create manager for existing fields: {error}"
                ))
            })?;
    }
    let outcome = match tracking.apply(live, config, managed.clone(), force) {
        Err(Failure::Conflicts(conflicts)) if write.manager == "kubectl" => {
            let left = match last_applied::agreeing_fields(&tracking, live) {
                Some(allowed) => conflicts.without(&allowed),
                None => conflicts,
            };
            if left.0.is_empty() {
                tracking.apply(live, config, managed, true)
            } else {
                Err(Failure::Conflicts(left))
            }
        }
        outcome => outcome,
    };
    let (object, managed) = outcome.map_err(|failure| match failure {
        Failure::Conflicts(conflicts) => conflicts.into(),
        Failure::Text(text) => Error::Internal(text),
    })?;
    let mut object = object.unwrap_or_else(|| live.clone());
    take_managed(&mut object);
    if write.manager == "kubectl" {
        last_applied::refresh(&mut object, config);
    }
    put_managed(&mut object, managed.to_value());
    Ok(object)
}

/// Gives a new object the `managedFields` of the live one if they differ by nothing but the times
/// of entries and all else is the same: a write that changes nothing leaves no trace. Returns
/// whether that was so.
pub fn keep_timestamps(live: &Value, new: &mut Value) -> bool {
    let timeless = |object: &Value| -> Option<Value> {
        let mut entries = managed_of(object)?.clone();
        for entry in entries
            .as_array_mut()?
            .iter_mut()
            .filter_map(Value::as_object_mut)
        {
            entry.remove("time");
        }
        Some(entries)
    };
    if timeless(live) != timeless(new) || !same_but_managed(live, new) {
        return false;
    }
    take_managed(new);
    if let Some(managed) = managed_of(live) {
        put_managed(new, managed.clone());
    }
    true
}

fn same_but_managed(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    let rest = |object: &Map<String, Value>, other: &Map<String, Value>| {
        object
            .iter()
            .filter(|(name, _)| *name != "metadata")
            .all(|(name, value)| {
                other
                    .get(name)
                    .is_some_and(|found| typed::equal(value, found))
            })
    };
    let metadata = |object: &Map<String, Value>, other: &Map<String, Value>| {
        let members = object.get("metadata").and_then(Value::as_object);
        let others = other.get("metadata").and_then(Value::as_object);
        members
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "managedFields")
            .all(|(name, value)| {
                others
                    .and_then(|others| others.get(name))
                    .is_some_and(|found| typed::equal(value, found))
            })
    };
    rest(one, other) && rest(other, one) && metadata(one, other) && metadata(other, one)
}

/// Why an apply fails.
enum Failure {
    Conflicts(Conflicts),
    Text(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A write in one version.
struct Tracking<'a> {
    write: &'a Write<'a>,
    api_version: String,
}

impl Tracking<'_> {
    fn schema(&self) -> Result<Schema, String> {
        let version = &self.api_version;
        self.write
            .versions
            .schema(version)
            .ok_or_else(|| format!("version {version} is not served"))
    }

    /// What an object is before anything is said about it: not nothing, since Go's structs stand
    /// in it even when empty.
    fn empty_object(&self, kind: &str) -> Value {
        let mut object = serde_json::json!({"apiVersion": self.api_version, "kind": kind});
        if let Ok(schema) = self.schema() {
            schema::encode(&schema, &mut object);
        }
        object
    }

    /// An object in another version; `None` when that is not served.
    fn convert<'o>(&self, object: &'o Value, api_version: &str) -> Option<Cow<'o, Value>> {
        if text(object, "apiVersion") == api_version {
            return Some(Cow::Borrowed(object));
        }
        self.write
            .versions
            .convert(object, api_version)
            .map(Cow::Owned)
    }

    fn owner(&self, manager: &str, operation: Operation) -> Owner {
        Owner {
            manager: if manager.is_empty() {
                "unknown"
            } else {
                manager
            }
            .to_owned(),
            operation,
            api_version: self.api_version.clone(),
            subresource: self.write.subresource.to_owned(),
        }
    }

    fn update(
        &self,
        old: &Value,
        new: &Value,
        managed: Managed,
        manager: &str,
    ) -> Result<Managed, String> {
        let owner = self.owner(manager, Operation::Update);
        let mut managed = owners::reconciled(self, old, managed);
        let changes = match owners::hand_over(self, old, new, &mut managed, None, true) {
            Ok(changes) => changes,
            Err(Failure::Text(text)) => return Err(text),
            Err(Failure::Conflicts(_)) => return Err("conflicts despite force".to_owned()),
        };
        let mut taken = changes.modified.joined(changes.added);
        taken.subtract_recursively(self.write.reset_fields);
        owners::drop_identity(&mut taken);
        if !taken.is_empty() {
            let time = Some(self.write.now.to_owned());
            match managed.position(&owner) {
                Some(at) => {
                    let entry = &mut managed.entries[at];
                    entry.fields = std::mem::take(&mut entry.fields).joined(taken);
                    entry.time = time;
                }
                None => managed.entries.push(Entry {
                    owner,
                    time,
                    fields: taken,
                }),
            }
        }
        owners::cap(&mut managed);
        Ok(managed)
    }

    /// The new object, or nothing if the live one is already as wanted; and the new owners.
    fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: Managed,
        force: bool,
    ) -> Result<(Option<Value>, Managed), Failure> {
        let schema = self.schema()?;
        let kind = Type::of(&schema);
        typed::validate(kind, config).map_err(|error| {
            format!(
                "failed to create typed patch object ({}): {error}",
                name_of(config)
            )
        })?;
        let live = self
            .convert(live, &self.api_version)
            .ok_or_else(|| "cannot convert the live object".to_owned())?;
        let owner = self.owner(self.write.manager, Operation::Apply);
        let mut managed = owners::reconciled(self, &live, managed);
        let merged = typed::merge(kind, &live, config)
            .map_err(|error| format!("failed to merge config: {error}"))?;

        let mut stated = typed::field_set(kind, config);
        stated.subtract_recursively(self.write.reset_fields);
        let last = managed
            .get(&owner)
            .map(|entry| (entry.owner.api_version.clone(), entry.fields.clone()));
        let time = managed.get(&owner).and_then(|entry| entry.time.clone());
        managed.entries.retain(|entry| entry.owner != owner);
        managed.entries.push(Entry {
            owner: owner.clone(),
            time,
            fields: stated,
        });
        let pruned = match last.filter(|(_, fields)| !fields.is_empty()) {
            Some((version, fields)) => owners::prune(self, merged, &managed, &version, &fields),
            None => merged,
        };
        owners::hand_over(self, &live, &pruned, &mut managed, Some(&owner), force)?;
        let is_changed = !typed::equal(&live, &pruned);
        if let Some(at) = managed.position(&owner) {
            let entry = &mut managed.entries[at];
            owners::drop_identity(&mut entry.fields);
            if is_changed {
                entry.time = Some(self.write.now.to_owned());
            }
            if entry.fields.is_empty() {
                managed.entries.remove(at);
            }
        }
        Ok((is_changed.then_some(pruned), managed))
    }
}

/// An object as messages name it: `namespace/name; group/version, Kind=Kind`.
fn name_of(object: &Value) -> String {
    let metadata = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!(
        "{}/{}; {}",
        metadata("namespace"),
        metadata("name"),
        kind_name(object)
    )
}

/// A kind as messages name it: `group/version, Kind=Kind`.
fn kind_name(object: &Value) -> String {
    let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    if kind.is_empty() {
        return "/, Kind=".to_owned();
    }
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={kind}")
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn managed_of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn take_managed(object: &mut Value) -> Option<Value> {
    object
        .get_mut("metadata")?
        .as_object_mut()?
        .remove("managedFields")
}

fn put_managed(object: &mut Value, managed: Value) {
    let is_empty = managed.as_array().is_none_or(Vec::is_empty);
    let Some(object) = object.as_object_mut().filter(|_| !is_empty) else {
        return;
    };
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("managedFields".to_owned(), managed);
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
