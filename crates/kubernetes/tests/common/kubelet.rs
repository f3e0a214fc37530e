//! Scheduler and kubelets of a test: Pods get a node and become whatever the test says, at once.
//!
//! Pods that name their node in a node affinity (as a DaemonSet's do) get that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use controller::{
    Api, Backoff, Clock as _, Controller, DeleteOptions, Error, Informer, InformerOptions,
    Informers, Object, ObjectKey, Outcome, Reconciler, SystemClock, WorkQueue, enqueue,
    format_time,
};
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::objects;

/// What becomes of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It is not even assigned to a node.
    Unassigned,
    /// It is assigned and waits.
    Pending,
    /// It runs and is not ready.
    Unready,
    /// It runs and is ready.
    Ready,
    /// It ends well.
    Succeed,
    /// It ends badly.
    Fail,
}

/// Decides what becomes of a Pod.
pub type Script = Arc<dyn Fn(&Object) -> Act + Send + Sync>;

#[derive(Clone)]
struct Shared {
    script: Arc<RwLock<Script>>,
    linger: Arc<RwLock<Duration>>,
    next_node: Arc<AtomicUsize>,
}

/// The kubelets.
pub struct Kubelet {
    shared: Shared,
    queue: WorkQueue,
    pods: Informer,
}

impl Kubelet {
    /// Kubelets that make every Pod ready.
    pub fn start(api: Api, shutdown: CancellationToken) -> Self {
        let informers = Informers::new(api.clone(), shutdown.clone());
        let follow = |resource| informers.informer(&resource, InformerOptions::default());
        let (pods, nodes) = (follow(objects::PODS()), follow(objects::NODES()));
        let queue: WorkQueue = WorkQueue::new("test-kubelets", Backoff::default());
        pods.add_handler(enqueue::object(&queue)).forget();
        let ready: Script = Arc::new(|_| Act::Ready);
        let shared = Shared {
            script: Arc::new(RwLock::new(ready)),
            linger: Arc::default(),
            next_node: Arc::default(),
        };
        let kubelets = Kubelets {
            api,
            pods: pods.clone(),
            nodes: nodes.clone(),
            shared: shared.clone(),
        };
        let controller = Controller::new("test-kubelets", queue.clone(), kubelets)
            .workers(4)
            .wait_for(vec![pods.clone(), nodes]);
        tokio::spawn(controller.run(shutdown));
        Self {
            shared,
            queue,
            pods,
        }
    }

    /// Another script from now on; also for the Pods there are.
    pub fn set(&self, script: Script) {
        *self.shared.script.write() = script;
        for pod in self.pods.list() {
            self.queue.add(pod.key());
        }
    }

    /// How long deleted Pods take to go from now on.
    pub fn set_linger(&self, linger: Duration) {
        *self.shared.linger.write() = linger;
    }
}

struct Kubelets {
    api: Api,
    pods: Informer,
    nodes: Informer,
    shared: Shared,
}

impl Reconciler for Kubelets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Outcome::Done);
        };
        match self.play(key, &pod).await {
            // The newer state is on its way and wakes the Pod again.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Outcome::Done),
            outcome => outcome,
        }
    }
}

impl Kubelets {
    async fn play(&self, key: &ObjectKey, pod: &Object) -> Result<Outcome, Error> {
        if pod.is_terminating() {
            return self.take_away(key, pod).await;
        }
        let act = {
            let script = self.shared.script.read().clone();
            script(pod)
        };
        if act == Act::Unassigned {
            return Ok(Outcome::Done);
        }
        let assigned = pod.pointer("/spec/nodeName").is_some_and(Value::is_string);
        if !assigned {
            let Some(node) = self.node_for(pod) else {
                return Ok(Outcome::Done);
            };
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid()},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            self.api
                .create_subresource(&objects::PODS(), key, "binding", &binding)
                .await?;
            return Ok(Outcome::Done);
        }
        let status = status(pod, act);
        if let Some(status) = status {
            let mut new = pod.value().clone();
            new["status"] = status;
            self.api.update_status(&objects::PODS(), &new).await?;
        }
        Ok(Outcome::Done)
    }

    async fn take_away(&self, key: &ObjectKey, pod: &Object) -> Result<Outcome, Error> {
        let linger = *self.shared.linger.read();
        let since = pod
            .pointer("/metadata/deletionTimestamp")
            .and_then(Value::as_str);
        if !linger.is_zero() && since.is_some() {
            tokio::time::sleep(linger).await;
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::of_uid(pod.uid())
        };
        self.api.delete(&objects::PODS(), key, &options).await?;
        Ok(Outcome::Done)
    }

    fn node_for(&self, pod: &Object) -> Option<String> {
        if let Some(named) = objects::node_by_affinity(pod) {
            return Some(named);
        }
        let mut names: Vec<String> = self
            .nodes
            .list()
            .iter()
            .map(|node| node.name().to_owned())
            .collect();
        names.sort();
        let turn = self.shared.next_node.fetch_add(1, Ordering::Relaxed);
        (!names.is_empty()).then(|| names[turn % names.len()].clone())
    }
}

/// The status a Pod should have; none where it has it.
fn status(pod: &Object, act: Act) -> Option<Value> {
    let phase = pod
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let (wanted, ready) = match act {
        Act::Unassigned | Act::Pending => ("Pending", false),
        Act::Unready => ("Running", false),
        Act::Ready => ("Running", true),
        Act::Succeed => ("Succeeded", false),
        Act::Fail => ("Failed", false),
    };
    if phase == wanted && objects::is_ready(pod) == ready {
        return None;
    }
    let now = format_time(SystemClock.now());
    Some(json!({
        "phase": wanted,
        "startTime": now,
        "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": now,
        }],
    }))
}
