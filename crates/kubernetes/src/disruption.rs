//! Disruption budgets: how many of the Pods a budget covers may be disrupted now.
//!
//! A budget wants a number or a share of its Pods healthy; a share is of what the Pods' controllers are
//! scaled to. The eviction subresource charges a budget and notes the Pod; this controller drops the
//! note when the Pod goes, or when it has not gone in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, Discovery, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, condition,
    enqueue,
};
use jiff::Timestamp;
use model::{GroupVersionKind, LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::settled::{LAG, Own};
use crate::{pod, resources};

/// How long an evicted Pod may take to begin to go, as upstream.
const DELETION_TIMEOUT: Duration = Duration::from_mins(2);

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("disruption", Backoff::default());
    let budgets = cluster.informer(&resources::pod_disruption_budgets());
    let pods = cluster.informer(&resources::pods());
    pods.add_namespace_index();
    let _budget_handler = budgets.add_handler(enqueue::object(&queue));
    let of_budgets = budgets.clone();
    let _pod_handler = pods.add_handler(enqueue::mapped(&queue, move |pod| {
        budgets_of(&of_budgets, pod)
    }));
    let reconciler = Budgets {
        discovery: Discovery::new(cluster.api().clone()),
        cluster: cluster.clone(),
        budgets: budgets.clone(),
        pods: pods.clone(),
        own: Own::default(),
    };
    cluster
        .drive("disruption", queue, reconciler, vec![budgets, pods])
        .await;
}

fn selector(budget: &Object) -> Option<LabelSelector> {
    let selector = budget.get(&["spec", "selector"])?;
    LabelSelector::from_object(Some(selector)).ok()
}

fn budgets_of(budgets: &Informer, pod: &Object) -> Vec<ObjectKey> {
    let labels = object::labels(pod.value());
    budgets
        .list_namespace(pod.namespace().unwrap_or_default())
        .iter()
        .filter(|budget| selector(budget).is_some_and(|selector| selector.matches(labels)))
        .map(|budget| budget.key())
        .collect()
}

struct Budgets {
    cluster: Cluster,
    discovery: Discovery,
    budgets: Informer,
    pods: Informer,
    own: Own,
}

impl Reconciler for Budgets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(budget) = self.budgets.get(key) else {
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.own.is_shown(&budget) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let selector = selector(&budget);
        let pods: Vec<Arc<Object>> = self
            .pods
            .list_namespace(key.namespace().unwrap_or_default())
            .into_iter()
            .filter(|pod| {
                let labels = object::labels(pod.value());
                selector.as_ref().is_some_and(|own| own.matches(labels))
            })
            .collect();
        let scale = if wants_share(&budget) {
            self.scale(&pods).await
        } else {
            Ok(0)
        };
        let now = self.cluster.now();
        let (status, recheck) = match scale {
            Ok(scale) => plan(&budget, &pods, scale, now),
            Err(error) => (failed(&budget, &error, now), None),
        };
        self.write(&budget, status).await?;
        Ok(recheck.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

/// Whether a budget is about a share of what its Pods' controllers want.
fn wants_share(budget: &Object) -> bool {
    budget.get(&["spec", "maxUnavailable"]).is_some()
        || budget
            .get(&["spec", "minAvailable"])
            .is_some_and(Value::is_string)
}

impl Budgets {
    /// What the controllers of the Pods are scaled to together; Pods without one do not count.
    async fn scale(&self, pods: &[Arc<Object>]) -> Result<i64, Error> {
        let mut scales: BTreeMap<String, i64> = BTreeMap::new();
        for pod in pods {
            let Some(mut owner) = pod.controller_of() else {
                continue;
            };
            let namespace = pod.namespace().unwrap_or_default();
            if scales.contains_key(&owner.uid) {
                continue;
            }
            // A replica set of a deployment is scaled by the deployment.
            if owner.kind == "ReplicaSet" {
                let key = ObjectKey::new(namespace, owner.name.as_str());
                let set = self
                    .cluster
                    .api()
                    .get_opt(&resources::replica_sets(), &key)
                    .await?;
                if let Some(above) = set.and_then(|set| set.controller_of())
                    && above.kind == "Deployment"
                {
                    owner = above;
                }
            }
            let version = owner.api_version.as_str();
            let (group, number) = version.split_once('/').unwrap_or(("", version));
            let kind = GroupVersionKind::new(group, number, owner.kind.as_str());
            let resource = self.discovery.resolve(&kind).await?;
            let key = ObjectKey::new(namespace, owner.name.as_str());
            let path = resource.path(&key, Some("scale"));
            match self.cluster.api().get_path(&path).await {
                Ok(scale) if object::uid(&scale) == owner.uid => {
                    let replicas = object::number(&scale, &["spec", "replicas"]).unwrap_or(0);
                    scales.insert(owner.uid, replicas);
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    return Err(Error::Object {
                        kind: "Pod",
                        name: pod.key().to_string(),
                        why: format!("found no controllers for pod {:?}", pod.name()),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(scales.values().sum())
    }

    async fn write(&self, budget: &Object, status: Value) -> Result<(), Error> {
        if *budget.status() == status {
            return Ok(());
        }
        let mut updated = budget.value().clone();
        updated["status"] = status;
        let resource = resources::pod_disruption_budgets();
        match self.cluster.api().update_status(&resource, &updated).await {
            Ok(written) => {
                self.own.note(&written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A number, or a percentage of `of` rounded up.
fn amount(value: &Value, of: i64) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent.saturating_mul(of) + 99).div_euclid(100)
        }
        number => number.as_i64().unwrap_or(0),
    }
}

/// The status of a budget, and when to look again. Pure.
fn plan(
    budget: &Object,
    pods: &[Arc<Object>],
    scale: i64,
    now: Timestamp,
) -> (Value, Option<Duration>) {
    let (expected, desired) = if let Some(most) = budget.get(&["spec", "maxUnavailable"]) {
        (scale, (scale - amount(most, scale)).max(0))
    } else {
        match budget.get(&["spec", "minAvailable"]) {
            Some(share) if share.is_string() => (scale, amount(share, scale)),
            Some(least) => (pods.len() as i64, amount(least, 0)),
            None => (0, 0),
        }
    };
    let (disrupted, recheck) = still_disrupted(budget, pods, now);
    let healthy = pods
        .iter()
        .filter(|pod| {
            !pod.is_terminating() && !disrupted.contains_key(pod.name()) && pod::is_ready(pod)
        })
        .count() as i64;
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    let mut status = json!({
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": budget.generation(),
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = Value::Object(disrupted);
    }
    if let Some(conditions) = budget.status().get("conditions") {
        status["conditions"] = conditions.clone();
    }
    let reason = if allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    let mut own = condition::Condition::new("DisruptionAllowed", allowed > 0, reason, "");
    own.observed_generation = Some(budget.generation());
    condition::set(&mut status, &own, &controller::format_time(now));
    (status, recheck)
}

/// The noted Pods that have not begun to go and still may.
fn still_disrupted(
    budget: &Object,
    pods: &[Arc<Object>],
    now: Timestamp,
) -> (Map<String, Value>, Option<Duration>) {
    let (mut kept, mut recheck) = (Map::new(), None::<Duration>);
    let noted = budget
        .get(&["status", "disruptedPods"])
        .and_then(Value::as_object);
    for (name, time) in noted.into_iter().flatten() {
        let present = pods
            .iter()
            .any(|pod| pod.name() == name && !pod.is_terminating());
        let since: Option<Timestamp> = time.as_str().and_then(|time| time.parse().ok());
        let Some(since) = since.filter(|_| present) else {
            continue;
        };
        let limit = DELETION_TIMEOUT.as_secs() as i64;
        let left = since.as_second().saturating_add(limit) - now.as_second();
        if left >= 0 {
            let left = Duration::from_secs(left as u64 + 1);
            recheck = Some(recheck.map_or(left, |other| other.min(left)));
            kept.insert(name.clone(), time.clone());
        }
    }
    (kept, recheck)
}

/// Where the number of Pods cannot be told, nothing may be disrupted.
fn failed(budget: &Object, error: &Error, now: Timestamp) -> Value {
    let mut status = budget.status().clone();
    if !status.is_object() {
        status = json!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    }
    status["disruptionsAllowed"] = json!(0);
    let mut own =
        condition::Condition::new("DisruptionAllowed", false, "SyncFailed", error.to_string());
    own.observed_generation = object::number(&status, &["observedGeneration"]);
    condition::set(&mut status, &own, &controller::format_time(now));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, ready: usize, all: usize, scale: i64, expect: (i64, i64, i64)) {
        let budget = Object::new(json!({"metadata": {"generation": 1}, "spec": spec}));
        let pods: Vec<Arc<Object>> = (0..all)
            .map(|index| {
                let status = if index < ready { "True" } else { "False" };
                Arc::new(Object::new(json!({
                    "metadata": {"name": format!("p{index}")},
                    "status": {"conditions": [{"type": "Ready", "status": status}]},
                })))
            })
            .collect();
        let (status, _) = plan(&budget, &pods, scale, Timestamp::UNIX_EPOCH);
        let number = |field: &str| object::number(&status, &[field]).unwrap_or(-1);
        let found = (
            number("expectedPods"),
            number("desiredHealthy"),
            number("disruptionsAllowed"),
        );
        assert_eq!(found, expect, "{status}");
    }

    #[test]
    fn budgets_count_what_may_go() {
        check(json!({"minAvailable": 2}), 3, 3, 0, (3, 2, 1));
        check(json!({"minAvailable": 2}), 2, 3, 0, (3, 2, 0));
        check(json!({"minAvailable": "50%"}), 3, 3, 3, (3, 2, 1));
        check(json!({"maxUnavailable": 1}), 3, 3, 3, (3, 2, 1));
        check(json!({"maxUnavailable": "34%"}), 3, 3, 3, (3, 1, 2));
        check(json!({"minAvailable": 0}), 0, 0, 0, (0, 0, 0));
    }

    #[test]
    fn notes_expire() {
        let at = |seconds: i64| Timestamp::from_second(seconds).expect("in range");
        let budget = Object::new(json!({
            "metadata": {"generation": 1}, "spec": {"minAvailable": 0},
            "status": {"disruptedPods": {"p": "1970-01-01T00:00:00Z", "gone": "1970-01-01T00:00:00Z"}},
        }));
        let pods = [Arc::new(Object::new(json!({"metadata": {"name": "p"}})))];
        let (kept, recheck) = still_disrupted(&budget, &pods, at(60));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["p"]);
        assert_eq!(recheck, Some(Duration::from_secs(61)));
        assert!(still_disrupted(&budget, &pods, at(121)).0.is_empty());
    }
}
