//! What a replica set has to do, and what its status is. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::pod;

/// Most Pods made or deleted at once, as upstream.
const BURST_MAX: usize = 500;

/// Why a set could not get its Pods right, in the server's words.
#[derive(Debug)]
pub enum Failure {
    /// Creating.
    Create(String),
    /// Deleting.
    Delete(String),
}

/// What to do.
#[derive(Debug)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// Make so many Pods.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Object>>),
}

/// Decides from a set and its Pods; `neighbours` counts the Pods of the same application on a node.
pub fn plan(
    set: &Object,
    pods: &[Arc<Object>],
    neighbours: impl Fn(&str) -> usize,
    now: Timestamp,
) -> Plan {
    let wanted = object::number(set.value(), &["spec", "replicas"])
        .unwrap_or(1)
        .max(0) as usize;
    let mut active: Vec<Arc<Object>> = pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    if active.len() < wanted {
        return Plan::Create((wanted - active.len()).min(BURST_MAX));
    }
    let surplus = active.len() - wanted;
    if surplus == 0 {
        return Plan::Keep;
    }
    let mut crowds: BTreeMap<String, usize> = BTreeMap::new();
    active.sort_by_cached_key(|pod| {
        let node = object::text(pod.value(), &["spec", "nodeName"]);
        let crowd = *crowds
            .entry(node.to_owned())
            .or_insert_with(|| neighbours(node));
        pod::deletion_rank(pod, crowd, now)
    });
    active.truncate(surplus.min(BURST_MAX));
    Plan::Delete(active)
}

/// The status of a set, and when it may change without an event.
pub fn status_of(
    set: &Object,
    pods: &[Arc<Object>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> (Value, Option<Duration>) {
    let min_ready = object::number(set.value(), &["spec", "minReadySeconds"]).unwrap_or(0);
    let template = set
        .get(&["spec", "template", "metadata", "labels"])
        .and_then(Value::as_object);
    let labelled = |pod: &Object| {
        template
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.label(key) == value.as_str())
    };
    let active: Vec<&Arc<Object>> = pods.iter().filter(|pod| pod::is_active(pod)).collect();
    let ready: Vec<&&Arc<Object>> = active.iter().filter(|pod| pod::is_ready(pod)).collect();
    let available = ready
        .iter()
        .filter(|pod| pod::is_available(pod, min_ready, now))
        .count();
    let terminating = pods
        .iter()
        .filter(|pod| pod.is_terminating() && !matches!(pod::phase(pod), "Succeeded" | "Failed"))
        .count();
    let mut status = json!({
        "replicas": active.len(),
        "observedGeneration": set.generation(),
    });
    let mut count = |name: &str, number: usize| {
        if number > 0 {
            status[name] = json!(number);
        }
    };
    count(
        "fullyLabeledReplicas",
        active.iter().filter(|pod| labelled(pod)).count(),
    );
    count("readyReplicas", ready.len());
    count("availableReplicas", available);
    status["terminatingReplicas"] = json!(terminating);
    if let Some(conditions) = conditions(set, failure, now) {
        status["conditions"] = conditions;
    }
    let waits = ready
        .iter()
        .filter_map(|pod| pod::available_in(pod, min_ready, now));
    let wait = waits.min();
    (status, wait)
}

/// A set that cannot make or delete its Pods says so.
fn conditions(set: &Object, failure: Option<&Failure>, now: Timestamp) -> Option<Value> {
    let old = object::list(set.value(), &["status", "conditions"]);
    let is_failure = |condition: &Value| object::text(condition, &["type"]) == "ReplicaFailure";
    let Some(failure) = failure else {
        let rest: Vec<Value> = old.iter().filter(|c| !is_failure(c)).cloned().collect();
        return (!rest.is_empty()).then_some(Value::Array(rest));
    };
    let mut conditions = old.to_vec();
    if !old.iter().any(is_failure) {
        let (reason, message) = match failure {
            Failure::Create(message) => ("FailedCreate", message.clone()),
            Failure::Delete(message) => {
                ("FailedDelete", format!("unable to delete pods: {message}"))
            }
        };
        conditions.push(json!({
            "type": "ReplicaFailure",
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(now),
        }));
    }
    Some(Value::Array(conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i64) -> Object {
        Object::new(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "u", "generation": 3},
            "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"a": "b"}}}},
        }))
    }

    fn pods(ready: &[bool]) -> Vec<Arc<Object>> {
        ready
            .iter()
            .enumerate()
            .map(|(index, ready)| {
                let status = if *ready { "True" } else { "False" };
                Arc::new(Object::new(json!({
                    "metadata": {"name": format!("p{index}"), "labels": {"a": "b"}},
                    "status": {"phase": "Running", "conditions": [
                        {"type": "Ready", "status": status,
                         "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    ]},
                })))
            })
            .collect()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:05Z".parse().expect("a time")
    }

    #[test]
    fn a_set_makes_what_is_missing_and_deletes_the_least_useful() {
        assert!(matches!(
            plan(&set(2), &pods(&[]), |_| 0, now()),
            Plan::Create(2)
        ));
        assert!(matches!(
            plan(&set(1), &pods(&[true]), |_| 0, now()),
            Plan::Keep
        ));
        match plan(&set(1), &pods(&[true, false]), |_| 0, now()) {
            Plan::Delete(pods) => assert_eq!(pods[0].name(), "p1"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_status_counts() {
        let (status, wait) = status_of(&set(2), &pods(&[true, false]), None, now());
        assert_eq!(
            status,
            json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1,
                   "availableReplicas": 1, "terminatingReplicas": 0, "observedGeneration": 3})
        );
        assert_eq!(wait, None);
    }
}
