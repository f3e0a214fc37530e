//! The two reconcilers of virtual nodes: what their Pods report, and that they themselves live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Api, Clock as _, DeleteOptions, Error, EventRecorder, Informer, Object, ObjectKey, Outcome,
    Reconciler, Resource, Subresource, SystemClock, format_micro_time, format_time,
};
use model::object;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::plan::{Host, Plan, needs_addresses, plan};
use super::{
    ABANDONED_AFTER, Own, Play, SERVER, SILENCED, STATUS_EVERY, Shared, allocatable, node, nodes,
    pod_cidrs, pods, register, seen,
};

/// How soon a Pod that got no address is looked at again.
const SANDBOX_RETRY: Duration = Duration::from_secs(10);

fn leases() -> Resource {
    Resource::namespaced("coordination.k8s.io/v1", "leases", "Lease")
}

/// The Pods of all virtual nodes.
pub struct Kubelets {
    /// Writes.
    pub api: Api,
    /// All Pods.
    pub pods: Informer,
    /// The nodes simulated here.
    pub known: Shared,
    /// Events, of what goes wrong only.
    pub recorder: EventRecorder,
    /// Whether nodes are given ranges for their Pods.
    pub pod_cidrs: bool,
    /// What happens by a scenario.
    pub play: Option<Arc<Play>>,
}

impl Kubelets {
    /// There are more Pods on a node than its ranges have addresses.
    fn tell_used_up(&self, pod: &Object, ranges: &[String]) {
        let ranges = ranges.join(", ");
        let text = format!(
            "Failed to create pod sandbox: no IP addresses available in range set: {ranges}"
        );
        self.recorder.warning(pod, "FailedCreatePodSandBox", text);
    }

    /// Tells what an operator of a real node would look for.
    fn tell(&self, pod: &Object, status: &Value) {
        let reasons = |status: &Value| -> Vec<(String, String)> {
            let waiting = object::list(status, &["containerStatuses"]).iter();
            waiting
                .filter_map(|status| status.pointer("/state/waiting"))
                .map(|waiting| {
                    let text = |name: &str| object::text(waiting, &[name]).to_owned();
                    (text("reason"), text("message"))
                })
                .collect()
        };
        let before = reasons(pod.status());
        for (reason, message) in reasons(status) {
            let event = match reason.as_str() {
                "ErrImagePull" => "Failed",
                "ImagePullBackOff" | "CrashLoopBackOff" => "BackOff",
                _ => continue,
            };
            if !before.iter().any(|(other, _)| *other == reason) {
                self.recorder.warning(pod, event, message);
            }
        }
    }
}

impl Reconciler for Kubelets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Outcome::Done);
        };
        let on = object::text(pod.value(), &["spec", "nodeName"]);
        let own = self.known.lock().own.get(on).cloned();
        // A node that is cut off says nothing of its Pods; when it is back, they are looked at.
        let is_out = |own: &Own| node::is_out(&seen(self.play.as_ref(), &own.node, true));
        let Some(own) = own.filter(|own| !is_out(own)) else {
            return Ok(Outcome::Done);
        };
        let mut addresses = Vec::new();
        if needs_addresses(&pod) {
            let ranges = pod_cidrs(&own.node);
            if ranges.is_empty() && self.pod_cidrs {
                // The node will get some, and its Pods are looked at then.
                return Ok(Outcome::Done);
            }
            let Some(found) = self.known.lock().pods.of(on, pod.uid()) else {
                self.tell_used_up(&pod, &ranges);
                return Ok(Outcome::RequeueAfter(SANDBOX_RETRY));
            };
            addresses = found;
        }
        let host = Host {
            address: &own.address,
            allocatable: allocatable(&own.node),
        };
        match plan(
            &seen(self.play.as_ref(), &pod, false),
            host,
            &addresses,
            SystemClock.now(),
        ) {
            Plan::Keep => Ok(Outcome::Done),
            Plan::Wait(wait) => Ok(Outcome::RequeueAfter(wait)),
            Plan::Delete => {
                let options = DeleteOptions {
                    grace_period_seconds: Some(0),
                    ..DeleteOptions::of_uid(pod.uid())
                };
                match self.api.delete(&pods(), key, &options).await {
                    // Another Pod of that name, or a moment too early.
                    Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
                    outcome => outcome.map(|_| Outcome::Done),
                }
            }
            Plan::Report { status, wait } => {
                self.tell(&pod, &status);
                let mut new = pod.value().clone();
                new["status"] = status;
                match self.api.update_status(&pods(), &new).await {
                    Err(error) if error.is_not_found() => Ok(Outcome::Done),
                    Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
                    Err(error) => Err(error),
                    Ok(_) => Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter)),
                }
            }
        }
    }
}

/// The virtual nodes themselves: status and leases.
pub struct Nodes {
    /// Writes.
    pub api: Api,
    /// All virtual nodes.
    pub nodes: Informer,
    /// Those simulated here.
    pub known: Shared,
    /// Who this is.
    pub server: String,
    /// The leases as last written, and when.
    pub leases: Mutex<HashMap<String, (Value, Instant)>>,
    /// How long the leases last.
    pub lease_duration: Duration,
    /// What happens by a scenario.
    pub play: Option<Arc<Play>>,
}

impl Nodes {
    /// Says what the node is, where that has changed or was long ago.
    async fn status(&self, own: &Own, seen: &Object) -> Result<(), Error> {
        let now = format_time(SystemClock.now());
        let wanted = node::status(seen, &own.address, &now);
        let recent = own.status_at.is_some_and(|at| at.elapsed() < STATUS_EVERY);
        if recent && node::same(&wanted, own.node.status()) {
            return Ok(());
        }
        let mut new = own.node.value().clone();
        new["status"] = wanted;
        match self.api.update_status(&nodes(), &new).await {
            Err(error) if error.is_not_found() => return Ok(()),
            outcome => drop(outcome?),
        }
        if let Some(own) = self.known.lock().own.get_mut(own.node.name()) {
            own.status_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Renews the lease of a node where it is time; says when it is time again.
    async fn lease(&self, node: &Arc<Object>) -> Result<Duration, Error> {
        let every = self.lease_duration / 2;
        let known = self.leases.lock().get(node.name()).cloned();
        let renewed = match known {
            Some((_, at)) if at.elapsed() < every => {
                return Ok(every.saturating_sub(at.elapsed()));
            }
            Some((mut lease, _)) => {
                lease["spec"]["renewTime"] = json!(format_micro_time(SystemClock.now()));
                self.api.update(&leases(), &lease).await
            }
            None => {
                let now = format_micro_time(SystemClock.now());
                let lease = node::lease(node, self.lease_duration, &now);
                match self.api.create(&leases(), &lease).await {
                    Err(error) if error.is_already_exists() => self.take_over(node, lease).await,
                    outcome => outcome,
                }
            }
        };
        match renewed {
            Ok(lease) => {
                let entry = (lease.into_value(), Instant::now());
                self.leases.lock().insert(node.name().to_owned(), entry);
                Ok(every)
            }
            Err(error) => {
                // Whatever it was: look afresh next time.
                self.leases.lock().remove(node.name());
                Err(error)
            }
        }
    }

    /// A node that is nobody's is claimed; one whose server is gone is taken away.
    async fn not_own(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get(key) else {
            return Ok(Outcome::Done);
        };
        match node.label(SERVER) {
            None => register::claim(&self.api, &self.server, &node).await?,
            Some(own) if own == self.server => {}
            Some(_) => {
                let Some(since) = node::silent_since(&node) else {
                    return Ok(Outcome::Done);
                };
                let silent = SystemClock.now().duration_since(since);
                let silent = Duration::try_from(silent).unwrap_or_default();
                if silent < ABANDONED_AFTER {
                    return Ok(Outcome::RequeueAfter(
                        ABANDONED_AFTER.saturating_sub(silent),
                    ));
                }
                tracing::warn!(
                    node = node.name(),
                    "the server of this virtual node is gone"
                );
                register::abandon(&self.api, &node).await?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn take_over(&self, node: &Object, mut lease: Value) -> Result<Object, Error> {
        let key = ObjectKey::new("kube-node-lease", node.name());
        let present = self.api.get(&leases(), &key).await?;
        lease["metadata"]["resourceVersion"] = json!(present.resource_version());
        self.api.update(&leases(), &lease).await
    }
}

impl Reconciler for Nodes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let own = self.known.lock().own.get(&key.name).cloned();
        let Some(own) = own else {
            self.leases.lock().remove(&key.name);
            return self.not_own(key).await;
        };
        let seen = seen(self.play.as_ref(), &own.node, true);
        let is_out = node::is_out(&seen);
        // Other servers do not know the scenario: they are told that this node is not left alone.
        let is_told = own.node.annotation(SILENCED).is_some();
        let by_scenario = is_out && !node::is_out(&own.node);
        if by_scenario != is_told {
            let told = by_scenario.then_some("by its scenario");
            let patch = json!({"metadata": {"annotations": {SILENCED: told}}});
            self.api
                .merge_patch(&nodes(), key, Subresource::None, &patch)
                .await?;
            return Ok(Outcome::Requeue);
        }
        if is_out {
            self.leases.lock().remove(&key.name);
            return Ok(Outcome::Done);
        }
        match self.status(&own, &seen).await {
            // Somebody else has changed it: the newer state is on its way.
            Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
            outcome => outcome?,
        }
        Ok(Outcome::RequeueAfter(self.lease(&own.node).await?))
    }
}
