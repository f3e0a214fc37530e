//! Amounts of resources: what Pods ask for and nodes have. Pure.

use std::collections::BTreeMap;

use controller::Object;
use model::{Quantity, object};
use serde_json::{Map, Value};

/// Amounts by resource name: `cpu` in thousandths, everything else in whole units, `pods` as a count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// What a Pod asks for: the sum of its containers, or its largest init container where that is
    /// more, plus its overhead; sidecars (init containers that go on) count with the containers.
    pub fn of_pod(pod: &Object) -> Self {
        let spec = pod.spec();
        let mut running = Self::default();
        let mut peak = Self::default();
        for container in object::list(spec, &["initContainers"]) {
            let own = Self::of_container(container);
            if object::text(container, &["restartPolicy"]) == "Always" {
                running.add(&own);
                peak.at_least(&running);
            } else {
                let mut needed = own;
                needed.add(&running);
                peak.at_least(&needed);
            }
        }
        for container in object::list(spec, &["containers"]) {
            running.add(&Self::of_container(container));
        }
        running.at_least(&peak);
        if let Some(overhead) = object::at(spec, &["overhead"]).and_then(Value::as_object) {
            running.add(&Self::of_map(overhead));
        }
        running.0.insert("pods".to_owned(), 1);
        running
    }

    fn of_container(container: &Value) -> Self {
        let map =
            |name: &str| object::at(container, &["resources", name]).and_then(Value::as_object);
        map("requests").map(Self::of_map).unwrap_or_default()
    }

    /// What a node has to give.
    pub fn allocatable(node: &Object) -> Self {
        let found = object::at(node.status(), &["allocatable"]).and_then(Value::as_object);
        found.map(Self::of_map).unwrap_or_default()
    }

    fn of_map(map: &Map<String, Value>) -> Self {
        let amount = |name: &str, value: &Value| -> Option<i64> {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let quantity: Quantity = text.parse().ok()?;
            Some(if name == "cpu" {
                quantity.milli_value()
            } else {
                quantity.value()
            })
        };
        Self(
            map.iter()
                .filter_map(|(name, value)| Some((name.clone(), amount(name, value)?)))
                .collect(),
        )
    }

    /// Adds amounts.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_insert(0);
            *own = own.saturating_add(*amount);
        }
    }

    /// Takes amounts away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_insert(0);
            *own = own.saturating_sub(*amount);
        }
    }

    fn at_least(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_insert(0);
            *own = (*own).max(*amount);
        }
    }

    /// The names of what does not fit beside what is used.
    pub fn lacking<'a>(&self, used: &Self, wanted: &'a Self) -> Vec<&'a str> {
        wanted
            .0
            .iter()
            .filter(|(name, amount)| {
                let have = self.0.get(*name).copied().unwrap_or(0);
                let taken = used.0.get(*name).copied().unwrap_or(0);
                **amount > 0 && taken.saturating_add(**amount) > have
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The mean share of CPU, memory and places that is left once `wanted` is placed.
    pub fn share_left(&self, used: &Self, wanted: &Self) -> f64 {
        let names = ["cpu", "memory", "pods"];
        let share = |name: &str| -> f64 {
            let have = self.0.get(name).copied().unwrap_or(0);
            if have == 0 {
                return 0.0;
            }
            let of = |amounts: &Self| amounts.0.get(name).copied().unwrap_or(0);
            (have - of(used) - of(wanted)) as f64 / have as f64
        };
        names.iter().map(|name| share(name)).sum::<f64>() / names.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_containers_or_its_largest_init_container() {
        let request = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let pod = Object::new(json!({"spec": {
            "initContainers": [request("2"), request("100m")],
            "containers": [request("500m"), request("1")],
        }}));
        let amounts = Amounts::of_pod(&pod);
        assert_eq!(amounts.0["cpu"], 2_000);
        assert_eq!(amounts.0["pods"], 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let node = Object::new(
            json!({"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "1"}}}),
        );
        let have = Amounts::allocatable(&node);
        let pod = Object::new(json!({"spec": {"containers": [
            {"resources": {"requests": {"cpu": "2", "memory": "1Mi"}}}]}}));
        let wanted = Amounts::of_pod(&pod);
        assert_eq!(have.lacking(&Amounts::default(), &wanted), ["cpu"]);
        let mut used = Amounts::default();
        used.add(&Amounts::of_pod(&Object::new(json!({"spec": {}}))));
        assert_eq!(have.lacking(&used, &wanted), ["cpu", "pods"]);
    }
}
