//! The replica sets of a deployment: which is the new one, and what a new one looks like. Pure.

use std::sync::Arc;

use controller::{Object, owner};
use model::object;
use serde_json::{Map, Value, json};

use super::rollout;

/// The annotation that numbers the revisions of a deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotations by which a rollout that is scaled in the middle finds its proportions.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The label that keeps the Pods of one template apart from those of another.
pub const HASH: &str = "pod-template-hash";

/// Annotations of a deployment that its replica sets do not get, as upstream.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
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

/// Whether a replica set is of a deployment's template: the same but for the hash label.
pub fn same_template(deployment: &Object, set: &Object) -> bool {
    let template = |object: &Object| {
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
    };
    template(deployment) == template(set)
}

/// The replica set of a deployment's current template.
pub fn new_set(deployment: &Object, sets: &Sets) -> Value {
    let template = deployment
        .get(&["spec", "template"])
        .cloned()
        .unwrap_or_default();
    let collisions = object::number(deployment.value(), &["status", "collisionCount"]);
    let hash = template_hash(&template, collisions);
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
            "name": format!("{}-{hash}", deployment.name()),
            "namespace": deployment.namespace(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner::reference(deployment, true)],
        },
        "spec": spec,
    })
}

fn copied_annotations(deployment: &Object) -> Map<String, Value> {
    deployment
        .annotations()
        .filter(|(key, _)| !NOT_COPIED.contains(key))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

/// A short name for a template: FNV-1a over its canonical JSON, in letters that make no words.
///
/// Upstream hashes a dump of Go structs, so the letters differ; only that they are stable matters.
fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
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
    hash.to_string()
        .bytes()
        .map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()]))
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
