//! Nodes: what a node says of its condition becomes taints, which keep Pods off it.
//!
//! As upstream's node life cycle controller, the part that taints by condition. Left out: nodes that have
//! stopped talking (leases), and the eviction of Pods that run on them.

use controller::{Backoff, ObjectKey, Outcome, Reconciler, Subresource, WorkQueue, enqueue};
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// Condition, its status, and the taint it means.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const EFFECT: &str = "NoSchedule";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("nodelifecycle", Backoff::default());
    let nodes = cluster.informer(&resources::nodes());
    let _handler = nodes.add_handler(enqueue::object(&queue));
    let reconciler = Nodes {
        cluster: cluster.clone(),
    };
    cluster
        .drive("nodelifecycle", queue, reconciler, vec![nodes])
        .await;
}

struct Nodes {
    cluster: Cluster,
}

/// The keys of the taints a node should have for what it says of itself.
fn wanted(node: &Value) -> Vec<&'static str> {
    let conditions = object::list(node, &["status", "conditions"]);
    let mut keys: Vec<&str> = BY_CONDITION
        .iter()
        .filter(|(kind, status, _)| {
            conditions.iter().any(|condition| {
                object::text(condition, &["type"]) == *kind
                    && object::text(condition, &["status"]) == *status
            })
        })
        .map(|(_, _, key)| *key)
        .collect();
    // Who has not said that it is ready is not.
    let told = conditions
        .iter()
        .any(|condition| object::text(condition, &["type"]) == "Ready");
    if !told {
        keys.push(BY_CONDITION[0].2);
    }
    if object::at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

/// Whether a taint is one that this controller sets and takes away.
fn is_ours(taint: &Value) -> bool {
    let key = object::text(taint, &["key"]);
    object::text(taint, &["effect"]) == EFFECT
        && (key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, own)| *own == key))
}

/// The taints a node should have; `None` where it has them. Pure.
fn taints(node: &Value, now: &str) -> Option<Vec<Value>> {
    let current = object::list(node, &["spec", "taints"]);
    let wanted = wanted(node);
    let has = |key: &str| {
        current
            .iter()
            .any(|taint| is_ours(taint) && object::text(taint, &["key"]) == key)
    };
    let mut next: Vec<Value> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&object::text(taint, &["key"])))
        .cloned()
        .collect();
    for key in &wanted {
        if !has(key) {
            next.push(json!({"key": key, "effect": EFFECT, "timeAdded": now}));
        }
    }
    (next != current).then_some(next)
}

impl Reconciler for Nodes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let nodes = resources::nodes();
        let Some(node) = self.cluster.informer(&nodes).get(key) else {
            return Ok(Outcome::Done);
        };
        let Some(next) = taints(node.value(), &self.cluster.timestamp()) else {
            return Ok(Outcome::Done);
        };
        let next = if next.is_empty() {
            Value::Null
        } else {
            json!(next)
        };
        // The version guards: taints are a list, and others write it too.
        let patch = json!({
            "metadata": {"resourceVersion": object::resource_version(node.value())},
            "spec": {"taints": next},
        });
        let api = self.cluster.api();
        match api
            .merge_patch(&nodes, key, Subresource::None, &patch)
            .await
        {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_taints_and_go_with_them() {
        let keys = |node: &Value| -> Option<Vec<String>> {
            taints(node, "now").map(|taints| {
                taints
                    .iter()
                    .map(|taint| object::text(taint, &["key"]).to_owned())
                    .collect()
            })
        };
        let mine = json!({"key": "mine", "effect": "NoSchedule"});
        let new = json!({"spec": {"taints": [mine]}});
        assert_eq!(
            keys(&new),
            Some(vec!["mine".to_owned(), "node.kubernetes.io/not-ready".to_owned()])
        );
        let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let ready = json!({
            "spec": {"taints": [mine, not_ready]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        assert_eq!(keys(&ready), Some(vec!["mine".to_owned()]));
        let settled = json!({
            "spec": {"unschedulable": true, "taints": [
                {"key": UNSCHEDULABLE, "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        assert_eq!(keys(&settled), None);
    }
}
