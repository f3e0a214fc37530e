//! Pods nobody looks after any more: those of nodes that are gone or out of service, those deleted
//! before they had a node, and ended ones when there are too many.
//!
//! As upstream's Pod garbage collector, but woken by what happens instead of looking at all Pods every 20
//! seconds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Event, Informer, Object, ObjectKey, Outcome, Reconciler, Subresource,
    WorkQueue, index,
};
use model::object;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources};

/// For how long a node may be missing before its Pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How long a deleted Pod without a node is left to whoever holds it: upstream looks that often.
const UNASSIGNED: Duration = Duration::from_secs(20);
/// So many ended Pods are kept.
const ENDED_MAX: usize = 12_500;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Ended Pods, oldest first.
type Ended = BTreeSet<(String, ObjectKey)>;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("podgc", Backoff::default());
    let nodes = cluster.informer(&resources::nodes());
    let pods = cluster.informer(&resources::pods());
    pods.add_node_index();
    let ended: Arc<Mutex<Ended>> = Arc::default();
    let (on_nodes, pending) = (pods.clone(), queue.clone());
    let _node_handler = nodes.add_handler(move |event| {
        let node = event.object();
        if matches!(event, Event::Deleted(_)) || is_out_of_service(node) {
            for pod in on_nodes.by_index(index::NODE_NAME, node.name()) {
                pending.add(pod.key());
            }
        }
    });
    let (counted, hosts, pending) = (ended.clone(), nodes.clone(), queue.clone());
    let _pod_handler = pods.add_handler(move |event| {
        let pod = event.object();
        let entry = (pod.creation_timestamp().to_owned(), pod.key());
        let gone = matches!(event, Event::Deleted(_));
        let mut counted = counted.lock();
        if !gone && matches!(pod::phase(pod), "Succeeded" | "Failed") {
            counted.insert(entry);
            if counted.len() > ENDED_MAX
                && let Some((_, oldest)) = counted.first()
            {
                pending.add(oldest.clone());
            }
        } else {
            counted.remove(&entry);
        }
        drop(counted);
        let node = object::text(pod.spec(), &["nodeName"]);
        if gone {
            return;
        }
        if node.is_empty() {
            if pod.is_terminating() {
                pending.add_after(pod.key(), UNASSIGNED);
            }
            return;
        }
        let host = hosts.get(&ObjectKey::cluster(node));
        if host.is_none_or(|node| pod.is_terminating() && is_out_of_service(&node)) {
            pending.add(pod.key());
        }
    });
    let reconciler = Collector {
        cluster: cluster.clone(),
        nodes: nodes.clone(),
        pods: pods.clone(),
        ended,
        missing: Mutex::default(),
    };
    cluster
        .drive("podgc", queue, reconciler, vec![nodes, pods])
        .await;
}

/// Whether somebody has said that a node that is not ready will not come back soon.
fn is_out_of_service(node: &Object) -> bool {
    let taints = object::list(node.spec(), &["taints"]);
    let said = taints
        .iter()
        .any(|taint| object::text(taint, &["key"]) == OUT_OF_SERVICE);
    said && !controller::condition::is_true(node.status(), "Ready")
}

struct Collector {
    cluster: Cluster,
    nodes: Informer,
    pods: Informer,
    ended: Arc<Mutex<Ended>>,
    /// Since when nodes have been missing.
    missing: Mutex<HashMap<String, Instant>>,
}

/// Why a Pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its node is gone, or seems to be.
    Orphaned,
    /// Nobody will end it.
    Unattended,
}

/// Why a Pod is to go, if it is. Pure.
fn judge(pod: &Object, node: Option<&Object>, too_many_ended: bool) -> Option<Why> {
    let assigned = !object::text(pod.spec(), &["nodeName"]).is_empty();
    match node {
        _ if too_many_ended => Some(Why::Unattended),
        None if assigned => Some(Why::Orphaned),
        None => pod.is_terminating().then_some(Why::Unattended),
        Some(node) => (pod.is_terminating() && is_out_of_service(node)).then_some(Why::Unattended),
    }
}

impl Collector {
    /// How much longer a missing node may come back; none when it is really gone.
    async fn quarantine(&self, node: &str) -> Result<Option<Duration>, Error> {
        let now = Instant::now();
        let since = *self.missing.lock().entry(node.to_owned()).or_insert(now);
        let left = (since + QUARANTINE).saturating_duration_since(now);
        if !left.is_zero() {
            return Ok(Some(left));
        }
        // The cache may be late: ask.
        let key = ObjectKey::cluster(node);
        let found = self
            .cluster
            .api()
            .get_opt(&resources::nodes(), &key)
            .await?;
        Ok(found.map(|_| QUARANTINE))
    }

    async fn remove(&self, pod: &Object, why: Why) -> Result<Outcome, Error> {
        let (pods, api) = (resources::pods(), self.cluster.api());
        if !matches!(pod::phase(pod), "Succeeded" | "Failed") {
            let mut status = json!({"phase": "Failed"});
            if pod.generation() > 0 {
                status["observedGeneration"] = json!(pod.generation());
            }
            if why == Why::Orphaned {
                let now = self.cluster.timestamp();
                let why = "PodGC: node no longer exists";
                let condition = pod::disruption(pod, "DeletionByPodGC", why, &now);
                status["conditions"] = json!([condition]);
            }
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
            let patched = api
                .strategic_patch(&pods, &pod.key(), Subresource::Status, &patch)
                .await;
            match patched {
                Err(error) if error.is_not_found() => return Ok(Outcome::Done),
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                outcome => drop(outcome?),
            }
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::of_uid(pod.uid())
        };
        match api.delete(&pods, &pod.key(), &options).await {
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => {
                outcome?;
                Ok(Outcome::Done)
            }
        }
    }
}

impl Reconciler for Collector {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Outcome::Done);
        };
        let gone_already = pod.is_terminating()
            && object::number(pod.value(), &["metadata", "deletionGracePeriodSeconds"]) == Some(0)
            && matches!(pod::phase(&pod), "Succeeded" | "Failed");
        if gone_already {
            // Finalizers hold it; whoever set them knows why.
            return Ok(Outcome::Done);
        }
        let name = object::text(pod.spec(), &["nodeName"]);
        let node = (!name.is_empty())
            .then(|| self.nodes.get(&ObjectKey::cluster(name)))
            .flatten();
        if node.is_some() {
            self.missing.lock().remove(name);
        }
        let too_many_ended = {
            let ended = self.ended.lock();
            ended.len() > ENDED_MAX && ended.first().is_some_and(|(_, oldest)| oldest == key)
        };
        match judge(&pod, node.as_deref(), too_many_ended) {
            None => Ok(Outcome::Done),
            Some(Why::Orphaned) => match self.quarantine(name).await? {
                Some(left) => Ok(Outcome::RequeueAfter(left)),
                None => self.remove(&pod, Why::Orphaned).await,
            },
            Some(why) => self.remove(&pod, why).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn pods_nobody_looks_after_go() {
        let pod = |node: &str, going: bool| {
            let mut metadata = json!({"name": "p"});
            if going {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Object::new(json!({"metadata": metadata, "spec": {"nodeName": node}}))
        };
        let node = |ready: &str, taints: Value| {
            Object::new(json!({"spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let out = json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]);
        let check = |pod: Object, node: Option<Object>, expect: Option<Why>| {
            assert_eq!(
                judge(&pod, node.as_ref(), false),
                expect,
                "{pod:?} {node:?}"
            );
        };
        check(pod("", false), None, None);
        check(pod("", true), None, Some(Why::Unattended));
        check(pod("n", false), None, Some(Why::Orphaned));
        check(pod("n", true), Some(node("Unknown", json!([]))), None);
        check(
            pod("n", true),
            Some(node("Unknown", out.clone())),
            Some(Why::Unattended),
        );
        check(pod("n", false), Some(node("Unknown", out.clone())), None);
        check(pod("n", true), Some(node("True", out)), None);
        assert_eq!(judge(&pod("", false), None, true), Some(Why::Unattended));
    }
}
