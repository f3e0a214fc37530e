//! In-place changes of a Pod's resources: what a kubelet has allotted, and why not more. Pure.

use controller::Object;
use model::{Quantity, object};
use serde_json::{Map, Value, json};

use super::behaviour;

/// What becomes of a Pod's wish for other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The Pod has what it wants.
    Granted,
    /// Not now: reason and message of the condition `PodResizePending`.
    Pending(&'static str, String),
}

fn quantity(value: &Value) -> Quantity {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| Quantity::from_units(0))
}

/// Judges what a Pod wants on a node with so much to give.
pub fn judge(pod: &Object, allocatable: &Value) -> Verdict {
    match behaviour::resize(pod) {
        Some("infeasible") => {
            let why = "simulated by annotation virtual.corvus.dev/resize".to_owned();
            return Verdict::Pending("Infeasible", why);
        }
        Some("deferred") => {
            let why = "simulated by annotation virtual.corvus.dev/resize".to_owned();
            return Verdict::Pending("Deferred", why);
        }
        _ => {}
    }
    for (name, unit) in [("cpu", 1_000), ("memory", 1)] {
        let Some(there) = allocatable.get(name).map(quantity) else {
            continue;
        };
        let amount = |quantity: &Quantity| {
            if unit == 1 {
                quantity.value()
            } else {
                quantity.milli_value()
            }
        };
        let wanted: i64 = object::list(pod.spec(), &["containers"])
            .iter()
            .filter_map(|container| object::at(container, &["resources", "requests", name]))
            .map(|asked| amount(&quantity(asked)))
            .fold(0, i64::saturating_add);
        let there = amount(&there);
        if wanted > there {
            let why = format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {there}"
            );
            return Verdict::Pending("Infeasible", why);
        }
    }
    Verdict::Granted
}

/// Writes what a container has into its status; what it had where its wish is not granted.
pub fn report(status: &mut Value, old: Option<&Value>, spec: &Value, granted: bool) {
    let had = old.filter(|old| old.get("resources").is_some() && !granted);
    if let Some(old) = had {
        for name in ["resources", "allocatedResources"] {
            match old.get(name) {
                Some(value) => status[name] = value.clone(),
                None => drop(
                    status
                        .as_object_mut()
                        .and_then(|status| status.remove(name)),
                ),
            }
        }
        return;
    }
    let mut resources = spec.get("resources").cloned().unwrap_or_else(|| json!({}));
    if let Some(map) = resources.as_object_mut() {
        map.remove("claims");
    }
    if let Some(requests) = resources.get("requests").filter(|own| own.is_object()) {
        status["allocatedResources"] = requests.clone();
    }
    status["resources"] = resources;
}

/// Whether a change of resources takes a restart of the container.
pub fn needs_restart(old: &Value, spec: &Value) -> bool {
    let empty = Map::new();
    let map = |value: &Value, kind: &str, name: &str| {
        let found = object::at(value, &["resources", kind]).and_then(Value::as_object);
        found.unwrap_or(&empty).get(name).map(quantity)
    };
    old.get("resources").is_some()
        && object::list(spec, &["resizePolicy"]).iter().any(|policy| {
            let name = object::text(policy, &["resourceName"]);
            let differs = |kind: &str| map(old, kind, name) != map(spec, kind, name);
            object::text(policy, &["restartPolicy"]) == "RestartContainer"
                && (differs("requests") || differs("limits"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_give_what_they_have() {
        let check = |cpu: &str, annotations: Value, expect: Verdict| {
            let pod = Object::new(json!({
                "metadata": {"annotations": annotations},
                "spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            }));
            assert_eq!(judge(&pod, &json!({"cpu": "4", "memory": "1Gi"})), expect);
        };
        check("4", json!({}), Verdict::Granted);
        let why = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000";
        check(
            "5",
            json!({}),
            Verdict::Pending("Infeasible", why.to_owned()),
        );
        let why = "simulated by annotation virtual.corvus.dev/resize";
        let deferred = Verdict::Pending("Deferred", why.to_owned());
        check(
            "1",
            json!({"virtual.corvus.dev/resize": "deferred"}),
            deferred,
        );
    }

    #[test]
    fn some_changes_take_a_restart() {
        let had = json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
        let check = |cpu: &str, memory: &str, expect: bool| {
            let spec = json!({
                "resources": {"requests": {"cpu": cpu, "memory": memory}},
                "resizePolicy": [
                    {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                    {"resourceName": "memory", "restartPolicy": "RestartContainer"}],
            });
            assert_eq!(needs_restart(&had, &spec), expect, "{cpu} {memory}");
        };
        check("2", "1Gi", false);
        check("1", "2Gi", true);
        check("1000m", "1024Mi", false);
    }
}
