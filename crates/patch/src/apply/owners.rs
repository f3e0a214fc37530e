//! Moving ownership from one manager to another.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::{Failure, Tracking};
use crate::conflict::Conflicts;
use crate::field_set::FieldSet;
use crate::managed::{Entry, Managed, Operation, Owner};
use crate::typed::{self, Comparison, Type};

/// More entries of updates than this are folded into one.
const UPDATERS_MAX: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// What identifies an object or is set by the server is nobody's.
static IDENTITY: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
});

pub(super) fn drop_identity(fields: &mut FieldSet) {
    fields.subtract(&IDENTITY);
}

/// The entries of versions still served, adapted to their schemas.
pub(super) fn reconciled(tracking: &Tracking<'_>, live: &Value, managed: Managed) -> Managed {
    let entries = managed.entries.into_iter().filter_map(|mut entry| {
        let version = entry.owner.api_version.as_str();
        tracking.convert(live, version)?;
        let schema = tracking.write.versions.schema(version)?;
        entry.fields = typed::reconcile(Type::of(&schema), &entry.fields);
        Some(entry)
    });
    Managed {
        entries: entries.collect(),
    }
}

/// Takes from all owners but `writer` what a write changes or removes. Unless forced, a change of
/// what others own is a conflict.
pub(super) fn hand_over(
    tracking: &Tracking<'_>,
    old: &Value,
    new: &Value,
    managed: &mut Managed,
    writer: Option<&Owner>,
    force: bool,
) -> Result<Comparison, Failure> {
    let own = compare_in(tracking, old, new, &tracking.api_version)?
        .ok_or_else(|| format!("version {} is not served", tracking.api_version))?;
    let mut others: BTreeMap<String, Comparison> = BTreeMap::new();
    let (mut conflicts, mut kept) = (Conflicts::default(), Vec::new());
    for mut entry in std::mem::take(&mut managed.entries) {
        if writer == Some(&entry.owner) {
            kept.push(entry);
            continue;
        }
        let version = &entry.owner.api_version;
        let is_own = *version == tracking.api_version;
        if !is_own && !others.contains_key(version) {
            let Some(changes) = compare_in(tracking, old, new, version)? else {
                continue;
            };
            others.insert(version.clone(), changes);
        }
        let changes = if is_own { &own } else { &others[version] };
        let at_stake = entry.fields.intersection(&changes.modified);
        let at_stake = at_stake.joined(entry.fields.intersection(&changes.added));
        if !at_stake.is_empty() {
            entry.fields.subtract(&at_stake);
            conflicts.0.push((entry.owner.clone(), at_stake));
        }
        entry.fields.subtract(&changes.removed);
        kept.push(entry);
    }
    if !force && !conflicts.0.is_empty() {
        return Err(Failure::Conflicts(conflicts));
    }
    kept.retain(|entry| !entry.fields.is_empty());
    managed.entries = kept;
    Ok(own)
}

/// The changes as seen in a version; `None` when it is not served.
fn compare_in(
    tracking: &Tracking<'_>,
    old: &Value,
    new: &Value,
    version: &str,
) -> Result<Option<Comparison>, String> {
    let Some(schema) = tracking.write.versions.schema(version) else {
        return Ok(None);
    };
    let (Some(old), Some(new)) = (
        tracking.convert(old, version),
        tracking.convert(new, version),
    ) else {
        return Ok(None);
    };
    let changes = typed::compare(Type::of(&schema), &old, &new)
        .map_err(|error| format!("failed to compare objects: {error}"))?;
    Ok(Some(changes.exclude(tracking.write.reset_fields)))
}

/// Removes from the merged object what its applier stated last time and nobody owns now.
pub(super) fn prune(
    tracking: &Tracking<'_>,
    merged: Value,
    managed: &Managed,
    version: &str,
    last: &FieldSet,
) -> Value {
    let pruned = prune_in(tracking, &merged, managed, version, last);
    let back = |object: &Value| {
        tracking
            .convert(object, &tracking.api_version)
            .map(Cow::into_owned)
    };
    match pruned.as_ref().and_then(back) {
        Some(pruned) if pruned.is_object() => pruned,
        _ => merged,
    }
}

fn prune_in(
    tracking: &Tracking<'_>,
    merged: &Value,
    managed: &Managed,
    version: &str,
    last: &FieldSet,
) -> Option<Value> {
    let schema = tracking.write.versions.schema(version)?;
    let kind = Type::of(&schema);
    let merged_then = tracking.convert(merged, version)?;
    let last = typed::ensure_named(kind, last);
    let pruned = typed::remove(kind, &merged_then, &last);
    let pruned = add_back_owned(tracking, &merged_then, pruned, managed, version);

    // Only what was stated last time may go.
    let pruned = tracking.convert(&pruned, version)?;
    let pruned_fields = typed::ensure_named(kind, &typed::field_set(kind, &pruned));
    let merged_fields = typed::ensure_named(kind, &typed::field_set(kind, &merged_then));
    let gone = merged_fields.difference(&pruned_fields).intersection(&last);
    Some(typed::remove(kind, &merged_then, &gone))
}

/// Puts back what is owned by anybody, the applier included, version by version.
fn add_back_owned(
    tracking: &Tracking<'_>,
    merged: &Value,
    mut pruned: Value,
    managed: &Managed,
    first: &str,
) -> Value {
    let mut owned: BTreeMap<&str, FieldSet> = BTreeMap::new();
    for Entry { owner, fields, .. } in &managed.entries {
        let all = owned.entry(owner.api_version.as_str()).or_default();
        *all = all.union(fields);
    }
    let in_first = owned.remove_entry(first);
    for (version, fields) in in_first.into_iter().chain(owned) {
        let Some(schema) = tracking.write.versions.schema(version) else {
            continue;
        };
        let kind = Type::of(&schema);
        let (Some(merged), Some(before)) = (
            tracking.convert(merged, version),
            tracking.convert(&pruned, version),
        ) else {
            continue;
        };
        let named = |set: &FieldSet| typed::ensure_named(kind, set);
        let merged_fields = named(&typed::field_set(kind, &merged));
        let pruned_fields = named(&typed::field_set(kind, &before));
        let gone = merged_fields.difference(&pruned_fields.union(&named(&fields)));
        let next = typed::remove(kind, &merged, &gone);
        pruned = next;
    }
    pruned
}

/// Folds the oldest updaters of a version into one entry when there are too many.
pub(super) fn cap(managed: &mut Managed) {
    let mut updaters: Vec<Owner> = managed
        .entries
        .iter()
        .filter(|entry| entry.owner.operation == Operation::Update)
        .map(|entry| entry.owner.clone())
        .collect();
    if updaters.len() <= UPDATERS_MAX {
        return;
    }
    let key = |owner: &Owner| {
        let time = managed
            .get(owner)
            .and_then(|entry| entry.time.clone())
            .unwrap_or_default();
        (
            time,
            owner.manager.clone(),
            owner.api_version.clone(),
            owner.subresource.clone(),
        )
    };
    updaters.sort_by_cached_key(key);
    let mut left = updaters.len();
    let mut first_of_version: BTreeMap<String, Owner> = BTreeMap::new();
    for owner in updaters {
        if left <= UPDATERS_MAX {
            return;
        }
        let version = owner.api_version.clone();
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, owner);
            continue;
        };
        let bucket = Owner {
            manager: ANCIENT_CHANGES.to_owned(),
            operation: Operation::Update,
            api_version: version,
            subresource: String::new(),
        };
        let has_bucket = managed.position(&bucket).is_some();
        if let Some(at) = managed.position(first).filter(|_| !has_bucket) {
            managed.entries[at].owner = bucket.clone();
        }
        let Some(from) = managed.position(&owner).filter(|_| owner != bucket) else {
            continue;
        };
        let folded = managed.entries.remove(from);
        if let Some(at) = managed.position(&bucket) {
            managed.entries[at].fields = managed.entries[at].fields.union(&folded.fields);
            managed.entries[at].time = folded.time;
        }
        left -= 1;
    }
}
