//! The scheduler: every Pod that has no node gets one.
//!
//! A first scheduler: it filters by what a node must have (taints, selectors, required affinity,
//! resources, the node's own readiness and `unschedulable`) and prefers the node that is left with
//! most. One worker decides, so what it has given away counts at once; bindings are sent in parallel.

mod filter;
mod resources;

use std::collections::HashMap;
use std::sync::Arc;

use controller::{
    Backoff, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, condition,
};
use model::object;
use parking_lot::Mutex;
use serde_json::json;

use self::filter::{Refusal, check, summary};
use self::resources::Amounts;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources as kinds};

/// The scheduler's name in `spec.schedulerName`.
const NAME: &str = "default-scheduler";

/// Runs the scheduler.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("scheduler", Backoff::default());
    let pods = cluster.informer(&kinds::pods());
    let nodes = cluster.informer(&kinds::nodes());
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (pending, own) = (queue.clone(), ledger.clone());
    let _pod_handler = pods.add_handler(move |event| {
        let object = event.object();
        let gone = matches!(event, controller::Event::Deleted(_));
        own.lock().observe(object, gone);
        if wants_node(object) && !gone {
            pending.add(object.key());
        } else if gone || !pod::is_active(object) {
            // Room has come free: whoever waits may fit now.
            own.lock().wake(&pending);
        }
    });
    let (waiting, own) = (queue.clone(), ledger.clone());
    let _node_handler = nodes.add_handler(move |_| own.lock().wake(&waiting));
    let informers = vec![pods.clone(), nodes.clone()];
    let recorder = cluster.recorder(NAME);
    let reconciler = Scheduler {
        cluster: cluster.clone(),
        pods,
        nodes,
        ledger,
        recorder,
    };
    cluster
        .drive("scheduler", queue, reconciler, informers)
        .await;
}

/// Whether a Pod is to be scheduled by this scheduler now.
fn wants_node(pod: &Object) -> bool {
    let text = |path: &[&str]| object::text(pod.value(), path);
    let scheduler = text(&["spec", "schedulerName"]);
    text(&["spec", "nodeName"]).is_empty()
        && (scheduler.is_empty() || scheduler == NAME)
        && pod::is_active(pod)
        && object::list(pod.value(), &["spec", "schedulingGates"]).is_empty()
}

/// What the Pods on each node have asked for, and which Pods wait.
#[derive(Default)]
struct Ledger {
    /// By Pod: its node and what it takes there.
    placed: HashMap<String, (String, Amounts)>,
    /// By node.
    used: HashMap<String, Amounts>,
    waiting: std::collections::BTreeSet<ObjectKey>,
}

impl Ledger {
    fn observe(&mut self, pod: &Object, gone: bool) {
        let node = object::text(pod.value(), &["spec", "nodeName"]);
        if gone || !matches!(pod::phase(pod), "Pending" | "Running" | "") {
            self.release(pod.uid());
            self.waiting.remove(&pod.key());
        } else if !node.is_empty() {
            self.place(pod.uid(), node, Amounts::of_pod(pod));
            self.waiting.remove(&pod.key());
        }
    }

    fn place(&mut self, uid: &str, node: &str, amounts: Amounts) {
        self.release(uid);
        self.used.entry(node.to_owned()).or_default().add(&amounts);
        self.placed
            .insert(uid.to_owned(), (node.to_owned(), amounts));
    }

    fn release(&mut self, uid: &str) {
        if let Some((node, amounts)) = self.placed.remove(uid)
            && let Some(used) = self.used.get_mut(&node)
        {
            used.subtract(&amounts);
        }
    }

    fn wake(&self, queue: &WorkQueue) {
        for key in &self.waiting {
            queue.add(key.clone());
        }
    }
}

struct Scheduler {
    cluster: Cluster,
    pods: Informer,
    nodes: Informer,
    ledger: Arc<Mutex<Ledger>>,
    recorder: EventRecorder,
}

impl Reconciler for Scheduler {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| wants_node(pod)) else {
            return Ok(Outcome::Done);
        };
        match self.choose(&pod) {
            Ok(node) => self.bind(&pod, &node).await,
            Err(why) => {
                self.ledger.lock().waiting.insert(key.clone());
                self.refuse(&pod, &why).await?;
                // What it waits for wakes it.
                Ok(Outcome::Done)
            }
        }
    }
}

impl Scheduler {
    /// The node that is left with most, its room taken at once; or why there is none.
    fn choose(&self, pod: &Object) -> Result<String, String> {
        let amounts = Amounts::of_pod(pod);
        let nodes = self.nodes.list();
        let mut ledger = self.ledger.lock();
        let mut refusals: Vec<Refusal> = Vec::new();
        let mut best: Option<(f64, &str)> = None;
        for node in &nodes {
            let used = ledger.used.get(node.name()).cloned().unwrap_or_default();
            match check(pod, &amounts, node, &used) {
                Err(refusal) => refusals.push(refusal),
                Ok(()) => {
                    let score = Amounts::allocatable(node).share_left(&used, &amounts);
                    let better = best.is_none_or(|(highest, name)| {
                        score > highest || (score == highest && node.name() < name)
                    });
                    if better {
                        best = Some((score, node.name()));
                    }
                }
            }
        }
        let Some((_, node)) = best else {
            return Err(summary(nodes.len(), &refusals));
        };
        ledger.place(pod.uid(), node, amounts);
        Ok(node.to_owned())
    }

    async fn bind(&self, pod: &Object, node: &str) -> Result<Outcome, Error> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let api = self.cluster.api();
        let outcome = api
            .create_subresource(&kinds::pods(), &pod.key(), "binding", &binding)
            .await;
        match outcome {
            Ok(_) => {
                let text = format!(
                    "Successfully assigned {}/{} to {node}",
                    pod.namespace().unwrap_or_default(),
                    pod.name()
                );
                self.recorder.normal(pod, "Scheduled", text);
                Ok(Outcome::Done)
            }
            Err(error) => {
                self.ledger.lock().release(pod.uid());
                if error.is_not_found() || error.is_conflict() {
                    return Ok(Outcome::Done);
                }
                Err(error.into())
            }
        }
    }

    /// Says on the Pod why it has no node.
    async fn refuse(&self, pod: &Object, why: &str) -> Result<(), Error> {
        let known = condition::find(pod.status(), "PodScheduled")
            .is_some_and(|condition| object::text(condition, &["message"]) == why);
        if known {
            return Ok(());
        }
        self.recorder.warning(pod, "FailedScheduling", why);
        let mut new = pod.value().clone();
        let now = self.cluster.timestamp();
        let mut status = new.get("status").cloned().unwrap_or_else(|| json!({}));
        let refused = condition::Condition::new("PodScheduled", false, "Unschedulable", why);
        condition::set(&mut status, &refused, &now);
        new["status"] = status;
        match self.cluster.api().update_status(&kinds::pods(), &new).await {
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            outcome => outcome.map(drop).map_err(Error::from),
        }
    }
}
