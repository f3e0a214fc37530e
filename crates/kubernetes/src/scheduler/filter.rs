//! Which nodes a Pod may run on, and why not on the others. Pure.

use std::collections::BTreeMap;

use controller::Object;
use model::object;
use serde_json::Value;

use super::resources::Amounts;

/// Why a node does not take a Pod, in upstream's words.
pub type Refusal = Vec<String>;

/// Whether a node takes a Pod beside what is used there.
pub fn check(pod: &Object, wanted: &Amounts, node: &Object, used: &Amounts) -> Result<(), Refusal> {
    if object::at(node.value(), &["spec", "unschedulable"]) == Some(&Value::Bool(true))
        && !tolerates(pod, "node.kubernetes.io/unschedulable", "", "NoSchedule")
    {
        return Err(vec!["node(s) were unschedulable".to_owned()]);
    }
    for taint in object::list(node.value(), &["spec", "taints"]) {
        let text = |field: &str| object::text(taint, &[field]);
        let (key, value, effect) = (text("key"), text("value"), text("effect"));
        if effect != "PreferNoSchedule" && !tolerates(pod, key, value, effect) {
            return Err(vec![format!(
                "node(s) had untolerated taint {{{key}: {value}}}"
            )]);
        }
    }
    if !selects(pod, node) {
        return Err(vec![
            "node(s) didn't match Pod's node affinity/selector".to_owned(),
        ]);
    }
    let lacking = Amounts::allocatable(node).lacking(used, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(lacking
        .into_iter()
        .map(|name| {
            if name == "pods" {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {name}")
            }
        })
        .collect())
}

fn tolerates(pod: &Object, key: &str, value: &str, effect: &str) -> bool {
    object::list(pod.value(), &["spec", "tolerations"])
        .iter()
        .any(|toleration| {
            let text = |field: &str| object::text(toleration, &[field]);
            let fits_effect = text("effect").is_empty() || text("effect") == effect;
            let fits_key =
                text("key") == key || (text("key").is_empty() && text("operator") == "Exists");
            let fits_value = text("operator") == "Exists" || text("value") == value;
            fits_effect && fits_key && fits_value
        })
}

/// `nodeSelector` and the required part of the node affinity.
fn selects(pod: &Object, node: &Object) -> bool {
    let simple = object::at(pod.value(), &["spec", "nodeSelector"]).and_then(Value::as_object);
    let fits = |(key, value): (&String, &Value)| node.label(key) == value.as_str();
    if !simple.into_iter().flatten().all(fits) {
        return false;
    }
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    match object::at(pod.value(), &path).and_then(Value::as_array) {
        None => true,
        Some(terms) => terms.iter().any(|term| fits_term(term, node)),
    }
}

fn fits_term(term: &Value, node: &Object) -> bool {
    let expressions = object::list(term, &["matchExpressions"]);
    let fields = object::list(term, &["matchFields"]);
    // As upstream: an empty term selects nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|e| fits_requirement(e, node.label(object::text(e, &["key"]))))
        && fields
            .iter()
            .all(|e| fits_requirement(e, Some(node.name())))
}

fn fits_requirement(expression: &Value, found: Option<&str>) -> bool {
    let values: Vec<&str> = object::list(expression, &["values"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |greater: bool| match (
        found.and_then(number),
        values.first().and_then(|v| number(v)),
    ) {
        (Some(found), Some(limit)) => {
            if greater {
                found > limit
            } else {
                found < limit
            }
        }
        _ => false,
    };
    match object::text(expression, &["operator"]) {
        "In" => found.is_some_and(|found| values.contains(&found)),
        "NotIn" => found.is_none_or(|found| !values.contains(&found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(true),
        "Lt" => compare(false),
        _ => false,
    }
}

/// The sentence for a Pod no node takes.
pub fn summary(nodes: usize, refusals: &[Refusal]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_on(spec: Value, node: Value, expect: &[&str]) {
        let pod = Object::new(json!({"spec": spec}));
        let node = Object::new(node);
        let wanted = Amounts::of_pod(&pod);
        let outcome = check(&pod, &wanted, &node, &Amounts::default());
        assert_eq!(outcome.err().unwrap_or_default(), expect);
    }

    fn node(spec: Value) -> Value {
        json!({
            "metadata": {"name": "n", "labels": {"zone": "a", "size": "5"}},
            "spec": spec,
            "status": {"allocatable": {"cpu": "1", "pods": "10"}},
        })
    }

    #[test]
    fn nodes_take_what_fits() {
        check_on(json!({}), node(json!({})), &[]);
        check_on(
            json!({}),
            node(json!({"unschedulable": true})),
            &["node(s) were unschedulable"],
        );
        let tainted = node(json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}));
        check_on(
            json!({}),
            tainted.clone(),
            &["node(s) had untolerated taint {k: v}"],
        );
        check_on(
            json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
            tainted,
            &[],
        );
        check_on(
            json!({"nodeSelector": {"zone": "b"}}),
            node(json!({})),
            &["node(s) didn't match Pod's node affinity/selector"],
        );
        let required = |operator: &str, key: &str, values: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": key, "operator": operator, "values": values}]}]}}}})
        };
        check_on(required("In", "zone", json!(["a"])), node(json!({})), &[]);
        check_on(required("Gt", "size", json!(["4"])), node(json!({})), &[]);
        check_on(
            required("NotIn", "zone", json!(["a"])),
            node(json!({})),
            &["node(s) didn't match Pod's node affinity/selector"],
        );
        check_on(
            json!({"containers": [{"resources": {"requests": {"cpu": "2"}}}]}),
            node(json!({})),
            &["Insufficient cpu"],
        );
    }

    #[test]
    fn the_summary_counts_reasons() {
        let refusals = [
            vec!["Insufficient cpu".to_owned()],
            vec!["Insufficient cpu".to_owned()],
        ];
        assert_eq!(
            summary(2, &refusals),
            "0/2 nodes are available: 2 Insufficient cpu."
        );
    }
}
