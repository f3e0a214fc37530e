//! What a kubelet would report of a Pod. Pure.

use std::time::Duration;

use controller::{Object, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::behaviour;
use super::conditions::{self, Containers, code, set};
use super::container::{self, Role, Setting, after, whole};
use super::resize::{self, Verdict};

/// The node a Pod is on.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Its address.
    pub address: &'a str,
    /// What it has to give, by resource.
    pub allocatable: &'a Value,
}

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
pub fn plan(pod: &Object, host: Host<'_>, addresses: &[String], now: Timestamp) -> Plan {
    let has_ended = matches!(phase(pod), "Succeeded" | "Failed");
    if pod.is_terminating() {
        return going(pod, has_ended, now);
    }
    if has_ended {
        return Plan::Keep;
    }
    let started = object::text(pod.status(), &["startTime"])
        .parse()
        .unwrap_or(whole(now));
    if let Some(message) = behaviour::evicted(pod) {
        return report(pod, failed(pod, "Evicted", message, now), None, now);
    }
    let deadline = object::number(pod.spec(), &["activeDeadlineSeconds"])
        .map(|seconds| after(started, seconds));
    if deadline.is_some_and(|deadline| now >= deadline) {
        let message = "Pod was active on the node longer than the specified deadline";
        return report(
            pod,
            failed(pod, "DeadlineExceeded", message, now),
            None,
            now,
        );
    }
    let (status, at) = living(pod, host, addresses, started, now);
    report(pod, status, at.into_iter().chain(deadline).min(), now)
}

/// Whether a Pod needs addresses of its own: it lives, and not with its node's.
pub fn needs_addresses(pod: &Object) -> bool {
    let has_ended = matches!(phase(pod), "Succeeded" | "Failed");
    !pod.is_terminating() && !has_ended && !is_on_host_network(pod)
}

fn is_on_host_network(pod: &Object) -> bool {
    pod.get(&["spec", "hostNetwork"]) == Some(&Value::Bool(true))
}

fn phase(pod: &Object) -> &str {
    object::text(pod.status(), &["phase"])
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = at.duration_since(now);
    Duration::try_from(left)
        .unwrap_or_default()
        .max(Duration::from_millis(10))
}

fn report(pod: &Object, status: Value, at: Option<Timestamp>, now: Timestamp) -> Plan {
    let ended = matches!(object::text(&status, &["phase"]), "Succeeded" | "Failed");
    let wait = at.filter(|_| !ended).map(|at| until(at, now));
    if status == *pod.status() {
        return wait.map_or(Plan::Keep, Plan::Wait);
    }
    Plan::Report { status, wait }
}

/// A Pod that has been deleted.
fn going(pod: &Object, has_ended: bool, now: Timestamp) -> Plan {
    let grace = object::number(pod.value(), &["metadata", "deletionGracePeriodSeconds"]);
    let stop = behaviour::stop_seconds(pod);
    let told = object::text(pod.value(), &["metadata", "deletionTimestamp"]);
    if let Ok(deleted) = told.parse::<Timestamp>() {
        // The time written is when the grace period ends.
        let ends = after(deleted, stop - grace.unwrap_or(0).max(0));
        if now < ends {
            return Plan::Wait(until(ends, now));
        }
    }
    // Who looks at a Pod to the last, by a finalizer, is told how its containers ended.
    let is_watched = pod.finalizers().next().is_some();
    if !has_ended && (is_watched || stop > 0) {
        let mut status = pod.status().clone();
        let codes = stop_containers(pod, &mut status, 143, now);
        let phase = if codes { "Failed" } else { "Succeeded" };
        end(pod, &mut status, phase, now);
        return Plan::Report { status, wait: None };
    }
    if grace == Some(0) && is_watched {
        // It is gone as far as this node is concerned; others hold it.
        return Plan::Keep;
    }
    Plan::Delete
}

/// Ends all containers; whether any ends with other than 0.
fn stop_containers(pod: &Object, status: &mut Value, code: i64, now: Timestamp) -> bool {
    let mut any = false;
    for field in ["initContainerStatuses", "containerStatuses"] {
        let Some(list) = status.get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        for one in list {
            let code = behaviour::Behaviour::of(pod, object::text(one, &["name"]))
                .number("stop-exit-code")
                .unwrap_or(code);
            *one = container::stopped(one, code, now);
            let code = one
                .pointer("/state/terminated/exitCode")
                .and_then(Value::as_i64);
            any |= code != Some(0);
        }
    }
    any
}

/// A Pod its node has ended.
fn failed(pod: &Object, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut status = pod.status().clone();
    stop_containers(pod, &mut status, 137, now);
    end(pod, &mut status, "Failed", now);
    status["reason"] = json!(reason);
    status["message"] = json!(message);
    status
}

/// The phase and conditions of a Pod that has ended.
fn end(pod: &Object, status: &mut Value, phase: &str, now: Timestamp) {
    status["phase"] = json!(phase);
    let reason = if phase == "Succeeded" {
        "PodCompleted"
    } else {
        "PodFailed"
    };
    let initialized = if phase == "Succeeded" {
        "PodCompleted"
    } else {
        ""
    };
    let conditions = [
        ("PodReadyToStartContainers", false, ""),
        ("Initialized", true, initialized),
        ("Ready", false, reason),
        ("ContainersReady", false, reason),
    ];
    for (kind, holds, reason) in conditions {
        set(pod, status, kind, holds, reason, "", now);
    }
    observed(pod, status);
}

fn observed(pod: &Object, status: &mut Value) {
    if pod.generation() > 0 {
        status["observedGeneration"] = json!(pod.generation());
    }
}

/// The status of a container with that name, as last reported.
fn old<'a>(pod: &'a Object, field: &str, spec: &Value) -> Option<&'a Value> {
    let name = object::text(spec, &["name"]);
    object::list(pod.status(), &[field])
        .iter()
        .find(|status| object::text(status, &["name"]) == name)
}

fn ended_at(status: &Value) -> Option<Timestamp> {
    let path = ["state", "terminated", "finishedAt"];
    object::text(status, &path).parse().ok()
}

/// A Pod that lives: its status, and when that will change by itself.
fn living(
    pod: &Object,
    host: Host<'_>,
    addresses: &[String],
    started: Timestamp,
    now: Timestamp,
) -> (Value, Option<Timestamp>) {
    let verdict = resize::judge(pod, host.allocatable);
    let granted = verdict == Verdict::Granted;
    let one = |field: &str, spec: &Value, role: Role, may_start: Option<Timestamp>| {
        let before = old(pod, field, spec);
        let setting = Setting {
            pod,
            role,
            may_start,
            now,
        };
        let changed = granted && before.is_some_and(|old| resize::needs_restart(old, spec));
        let mut next = match before {
            Some(old) if changed && old.pointer("/state/running").is_some() => {
                container::restarted(old, spec, setting)
            }
            old => container::next(old, spec, setting),
        };
        if role != Role::Ephemeral {
            resize::report(&mut next.status, before, spec, granted);
        }
        next
    };
    let (mut init, mut turn, mut broken) = (Containers::new(), Some(started), false);
    for spec in object::list(pod.spec(), &["initContainers"]) {
        let is_sidecar = object::text(spec, &["restartPolicy"]) == "Always";
        let role = if is_sidecar {
            Role::Sidecar
        } else {
            Role::Init
        };
        let next = one("initContainerStatuses", spec, role, turn);
        let done = if is_sidecar {
            next.status["started"] == true
        } else {
            code(&next.status) == Some(0)
        };
        broken |= !is_sidecar && code(&next.status).is_some_and(|code| code != 0);
        turn = turn
            .filter(|_| done)
            .map(|turn| ended_at(&next.status).map_or(turn, |ended| ended.max(turn)));
        init.push(next);
    }
    let initialized = turn.is_some() || has_run(pod);
    let mut own = Containers::new();
    for spec in object::list(pod.spec(), &["containers"]) {
        let may_start = if initialized {
            turn.or(Some(started))
        } else {
            None
        };
        own.push(one("containerStatuses", spec, Role::Application, may_start));
    }
    let mut other = Containers::new();
    for spec in object::list(pod.spec(), &["ephemeralContainers"]) {
        other.push(one(
            "ephemeralContainerStatuses",
            spec,
            Role::Ephemeral,
            Some(started),
        ));
    }
    let mut status = pod.status().clone();
    if !status.is_object() {
        status = json!({});
    }
    status["hostIP"] = json!(host.address);
    status["hostIPs"] = json!([{"ip": host.address}]);
    status["startTime"] = json!(format_time(started));
    let addresses: Vec<&str> = if is_on_host_network(pod) {
        vec![host.address]
    } else {
        addresses.iter().map(String::as_str).collect()
    };
    status["podIP"] = json!(addresses.first());
    status["podIPs"] = addresses
        .iter()
        .map(|address| json!({"ip": address}))
        .collect();
    let phase = phase_of(pod, initialized, broken, &own);
    let at = [init.at, own.at, other.at].into_iter().flatten().min();
    if matches!(phase, "Succeeded" | "Failed") {
        for status in &mut init.statuses {
            if status.pointer("/state/running").is_some() {
                *status = container::stopped(status, 0, now);
            }
        }
    }
    let lists = [
        ("initContainerStatuses", &init),
        ("containerStatuses", &own),
        ("ephemeralContainerStatuses", &other),
    ];
    for (field, list) in lists {
        if !list.statuses.is_empty() {
            status[field] = json!(list.statuses);
        }
    }
    if matches!(phase, "Succeeded" | "Failed") {
        end(pod, &mut status, phase, now);
        return (status, None);
    }
    status["phase"] = json!(phase);
    conditions::living(pod, &mut status, initialized, &init, &own, now);
    conditions::resizing(pod, &mut status, &verdict, now);
    observed(pod, &mut status);
    (status, at)
}

/// Whether the application has run before: then it does not wait for init containers again.
fn has_run(pod: &Object) -> bool {
    object::list(pod.status(), &["containerStatuses"])
        .iter()
        .any(|status| status.get("containerID").is_some())
}

fn phase_of(pod: &Object, initialized: bool, broken: bool, own: &Containers) -> &'static str {
    let policy = object::text(pod.spec(), &["restartPolicy"]);
    if !initialized {
        return if broken && policy == "Never" {
            "Failed"
        } else {
            "Pending"
        };
    }
    let count = |is: fn(&Value) -> bool| own.statuses.iter().filter(|status| is(status)).count();
    let has_ended = |status: &Value| {
        status.pointer("/state/terminated").is_some()
            || status.pointer("/lastState/terminated").is_some()
    };
    let running = count(|status| status.pointer("/state/running").is_some());
    let waiting = own
        .statuses
        .iter()
        .filter(|status| status.pointer("/state/waiting").is_some() && !has_ended(status))
        .count();
    if waiting > 0 {
        return "Pending";
    }
    let all_ended =
        count(|status| status.pointer("/state/terminated").is_some()) == own.statuses.len();
    if running > 0 || !all_ended {
        return "Running";
    }
    if count(|status| code(status) == Some(0)) == own.statuses.len() {
        "Succeeded"
    } else {
        "Failed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::condition;

    fn host() -> Value {
        json!({"cpu": "4", "memory": "8Gi"})
    }

    fn pod(spec: Value, status: Value) -> Object {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i:1"}]},
            "status": status,
        });
        for (name, value) in spec.as_object().into_iter().flatten() {
            pod["spec"][name] = value.clone();
        }
        Object::new(pod)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn look(pod: &Object, second: i64) -> Plan {
        let allocatable = host();
        let host = Host {
            address: "10.0.0.9",
            allocatable: &allocatable,
        };
        plan(pod, host, &["10.0.0.1".to_owned()], at(second))
    }

    fn reported(plan: Plan) -> Value {
        match plan {
            Plan::Report { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    fn with(pod: &Object, change: impl FnOnce(&mut Value)) -> Object {
        let mut value = pod.value().clone();
        change(&mut value);
        Object::new(value)
    }

    fn annotated(pod: &Object, name: &str, value: &str) -> Object {
        with(pod, |pod| {
            pod["metadata"]["annotations"][format!("virtual.corvus.dev/{name}")] = json!(value);
        })
    }

    fn told(status: &Value, kind: &str) -> String {
        let found = condition::find(status, kind).cloned().unwrap_or_default();
        let text = |name: &str| object::text(&found, &[name]).to_owned();
        format!("{} {} {}", text("status"), text("reason"), text("message"))
            .trim()
            .to_owned()
    }

    #[test]
    fn a_pod_runs_and_stays() {
        let first = pod(
            json!({}),
            json!({"phase": "Pending", "qosClass": "BestEffort"}),
        );
        let status = reported(look(&first, 0));
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["qosClass"], "BestEffort");
        assert_eq!(status["containerStatuses"][0]["ready"], true);
        assert_eq!(told(&status, "Ready"), "True");
        assert_eq!(look(&pod(json!({}), status), 9), Plan::Keep);
    }

    #[test]
    fn a_pod_that_is_to_end_ends() {
        let spec = json!({"restartPolicy": "Never"});
        let status = reported(look(&pod(spec.clone(), json!({"phase": "Pending"})), 0));
        let running = pod(spec.clone(), status);
        assert_eq!(look(&running, 0), Plan::Wait(Duration::from_secs(1)));
        let done = reported(look(&running, 1));
        assert_eq!(done["phase"], "Succeeded");
        assert_eq!(told(&done, "Ready"), "False PodCompleted");
        assert_eq!(look(&pod(spec, done), 5), Plan::Keep);
    }

    #[test]
    fn init_containers_come_first() {
        let spec = json!({"initContainers": [
            {"name": "a", "image": "i"},
            {"name": "s", "image": "i", "restartPolicy": "Always"},
            {"name": "b", "image": "i"},
        ]});
        let slow = annotated(&pod(spec, json!({})), "init-seconds.b", "5");
        let status = reported(look(&slow, 0));
        assert_eq!(status["phase"], "Pending");
        assert_eq!(
            told(&status, "Initialized"),
            "False ContainersNotInitialized containers with incomplete status: [b]"
        );
        assert_eq!(
            status["containerStatuses"][0]["state"]["waiting"]["reason"],
            "PodInitializing"
        );
        assert_eq!(status["initContainerStatuses"][1]["started"], true);
        let waiting = with(&slow, |pod| pod["status"] = status);
        assert_eq!(look(&waiting, 1), Plan::Wait(Duration::from_secs(4)));
        let status = reported(look(&waiting, 5));
        assert_eq!(status["phase"], "Running");
        assert_eq!(told(&status, "Ready"), "True");
    }

    #[test]
    fn a_broken_init_container_fails_the_pod() {
        let spec =
            json!({"restartPolicy": "Never", "initContainers": [{"name": "a", "image": "i"}]});
        let broken = annotated(&pod(spec, json!({})), "init-exit-code", "1");
        assert_eq!(reported(look(&broken, 0))["phase"], "Failed");
    }

    #[test]
    fn readiness_gates_are_waited_for() {
        let spec = json!({"readinessGates": [{"conditionType": "x/y"}]});
        let status = reported(look(&pod(spec.clone(), json!({})), 0));
        assert_eq!(
            told(&status, "Ready"),
            "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"x/y\" \
             does not exist."
        );
        assert_eq!(told(&status, "ContainersReady"), "True");
        let mut open = status;
        open["conditions"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"type": "x/y", "status": "True"}));
        let status = reported(look(&pod(spec, open), 3));
        assert_eq!(told(&status, "Ready"), "True");
        assert_eq!(told(&status, "x/y"), "True");
    }

    #[test]
    fn readiness_comes_and_goes() {
        let ready = pod(json!({}), reported(look(&pod(json!({}), json!({})), 0)));
        let status = reported(look(&annotated(&ready, "ready", "false"), 5));
        assert_eq!(
            told(&status, "Ready"),
            "False ContainersNotReady containers with unready status: [c]"
        );
        let again = reported(look(&pod(json!({}), status), 9));
        assert_eq!(told(&again, "Ready"), "True");
    }

    #[test]
    fn nodes_evict_and_end_pods() {
        let running = pod(json!({}), reported(look(&pod(json!({}), json!({})), 0)));
        let status = reported(look(
            &annotated(&running, "evict", "The node was low on memory."),
            5,
        ));
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!("Failed"), &json!("Evicted"))
        );
        let spec = json!({"activeDeadlineSeconds": 30});
        let running = pod(spec.clone(), reported(look(&pod(spec, json!({})), 0)));
        assert_eq!(look(&running, 10), Plan::Wait(Duration::from_secs(20)));
        assert_eq!(reported(look(&running, 30))["reason"], "DeadlineExceeded");
    }

    #[test]
    fn deleted_pods_go_at_once_or_as_told() {
        let running = pod(json!({}), reported(look(&pod(json!({}), json!({})), 0)));
        let going = with(&running, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:01:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        });
        assert_eq!(look(&going, 30), Plan::Delete);
        let slow = annotated(&going, "stop-seconds", "10");
        assert_eq!(look(&slow, 31), Plan::Wait(Duration::from_secs(9)));
        let status = reported(look(&slow, 40));
        assert_eq!(status["phase"], "Failed");
        assert_eq!(
            status["containerStatuses"][0]["state"]["terminated"]["exitCode"],
            143
        );
        let held = with(&going, |pod| pod["metadata"]["finalizers"] = json!(["f"]));
        let status = reported(look(&held, 40));
        let held = with(&held, |pod| pod["status"] = status);
        assert_eq!(look(&held, 40), Plan::Delete);
        let gone = with(&held, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:40Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        });
        assert_eq!(look(&gone, 40), Plan::Keep);
    }

    #[test]
    fn resources_change_in_place() {
        let asks = |cpu: &str| {
            json!({"containers": [{"name": "c", "image": "i:1",
                "resources": {"requests": {"cpu": cpu}}}]})
        };
        let first = reported(look(&pod(asks("1"), json!({})), 0));
        assert_eq!(
            first["containerStatuses"][0]["allocatedResources"],
            json!({"cpu": "1"})
        );
        let second = reported(look(&pod(asks("2"), first.clone()), 5));
        let status = &second["containerStatuses"][0];
        assert_eq!(status["resources"]["requests"], json!({"cpu": "2"}));
        assert_eq!(status["restartCount"], 0);
        let third = reported(look(&pod(asks("9"), first), 5));
        assert_eq!(
            third["containerStatuses"][0]["allocatedResources"],
            json!({"cpu": "1"})
        );
        assert_eq!(
            told(&third, "PodResizePending"),
            "True Infeasible Node didn't have enough capacity: cpu, requested: 9000, capacity: 4000"
        );
        let back = reported(look(&pod(asks("1"), third), 6));
        assert_eq!(told(&back, "PodResizePending"), "");
    }
}
