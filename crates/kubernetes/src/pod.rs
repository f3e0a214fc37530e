//! What controllers ask of Pods, and Pods made from templates.

use std::cmp::Reverse;
use std::time::Duration;

use controller::{Object, owner};
use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

/// Whether a Pod has neither ended nor begun to go.
pub fn is_active(pod: &Object) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed") && !pod.is_terminating()
}

/// The condition that says who ends a Pod and why, for its status.
pub fn disruption(pod: &Object, reason: &str, message: &str, now: &str) -> Value {
    let mut condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": now,
    });
    if pod.generation() > 0 {
        condition["observedGeneration"] = json!(pod.generation());
    }
    condition
}

/// `status.phase`.
pub fn phase(pod: &Object) -> &str {
    object::text(pod.value(), &["status", "phase"])
}

/// The `Ready` condition.
fn ready_condition(pod: &Object) -> Option<&Value> {
    object::list(pod.value(), &["status", "conditions"])
        .iter()
        .find(|condition| object::text(condition, &["type"]) == "Ready")
}

/// Whether the `Ready` condition is true.
pub fn is_ready(pod: &Object) -> bool {
    ready_condition(pod).is_some_and(|condition| object::text(condition, &["status"]) == "True")
}

/// Since when the Pod has been ready.
pub fn ready_since(pod: &Object) -> Option<Timestamp> {
    let condition = ready_condition(pod).filter(|_| is_ready(pod))?;
    object::text(condition, &["lastTransitionTime"])
        .parse()
        .ok()
}

/// Whether a Pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Object, min_ready_seconds: i64, now: Timestamp) -> bool {
    if min_ready_seconds == 0 {
        return is_ready(pod);
    }
    ready_since(pod).is_some_and(|since| now.as_second() - since.as_second() >= min_ready_seconds)
}

/// How long until a Pod that is ready has been so for long enough; none where it is not ready or has.
pub fn available_in(pod: &Object, min_ready_seconds: i64, now: Timestamp) -> Option<Duration> {
    let left = ready_since(pod)?.as_second() + min_ready_seconds - now.as_second();
    let seconds = u64::try_from(left).ok().filter(|seconds| *seconds > 0)?;
    (min_ready_seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A Pod made from the template in an owner's spec.
pub fn from_template(owner: &Object, template: &Value, extra_labels: &[(&str, String)]) -> Value {
    let take = |name: &str| object::at(template, &["metadata", name]).cloned();
    let mut metadata = Map::new();
    metadata.insert(
        "generateName".to_owned(),
        json!(format!("{}-", owner.name())),
    );
    metadata.insert("namespace".to_owned(), json!(owner.namespace()));
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([owner::reference(owner, true)]),
    );
    for name in ["labels", "annotations", "finalizers"] {
        if let Some(value) = take(name).filter(|value| !value.is_null()) {
            metadata.insert(name.to_owned(), value);
        }
    }
    if !extra_labels.is_empty() {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        for (key, value) in extra_labels {
            labels[*key] = json!(value);
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
    })
}

/// How much a Pod deserves to be deleted first; smaller goes first.
pub type DeletionRank = (
    bool,
    u8,
    bool,
    i64,
    Reverse<usize>,
    u32,
    Reverse<i64>,
    u32,
    String,
);

/// Unassigned before assigned, pending before running, not ready before ready, cheap before dear, on a crowded node before on an
/// empty one, ready for a short time before long, restarted before not, young before old: as upstream ranks Pods when a
/// replica set shrinks. Ages count by their order of magnitude, so that Pods of about the same age are of the same rank.
pub fn deletion_rank(pod: &Object, neighbours: usize, now: Timestamp) -> DeletionRank {
    let assigned = !object::text(pod.value(), &["spec", "nodeName"]).is_empty();
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" | "" => 1,
        _ => 2,
    };
    let cost = pod
        .annotation("controller.kubernetes.io/pod-deletion-cost")
        .and_then(|cost| cost.parse::<i32>().ok())
        .unwrap_or(0);
    let restarts = object::list(pod.value(), &["status", "containerStatuses"])
        .iter()
        .filter_map(|status| object::number(status, &["restartCount"]))
        .max()
        .unwrap_or(0);
    let created = pod.creation_timestamp().parse().ok();
    (
        assigned,
        phase,
        is_ready(pod),
        i64::from(cost),
        Reverse(neighbours),
        magnitude(ready_since(pod), now),
        Reverse(restarts),
        magnitude(created, now),
        pod.uid().to_owned(),
    )
}

/// The order of magnitude of an age: the binary logarithm of its nanoseconds, 0 for none.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let age = since.map_or(0, |since| now.as_nanosecond() - since.as_nanosecond());
    u128::try_from(age)
        .ok()
        .and_then(u128::checked_ilog2)
        .map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: bool, node: &str) -> Object {
        let status = if ready { "True" } else { "False" };
        Object::new(json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:10Z"},
            ]},
        }))
    }

    #[test]
    fn a_pod_is_available_some_time_after_it_is_ready() {
        let at = |second: &str| -> Timestamp {
            format!("2026-01-01T00:00:{second}Z")
                .parse()
                .expect("a time")
        };
        assert!(is_available(&pod(true, "n"), 0, at("10")));
        assert!(!is_available(&pod(true, "n"), 5, at("14")));
        assert!(is_available(&pod(true, "n"), 5, at("15")));
        assert!(!is_available(&pod(false, "n"), 0, at("59")));
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let rank = |pod: &Object, crowd| deletion_rank(pod, crowd, now);
        assert!(rank(&pod(false, ""), 0) < rank(&pod(false, "n"), 0));
        assert!(rank(&pod(false, "n"), 0) < rank(&pod(true, "n"), 5));
        assert!(rank(&pod(true, "n"), 2) < rank(&pod(true, "n"), 1));
    }
}
