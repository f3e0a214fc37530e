//! What was last applied, so that nothing is applied twice for nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use controller::{Object, ObjectKey, Resource};
use serde_json::Value;

use super::children;
use super::contributions::Place;
use super::give::Given;
use super::patience::Patience;
use crate::external_fields::ExternalField;

/// What is remembered of one object.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub uid: String,
    /// The resource it was made from.
    pub node: String,
    /// Hash of what it should be.
    pub desired: u64,
    /// Hash of what it was right after it was applied, without what others report in it.
    pub live: u64,
    /// Its resource version right after it was applied.
    pub version: String,
    /// Whether it stays when it is not asked for any more.
    pub is_retained: bool,
    /// The fields that somebody else has taken over.
    pub released: Vec<ExternalField>,
}

impl Applied {
    /// `released` are the fields that were left out.
    pub fn new(node: &str, desired: &Value, live: &Object, released: &[ExternalField]) -> Self {
        Self {
            uid: live.uid().to_owned(),
            node: node.to_owned(),
            desired: hash_of(desired),
            live: released_hash(live, released),
            version: live.resource_version().to_owned(),
            is_retained: children::is_retained(live),
            released: released.to_vec(),
        }
    }

    /// Whether applying `desired` to `live` would change nothing.
    pub fn still_holds(&self, desired: &Value, live: &Object) -> bool {
        self.uid == live.uid()
            && self.desired == hash_of(desired)
            && self.live == released_hash(live, &self.released)
    }

    /// Whether this is what was last applied, whatever has become of it since.
    pub fn is_of(&self, desired: &Value) -> bool {
        self.desired == hash_of(desired)
    }

    /// Whether `live` is older than what we have seen ourselves.
    pub fn is_newer_than(&self, live: &Object) -> bool {
        let number = |version: &str| version.parse::<u64>().ok();
        match (number(&self.version), number(live.resource_version())) {
            (Some(ours), Some(theirs)) => ours > theirs,
            _ => false,
        }
    }
}

/// What is remembered of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub applied: HashMap<(Resource, ObjectKey), Applied>,
    /// The troubles with objects.
    pub patience: HashMap<(Resource, ObjectKey), Patience>,
    /// What was given to objects that exist without us.
    pub given: HashMap<Place, Given>,
    /// Whether what an earlier process gave was looked for.
    pub has_swept: bool,
}

/// Tells one attempt to apply an object from another.
pub(super) fn attempt(desired: &Value, live: Option<&Object>) -> (u64, u64) {
    (hash_of(desired), live.map_or(0, live_hash))
}

fn hash_of(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_value(value, &mut hasher);
    hasher.finish()
}

/// As [`live_hash`], without the fields that are somebody else's.
fn released_hash(live: &Object, released: &[ExternalField]) -> u64 {
    if released.is_empty() {
        return live_hash(live);
    }
    let mut ours = live.value().clone();
    for field in released {
        field.remove_from(&mut ours);
    }
    live_hash(&Object::new(ours))
}

/// Everything of an object but its status and what changes with every write.
fn live_hash(live: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, value) in live.value().as_object().into_iter().flatten() {
        match key.as_str() {
            "status" => {}
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !["managedFields", "resourceVersion", "generation"].contains(&key.as_str()) {
                        key.hash(&mut hasher);
                        hash_value(value, &mut hasher);
                    }
                }
            }
            _ => {
                key.hash(&mut hasher);
                hash_value(value, &mut hasher);
            }
        }
    }
    hasher.finish()
}

fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Number(number) => {
            2_u8.hash(hasher);
            number.to_string().hash(hasher);
        }
        Value::String(text) => (3_u8, text).hash(hasher),
        Value::Array(items) => {
            (4_u8, items.len()).hash(hasher);
            for item in items {
                hash_value(item, hasher);
            }
        }
        Value::Object(fields) => {
            (5_u8, fields.len()).hash(hasher);
            for (key, value) in fields {
                key.hash(hasher);
                hash_value(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_and_versions_do_not_count() {
        let live = |replicas: i64, version: &str, ready: i64| {
            Object::new(
                json!({"metadata": {"uid": "u", "resourceVersion": version, "generation": ready},
                "spec": {"replicas": replicas}, "status": {"ready": ready}}),
            )
        };
        let desired = json!({"spec": {"replicas": 1}});
        let applied = Applied::new("it", &desired, &live(1, "5", 0), &[]);
        assert!(applied.still_holds(&desired, &live(1, "7", 1)));
        assert!(!applied.still_holds(&desired, &live(2, "7", 1)));
        assert!(!applied.still_holds(&json!({"spec": {"replicas": 2}}), &live(1, "7", 1)));
        assert!(applied.is_newer_than(&live(1, "4", 0)));
        assert!(!applied.is_newer_than(&live(1, "5", 0)));
    }
}
