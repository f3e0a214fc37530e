//! Amounts of resources: what Pods ask for and nodes have. Pure.

use std::collections::BTreeMap;

use controller::Object;
use model::{Quantity, object};
use serde_json::{Map, Value};

/// What a container that asks for no CPU counts as when nodes are compared, in thousandths.
const CPU_ASSUMED: i64 = 100;
/// What a container that asks for no memory counts as when nodes are compared, in bytes.
const MEMORY_ASSUMED: i64 = 200 * 1024 * 1024;

/// Amounts by resource: CPU in thousandths, everything else in whole units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of a node's own disk.
    pub storage: i64,
    /// Everything else; hardly any Pod asks for it.
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads a map of quantities. `pods` is left out: a node has places, a Pod asks for none.
    pub fn of_map(map: &Map<String, Value>) -> Self {
        let mut amounts = Self::default();
        for (name, value) in map {
            let Some(quantity) = quantity(value) else {
                continue;
            };
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.storage = quantity.value(),
                "pods" => {}
                _ => {
                    amounts.other.insert(name.clone(), quantity.value());
                }
            }
        }
        amounts
    }

    /// The amount of a resource by name.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.storage,
            _ => self.other.get(name).copied().unwrap_or(0),
        }
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.storage == 0 && self.other.is_empty()
    }

    /// Adds amounts.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Raises each amount to at least the other's.
    pub fn at_least(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.storage = with(self.storage, other.storage);
        for (name, amount) in &other.other {
            let own = self.other.entry(name.clone()).or_insert(0);
            *own = with(*own, *amount);
        }
    }
}

/// A quantity, which may be written as a number.
fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// What a Pod asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// As it says.
    pub exact: Amounts,
    /// CPU and memory where a container that says nothing counts as an ordinary one.
    pub cpu_assumed: i64,
    /// Likewise.
    pub memory_assumed: i64,
}

impl Requests {
    /// The sum of the containers, or the largest init container where that is more, plus the Pod's
    /// overhead. Sidecars (init containers that go on) count with the containers; requests of the
    /// whole Pod replace the sum. A container that is being resized counts with the larger of what
    /// it wants and has.
    pub fn of_pod(pod: &Object) -> Self {
        let exact = sum(pod, false);
        let assumed = sum(pod, true);
        Self {
            exact,
            cpu_assumed: assumed.cpu,
            memory_assumed: assumed.memory,
        }
    }
}

fn sum(pod: &Object, assume: bool) -> Amounts {
    let spec = pod.spec();
    let mut running = Amounts::default();
    for container in object::list(spec, &["containers"]) {
        running.add(&of_container(pod, "containerStatuses", container, assume));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in object::list(spec, &["initContainers"]) {
        let own = of_container(pod, "initContainerStatuses", container, assume);
        if object::text(container, &["restartPolicy"]) == "Always" {
            running.add(&own);
            sidecars.add(&own);
            peak.at_least(&sidecars);
        } else {
            let mut needed = own;
            needed.add(&sidecars);
            peak.at_least(&needed);
        }
    }
    running.at_least(&peak);
    let whole = object::at(spec, &["resources", "requests"]).and_then(Value::as_object);
    if let Some(whole) = whole {
        let amounts = Amounts::of_map(whole);
        if whole.contains_key("cpu") {
            running.cpu = amounts.cpu;
        }
        if whole.contains_key("memory") {
            running.memory = amounts.memory;
        }
        running.other.extend(
            amounts
                .other
                .into_iter()
                .filter(|(name, _)| name.starts_with("hugepages-")),
        );
    }
    if let Some(overhead) = object::at(spec, &["overhead"]).and_then(Value::as_object) {
        running.add(&Amounts::of_map(overhead));
    }
    running
}

fn of_container(pod: &Object, statuses: &str, container: &Value, assume: bool) -> Amounts {
    let map = |value: &Value, path: &[&str]| {
        object::at(value, path)
            .and_then(Value::as_object)
            .map(Amounts::of_map)
    };
    let mut amounts = map(container, &["resources", "requests"]).unwrap_or_default();
    let name = object::text(container, &["name"]);
    let status = object::list(pod.status(), &[statuses])
        .iter()
        .find(|status| object::text(status, &["name"]) == name);
    if let Some(status) = status
        && status.get("resources").is_some()
    {
        let infeasible = object::list(pod.status(), &["conditions"]).iter().any(|c| {
            object::text(c, &["type"]) == "PodResizePending"
                && object::text(c, &["reason"]) == "Infeasible"
        });
        if infeasible {
            amounts = Amounts::default();
        }
        for path in [&["allocatedResources"][..], &["resources", "requests"][..]] {
            if let Some(other) = map(status, path) {
                amounts.at_least(&other);
            }
        }
    }
    if assume {
        let asks = |name: &str| object::at(container, &["resources", "requests", name]).is_some();
        if !asks("cpu") {
            amounts.cpu = CPU_ASSUMED;
        }
        if !asks("memory") {
            amounts.memory = MEMORY_ASSUMED;
        }
    }
    amounts
}

/// What a node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// By resource.
    pub amounts: Amounts,
    /// How many Pods.
    pub pods: i64,
}

impl Allocatable {
    /// Reads `status.allocatable`.
    pub fn of_node(node: &Object) -> Self {
        let Some(map) = object::at(node.status(), &["allocatable"]).and_then(Value::as_object)
        else {
            return Self::default();
        };
        let pods = map.get("pods").and_then(quantity);
        Self {
            amounts: Amounts::of_map(map),
            pods: pods.map_or(0, |quantity| quantity.value()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, cpu: i64, cpu_assumed: i64) {
        let requests = Requests::of_pod(&Object::new(json!({"spec": spec})));
        assert_eq!(
            (requests.exact.cpu, requests.cpu_assumed),
            (cpu, cpu_assumed),
            "{spec}"
        );
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_its_largest_init_container() {
        let request = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        check(
            json!({"containers": [request("500m"), request("1")]}),
            1_500,
            1_500,
        );
        check(json!({"containers": [request("500m"), {}]}), 500, 600);
        check(
            json!({"initContainers": [request("2"), request("100m")], "containers": [request("1")]}),
            2_000,
            2_000,
        );
        // The sidecar runs beside the second init container and beside the container.
        check(
            json!({"initContainers": [sidecar("1"), request("2")], "containers": [request("1500m")]}),
            3_000,
            3_000,
        );
        check(
            json!({"overhead": {"cpu": "10m"}, "containers": [request("1")]}),
            1_010,
            1_010,
        );
        check(
            json!({"resources": {"requests": {"cpu": "3"}}, "containers": [request("1")]}),
            3_000,
            3_000,
        );
    }

    #[test]
    fn a_container_that_is_resized_counts_with_the_larger_amount() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{
                "name": "c",
                "allocatedResources": {"cpu": "2"},
                "resources": {"requests": {"cpu": "2"}},
            }]},
        });
        assert_eq!(Requests::of_pod(&Object::new(pod.clone())).exact.cpu, 2_000);
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("4");
        assert_eq!(Requests::of_pod(&Object::new(pod.clone())).exact.cpu, 4_000);
        pod["status"]["conditions"] =
            json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        assert_eq!(Requests::of_pod(&Object::new(pod)).exact.cpu, 2_000);
    }
}
