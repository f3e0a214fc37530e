//! The replica sets of a deployment: which is the new one, and what a new one looks like. Pure.

use std::sync::Arc;

use controller::{Object, owner};
use model::object;
use serde_json::{Map, Value, json};

use super::rollout;
use crate::history;

/// The annotation that numbers the revisions of a deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation that keeps the earlier revisions of a replica set that is used again.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The annotation by which clients of old asked for a rollback.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// The longest history of revisions, in characters.
const REVISION_HISTORY_MAX: usize = 2_000;
/// The annotations by which a rollout that is scaled in the middle finds its proportions.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The label that keeps the Pods of one template apart from those of another.
pub const HASH: &str = "pod-template-hash";

/// Annotations of a deployment that its replica sets do not get, as upstream.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    ROLLBACK_TO,
];

/// The replica sets of a deployment.
#[derive(Debug, Default)]
pub struct Sets {
    /// The one of the current template.
    pub new: Option<Arc<Object>>,
    /// All others, oldest first.
    pub old: Vec<Arc<Object>>,
}

impl Sets {
    /// Sorts the sets a deployment owns. Where several have its template, the oldest is the new one,
    /// as upstream has it.
    pub fn of(deployment: &Object, mut owned: Vec<Arc<Object>>) -> Self {
        owned.sort_by(|a, b| {
            (a.creation_timestamp(), a.name()).cmp(&(b.creation_timestamp(), b.name()))
        });
        let mut sets = Self::default();
        for set in owned {
            if sets.new.is_none() && same_template(deployment, &set) {
                sets.new = Some(set);
            } else {
                sets.old.push(set);
            }
        }
        sets
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.old.iter().chain(&self.new)
    }
}

/// The revision of a replica set, 0 where it has none.
pub fn revision_of(set: &Object) -> i64 {
    set.annotation(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The revision before the latest, 0 where there is none.
pub fn last_revision(sets: &Sets) -> i64 {
    let mut revisions: Vec<i64> = sets.all().map(|set| revision_of(set)).collect();
    revisions.sort_unstable();
    revisions.iter().rev().nth(1).copied().unwrap_or(0)
}

/// What of a deployment's annotations the new set lacks, with the revision that follows those of the old sets. A revision it
/// had before goes to its history.
pub fn annotations_due(deployment: &Object, sets: &Sets, new: &Object) -> Map<String, Value> {
    let mut due: Map<String, Value> = copied_annotations(deployment)
        .into_iter()
        .filter(|(key, value)| new.annotation(key) != value.as_str())
        .collect();
    let highest = sets.old.iter().map(|set| revision_of(set)).max();
    let next = highest.unwrap_or(0) + 1;
    let own = new.annotation(REVISION).unwrap_or_default();
    let number: Option<i64> = if own.is_empty() {
        Some(0)
    } else {
        own.parse().ok()
    };
    if number.is_some_and(|own| own < next) {
        due.insert(REVISION.to_owned(), json!(next.to_string()));
        if !own.is_empty() {
            let history = new.annotation(REVISION_HISTORY).unwrap_or_default();
            due.insert(
                REVISION_HISTORY.to_owned(),
                json!(longer_history(history, own)),
            );
        }
    }
    due
}

/// A history with one more revision; the oldest go where it would be too long.
fn longer_history(history: &str, revision: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    revisions.push(revision);
    let mut text = revisions.join(",");
    while text.len() > REVISION_HISTORY_MAX {
        revisions.remove(0);
        text = revisions.join(",");
    }
    text
}

/// The annotations a deployment has after a rollback to a set: its own of bookkeeping, all others of the set.
pub fn annotations_of(deployment: &Object, set: &Object) -> Map<String, Value> {
    let kept = deployment
        .annotations()
        .filter(|(key, _)| NOT_COPIED.contains(key));
    let taken = set
        .annotations()
        .filter(|(key, _)| !NOT_COPIED.contains(key));
    kept.chain(taken)
        .filter(|(key, _)| *key != ROLLBACK_TO)
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

/// Whether a replica set is of a deployment's template: the same but for the hash label.
pub fn same_template(deployment: &Object, set: &Object) -> bool {
    template_without_hash(deployment) == template_without_hash(set)
}

/// The template of a deployment or of a set, without the hash label.
pub fn template_without_hash(object: &Object) -> Value {
    let mut template = object
        .get(&["spec", "template"])
        .cloned()
        .unwrap_or_default();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH);
    }
    template
}

/// The replica set of a deployment's current template.
pub fn new_set(deployment: &Object, sets: &Sets) -> Value {
    let template = deployment
        .get(&["spec", "template"])
        .cloned()
        .unwrap_or_default();
    let collisions = object::number(deployment.value(), &["status", "collisionCount"]);
    let hash = history::template_hash(&template, collisions);
    let with_hash = |value: Option<&Value>| {
        let mut labels = value
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        labels.insert(HASH.to_owned(), json!(hash));
        Value::Object(labels)
    };
    let mut template = template;
    let labels = with_hash(template.pointer("/metadata/labels"));
    object::child_mut(&mut template, "metadata").insert("labels".to_owned(), labels.clone());
    let mut selector = deployment
        .get(&["spec", "selector"])
        .cloned()
        .unwrap_or_default();
    let matched = with_hash(selector.get("matchLabels"));
    if let Some(members) = selector.as_object_mut() {
        members.insert("matchLabels".to_owned(), matched);
    } else {
        selector = json!({"matchLabels": matched});
    }
    let highest = sets
        .old
        .iter()
        .map(|set| revision_of(set))
        .max()
        .unwrap_or(0);
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.to_owned(), json!((highest + 1).to_string()));
    annotations.extend(rollout::size_annotations(deployment));
    let mut spec = json!({
        "replicas": rollout::new_replicas(deployment, sets),
        "selector": selector,
        "template": template,
    });
    if let Some(seconds) = deployment.get(&["spec", "minReadySeconds"]) {
        spec["minReadySeconds"] = seconds.clone();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": set_name(deployment.name(), &hash),
            "namespace": deployment.namespace(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner::reference(deployment, true)],
        },
        "spec": spec,
    })
}

/// A deployment's name and a hash, within the limit of names.
fn set_name(deployment: &str, hash: &str) -> String {
    const NAME_MAX: usize = 253;
    let most = NAME_MAX
        .saturating_sub(hash.len() + 1)
        .min(deployment.len());
    // Names are ASCII; whoever gets around that keeps the whole name and is told it is too long.
    let name = deployment.get(..most).unwrap_or(deployment);
    format!("{name}-{hash}")
}

fn copied_annotations(deployment: &Object) -> Map<String, Value> {
    deployment
        .annotations()
        .filter(|(key, _)| !NOT_COPIED.contains(key))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Object {
        Object::new(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n", "uid": "d", "annotations": {"a": "b", REVISION: "7"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
            },
        }))
    }

    #[test]
    fn a_set_used_again_gets_a_new_revision_and_keeps_the_old_ones() {
        let set = |revision: &str, history: &str| {
            Object::new(json!({"metadata": {"name": "s", "annotations": {
                REVISION: revision, REVISION_HISTORY: history, "a": "b"}}}))
        };
        let sets = Sets {
            new: None,
            old: vec![Arc::new(set("3", ""))],
        };
        let due = annotations_due(&deployment(), &sets, &set("2", "1"));
        assert_eq!(
            Value::Object(due),
            json!({REVISION: "4", REVISION_HISTORY: "1,2"})
        );
        let due = annotations_due(&deployment(), &sets, &set("5", ""));
        assert!(due.is_empty(), "{due:?}");
        let long = "12345,".repeat(400);
        assert!(longer_history(&long, "7").len() <= REVISION_HISTORY_MAX);
        assert!(longer_history(&long, "7").ends_with(",7"));
    }

    #[test]
    fn a_new_set_carries_the_hash_everywhere() {
        let set = Object::new(new_set(&deployment(), &Sets::default()));
        let hash = set.label(HASH).expect("labelled").to_owned();
        assert_eq!(set.name(), format!("web-{hash}"));
        assert_eq!(
            set.value()["spec"]["selector"]["matchLabels"][HASH],
            json!(hash)
        );
        assert_eq!(
            set.value()["spec"]["template"]["metadata"]["labels"][HASH],
            json!(hash)
        );
        assert_eq!(set.annotation(REVISION), Some("1"));
        assert_eq!(set.annotation("a"), Some("b"));
        assert!(same_template(&deployment(), &set));
    }
}
