//! The objects of resources whose life is not the usual one: what may be taken over, what is left as it is, what is
//! let go of instead of deleted.
//!
//! An object that is let go of keeps everything but the marks of a child, our field manager included, so whoever takes it
//! over next finds it as it was.

use controller::{Error, Object, Resource, Subresource};
use serde_json::{Map, Value, json};

use super::Instance;
use super::apply::without_managed_fields;
use crate::build::Node;
use crate::keys;
use crate::lifecycle::Adoption;

/// Attempts to patch an object that others write at the same time.
const ATTEMPTS: usize = 5;

/// Why an object that somebody else made is left alone.
pub(super) const EXISTS: &str =
    "exists already, and adoptPolicy is createOnly: it is not taken over";

/// Whether an object that is, or is not, there may be ours; otherwise why not.
pub(super) fn admits(
    adoption: Adoption,
    live: Option<&Object>,
    applyset: &str,
) -> Result<(), &'static str> {
    let is_ours = |live: &Object| live.label(keys::PART_OF) == Some(applyset);
    match (adoption, live) {
        (Adoption::AdoptOnly, None) => {
            Err("does not exist, and adoptPolicy is adoptOnly: it is not created")
        }
        (Adoption::CreateOnly, Some(live)) if !is_ours(live) => Err(EXISTS),
        _ => Ok(()),
    }
}

/// Whether a label or annotation is one of the marks of a child. An object may be an instance itself, with marks of its
/// own that begin the same way.
fn is_mark(key: &str) -> bool {
    keys::CHILD_MARKS.contains(&key)
}

/// Gives an object that is to stay as it is the marks of a child, and nothing else; returns it.
pub(super) async fn mark(
    instance: &Instance<'_>,
    node: &Node,
    desired: &Value,
    live: &Object,
) -> Result<Object, Error> {
    let Some(metadata) = marks_patch(live, &desired["metadata"]) else {
        return Ok(live.clone());
    };
    let written = patch(instance, &node.resource, live, metadata).await?;
    Ok(without_managed_fields(written))
}

/// Lets go of an object; fine if it is gone or not ours any more.
pub(super) async fn release(
    instance: &Instance<'_>,
    resource: &Resource,
    member: &Object,
) -> Result<(), Error> {
    let api = &instance.context.api;
    for attempt in 1.. {
        let Some(live) = api.get_metadata_opt(resource, &member.key()).await? else {
            return Ok(());
        };
        let is_ours = live.label(keys::PART_OF) == Some(&instance.applyset);
        if live.uid() != member.uid() || !is_ours {
            return Ok(());
        }
        let Some(metadata) = marks_patch(&live, &Value::Null) else {
            return Ok(());
        };
        match patch(instance, resource, &live, metadata).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => {}
            result => return result.map(drop),
        }
    }
    Ok(())
}

/// What makes the marks of `live` those of `wanted`; `None` if they are.
fn marks_patch(live: &Object, wanted: &Value) -> Option<Value> {
    let mut metadata = Map::new();
    for field in ["labels", "annotations"] {
        let current = &live.value()["metadata"][field];
        let marks = |map: &Value| -> Map<String, Value> {
            let entries = map.as_object().into_iter().flatten();
            entries
                .filter(|(key, _)| is_mark(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let (current, wanted) = (marks(current), marks(&wanted[field]));
        let removed = current.keys().filter(|key| !wanted.contains_key(*key));
        let mut changes: Map<String, Value> =
            removed.map(|key| (key.clone(), Value::Null)).collect();
        let set = wanted.into_iter();
        changes.extend(set.filter(|(key, value)| current.get(key) != Some(value)));
        if !changes.is_empty() {
            metadata.insert(field.to_owned(), Value::Object(changes));
        }
    }
    (!metadata.is_empty()).then_some(Value::Object(metadata))
}

/// Patches exactly this version of an object.
async fn patch(
    instance: &Instance<'_>,
    resource: &Resource,
    live: &Object,
    mut metadata: Value,
) -> Result<Object, Error> {
    metadata["resourceVersion"] = live.resource_version().into();
    let api = &instance.context.api;
    api.merge_patch(
        resource,
        &live.key(),
        Subresource::None,
        &json!({"metadata": metadata}),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_are_changed() {
        let live = Object::new(json!({"metadata": {
            "labels": {"app": "x", "kro.run/node-id": "old", "kro.run/owned": "true", keys::PART_OF: "set"},
            "annotations": {"a": "b", keys::APPLY_ORDER: "2", keys::DELETION_POLICY: "Orphaned"},
        }}));
        assert_eq!(
            marks_patch(&live, &Value::Null),
            Some(json!({
                "labels": {"kro.run/node-id": null, "kro.run/owned": null, keys::PART_OF: null},
                "annotations": {keys::APPLY_ORDER: null, keys::DELETION_POLICY: null},
            }))
        );
        let wanted = json!({
            "labels": {"app": "y", "kro.run/node-id": "new", "kro.run/owned": "true", keys::PART_OF: "set"},
            "annotations": {keys::APPLY_ORDER: "2"},
        });
        assert_eq!(
            marks_patch(&live, &wanted),
            Some(json!({
                "labels": {"kro.run/node-id": "new"}, "annotations": {keys::DELETION_POLICY: null},
            }))
        );
        assert_eq!(marks_patch(&live, &live.value()["metadata"]), None);
    }

    #[test]
    fn what_exists_or_not_is_admitted_by_policy() {
        let object =
            |part_of: &str| Object::new(json!({"metadata": {"labels": {keys::PART_OF: part_of}}}));
        let (ours, bare) = (object("set"), Object::new(json!({})));
        let check = |adoption, live: Option<&Object>, expect: bool| {
            assert_eq!(
                admits(adoption, live, "set").is_ok(),
                expect,
                "{adoption:?} {live:?}"
            );
        };
        for (live, any, adopt, create) in [
            (None, true, false, true),
            (Some(&bare), true, true, false),
            (Some(&ours), true, true, true),
        ] {
            check(Adoption::AdoptOrCreate, live, any);
            check(Adoption::AdoptOnly, live, adopt);
            check(Adoption::CreateOnly, live, create);
        }
    }
}
