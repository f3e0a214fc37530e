//! How far a deployment is. Pure.

use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::is_paused;
use super::rollout::bounds;
use super::sets::Sets;

/// What a pass did to a deployment, as far as its conditions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It was scaled, is paused, or goes: no progress is to be seen.
    Upkeep,
    /// It was rolled on.
    Rollout,
    /// It was rolled on and its new set was made.
    Created,
}

/// The status of a deployment, and when it may change without an event: its deadline.
pub fn status_of(
    deployment: &Object,
    sets: &Sets,
    pass: Pass,
    now: Timestamp,
) -> (Value, Option<Duration>) {
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
    let progress = Progress {
        deployment,
        sets,
        status: &status,
        complete: updated == wanted && total == wanted && available == wanted,
        now,
    };
    let wait = progress.note(&mut conditions, pass);
    if pass != Pass::Upkeep {
        failures(sets, &mut conditions, now);
    }
    status["conditions"] = Value::Array(conditions);
    (status, wait)
}

/// Whether what the status says is all that is wanted.
pub fn is_complete(deployment: &Object) -> bool {
    let number = |field: &str| object::number(deployment.status(), &[field]).unwrap_or(0);
    let wanted = object::number(deployment.value(), &["spec", "replicas"]).unwrap_or(1);
    ["updatedReplicas", "replicas", "availableReplicas"]
        .iter()
        .all(|field| number(field) == wanted)
        && number("observedGeneration") >= deployment.generation()
}

/// The status of a deployment whose new set could not be made; none where it says so already, or has no deadline.
pub fn with_failed_creation(deployment: &Object, message: &str, now: Timestamp) -> Option<Value> {
    let path = ["spec", "progressDeadlineSeconds"];
    let deadline = object::number(deployment.value(), &path);
    deadline.filter(|seconds| *seconds < i64::from(i32::MAX))?;
    let mut status = deployment.status().clone();
    let mut conditions = object::list(&status, &["conditions"]).to_vec();
    let condition = progressing("False", "ReplicaSetCreateError", message.to_owned());
    set(&mut conditions, &condition, now);
    status["conditions"] = Value::Array(conditions);
    (status != *deployment.status()).then_some(status)
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

/// What the `Progressing` condition follows from.
struct Progress<'a> {
    deployment: &'a Object,
    sets: &'a Sets,
    status: &'a Value,
    complete: bool,
    now: Timestamp,
}

/// The reason of the `Progressing` condition, empty where there is none.
fn reason_of(conditions: &[Value]) -> &str {
    let found = conditions
        .iter()
        .find(|c| object::text(c, &["type"]) == "Progressing");
    found.map_or("", |c| object::text(c, &["reason"]))
}

fn progressing(status: &'static str, reason: &'static str, message: String) -> Condition {
    Condition {
        kind: "Progressing",
        status,
        reason,
        message,
    }
}

impl Progress<'_> {
    /// Brings the `Progressing` condition up to date; gives the time left until the deadline.
    fn note(&self, conditions: &mut Vec<Value>, pass: Pass) -> Option<Duration> {
        let seconds = object::number(
            self.deployment.value(),
            &["spec", "progressDeadlineSeconds"],
        );
        let Some(deadline) = seconds.filter(|seconds| *seconds < i64::from(i32::MAX)) else {
            if pass != Pass::Upkeep {
                conditions.retain(|c| object::text(c, &["type"]) != "Progressing");
            }
            return None;
        };
        self.note_pause(conditions);
        if pass == Pass::Upkeep {
            return None;
        }
        self.note_new_set(conditions, pass);
        self.note_progress(conditions, deadline);
        if self.complete || matches!(reason_of(conditions), "" | "ProgressDeadlineExceeded") {
            return None;
        }
        // A second more, so that it is surely over then.
        let left = self.deadline_left(conditions, deadline).max(0) + 1;
        Some(Duration::from_secs(left as u64))
    }

    /// A deployment that is paused makes no progress; one that is resumed begins anew.
    fn note_pause(&self, conditions: &mut Vec<Value>) {
        let condition = match (is_paused(self.deployment), reason_of(conditions)) {
            (_, "ProgressDeadlineExceeded") | (true, "DeploymentPaused") => return,
            (true, _) => ("DeploymentPaused", "Deployment is paused"),
            (false, "DeploymentPaused") => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        let (reason, message) = condition;
        set(
            conditions,
            &progressing("Unknown", reason, message.to_owned()),
            self.now,
        );
    }

    fn note_new_set(&self, conditions: &mut Vec<Value>, pass: Pass) {
        let Some(new) = &self.sets.new else { return };
        let (reason, verb) = match pass {
            Pass::Created => ("NewReplicaSetCreated", "Created"),
            _ if reason_of(conditions).is_empty() => ("FoundNewReplicaSet", "Found"),
            _ => return,
        };
        let message = format!("{verb} new replica set \"{}\"", new.name());
        set(conditions, &progressing("True", reason, message), self.now);
    }

    fn note_progress(&self, conditions: &mut Vec<Value>, deadline: i64) {
        let number = |status: &Value, field: &str| object::number(status, &[field]).unwrap_or(0);
        let (old, new) = (self.deployment.status(), self.status);
        let reason = reason_of(conditions);
        let only_new = number(new, "replicas") == number(new, "updatedReplicas");
        if only_new && reason == "NewReplicaSetAvailable" {
            return;
        }
        let what = match &self.sets.new {
            Some(set) => format!("ReplicaSet \"{}\"", set.name()),
            None => format!("Deployment \"{}\"", self.deployment.name()),
        };
        let others =
            |status: &Value| number(status, "replicas") - number(status, "updatedReplicas");
        let more = |field: &str| number(new, field) > number(old, field);
        if self.complete {
            let message = format!("{what} has successfully progressed.");
            let condition = progressing("True", "NewReplicaSetAvailable", message);
            set(conditions, &condition, self.now);
        } else if more("updatedReplicas")
            || others(new) < others(old)
            || more("readyReplicas")
            || more("availableReplicas")
        {
            let message = format!("{what} is progressing.");
            let condition = progressing("True", "ReplicaSetUpdated", message);
            touch(conditions, &condition, self.now);
        } else if !matches!(
            reason,
            "" | "NewReplicaSetAvailable" | "ProgressDeadlineExceeded"
        ) && self.deadline_left(conditions, deadline) < 0
        {
            let message = format!("{what} has timed out progressing.");
            let condition = progressing("False", "ProgressDeadlineExceeded", message);
            set(conditions, &condition, self.now);
        }
    }

    /// The seconds until the last progress is too long ago.
    fn deadline_left(&self, conditions: &[Value], deadline: i64) -> i64 {
        let condition = conditions
            .iter()
            .find(|c| object::text(c, &["type"]) == "Progressing");
        let updated = condition.and_then(|c| object::text(c, &["lastUpdateTime"]).parse().ok());
        let updated: Timestamp = updated.unwrap_or(self.now);
        updated.as_second() + deadline - self.now.as_second()
    }
}

/// A replica set that cannot make its Pods makes the deployment say so.
fn failures(sets: &Sets, conditions: &mut Vec<Value>, now: Timestamp) {
    let failure = sets.new.iter().chain(&sets.old).find_map(|set| {
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

/// Sets a condition, unless it has its status and reason already.
fn set(conditions: &mut Vec<Value>, new: &Condition, now: Timestamp) {
    let same = conditions.iter().any(|old| {
        object::text(old, &["type"]) == new.kind
            && object::text(old, &["status"]) == new.status
            && object::text(old, &["reason"]) == new.reason
    });
    if !same {
        touch(conditions, new, now);
    }
}

/// Sets a condition: the transition time moves with the status, the update time in any case.
fn touch(conditions: &mut Vec<Value>, new: &Condition, now: Timestamp) {
    let now = format_time(now);
    let old = conditions
        .iter_mut()
        .find(|c| object::text(c, &["type"]) == new.kind);
    let transition = match &old {
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

    fn check(available: i64, second: i64, pass: Pass, old: &Value) -> Value {
        let deployment = Object::new(json!({
            "metadata": {"name": "d", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 10},
            "status": old,
        }));
        let made = if pass == Pass::Created { 0 } else { 2 };
        let set = Arc::new(Object::new(json!({
            "metadata": {"name": "d-x"},
            "spec": {"replicas": 2},
            "status": {"replicas": made, "availableReplicas": available, "readyReplicas": available},
        })));
        let sets = Sets {
            new: Some(set),
            old: Vec::new(),
        };
        let now = Timestamp::from_second(1_000 + second).expect("in range");
        status_of(&deployment, &sets, pass, now).0
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
        let first = check(0, 0, Pass::Created, &json!({}));
        assert_eq!(reason(&first, "Progressing"), "NewReplicaSetCreated");
        assert_eq!(reason(&first, "Available"), "MinimumReplicasUnavailable");
        let moved = check(1, 5, Pass::Rollout, &first);
        assert_eq!(reason(&moved, "Progressing"), "ReplicaSetUpdated");
        let later = check(1, 15, Pass::Rollout, &moved);
        assert_eq!(reason(&later, "Progressing"), "ReplicaSetUpdated");
        let late = check(1, 16, Pass::Rollout, &later);
        assert_eq!(reason(&late, "Progressing"), "ProgressDeadlineExceeded");
        let done = check(2, 20, Pass::Rollout, &late);
        assert_eq!(reason(&done, "Progressing"), "NewReplicaSetAvailable");
        assert_eq!(done["observedGeneration"], 2);
        let found = check(1, 0, Pass::Rollout, &json!({}));
        assert_eq!(reason(&found, "Progressing"), "ReplicaSetUpdated");
    }
}
