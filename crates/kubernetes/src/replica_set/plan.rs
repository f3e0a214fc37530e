//! What a replica set has to do, and what its status is. Pure.

use std::sync::Arc;
use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::pod;

/// Most Pods made or deleted at once, as upstream.
const BURST_MAX: usize = 500;

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

/// Decides from a set and its Pods.
pub fn plan(set: &Object, pods: &[Arc<Object>]) -> Plan {
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
    active.sort_by_key(|pod| (pod::deletion_rank(pod), pod.name().to_owned()));
    active.truncate(surplus.min(BURST_MAX));
    Plan::Delete(active)
}

/// The status of a set, and when it may change without an event.
pub fn status_of(
    set: &Object,
    pods: &[Arc<Object>],
    failure: Option<&str>,
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
    let wait = ready
        .iter()
        .filter(|pod| !pod::is_available(pod, min_ready, now))
        .filter_map(|pod| pod::ready_since(pod))
        .map(|since| (since.as_second() + min_ready - now.as_second()).max(1))
        .min()
        .map(|seconds| Duration::from_secs(seconds as u64));
    (status, wait)
}

/// A set that cannot make its Pods says so.
fn conditions(set: &Object, failure: Option<&str>, now: Timestamp) -> Option<Value> {
    let old = object::list(set.value(), &["status", "conditions"]);
    let failed = old
        .iter()
        .any(|c| object::text(c, &["type"]) == "ReplicaFailure");
    let rest = || {
        old.iter()
            .filter(|c| object::text(c, &["type"]) != "ReplicaFailure")
            .cloned()
    };
    match failure {
        Some(_) if failed => Some(Value::Array(old.to_vec())),
        Some(message) => {
            let mut conditions: Vec<Value> = rest().collect();
            conditions.push(json!({
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": message,
                "lastTransitionTime": format_time(now),
            }));
            Some(Value::Array(conditions))
        }
        None => {
            let conditions: Vec<Value> = rest().collect();
            (!conditions.is_empty()).then_some(Value::Array(conditions))
        }
    }
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

    #[test]
    fn a_set_makes_what_is_missing_and_deletes_the_least_useful() {
        assert!(matches!(plan(&set(2), &pods(&[])), Plan::Create(2)));
        assert!(matches!(plan(&set(1), &pods(&[true])), Plan::Keep));
        match plan(&set(1), &pods(&[true, false])) {
            Plan::Delete(pods) => assert_eq!(pods[0].name(), "p1"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_status_counts() {
        let now = "2026-01-01T00:00:05Z".parse().expect("a time");
        let (status, wait) = status_of(&set(2), &pods(&[true, false]), None, now);
        assert_eq!(
            status,
            json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1,
                   "availableReplicas": 1, "terminatingReplicas": 0, "observedGeneration": 3})
        );
        assert_eq!(wait, None);
    }
}
