//! The row of a Pod in a table: how many containers are ready, and one word for what it is doing.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::age::age;
use crate::cell;

/// The cells of a Pod.
pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod, now);
    let status = |path: &str| object::text(pod, &["status", path]);
    let ip = match object::list(pod, &["status", "podIPs"]).first() {
        Some(first) => object::text(first, &["ip"]),
        None => status("podIP"),
    };
    vec![
        json!(object::name(pod)),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(summary.restarts_text(now)),
        cell::age_of(pod, now),
        cell::or_none(ip),
        cell::or_none(object::text(pod, &["spec", "nodeName"])),
        cell::or_none(status("nominatedNodeName")),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = object::list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = object::list(pod, &["status", "conditions"]);
    let met = gates
        .iter()
        .filter(|gate| {
            let wanted = object::text(gate, &["conditionType"]);
            conditions.iter().any(|condition| {
                object::text(condition, &["type"]) == wanted
                    && object::text(condition, &["status"]) == "True"
            })
        })
        .count();
    format!("{met}/{}", gates.len())
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value, now: Timestamp) -> Self {
        let status = |name: &str| object::text(pod, &["status", name]);
        let phase = status("phase");
        let reason = if status("reason").is_empty() {
            phase
        } else {
            status("reason")
        };
        let mut summary = Self {
            ready: 0,
            total: object::list(pod, &["spec", "containers"]).len(),
            reason: reason.to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let gated = object::list(pod, &["status", "conditions"])
            .iter()
            .any(|condition| {
                object::text(condition, &["type"]) == "PodScheduled"
                    && object::text(condition, &["reason"]) == "SchedulingGated"
            });
        if gated {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let initializing = summary.init_containers(pod);
        if !initializing || is_initialized(pod) {
            summary.containers(pod, phase);
        }
        if object::is_deleting(pod) {
            if status("reason") == "NodeLost" {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(phase, "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        let _ = now;
        summary
    }

    /// Looks at init containers; whether one is still at work.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = object::list(pod, &["spec", "initContainers"]);
        let is_sidecar = |name: &str| {
            specs.iter().any(|container| {
                object::text(container, &["name"]) == name
                    && object::text(container, &["restartPolicy"]) == "Always"
            })
        };
        self.total += specs
            .iter()
            .filter(|container| object::text(container, &["restartPolicy"]) == "Always")
            .count();
        let mut sidecar_restarts = 0;
        let mut sidecar_last = None;
        for (index, status) in object::list(pod, &["status", "initContainerStatuses"])
            .iter()
            .enumerate()
        {
            self.restarts += restart_count(status);
            self.note_restart(status);
            let sidecar = is_sidecar(object::text(status, &["name"]));
            if sidecar {
                sidecar_restarts += restart_count(status);
                sidecar_last = sidecar_last.max(finished_before(status));
            }
            let terminated = object::at(status, &["state", "terminated"]);
            if terminated.is_some_and(|state| object::number(state, &["exitCode"]) == Some(0)) {
                continue;
            }
            if sidecar && status.get("started") == Some(&Value::Bool(true)) {
                self.ready += usize::from(status.get("ready") == Some(&Value::Bool(true)));
                continue;
            }
            let waiting = object::text(status, &["state", "waiting", "reason"]);
            self.reason = if let Some(state) = terminated {
                format!("Init:{}", ended(state))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return true;
        }
        // Once they are done, only what still runs beside the others counts.
        self.restarts = sidecar_restarts;
        self.last_restart = sidecar_last;
        false
    }

    fn containers(&mut self, pod: &Value, phase: &str) {
        let mut running = false;
        for status in object::list(pod, &["status", "containerStatuses"])
            .iter()
            .rev()
        {
            self.restarts += restart_count(status);
            self.note_restart(status);
            let waiting = object::text(status, &["state", "waiting", "reason"]);
            let terminated = object::at(status, &["state", "terminated"]);
            let ready = status.get("ready") == Some(&Value::Bool(true));
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(state) = terminated {
                self.reason = ended(state);
            } else if ready && object::at(status, &["state", "running"]).is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = object::list(pod, &["status", "conditions"])
                .iter()
                .any(|condition| {
                    object::text(condition, &["type"]) == "Ready"
                        && object::text(condition, &["status"]) == "True"
                });
            if ready { "Running" } else { "NotReady" }.clone_into(&mut self.reason);
        }
        let _ = phase;
    }

    fn note_restart(&mut self, status: &Value) {
        self.last_restart = self.last_restart.max(finished_before(status));
    }

    fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(time) if self.restarts > 0 => {
                format!("{} ({} ago)", self.restarts, age(time, now))
            }
            _ => self.restarts.to_string(),
        }
    }
}

fn is_initialized(pod: &Value) -> bool {
    object::list(pod, &["status", "conditions"])
        .iter()
        .any(|condition| {
            object::text(condition, &["type"]) == "Initialized"
                && object::text(condition, &["status"]) == "True"
        })
}

fn restart_count(status: &Value) -> i64 {
    object::number(status, &["restartCount"]).unwrap_or(0)
}

/// When the run before this one ended.
fn finished_before(status: &Value) -> Option<Timestamp> {
    object::text(status, &["lastState", "terminated", "finishedAt"])
        .parse()
        .ok()
}

/// A word for how a container ended.
fn ended(state: &Value) -> String {
    let reason = object::text(state, &["reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match object::number(state, &["signal"]) {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!(
            "ExitCode:{}",
            object::number(state, &["exitCode"]).unwrap_or(0)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_one_word_for_its_state() {
        let check = |status: Value, expect: &str| {
            let pod = json!({"metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]},
                "status": status});
            let cells = cells(&pod, Timestamp::UNIX_EPOCH);
            assert_eq!(cells[2], expect);
        };
        check(json!({"phase": "Pending"}), "Pending");
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "Init:0/1",
        );
        check(
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "CrashLoopBackOff",
        );
        check(
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]}),
            "ExitCode:3",
        );
    }
}
