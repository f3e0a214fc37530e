//! Horizontal Pod autoscalers: as many Pods as the load needs.
//!
//! Load has no events, so each autoscaler is looked at every fifteen seconds, as upstream does (`--horizontal-pod-autoscaler-sync-period`). [`calculate`] proposes a
//! number, [`limits`] holds it within what the autoscaler allows; this file reads metrics, writes the target's `scale`
//! and tells in conditions what was found.
//!
//! Scaling to zero is a feature of its own (`HPAScaleToZero`, off as upstream's): an autoscaler goes on from zero where it has brought
//! its target there itself, as the condition `ScaledToZero` says, and not where somebody else has.

mod calculate;
mod limits;
mod metrics;
mod propose;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, Discovery, Event, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    Resource, WorkQueue, format_time, index,
};
use jiff::Timestamp;
use model::{GroupVersion, LabelSelector, object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::limits::{History, Selectors, decide};
use self::metrics::Metrics;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// How often the load is looked at, unless told otherwise.
const PERIOD: Duration = Duration::from_secs(15);
/// The condition that an autoscaler has brought its target to zero itself.
const SCALED_TO_ZERO: &str = "ScaledToZero";
/// How often a write is tried.
const ATTEMPTS: usize = 5;

/// Runs the controller.
pub async fn run(cluster: Cluster, period: Option<Duration>, to_zero: bool) {
    let period = period.unwrap_or(PERIOD);
    let backoff = Backoff {
        base: period,
        max: period,
    };
    let queue: WorkQueue = WorkQueue::new("horizontalpodautoscaler", backoff);
    let autoscalers = cluster.informer(&resources::horizontal_pod_autoscalers());
    let pods = cluster.informer(&resources::pods());
    pods.add_namespace_index();
    let added = queue.clone();
    let _handler = autoscalers.add_handler(move |event| match event {
        // The status is this controller's own.
        Event::Updated { old, new } if old.spec() == new.spec() => {}
        event => added.add(event.object().key()),
    });
    let discovery = Discovery::new(cluster.api().clone());
    let informers = vec![autoscalers.clone(), pods.clone()];
    let reconciler = Autoscalers {
        metrics: Metrics::new(cluster.api().clone(), discovery.clone()),
        recorder: cluster.recorder("horizontal-pod-autoscaler"),
        cluster: cluster.clone(),
        discovery,
        autoscalers,
        pods,
        period,
        to_zero,
        histories: Mutex::default(),
        selectors: Mutex::default(),
    };
    let name = "horizontalpodautoscaler";
    cluster.drive(name, queue, reconciler, informers).await;
}

struct Autoscalers {
    cluster: Cluster,
    discovery: Discovery,
    metrics: Metrics,
    autoscalers: Informer,
    pods: Informer,
    recorder: EventRecorder,
    period: Duration,
    /// Whether targets may be scaled to zero and back.
    to_zero: bool,
    histories: Mutex<HashMap<ObjectKey, History>>,
    /// Which Pods each autoscaler is about, to find two about the same.
    selectors: Mutex<Selectors>,
}

/// One look at an autoscaler.
struct Look<'a> {
    autoscaler: &'a Object,
    conditions: Vec<Value>,
    metrics: Vec<Value>,
    now: Timestamp,
}

impl Look<'_> {
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let holds = if holds { "True" } else { "False" };
        let (found, mut since) = match self.conditions.iter().position(|c| c["type"] == kind) {
            Some(found) => (found, self.conditions[found]["lastTransitionTime"].clone()),
            None => {
                self.conditions.push(Value::Null);
                (self.conditions.len() - 1, Value::Null)
            }
        };
        if self.conditions[found]["status"] != holds {
            since = json!(format_time(self.now));
        }
        self.conditions[found] = json!({
            "type": kind, "status": holds, "reason": reason, "message": message,
            "lastTransitionTime": since,
        });
    }

    fn remove(&mut self, kind: &str) {
        self.conditions
            .retain(|condition| condition["type"] != kind);
    }

    fn holds(&self, kind: &str) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
    }

    /// Whether its load may be known where there are no Pods.
    fn has_outer_metrics(&self) -> bool {
        let metrics = object::list(self.autoscaler.value(), &["spec", "metrics"]);
        let mut kinds = metrics.iter().map(|metric| object::text(metric, &["type"]));
        kinds.any(|kind| matches!(kind, "Object" | "External"))
    }

    /// Tells whether the target was brought to zero, after a change of its scale.
    fn scaled(&mut self, current: i64, desired: i64) {
        let least = object::number(self.autoscaler.value(), &["spec", "minReplicas"]);
        if current > 0 && desired == 0 && least == Some(0) && self.has_outer_metrics() {
            let text = "the HPA controller scaled the workload to zero";
            self.set(SCALED_TO_ZERO, true, "ScaledToZero", text);
        } else {
            let text = "the HPA controller did not scale the workload to zero";
            self.set(SCALED_TO_ZERO, false, "NotScaledToZero", text);
        }
    }

    /// The status as it becomes.
    fn status(&self, current: Option<i64>, desired: i64, rescaled: bool) -> Value {
        let old = self.autoscaler.status();
        let mut status = json!({"desiredReplicas": desired, "conditions": self.conditions});
        let kept = old.get("currentReplicas").cloned();
        if let Some(current) = current.map(|current| json!(current)).or(kept) {
            status["currentReplicas"] = current;
        }
        if !self.metrics.is_empty() {
            status["currentMetrics"] = json!(self.metrics);
        }
        let scaled = old
            .get("lastScaleTime")
            .filter(|time| !time.is_null())
            .cloned();
        let scaled = if rescaled {
            Some(json!(format_time(self.now)))
        } else {
            scaled
        };
        if let Some(scaled) = scaled {
            status["lastScaleTime"] = scaled;
        }
        status
    }
}

/// The target of an autoscaler and its scale.
struct Target {
    resource: Resource,
    key: ObjectKey,
    scale: Value,
}

impl Target {
    fn replicas(&self, part: &str) -> i64 {
        object::number(&self.scale, &[part, "replicas"]).unwrap_or(0)
    }
}

impl Reconciler for Autoscalers {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(autoscaler) = self.autoscalers.get(key) else {
            self.histories.lock().remove(key);
            self.selectors.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let mut look = Look {
            autoscaler: &autoscaler,
            conditions: object::list(autoscaler.status(), &["conditions"]).to_vec(),
            metrics: Vec::new(),
            now: self.cluster.now(),
        };
        let status = self.look(&mut look).await;
        self.write(&autoscaler, status).await?;
        Ok(Outcome::RequeueAfter(self.period))
    }
}

impl Autoscalers {
    /// Writes the status. It says what has been done, which nobody finds out afterwards: so it is tried several times, and put
    /// upon what others have made of the autoscaler meanwhile.
    async fn write(&self, autoscaler: &Object, status: Value) -> Result<(), Error> {
        if status == *autoscaler.status() {
            return Ok(());
        }
        let (api, resource) = (self.cluster.api(), resources::horizontal_pod_autoscalers());
        let mut new = autoscaler.value().clone();
        let mut attempt = 1;
        loop {
            new["status"] = status.clone();
            let error = match api.update_status(&resource, &new).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => error,
            };
            if attempt == ATTEMPTS {
                let text = error.message();
                self.recorder
                    .warning(autoscaler, "FailedUpdateStatus", text);
                return Err(error.into());
            }
            attempt += 1;
            if error.is_conflict()
                && let Ok(current) = api.get(&resource, &autoscaler.key()).await
            {
                if current.uid() != autoscaler.uid() {
                    return Ok(());
                }
                new = current.into_value();
            }
        }
    }

    /// Looks at the load and scales; returns the status.
    async fn look(&self, look: &mut Look<'_>) -> Value {
        let autoscaler = look.autoscaler;
        let desired_before = object::number(autoscaler.status(), &["desiredReplicas"]).unwrap_or(0);
        let mut target = match self.target(autoscaler).await {
            Ok(target) => target,
            Err(why) => {
                self.recorder
                    .warning(autoscaler, "FailedGetScale", why.as_str());
                let text = format!(
                    "the HPA controller was unable to get the target's current scale: {why}"
                );
                look.set("AbleToScale", false, "FailedGetScale", &text);
                return look.status(None, desired_before, false);
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        look.set("AbleToScale", true, "SucceededGetScale", text);
        let current = target.replicas("spec");
        let key = autoscaler.key();
        let mut history = self.histories.lock().remove(&key).unwrap_or_default();
        history.begin(current, look.now);
        let wanted = self.wanted(look, &target, current, &mut history).await;
        let Some((desired, reason)) = wanted else {
            self.histories.lock().insert(key, history);
            return look.status(Some(current), desired_before, false);
        };
        if desired == current {
            self.histories.lock().insert(key, history);
            return look.status(Some(current), current, false);
        }
        let rescaled = self.rescale(&mut target, desired).await;
        let status = match rescaled {
            Ok(()) => {
                let text =
                    format!("the HPA controller was able to update the target scale to {desired}");
                look.set("AbleToScale", true, "SucceededRescale", &text);
                let text = format!("New size: {desired}; reason: {reason}");
                self.recorder.normal(autoscaler, "SuccessfulRescale", text);
                history.changed(current, desired, look.now);
                if self.to_zero {
                    look.scaled(current, desired);
                } else {
                    look.remove(SCALED_TO_ZERO);
                }
                look.status(Some(current), desired, true)
            }
            Err(error) => {
                let why = error.message();
                let text = format!("New size: {desired}; reason: {reason}; error: {why}");
                self.recorder.warning(autoscaler, "FailedRescale", text);
                let text =
                    format!("the HPA controller was unable to update the target scale: {why}");
                look.set("AbleToScale", false, "FailedUpdateScale", &text);
                look.status(Some(current), desired_before, false)
            }
        };
        self.histories.lock().insert(key, history);
        status
    }

    async fn target(&self, autoscaler: &Object) -> Result<Target, String> {
        let reference = |field: &str| {
            object::text(autoscaler.value(), &["spec", "scaleTargetRef", field]).to_owned()
        };
        let version = GroupVersion::parse(&reference("apiVersion")).map_err(|e| e.to_string())?;
        let kind = reference("kind");
        let group = version.group.clone();
        let found = self.discovery.resolve_group_kind(&group, &kind).await;
        let resource = found.map_err(|error| match error {
            controller::Error::NoSuchKind { .. } => {
                format!("no matches for kind {kind:?} in group {group:?}")
            }
            error => error.message(),
        })?;
        let namespace = autoscaler.namespace().unwrap_or_default();
        let key = ObjectKey::new(namespace, reference("name"));
        let scale = self.metrics.scale(&resource, &key).await;
        let scale = scale.map_err(|error| error.message())?;
        Ok(Target {
            resource,
            key,
            scale,
        })
    }

    /// How many Pods there should be and why; none where that cannot be known.
    async fn wanted(
        &self,
        look: &mut Look<'_>,
        target: &Target,
        current: i64,
        history: &mut History,
    ) -> Option<(i64, String)> {
        let spec = |field: &str| object::number(look.autoscaler.value(), &["spec", field]);
        let (least, most) = (
            spec("minReplicas").unwrap_or(1),
            spec("maxReplicas").unwrap_or(1),
        );
        let from_zero = self.to_zero && look.holds(SCALED_TO_ZERO);
        if current == 0 && !(from_zero && (least != 0 || look.has_outer_metrics())) {
            if !self.to_zero {
                look.remove(SCALED_TO_ZERO);
            }
            let text = "scaling is disabled since the replica count of the target is zero";
            look.set("ScalingActive", false, "ScalingDisabled", text);
            return Some((0, String::new()));
        }
        if current > most {
            return Some((
                most,
                "Current number of replicas above Spec.MaxReplicas".to_owned(),
            ));
        }
        if current != 0 && current < least {
            return Some((
                least,
                "Current number of replicas below Spec.MinReplicas".to_owned(),
            ));
        }
        let (proposed, metric) = self.propose(look, target).await?;
        let reason = if proposed > current {
            format!("{metric} above target")
        } else {
            "All metrics below target".to_owned()
        };
        let decision = decide(look.autoscaler, history, current, proposed, look.now);
        look.set("AbleToScale", true, decision.able.0, decision.able.1);
        let (limited, why) = decision.limited;
        look.set("ScalingLimited", limited, why.0, why.1);
        if current == 0 && decision.replicas < least {
            let below = "Current number of replicas below Spec.MinReplicas".to_owned();
            return Some((least, if proposed == 0 { below } else { reason }));
        }
        Some((decision.replicas, reason))
    }

    /// Writes the scale; starts over when somebody else was faster.
    async fn rescale(&self, target: &mut Target, desired: i64) -> Result<(), controller::Error> {
        let path = target.resource.path(&target.key, Some("scale"));
        let api = self.cluster.api();
        let mut attempt = 1;
        loop {
            let mut wanted = target.scale.clone();
            wanted["spec"]["replicas"] = json!(desired);
            match api.put_path(&path, &wanted).await {
                // Of a lost answer nobody knows whether it is done, and it has to be told if it is.
                Err(error)
                    if (error.is_conflict() || error.is_ambiguous()) && attempt < ATTEMPTS =>
                {
                    if let Ok(scale) = api.get_path(&path).await {
                        target.scale = scale;
                    }
                    if error.is_ambiguous() && target.replicas("spec") == desired {
                        return Ok(());
                    }
                    attempt += 1;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// The Pods a target is about; the error is told already.
    fn pods(
        &self,
        look: &mut Look<'_>,
        target: &Target,
    ) -> Option<(LabelSelector, Vec<Arc<Object>>)> {
        let autoscaler = look.autoscaler;
        let text = object::text(&target.scale, &["status", "selector"]);
        if text.is_empty() {
            self.recorder
                .warning(autoscaler, "SelectorRequired", "selector is required");
            let message = "the HPA target's scale is missing a selector";
            look.set("ScalingActive", false, "InvalidSelector", message);
            self.failed(autoscaler, "selector is required");
            return None;
        }
        let mut refuse = |reason: &str, message: &str| {
            self.recorder.warning(autoscaler, reason, message);
            look.set("ScalingActive", false, reason, message);
            self.failed(autoscaler, message);
        };
        let selector = match LabelSelector::parse(text) {
            Ok(selector) => selector,
            Err(error) => {
                let message = format!(
                    "couldn't convert selector into a corresponding internal selector object: {error}"
                );
                refuse("InvalidSelector", &message);
                return None;
            }
        };
        let key = autoscaler.key();
        let namespace = autoscaler.namespace().unwrap_or_default();
        let mut pods = self.pods.by_index(index::NAMESPACE, namespace);
        pods.retain(|pod| selector.matches(object::labels(pod.value())));
        let others = {
            let mut selectors = self.selectors.lock();
            selectors.insert(key.clone(), selector.clone());
            let about = |(other, selector): (&ObjectKey, &LabelSelector)| {
                let same = other.namespace == key.namespace && *other != key;
                let shares = |pod: &Arc<Object>| selector.matches(object::labels(pod.value()));
                (same && pods.iter().any(shares)).then(|| other.clone())
            };
            selectors.iter().filter_map(about).collect::<Vec<_>>()
        };
        if !others.is_empty() {
            let mut all: Vec<String> = others.iter().map(ToString::to_string).collect();
            all.push(key.to_string());
            all.sort();
            let message = format!(
                "pods by selector {text} are controlled by multiple HPAs: [{}]",
                all.join(" ")
            );
            refuse("AmbiguousSelector", &message);
            return None;
        }
        Some((selector, pods))
    }

    fn failed(&self, autoscaler: &Object, why: &str) {
        let reason = "FailedComputeMetricsReplicas";
        self.recorder.warning(autoscaler, reason, why);
    }
}
