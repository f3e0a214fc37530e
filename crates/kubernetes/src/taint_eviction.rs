//! Taints that drive Pods off: a Pod that does not tolerate one is deleted, one that tolerates it for a
//! while when that has passed.
//!
//! As upstream, the while begins when this program first sees the taint; it is not remembered over a
//! restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Event, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    Subresource, WorkQueue, condition, index,
};
use model::object;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::taints::{Effect, Taint, Toleration};
use crate::{pod, resources};

/// What is known of nodes and of Pods that will go.
#[derive(Default)]
struct Known {
    /// Nodes with taints that drive Pods off.
    tainted: HashMap<String, Arc<[Taint]>>,
    /// Since when a Pod's time is running out, by uid.
    since: HashMap<String, Instant>,
}

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("tainteviction", Backoff::default());
    let nodes = cluster.informer(&resources::nodes());
    let pods = cluster.informer(&resources::pods());
    pods.add_node_index();
    let known: Arc<Mutex<Known>> = Arc::default();
    let (seen, on_nodes, pending) = (known.clone(), pods.clone(), queue.clone());
    let _node_handler = nodes.add_handler(move |event| {
        let node = event.object();
        let gone = matches!(event, Event::Deleted(_));
        let mut taints = Taint::of_node(node);
        taints.retain(|taint| taint.effect == Effect::NoExecute && !gone);
        let taints: Option<Arc<[Taint]>> = (!taints.is_empty()).then(|| taints.into());
        let changed = {
            let mut seen = seen.lock();
            let changed = seen.tainted.get(node.name()) != taints.as_ref();
            match taints {
                Some(taints) => drop(seen.tainted.insert(node.name().to_owned(), taints)),
                None => drop(seen.tainted.remove(node.name())),
            }
            changed
        };
        if changed {
            for pod in on_nodes.by_index(index::NODE_NAME, node.name()) {
                pending.add(pod.key());
            }
        }
    });
    let (seen, pending) = (known.clone(), queue.clone());
    let _pod_handler = pods.add_handler(move |event| {
        let pod = event.object();
        let mut seen = seen.lock();
        if matches!(event, Event::Deleted(_)) {
            seen.since.remove(pod.uid());
        } else if seen
            .tainted
            .contains_key(object::text(pod.spec(), &["nodeName"]))
        {
            pending.add(pod.key());
        }
    });
    let reconciler = Evictions {
        cluster: cluster.clone(),
        pods: pods.clone(),
        recorder: cluster.recorder("taint-eviction-controller"),
        known,
    };
    cluster
        .drive("tainteviction", queue, reconciler, vec![nodes, pods])
        .await;
}

/// What becomes of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may stay.
    Stays,
    /// It may stay for so long.
    StaysFor(Duration),
    /// It goes now.
    Goes,
}

/// Decides. Pure.
fn fate(taints: &[Taint], tolerations: &[Toleration]) -> Fate {
    let mut seconds: Option<i64> = None;
    for taint in taints {
        // As upstream: the first toleration that matches is the one that counts.
        let Some(used) = tolerations.iter().find(|one| one.tolerates(taint)) else {
            return Fate::Goes;
        };
        if let Some(own) = used.seconds {
            seconds = Some(seconds.map_or(own, |least| least.min(own)));
        }
    }
    match seconds {
        None => Fate::Stays,
        Some(..=0) => Fate::Goes,
        Some(seconds) => Fate::StaysFor(Duration::from_secs(seconds.unsigned_abs())),
    }
}

struct Evictions {
    cluster: Cluster,
    pods: Informer,
    recorder: EventRecorder,
    known: Arc<Mutex<Known>>,
}

impl Evictions {
    async fn evict(&self, pod: &Object) -> Result<Outcome, Error> {
        let text = format!("Marking for deletion Pod {}", pod.key());
        self.recorder.normal(pod, "TaintManagerEviction", text);
        let pods = resources::pods();
        let known = condition::find(pod.status(), "DisruptionTarget")
            .is_some_and(|known| object::text(known, &["reason"]) == "DeletionByTaintManager");
        let api = self.cluster.api();
        if !known {
            let now = self.cluster.timestamp();
            let why = "Taint manager: deleting due to NoExecute taint";
            let condition = pod::disruption(pod, "DeletionByTaintManager", why, &now);
            let patch = json!({
                "metadata": {"uid": pod.uid()},
                "status": {"conditions": [condition]},
            });
            let patched = api
                .strategic_patch(&pods, &pod.key(), Subresource::Status, &patch)
                .await;
            match patched {
                Err(error) if error.is_not_found() => return Ok(Outcome::Done),
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                outcome => drop(outcome?),
            }
        }
        let options = DeleteOptions::of_uid(pod.uid());
        match api.delete(&pods, &pod.key(), &options).await {
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => {
                outcome?;
                Ok(Outcome::Done)
            }
        }
    }
}

impl Reconciler for Evictions {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.is_terminating()) else {
            return Ok(Outcome::Done);
        };
        let node = object::text(pod.spec(), &["nodeName"]);
        let now = Instant::now();
        let left = {
            let mut known = self.known.lock();
            let taints = known.tainted.get(node).cloned();
            let tolerations = Toleration::of_pod(&pod);
            match taints.map_or(Fate::Stays, |taints| fate(&taints, &tolerations)) {
                Fate::Stays => {
                    if known.since.remove(pod.uid()).is_some() {
                        let text = format!("Cancelling deletion of Pod {key}");
                        self.recorder.normal(&pod, "TaintManagerEviction", text);
                    }
                    return Ok(Outcome::Done);
                }
                Fate::StaysFor(time) => {
                    let since = *known.since.entry(pod.uid().to_owned()).or_insert(now);
                    (since + time).saturating_duration_since(now)
                }
                Fate::Goes => Duration::ZERO,
            }
        };
        if left.is_zero() {
            return self.evict(&pod).await;
        }
        Ok(Outcome::RequeueAfter(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn tolerations_give_time() {
        let taint = |key: &str| {
            let value = json!({"key": key, "effect": "NoExecute"});
            Taint::of(&value).expect("a taint")
        };
        let check = |tolerations: Value, expect: Fate| {
            let list: Vec<Toleration> = tolerations
                .as_array()
                .expect("a list")
                .iter()
                .map(Toleration::of)
                .collect();
            assert_eq!(
                fate(&[taint("a"), taint("b")], &list),
                expect,
                "{tolerations}"
            );
        };
        check(json!([]), Fate::Goes);
        check(json!([{"key": "a", "operator": "Exists"}]), Fate::Goes);
        check(json!([{"operator": "Exists"}]), Fate::Stays);
        let for_seconds = |a: i64, b: i64| {
            json!([
                {"key": "a", "operator": "Exists", "tolerationSeconds": a},
                {"key": "b", "operator": "Exists", "tolerationSeconds": b}])
        };
        check(
            for_seconds(30, 300),
            Fate::StaysFor(Duration::from_secs(30)),
        );
        check(for_seconds(30, 0), Fate::Goes);
    }
}
