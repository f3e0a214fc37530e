//! Nodes: who is silent for too long is lost, and what a node says of its condition becomes taints,
//! which keep Pods off it or drive them away.
//!
//! As upstream's node life cycle controller. It looks at a node when something of it changes and when its
//! silence runs out; leases only move that deadline. `taint_eviction` acts on the taints.

mod health;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, Event, EventRecorder, Informer, InformerOptions, Object, ObjectKey, Outcome,
    Reconciler, Subresource, WorkQueue, condition, index,
};
use model::object;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use self::health::NodeLifecycleSettings;
use self::health::{Health, ready_status};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources};

/// Condition, its status, and the taint it means.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
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
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const KEEPS_OFF: &str = "NoSchedule";
const DRIVES_OFF: &str = "NoExecute";
/// When to look again at a node whose Pods are not driven off as things are.
const LATER: Duration = Duration::from_mins(1);

/// Runs the controller.
pub async fn run(cluster: Cluster, settings: NodeLifecycleSettings) {
    let queue: WorkQueue = WorkQueue::new("nodelifecycle", Backoff::default());
    let nodes = cluster.informer(&resources::nodes());
    let pods = cluster.informer(&resources::pods());
    pods.add_node_index();
    let selected = InformerOptions {
        namespace: Some("kube-node-lease".to_owned()),
        ..InformerOptions::default()
    };
    let leases = cluster.informers().informer(&resources::leases(), selected);
    let health = Arc::new(Mutex::new(Health::new(settings)));
    let (seen, pending) = (health.clone(), queue.clone());
    let _node_handler = nodes.add_handler(move |event| {
        let node = event.object();
        if matches!(event, Event::Deleted(_)) {
            seen.lock().forget(node.name());
        } else {
            seen.lock().saw_node(node, Instant::now());
        }
        pending.add(node.key());
    });
    let seen = health.clone();
    let _lease_handler = leases.add_handler(move |event| {
        let lease = event.object();
        let renewed = object::text(lease.spec(), &["renewTime"]);
        seen.lock().saw_lease(lease.name(), renewed, Instant::now());
    });
    let (where_to, pending) = (nodes.clone(), queue.clone());
    let _pod_handler = pods.add_handler(move |event| {
        // A Pod that is bound to a node that is lost already is not ready either.
        let pod = event.object();
        let node = object::text(pod.spec(), &["nodeName"]);
        if !node.is_empty() && pod::is_ready(pod) {
            let key = ObjectKey::cluster(node);
            let lost = where_to.get(&key).is_some_and(|node| is_lost(&node));
            if lost {
                pending.add(key);
            }
        }
    });
    let reconciler = Nodes {
        cluster: cluster.clone(),
        nodes: nodes.clone(),
        pods: pods.clone(),
        recorder: cluster.recorder("node-controller"),
        health,
    };
    cluster
        .drive(
            "nodelifecycle",
            queue,
            reconciler,
            vec![nodes, pods, leases],
        )
        .await;
}

struct Nodes {
    cluster: Cluster,
    nodes: Informer,
    pods: Informer,
    recorder: EventRecorder,
    health: Arc<Mutex<Health>>,
}

fn is_lost(node: &Object) -> bool {
    matches!(ready_status(node), "False" | "Unknown")
}

/// The keys of the taints that are to keep Pods off a node for what it says of itself.
fn keeping_off(node: &Value) -> Vec<&'static str> {
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
        keys.push(NOT_READY);
    }
    if object::at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

/// The key of the taint that is to drive Pods off a node.
fn driving_off(node: &Object) -> Option<&'static str> {
    match ready_status(node) {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

/// Whether a taint is one that this controller sets and takes away.
fn is_ours(taint: &Value) -> bool {
    let key = object::text(taint, &["key"]);
    match object::text(taint, &["effect"]) {
        KEEPS_OFF => key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, own)| *own == key),
        DRIVES_OFF => key == NOT_READY || key == UNREACHABLE,
        _ => false,
    }
}

/// The taints a node should have; `None` where it has them. Pure.
fn taints(node: &Value, drive_off: Option<&str>, now: &str) -> Option<Vec<Value>> {
    let current = object::list(node, &["spec", "taints"]);
    let mut wanted: Vec<(&str, &str)> = keeping_off(node)
        .into_iter()
        .map(|key| (key, KEEPS_OFF))
        .collect();
    wanted.extend(drive_off.map(|key| (key, DRIVES_OFF)));
    let named = |taint: &Value| {
        let text = |name: &str| object::text(taint, &[name]).to_owned();
        (text("key"), text("effect"))
    };
    let is = |taint: &Value, (key, effect): &(&str, &str)| {
        let (own_key, own_effect) = named(taint);
        own_key == *key && own_effect == *effect
    };
    let mut next: Vec<Value> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|one| is(taint, one)))
        .cloned()
        .collect();
    for one in &wanted {
        if !current.iter().any(|taint| is(taint, one)) {
            next.push(json!({"key": one.0, "effect": one.1, "timeAdded": now}));
        }
    }
    (next != current).then_some(next)
}

fn has_driving_off(node: &Object, key: &str) -> bool {
    object::list(node.spec(), &["taints"]).iter().any(|taint| {
        object::text(taint, &["key"]) == key && object::text(taint, &["effect"]) == DRIVES_OFF
    })
}

impl Nodes {
    /// Says that a node is lost. What the server answers is on its way here, too.
    async fn lose(&self, node: &Object, conditions: Vec<Value>) -> Result<Outcome, Error> {
        let mut new = node.value().clone();
        new["status"]["conditions"] = json!(conditions);
        match self
            .cluster
            .api()
            .update_status(&resources::nodes(), &new)
            .await
        {
            Ok(_) => {
                let text = format!("Node {} status is now: NodeNotReady", node.name());
                self.recorder.normal(node, "NodeNotReady", text);
                Ok(Outcome::Done)
            }
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// The taint to drive Pods off with now, and when to think of it again.
    fn drive_off(&self, node: &Object) -> (Option<&'static str>, Option<Duration>) {
        let Some(key) = driving_off(node) else {
            return (None, None);
        };
        let mut health = self.health.lock();
        // When nothing at all is heard of, nobody is driven anywhere.
        if health.is_all_lost() {
            return (None, Some(LATER));
        }
        if has_driving_off(node, NOT_READY) || has_driving_off(node, UNREACHABLE) {
            return (Some(key), None);
        }
        match health.may_drive_off(node, Instant::now()) {
            Ok(()) => (Some(key), None),
            Err(wait) => (None, Some(wait.unwrap_or(LATER))),
        }
    }

    async fn taint(&self, node: &Object, taints: Vec<Value>) -> Result<bool, Error> {
        let taints = if taints.is_empty() {
            Value::Null
        } else {
            json!(taints)
        };
        // The version guards: taints are a list, and others write it too.
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        });
        let api = self.cluster.api();
        let (nodes, key) = (resources::nodes(), node.key());
        match api
            .merge_patch(&nodes, &key, Subresource::None, &patch)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The Pods of a lost node are not ready: nobody can say that they are.
    async fn unready_pods(&self, node: &Object) -> Result<(), Error> {
        for pod in self.pods.by_index(index::NODE_NAME, node.name()) {
            if !pod::is_ready(&pod) {
                continue;
            }
            let mut new = pod.value().clone();
            let now = self.cluster.timestamp();
            let mut unready = condition::find(pod.status(), "Ready")
                .cloned()
                .unwrap_or_default();
            unready["status"] = json!("False");
            unready["lastTransitionTime"] = json!(now);
            let conditions = object::list(pod.status(), &["conditions"])
                .iter()
                .map(|own| {
                    if object::text(own, &["type"]) == "Ready" {
                        unready.clone()
                    } else {
                        own.clone()
                    }
                });
            new["status"]["conditions"] = json!(conditions.collect::<Vec<_>>());
            match self
                .cluster
                .api()
                .update_status(&resources::pods(), &new)
                .await
            {
                Ok(_) => self
                    .recorder
                    .warning(&pod, "NodeNotReady", "Node is not ready"),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Reconciler for Nodes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get(key) else {
            return Ok(Outcome::Done);
        };
        let patience = self.health.lock().patience(&node, Instant::now());
        let silent = patience.is_none();
        if silent && let Some(conditions) = health::unknown(&node, &self.cluster.timestamp()) {
            return self.lose(&node, conditions).await;
        }
        let (key, wait) = self.drive_off(&node);
        if let Some(taints) = taints(node.value(), key, &self.cluster.timestamp())
            && !self.taint(&node, taints).await?
        {
            return Ok(Outcome::Requeue);
        }
        if is_lost(&node) {
            self.unready_pods(&node).await?;
        }
        let next = patience.into_iter().chain(wait).min();
        Ok(next.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_taints_and_go_with_them() {
        let keys = |node: &Value| -> Option<Vec<String>> {
            taints(node, None, "now").map(|taints| {
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
            Some(vec!["mine".to_owned(), NOT_READY.to_owned()])
        );
        let not_ready = json!({"key": NOT_READY, "effect": "NoSchedule"});
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

    #[test]
    fn lost_nodes_drive_pods_off() {
        let lost = json!({
            "spec": {"taints": [
                {"key": UNREACHABLE, "effect": "NoSchedule"},
                {"key": NOT_READY, "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        });
        let next = taints(&lost, Some(UNREACHABLE), "now").expect("a change");
        let named: Vec<String> = next
            .iter()
            .map(|taint| {
                format!(
                    "{} {}",
                    object::text(taint, &["key"]),
                    object::text(taint, &["effect"])
                )
            })
            .collect();
        let expect = [
            "node.kubernetes.io/unreachable NoSchedule",
            "node.kubernetes.io/unreachable NoExecute",
        ];
        assert_eq!(named, expect);
    }
}
