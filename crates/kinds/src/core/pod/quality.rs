//! The quality of service a Pod gets, from what it asks for and is limited to.

use serde_json::Value;

use crate::resources::{Amounts, amounts};

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    let own = spec.get("resources");
    let has_own = ["limits", "requests"].iter().any(|list| {
        own.and_then(|own| own.get(*list))
            .and_then(Value::as_object)
            .is_some_and(|l| !l.is_empty())
    });
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    if has_own {
        collect(own, "requests", &mut requests);
        collect(own, "limits", &mut limits);
        guaranteed = limits.len() == 2;
    } else {
        let containers = ["containers", "initContainers"]
            .into_iter()
            .filter_map(|list| spec.get(list)?.as_array())
            .flatten();
        for container in containers {
            let own = container.get("resources");
            collect(own, "requests", &mut requests);
            guaranteed &= collect(own, "limits", &mut limits) == 2;
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds the CPU and memory of a list that are above zero; how many of the two there are.
fn collect(resources: Option<&Value>, list: &str, into: &mut Amounts) -> usize {
    let mut found = 0;
    for (name, amount) in amounts(resources.and_then(|resources| resources.get(list))) {
        if matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0 {
            found += 1;
            let sum = into.get(&name).map_or(amount, |before| *before + amount);
            into.insert(name, sum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let check = |resources: Value, expect: &str| {
            assert_eq!(
                class(&json!({"containers": [{"resources": resources}]})),
                expect
            );
        };
        let both = json!({"cpu": "1", "memory": "1Gi"});
        check(json!({}), "BestEffort");
        check(json!({"requests": {"cpu": "1"}}), "Burstable");
        check(json!({"requests": both, "limits": both}), "Guaranteed");
        check(
            json!({"requests": {"cpu": "1"}, "limits": both}),
            "Burstable",
        );
        check(
            json!({"requests": {"example.com/x": "1"}, "limits": {"example.com/x": "1"}}),
            "BestEffort",
        );
    }
}
