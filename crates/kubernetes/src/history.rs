//! The revisions of the templates of stateful sets and daemon sets, kept as ControllerRevisions.
//!
//! A revision holds a patch that puts its template back; `kubectl rollout undo` and `history` read it. Two templates are of one
//! revision when their patches are equal, whatever their numbers: a rollback gives an old revision a new number.

use std::sync::Arc;

use controller::{DeleteOptions, Error, Informer, Object, Resource, Subresource, owner};
use model::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::claim::{self, Claim};
use crate::cluster::Cluster;
use crate::resources;
use crate::settled::Settled;

/// The label of a Pod that names its revision.
pub const HASH: &str = "controller-revision-hash";
/// The longest part of an owner's name in a revision's name.
const PREFIX_MAX: usize = 223;

/// The patch that puts an owner's template back.
pub fn patch_of(owner: &Object) -> Value {
    let mut template = owner
        .get(&["spec", "template"])
        .cloned()
        .unwrap_or_else(|| json!({}));
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template a revision holds.
pub fn template_of(revision: &Object) -> Value {
    let mut template = revision
        .get(&["data", "spec", "template"])
        .cloned()
        .unwrap_or_else(|| json!({}));
    if let Some(members) = template.as_object_mut() {
        members.remove("$patch");
    }
    template
}

/// Whether a revision holds this patch. Members that are null count for nothing: older servers wrote some.
pub fn holds(revision: &Object, patch: &Value) -> bool {
    let data = revision.get(&["data"]);
    data.is_some_and(|data| data == patch || without_nulls(data) == without_nulls(patch))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                members
                    .map(|(k, v)| (k.clone(), without_nulls(v)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// The number of a revision.
pub fn number_of(revision: &Object) -> i64 {
    object::number(revision.value(), &["revision"]).unwrap_or(0)
}

/// Sorts revisions by number; those of one number by age.
pub fn sort(revisions: &mut [Arc<Object>]) {
    revisions.sort_by(|a, b| {
        let key = |revision: &Object| {
            let created = revision.creation_timestamp().to_owned();
            (number_of(revision), created, revision.name().to_owned())
        };
        key(a).cmp(&key(b))
    });
}

/// The name of a revision: its owner's and a hash.
pub fn name(owner: &str, hash: &str) -> String {
    let prefix = owner.get(..PREFIX_MAX).unwrap_or(owner);
    format!("{prefix}-{hash}")
}

/// The hash of a patch and the number of collisions so far, as upstream's: FNV-1 of the JSON that Go writes, its decimal
/// digits in letters that make no words.
pub fn hash_of(patch: &Value, collisions: i64) -> String {
    let text = format!("{}{collisions}", protobuf::raw_json(patch));
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    });
    in_letters(hash)
}

/// A short name for a template and the number of collisions so far: FNV-1a over its canonical JSON.
///
/// Upstream hashes a dump of Go structs, so the letters differ; only that they are stable matters.
pub fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    mix(template.to_string().as_bytes());
    if let Some(collisions) = collisions {
        mix(&collisions.to_le_bytes());
    }
    in_letters(hash)
}

/// The decimal digits of a hash in letters and digits that make no words.
fn in_letters(hash: u32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string()
        .bytes()
        .map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()]))
        .collect()
}

/// A new revision of an owner. Its annotations are the owner's.
pub fn revision(
    owner: &Object,
    name: &str,
    labels: &[(&str, &str)],
    patch: &Value,
    number: i64,
) -> Value {
    let template = owner.get(&["spec", "template", "metadata", "labels"]);
    let mut all: Map<String, Value> = template
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (key, value) in labels {
        all.insert((*key).to_owned(), json!(value));
    }
    let mut metadata = json!({
        "name": name,
        "namespace": owner.namespace(),
        "labels": all,
        "ownerReferences": [owner::reference(owner, true)],
    });
    if let Some(annotations) = owner.get(&["metadata", "annotations"]) {
        metadata["annotations"] = annotations.clone();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": patch,
        "revision": number,
    })
}

/// The revisions of the owners of one kind.
pub struct History {
    cluster: Cluster,
    resource: Resource,
    /// All revisions there are.
    pub revisions: Informer,
    settled: Settled,
}

impl History {
    /// For the owners of a resource.
    pub fn new(cluster: &Cluster, resource: Resource) -> Self {
        let revisions = cluster.informer(&resources::controller_revisions());
        claim::add_indexes(&revisions);
        Self {
            cluster: cluster.clone(),
            resource,
            revisions,
            settled: Settled::default(),
        }
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &controller::ObjectKey) {
        self.settled.forget(owner);
    }

    /// The revisions of an owner, sorted; none while the cache does not show the latest yet.
    pub async fn of(
        &self,
        owner: &Object,
        selector: &LabelSelector,
    ) -> Result<Option<Vec<Arc<Object>>>, Error> {
        let api = self.cluster.api();
        if !self
            .settled
            .is(api, owner, selector, &self.revisions)
            .await?
        {
            return Ok(None);
        }
        let claim = Claim {
            cluster: &self.cluster,
            owner,
            resource: &self.resource,
            selector,
        };
        let mut revisions = claim.of(&self.revisions, |_| true).await?;
        sort(&mut revisions);
        Ok(Some(revisions))
    }

    /// Makes a revision. `None` where its name is taken by one that holds another patch.
    pub async fn create(&self, owner: &Object, revision: &Value) -> Result<Option<Object>, Error> {
        let api = self.cluster.api();
        let resource = resources::controller_revisions();
        let created = api.create(&resource, revision).await;
        self.settled.note(&owner.key(), &created);
        match created {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is_already_exists() => {
                let key = Object::new(revision.clone()).key();
                let present = api.get(&resource, &key).await?;
                Ok(holds(&present, &revision["data"]).then_some(present))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a revision another number.
    pub async fn renumber(
        &self,
        owner: &Object,
        revision: &Object,
        number: i64,
    ) -> Result<Object, Error> {
        let patch = json!({
            "metadata": {"resourceVersion": revision.resource_version()},
            "revision": number,
        });
        self.patch(owner, revision, &patch).await
    }

    /// Patches a revision.
    pub async fn patch(
        &self,
        owner: &Object,
        revision: &Object,
        patch: &Value,
    ) -> Result<Object, Error> {
        let (api, key) = (self.cluster.api(), revision.key());
        let resource = resources::controller_revisions();
        let patched = api
            .merge_patch(&resource, &key, Subresource::None, patch)
            .await;
        self.settled.note(&owner.key(), &patched);
        patched
    }

    /// Deletes a revision.
    pub async fn delete(&self, revision: &Object) -> Result<(), Error> {
        let options = DeleteOptions::of_uid(revision.uid());
        let api = self.cluster.api();
        let resource = resources::controller_revisions();
        api.delete(&resource, &revision.key(), &options)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_told_apart_by_their_patches() {
        let owner = Object::new(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "annotations": {"a": "b"}},
            "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"x": 1}}},
        }));
        let patch = patch_of(&owner);
        let made = revision(&owner, "web-x", &[("l", "v")], &patch, 3);
        assert_eq!(made["metadata"]["labels"], json!({"app": "web", "l": "v"}));
        assert_eq!(made["metadata"]["annotations"], json!({"a": "b"}));
        let made = Object::new(made);
        assert!(holds(&made, &patch));
        assert_eq!(
            &template_of(&made),
            owner.get(&["spec", "template"]).expect("there")
        );
        let mut older = patch.clone();
        older["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        assert!(holds(&made, &older));
        older["spec"]["template"]["spec"]["x"] = json!(2);
        assert!(!holds(&made, &older));
    }

    #[test]
    fn hashes_are_stable_and_differ_by_collision() {
        let patch = json!({"a": 1});
        assert_eq!(hash_of(&patch, 0), hash_of(&patch, 0));
        // What upstream names this template's revision.
        let container = json!({"image": "p:1", "imagePullPolicy": "IfNotPresent", "name": "c", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
        let set = Object::new(
            json!({"spec": {"template": {"metadata": {"labels": {"app": "p"}}, "spec": {
            "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30}}}}),
        );
        assert_eq!(hash_of(&patch_of(&set), 0), "579dd47c57");
        assert_ne!(hash_of(&patch, 0), hash_of(&patch, 1));
        assert_eq!(name(&"x".repeat(300), "h").len(), PREFIX_MAX + 2);
    }
}
