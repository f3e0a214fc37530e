//! What a Pod asks for and is limited to, over all its containers.
//!
//! Containers run together, so they add up; init containers run one after another before them, so the
//! greatest counts, on top of the sidecars started so far. What the Pod itself says of CPU, memory or
//! huge pages stands above the sum.

use model::object;
use serde_json::Value;

use crate::resources::of_all_containers;

pub use crate::resources::{Amounts, amounts, quantity};

/// What a Pod requests.
pub fn pod_requests(pod: &Value) -> Amounts {
    total(pod, "requests")
}

/// What a Pod is limited to.
pub fn pod_limits(pod: &Value) -> Amounts {
    total(pod, "limits")
}

fn total(pod: &Value, which: &str) -> Amounts {
    let Some(spec) = pod.get("spec") else {
        return Amounts::new();
    };
    let mut sum = of_all_containers(spec, which);
    for (name, quantity) in amounts(object::at(spec, &["resources", which])) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            sum.insert(name, quantity);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expect: &str) {
        let requests = pod_requests(&json!({"spec": spec}));
        let text: Vec<String> = requests.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text.join(","), expect);
    }

    #[test]
    fn containers_add_up_and_the_greatest_init_container_counts() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        check(
            json!({"containers": [container("1"), container("500m")]}),
            "cpu=1500m",
        );
        check(
            json!({"containers": [container("1")], "initContainers": [container("2")]}),
            "cpu=2",
        );
        check(
            json!({"containers": [container("1")], "initContainers": [sidecar("1"), container("2")]}),
            "cpu=3",
        );
        check(
            json!({"containers": [container("1")], "resources": {"requests": {"cpu": "4"}}}),
            "cpu=4",
        );
    }
}
