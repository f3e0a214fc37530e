//! How far a deployment is. Pure.

use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::is_paused;
use super::rollout::bounds;
use super::sets::Sets;

/// The status of a deployment, and when it may change without an event: its deadline.
pub fn status_of(deployment: &Object, sets: &Sets, now: Timestamp) -> (Value, Option<Duration>) {
    let sum = |field: &str| -> i64 {
        sets.all()
            .map(|set| object::number(set.value(), &["status", field]).unwrap_or(0))
            .sum()
    };
    let wanted = object::number(deployment.value(), &["spec", "replicas"]).unwrap_or(1);
    let updated = sets
        .new
        .as_ref()
        .and_then(|set| object::number(set.value(), &["status", "replicas"]))
        .unwrap_or(0);
    let (total, ready, available) = (
        sum("replicas"),
        sum("readyReplicas"),
        sum("availableReplicas"),
    );
    let size: i64 = sets
        .all()
        .map(|set| object::number(set.value(), &["spec", "replicas"]).unwrap_or(0))
        .sum();
    let mut status = json!({"observedGeneration": deployment.generation()});
    for (name, number) in [
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("unavailableReplicas", (size - available).max(0)),
    ] {
        if number > 0 {
            status[name] = json!(number);
        }
    }
    status["terminatingReplicas"] = json!(sum("terminatingReplicas"));
    if let Some(count) = deployment.get(&["status", "collisionCount"]) {
        status["collisionCount"] = count.clone();
    }
    let mut conditions = object::list(deployment.value(), &["status", "conditions"]).to_vec();
    let (_, max_unavailable) = bounds(deployment);
    set(
        &mut conditions,
        &available_condition(available, wanted - max_unavailable),
        now,
    );
    let complete = updated == wanted && total == wanted && available == wanted;
    let wait = progress(deployment, sets, &mut conditions, &status, complete, now);
    failures(sets, &mut conditions, now);
    status["conditions"] = Value::Array(conditions);
    (status, wait)
}

struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn available_condition(available: i64, minimum: i64) -> Condition {
    let (status, reason, message) = if available >= minimum {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    Condition {
        kind: "Available",
        status,
        reason,
        message: message.to_owned(),
    }
}

/// The `Progressing` condition; gives the time left until the deadline.
fn progress(
    deployment: &Object,
    sets: &Sets,
    conditions: &mut Vec<Value>,
    status: &Value,
    complete: bool,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = object::number(deployment.value(), &["spec", "progressDeadlineSeconds"]);
    let deadline = deadline.filter(|seconds| *seconds < i64::from(i32::MAX))?;
    let name = deployment.name();
    let what = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name()),
        None => format!("Deployment \"{name}\""),
    };
    let old = conditions
        .iter()
        .find(|c| object::text(c, &["type"]) == "Progressing")
        .cloned();
    let reason = old
        .as_ref()
        .map(|c| object::text(c, &["reason"]).to_owned())
        .unwrap_or_default();
    let condition = |status, reason, message: String| Condition {
        kind: "Progressing",
        status,
        reason,
        message,
    };
    if is_paused(deployment) {
        if reason != "DeploymentPaused" {
            set(
                conditions,
                &condition(
                    "Unknown",
                    "DeploymentPaused",
                    "Deployment is paused".to_owned(),
                ),
                now,
            );
        }
        return None;
    }
    if complete {
        let message = format!("{what} has successfully progressed.");
        set(
            conditions,
            &condition("True", "NewReplicaSetAvailable", message),
            now,
        );
        return None;
    }
    let moved = [
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "replicas",
    ]
    .iter()
    .any(|field| {
        let number = |value: &Value| object::number(value, &[field]).unwrap_or(0);
        number(status) != number(deployment.status())
    });
    if old.is_none() || moved || reason == "NewReplicaSetAvailable" || reason == "DeploymentPaused"
    {
        let message = if old.is_none() {
            let created = if sets.old.is_empty() {
                "Created new replica set"
            } else {
                "Found new replica set"
            };
            let set_name = sets.new.as_ref().map(|set| set.name()).unwrap_or_default();
            format!("{created} \"{set_name}\"")
        } else {
            format!("{what} is progressing.")
        };
        let reason = if old.is_none() {
            "NewReplicaSetCreated"
        } else {
            "ReplicaSetUpdated"
        };
        set(conditions, &condition("True", reason, message), now);
        return Some(Duration::from_secs(deadline.max(1) as u64));
    }
    let updated: Timestamp = old
        .as_ref()
        .and_then(|c| object::text(c, &["lastUpdateTime"]).parse().ok())
        .unwrap_or(now);
    let left = updated.as_second() + deadline - now.as_second();
    if left > 0 {
        return Some(Duration::from_secs(left as u64));
    }
    if reason != "ProgressDeadlineExceeded" {
        let message = format!("{what} has timed out progressing.");
        set(
            conditions,
            &condition("False", "ProgressDeadlineExceeded", message),
            now,
        );
    }
    None
}

/// A replica set that cannot make its Pods makes the deployment say so.
fn failures(sets: &Sets, conditions: &mut Vec<Value>, now: Timestamp) {
    let failure = sets.all().find_map(|set| {
        object::list(set.value(), &["status", "conditions"])
            .iter()
            .find(|c| object::text(c, &["type"]) == "ReplicaFailure")
            .map(|c| object::text(c, &["message"]).to_owned())
    });
    match failure {
        Some(message) => set(
            conditions,
            &Condition {
                kind: "ReplicaFailure",
                status: "True",
                reason: "FailedCreate",
                message,
            },
            now,
        ),
        None => conditions.retain(|c| object::text(c, &["type"]) != "ReplicaFailure"),
    }
}

/// Sets a condition: the transition time moves with the status, the update time with any change.
fn set(conditions: &mut Vec<Value>, new: &Condition, now: Timestamp) {
    let now = format_time(now);
    let old = conditions
        .iter_mut()
        .find(|c| object::text(c, &["type"]) == new.kind);
    let same = |old: &Value| {
        object::text(old, &["status"]) == new.status
            && object::text(old, &["reason"]) == new.reason
            && object::text(old, &["message"]) == new.message
    };
    let transition = match &old {
        Some(old) if same(old) => return,
        Some(old) if object::text(old, &["status"]) == new.status => {
            object::text(old, &["lastTransitionTime"]).to_owned()
        }
        _ => now.clone(),
    };
    let condition = json!({
        "type": new.kind,
        "status": new.status,
        "reason": new.reason,
        "message": new.message,
        "lastUpdateTime": now,
        "lastTransitionTime": transition,
    });
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn check(available: i64, second: i64, old: &Value) -> Value {
        let deployment = Object::new(json!({
            "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 10},
            "status": old,
        }));
        let set = Arc::new(Object::new(json!({
            "metadata": {"name": "d-x"},
            "spec": {"replicas": 2},
            "status": {"replicas": 2, "availableReplicas": available, "readyReplicas": available},
        })));
        let sets = Sets {
            new: Some(set),
            old: Vec::new(),
        };
        let now = Timestamp::from_second(1_000 + second).expect("in range");
        status_of(&deployment, &sets, now).0
    }

    fn reason(status: &Value, kind: &str) -> String {
        let found = object::list(status, &["conditions"])
            .iter()
            .find(|c| c["type"] == kind);
        found
            .map(|c| object::text(c, &["reason"]).to_owned())
            .unwrap_or_default()
    }

    #[test]
    fn a_rollout_that_does_not_move_runs_into_its_deadline() {
        let first = check(1, 0, &json!({}));
        assert_eq!(reason(&first, "Progressing"), "NewReplicaSetCreated");
        assert_eq!(reason(&first, "Available"), "MinimumReplicasUnavailable");
        let later = check(1, 9, &first);
        assert_eq!(reason(&later, "Progressing"), "NewReplicaSetCreated");
        let late = check(1, 10, &later);
        assert_eq!(reason(&late, "Progressing"), "ProgressDeadlineExceeded");
        let done = check(2, 20, &late);
        assert_eq!(reason(&done, "Progressing"), "NewReplicaSetAvailable");
        assert_eq!(done["observedGeneration"], 2);
    }
}
