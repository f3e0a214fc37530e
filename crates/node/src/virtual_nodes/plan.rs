//! What a kubelet would report of a Pod. Pure.

use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::RUN_SECONDS;

/// How long containers that are to end run where nothing else is said.
const RUN_SECONDS_DEFAULT: i64 = 1;

/// What to do for a Pod.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// Nothing yet.
    Wait(Duration),
    /// It has been deleted and its containers have ended: take it away.
    Delete,
    /// Report a status, and look again after a while.
    Report {
        /// The status.
        status: Value,
        /// When to look again.
        wait: Option<Duration>,
    },
}

/// Decides.
pub fn plan(pod: &Object, address: &str, now: Timestamp) -> Plan {
    if pod.is_terminating() {
        return Plan::Delete;
    }
    let phase = object::text(pod.value(), &["status", "phase"]);
    if matches!(phase, "Succeeded" | "Failed") {
        return Plan::Keep;
    }
    let ends = object::text(pod.value(), &["spec", "restartPolicy"]) != "Always"
        && !object::text(pod.value(), &["spec", "restartPolicy"]).is_empty();
    let run = pod
        .annotation(RUN_SECONDS)
        .and_then(|text| text.parse().ok())
        .unwrap_or(RUN_SECONDS_DEFAULT)
        .max(0);
    let started = object::text(pod.value(), &["status", "startTime"])
        .parse::<Timestamp>()
        .ok();
    if phase == "Running"
        && let Some(started) = started
    {
        let left = started.as_second() + run - now.as_second();
        if ends && left <= 0 {
            return Plan::Report {
                status: ended(pod, started, now),
                wait: None,
            };
        }
        let wait = Duration::from_secs(left.max(1) as u64);
        let wanted = running(pod, address, started, now);
        if wanted != *pod.status() {
            return Plan::Report {
                status: wanted,
                wait: ends.then_some(wait),
            };
        }
        return if ends { Plan::Wait(wait) } else { Plan::Keep };
    }
    let status = running(pod, address, started.unwrap_or(now), now);
    let wait = Duration::from_secs(run.max(1) as u64);
    Plan::Report {
        status,
        wait: ends.then_some(wait),
    }
}

fn condition(pod: &Object, kind: &str, status: &str, reason: &str, now: Timestamp) -> Value {
    let old = object::list(pod.value(), &["status", "conditions"])
        .iter()
        .find(|old| {
            object::text(old, &["type"]) == kind && object::text(old, &["status"]) == status
        });
    let since = match old {
        Some(old) => object::text(old, &["lastTransitionTime"]).to_owned(),
        None => format_time(now),
    };
    let mut condition = json!({
        "type": kind,
        "status": status,
        "lastProbeTime": null,
        "lastTransitionTime": since,
    });
    if pod.generation() > 0 {
        condition["observedGeneration"] = json!(pod.generation());
    }
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    condition
}

fn base(pod: &Object, phase: &str, started: Timestamp, conditions: Vec<Value>) -> Value {
    let mut status = json!({
        "phase": phase,
        "conditions": conditions,
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "startTime": format_time(started),
    });
    for name in ["qosClass", "podIP", "podIPs"] {
        if let Some(value) = pod.get(&["status", name]) {
            status[name] = value.clone();
        }
    }
    if pod.generation() > 0 {
        status["observedGeneration"] = json!(pod.generation());
    }
    status
}

fn running(pod: &Object, address: &str, started: Timestamp, now: Timestamp) -> Value {
    let conditions = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    .iter()
    .map(|kind| condition(pod, kind, "True", "", now))
    .collect();
    let mut status = base(pod, "Running", started, conditions);
    status["podIP"] = json!(address);
    status["podIPs"] = json!([{"ip": address}]);
    let since = format_time(started);
    status["containerStatuses"] = containers(pod, "containers", |_| {
        (json!({"running": {"startedAt": since}}), true, true)
    });
    let init = containers(pod, "initContainers", |container| {
        if object::text(container, &["restartPolicy"]) == "Always" {
            (json!({"running": {"startedAt": since}}), true, true)
        } else {
            (terminated(&since, &since), true, false)
        }
    });
    if init.as_array().is_some_and(|list| !list.is_empty()) {
        status["initContainerStatuses"] = init;
    }
    status
}

fn ended(pod: &Object, started: Timestamp, now: Timestamp) -> Value {
    let reason = "PodCompleted";
    let conditions = [
        ("PodReadyToStartContainers", "False", ""),
        ("Initialized", "True", reason),
        ("Ready", "False", reason),
        ("ContainersReady", "False", reason),
        ("PodScheduled", "True", ""),
    ]
    .iter()
    .map(|(kind, status, reason)| condition(pod, kind, status, reason, now))
    .collect();
    let mut status = base(pod, "Succeeded", started, conditions);
    let (since, until) = (format_time(started), format_time(now));
    status["containerStatuses"] = containers(pod, "containers", |_| {
        (terminated(&since, &until), false, false)
    });
    status
}

fn terminated(since: &str, until: &str) -> Value {
    json!({"terminated": {
        "exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": until,
    }})
}

/// The statuses of a Pod's containers; `state` gives the state, ready and started of each.
fn containers(pod: &Object, field: &str, state: impl Fn(&Value) -> (Value, bool, bool)) -> Value {
    let statuses: Vec<Value> = object::list(pod.value(), &["spec", field])
        .iter()
        .map(|container| {
            let (state, ready, started) = state(container);
            let name = object::text(container, &["name"]);
            let image = object::text(container, &["image"]);
            json!({
                "name": name,
                "image": image,
                "imageID": format!("virtual://{image}"),
                "containerID": format!("virtual://{}/{name}", pod.uid()),
                "ready": ready,
                "started": started,
                "restartCount": 0,
                "state": state,
                "lastState": {},
            })
        })
        .collect();
    Value::Array(statuses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(policy: &str, status: Value) -> Object {
        Object::new(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]},
            "status": status,
        }))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn report(plan: Plan) -> Value {
        match plan {
            Plan::Report { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_runs_and_stays() {
        let status = report(plan(
            &pod("Always", json!({"phase": "Pending"})),
            "10.0.0.1",
            at(0),
        ));
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["containerStatuses"][0]["ready"], true);
        assert_eq!(plan(&pod("Always", status), "10.0.0.1", at(9)), Plan::Keep);
    }

    #[test]
    fn a_pod_that_is_to_end_ends() {
        let status = report(plan(
            &pod("Never", json!({"phase": "Pending"})),
            "10.0.0.1",
            at(0),
        ));
        assert_eq!(
            plan(&pod("Never", status.clone()), "10.0.0.1", at(0)),
            Plan::Wait(Duration::from_secs(1))
        );
        let done = report(plan(&pod("Never", status), "10.0.0.1", at(1)));
        assert_eq!(done["phase"], "Succeeded");
        assert_eq!(
            done["containerStatuses"][0]["state"]["terminated"]["exitCode"],
            0
        );
        assert_eq!(plan(&pod("Never", done), "10.0.0.1", at(5)), Plan::Keep);
    }
}
