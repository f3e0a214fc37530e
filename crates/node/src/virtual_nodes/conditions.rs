//! The conditions a kubelet reports of a Pod, and the containers they are about. Pure.

use controller::{Object, condition, format_time};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::container::Next;
use super::resize::Verdict;

/// Statuses of the containers of one list.
pub struct Containers {
    /// In the order of the spec.
    pub statuses: Vec<Value>,
    /// When one of them will change by itself.
    pub at: Option<Timestamp>,
}

impl Containers {
    /// None yet.
    pub fn new() -> Self {
        Self {
            statuses: Vec::new(),
            at: None,
        }
    }

    /// One more.
    pub fn push(&mut self, next: Next) {
        self.at = self.at.into_iter().chain(next.at).min();
        self.statuses.push(next.status);
    }

    fn names(&self, lacking: impl Fn(&Value) -> bool) -> Vec<&str> {
        let of = |status: &&Value| lacking(status);
        let own = self.statuses.iter().filter(of);
        own.map(|status| object::text(status, &["name"])).collect()
    }
}

/// What a container has ended with.
pub fn code(status: &Value) -> Option<i64> {
    object::number(status, &["state", "terminated", "exitCode"])
}

/// Sets one of the conditions a kubelet owns; the others stay as they are.
pub fn set(
    pod: &Object,
    status: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let old = condition::find(status, kind).cloned().unwrap_or_default();
    let text = if holds { "True" } else { "False" };
    let since = if object::text(&old, &["status"]) == text {
        object::text(&old, &["lastTransitionTime"]).to_owned()
    } else {
        format_time(now)
    };
    let mut new = json!({
        "type": kind,
        "status": text,
        "lastProbeTime": null,
        "lastTransitionTime": since,
    });
    for (name, value) in [("reason", reason), ("message", message)] {
        if !value.is_empty() {
            new[name] = json!(value);
        }
    }
    if pod.generation() > 0 {
        new["observedGeneration"] = json!(pod.generation());
    }
    let conditions = object::child_list(status, "conditions");
    match conditions
        .iter_mut()
        .find(|own| object::text(own, &["type"]) == kind)
    {
        Some(own) => *own = new,
        None => conditions.push(new),
    }
}

/// Sets the conditions of a Pod that lives.
pub fn living(
    pod: &Object,
    status: &mut Value,
    initialized: bool,
    init: &Containers,
    own: &Containers,
    now: Timestamp,
) {
    let sidecars = object::list(pod.spec(), &["initContainers"])
        .iter()
        .filter(|spec| object::text(spec, &["restartPolicy"]) == "Always")
        .map(|spec| object::text(spec, &["name"]))
        .collect::<Vec<_>>();
    let is_sidecar = |status: &Value| sidecars.contains(&object::text(status, &["name"]));
    set(pod, status, "PodReadyToStartContainers", true, "", "", now);
    if initialized {
        set(pod, status, "Initialized", true, "", "", now);
    } else {
        let open = init.names(|status| {
            let is_up = status.get("started") == Some(&Value::Bool(true));
            code(status) != Some(0) && !(is_up && is_sidecar(status))
        });
        let text = format!("containers with incomplete status: [{}]", open.join(" "));
        set(
            pod,
            status,
            "Initialized",
            false,
            "ContainersNotInitialized",
            &text,
            now,
        );
    }
    let unready = |status: &Value| status.get("ready") != Some(&Value::Bool(true));
    let mut names = init.names(|status| unready(status) && is_sidecar(status));
    names.extend(own.names(unready));
    let text = format!("containers with unready status: [{}]", names.join(" "));
    let gate = open_gate(pod, status);
    if names.is_empty() {
        match gate {
            Some(why) => set(
                pod,
                status,
                "Ready",
                false,
                "ReadinessGatesNotReady",
                &why,
                now,
            ),
            None => set(pod, status, "Ready", true, "", "", now),
        }
        set(pod, status, "ContainersReady", true, "", "", now);
    } else {
        set(
            pod,
            status,
            "Ready",
            false,
            "ContainersNotReady",
            &text,
            now,
        );
        set(
            pod,
            status,
            "ContainersReady",
            false,
            "ContainersNotReady",
            &text,
            now,
        );
    }
    if condition::find(status, "PodScheduled").is_none() {
        set(pod, status, "PodScheduled", true, "", "", now);
    }
}

/// Which readiness gates keep the Pod from being ready.
fn open_gate(pod: &Object, status: &Value) -> Option<String> {
    let mut texts = Vec::new();
    for gate in object::list(pod.spec(), &["readinessGates"]) {
        let kind = object::text(gate, &["conditionType"]);
        match condition::find(status, kind) {
            None => texts.push(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some(found) if object::text(found, &["status"]) != "True" => texts.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                object::text(found, &["status"])
            )),
            Some(_) => {}
        }
    }
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// Sets the condition of a change of resources that is not granted.
pub fn resizing(pod: &Object, status: &mut Value, verdict: &Verdict, now: Timestamp) {
    const PENDING: &str = "PodResizePending";
    // Until it has been started once, nothing is resized.
    let first = object::list(pod.status(), &["containerStatuses"]).is_empty();
    match verdict {
        Verdict::Pending(reason, message) if !first => {
            set(pod, status, PENDING, true, reason, message, now);
        }
        _ => drop(condition::remove(status, PENDING)),
    }
}
