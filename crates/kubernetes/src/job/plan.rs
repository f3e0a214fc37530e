//! What a job has to do, and what its status is. Pure.

use std::sync::Arc;
use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::pod;

/// The next state of a job.
#[derive(Debug)]
pub struct Plan {
    /// Numbers of the Pods to make.
    pub create: Vec<usize>,
    /// Pods to delete.
    pub delete: Vec<Arc<Object>>,
    /// The status.
    pub status: Value,
    /// When to look again without an event.
    pub wait: Option<Duration>,
}

/// Fields whose meaning this controller does not have.
const NOT_SERVED: &[&str] = &[
    "podFailurePolicy",
    "successPolicy",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// Decides from a job and its Pods.
pub fn plan(job: &Object, pods: &[Arc<Object>], now: Timestamp) -> Plan {
    let finished = ["Complete", "Failed"].iter().any(|kind| has(job, kind));
    if finished {
        return Plan {
            create: vec![],
            delete: vec![],
            status: job.status().clone(),
            wait: None,
        };
    }
    let spec = |field: &str| object::number(job.value(), &["spec", field]);
    let phase = |wanted: &str| pods.iter().filter(|pod| pod::phase(pod) == wanted).count();
    let (succeeded, failed) = (phase("Succeeded"), phase("Failed"));
    let active: Vec<Arc<Object>> = pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    let suspended = job.get(&["spec", "suspend"]) == Some(&Value::Bool(true));
    let parallelism = spec("parallelism").unwrap_or(1).max(0) as usize;
    let completions = spec("completions").map(|n| n.max(0) as usize);
    let start = object::text(job.value(), &["status", "startTime"])
        .parse::<Timestamp>()
        .ok();
    let start = if suspended {
        None
    } else {
        Some(start.unwrap_or(now))
    };
    let elapsed = start.map_or(0, |start| now.as_second() - start.as_second());
    let deadline = spec("activeDeadlineSeconds");

    let complete = match completions {
        Some(wanted) => succeeded >= wanted,
        None => succeeded > 0 && active.is_empty(),
    };
    let failure = if let Some(field) = not_served(job) {
        Some((
            "FeatureNotServed",
            format!("spec.{field} is not served by this job controller"),
        ))
    } else if failed as i64 > spec("backoffLimit").unwrap_or(6) {
        Some((
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".to_owned(),
        ))
    } else if deadline.is_some_and(|deadline| elapsed >= deadline) {
        Some((
            "DeadlineExceeded",
            "Job was active longer than specified deadline".to_owned(),
        ))
    } else {
        None
    };
    let (mut create, mut delete) = (Vec::new(), Vec::new());
    if failure.is_some() || suspended {
        delete.clone_from(&active);
    } else if !complete {
        let wanted = match completions {
            Some(wanted) => parallelism.min(wanted - succeeded),
            None if succeeded > 0 => active.len(),
            None => parallelism,
        };
        if active.len() < wanted {
            create = (pods.len()..pods.len() + wanted - active.len()).collect();
        } else {
            delete.extend(active.iter().skip(wanted).cloned());
        }
    }
    let left = active.len() - delete.len();
    let mut status = status(job, left, succeeded, failed, start);
    let ready = active
        .iter()
        .filter(|pod| pod::is_ready(pod))
        .count()
        .min(left);
    status["ready"] = json!(ready);
    if let Some((reason, message)) = failure {
        for kind in ["FailureTarget", "Failed"] {
            push(&mut status, kind, reason, &message, now);
        }
    } else if complete && left == 0 {
        let message = "Reached expected number of succeeded pods";
        for kind in ["SuccessCriteriaMet", "Complete"] {
            push(&mut status, kind, "CompletionsReached", message, now);
        }
        status["completionTime"] = json!(format_time(now));
    } else if suspended && !has(job, "Suspended") {
        push(
            &mut status,
            "Suspended",
            "JobSuspended",
            "Job suspended",
            now,
        );
    }
    let wait = deadline.map(|deadline| Duration::from_secs((deadline - elapsed).max(1) as u64));
    Plan {
        create,
        delete,
        status,
        wait,
    }
}

fn has(job: &Object, kind: &str) -> bool {
    object::list(job.value(), &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == kind
                && object::text(condition, &["status"]) == "True"
        })
}

fn not_served(job: &Object) -> Option<&'static str> {
    if object::text(job.value(), &["spec", "completionMode"]) == "Indexed" {
        return Some("completionMode");
    }
    NOT_SERVED
        .iter()
        .find(|field| job.get(&["spec", field]).is_some())
        .copied()
}

fn status(
    job: &Object,
    active: usize,
    succeeded: usize,
    failed: usize,
    start: Option<Timestamp>,
) -> Value {
    let mut status = json!({"uncountedTerminatedPods": {}, "terminating": 0});
    for (name, number) in [
        ("active", active),
        ("succeeded", succeeded),
        ("failed", failed),
    ] {
        if number > 0 {
            status[name] = json!(number);
        }
    }
    if let Some(start) = start {
        status["startTime"] = json!(format_time(start));
    }
    let conditions = object::list(job.value(), &["status", "conditions"]);
    let kept: Vec<&Value> = conditions
        .iter()
        .filter(|c| start.is_none() || object::text(c, &["type"]) != "Suspended")
        .collect();
    if !kept.is_empty() {
        status["conditions"] = json!(kept);
    }
    status
}

fn push(status: &mut Value, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let now = format_time(now);
    let condition = json!({
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": now,
        "lastTransitionTime": now,
    });
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions.push(condition),
        None => status["conditions"] = json!([condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: Value, status: Value) -> Object {
        Object::new(json!({"metadata": {"name": "j"}, "spec": spec, "status": status}))
    }

    fn pods(phases: &[&str]) -> Vec<Arc<Object>> {
        phases
            .iter()
            .map(|phase| {
                Arc::new(Object::new(
                    json!({"metadata": {"name": phase}, "status": {"phase": phase}}),
                ))
            })
            .collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_job_runs_its_pods_and_completes() {
        let spec = json!({"completions": 2, "parallelism": 1});
        let first = plan(&job(spec.clone(), json!({})), &[], at(0));
        assert_eq!(first.create, [0]);
        let second = plan(
            &job(spec.clone(), first.status),
            &pods(&["Succeeded"]),
            at(1),
        );
        assert_eq!(second.create, [1]);
        let last = plan(
            &job(spec, second.status),
            &pods(&["Succeeded", "Succeeded"]),
            at(2),
        );
        assert!(last.create.is_empty());
        assert_eq!(last.status["completionTime"], "1970-01-01T00:00:02Z");
        assert_eq!(last.status["conditions"][1]["type"], "Complete");
    }

    #[test]
    fn a_job_fails_at_its_limits() {
        let limited = job(json!({"backoffLimit": 0}), json!({}));
        let failed = plan(&limited, &pods(&["Failed"]), at(0));
        assert_eq!(
            failed.status["conditions"][1]["reason"],
            "BackoffLimitExceeded"
        );
        let started = json!({"startTime": "1970-01-01T00:00:00Z"});
        let late = job(json!({"activeDeadlineSeconds": 5}), started);
        let late = plan(&late, &pods(&["Running"]), at(5));
        assert_eq!(late.delete.len(), 1);
        assert_eq!(late.status["conditions"][1]["reason"], "DeadlineExceeded");
    }

    #[test]
    fn a_suspended_job_has_no_pods() {
        let suspended = job(json!({"suspend": true}), json!({}));
        let plan = plan(&suspended, &pods(&["Running"]), at(0));
        assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
        assert!(plan.status.get("startTime").is_none());
    }
}
