//! Checks of where a Pod may run: affinity, spreading, tolerations, gates.

use std::collections::{HashMap, HashSet};

use model::{FieldError, names};
use serde_json::Value;

use crate::at::{At, Errors};
use crate::check;

/// The effects a taint may have.
pub const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const WEIGHT_RANGE: &str = "must be in the range 1-100";
const IN_BOTH: &str = "exists in both matchLabelKeys and labelSelector";
const NEEDS_SELECTOR: &str = "must not be specified when labelSelector is not set";

/// The affinity of a Pod spec.
pub fn affinity(at: &At<'_>, errors: &mut Errors) {
    let (required, preferred) = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    );
    let node = at.get("nodeAffinity");
    if node.get(required).is_set() {
        check::node_selector(&node.get(required), errors);
    }
    for term in node.get(preferred).items() {
        weight(&term.get("weight"), errors);
        check::node_selector_term(&term.get("preference"), false, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.get(kind);
        pods.get(required)
            .items()
            .for_each(|term| pod_term(&term, errors));
        for weighted in pods.get(preferred).items() {
            weight(&weighted.get("weight"), errors);
            pod_term(&weighted.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(at: &At<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&at.count()) {
        errors.push(at.invalid_count(WEIGHT_RANGE));
    }
}

fn pod_term(at: &At<'_>, errors: &mut Errors) {
    check::label_selector(&at.get("labelSelector"), errors);
    check::label_selector(&at.get("namespaceSelector"), errors);
    for namespace in at.get("namespaces").texts() {
        for message in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid(
                &at.path().child("namespace"),
                namespace,
                message,
            ));
        }
    }
    label_keys(at, errors);
    let key = at.get("topologyKey");
    if key.is_empty() {
        errors.push(key.required("can not be empty"));
    }
    check::label_key(&key, errors);
}

/// Keys whose values are taken from the Pod's own labels.
fn label_keys(at: &At<'_>, errors: &mut Errors) {
    let (matched, mismatched) = (at.get("matchLabelKeys"), at.get("mismatchLabelKeys"));
    let selector = at.get("labelSelector");
    for keys in [&matched, &mismatched] {
        if keys.is_empty() {
            continue;
        }
        if selector.is_set() {
            keys.items().for_each(|key| check::label_key(&key, errors));
        } else {
            errors.push(keys.forbidden(NEEDS_SELECTOR));
        }
    }
    let indexes: HashMap<&str, usize> = matched.texts().enumerate().map(|(i, k)| (k, i)).collect();
    let mut seen: HashSet<&str> = selector
        .get("matchLabels")
        .map()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.as_str())
        .collect();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.get("key").text();
        if let Some(index) = indexes.get(key).filter(|_| seen.contains(key)) {
            errors.push(FieldError::invalid(&at.path().index(*index), key, IN_BOTH));
        }
        seen.insert(key);
    }
    for key in matched.items() {
        if mismatched.texts().any(|other| other == key.text()) {
            errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
}

/// How Pods are spread.
pub fn spread(at: &At<'_>, errors: &mut Errors) {
    for (index, constraint) in at.items().enumerate() {
        let (skew, key) = (constraint.get("maxSkew"), constraint.get("topologyKey"));
        let when = constraint.get("whenUnsatisfiable");
        if skew.count() <= 0 {
            errors.push(skew.invalid_count(check::NOT_POSITIVE));
        }
        if key.is_empty() {
            errors.push(key.required("can not be empty"));
        }
        check::one_of(&when, &["DoNotSchedule", "ScheduleAnyway"], errors);
        let again = at.items().skip(index + 1).any(|other| {
            other.get("topologyKey").text() == key.text()
                && other.get("whenUnsatisfiable").text() == when.text()
        });
        if again {
            let path = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            let value = format!("{{{}, {}}}", key.text(), when.text());
            errors.push(FieldError::duplicate(&path, value));
        }
        min_domains(&constraint.get("minDomains"), when.text(), errors);
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            check::optional_one_of(&constraint.get(policy), &["Honor", "Ignore"], errors);
        }
        spread_keys(&constraint, errors);
        check::label_selector(&constraint.get("labelSelector"), errors);
    }
}

fn min_domains(at: &At<'_>, when: &str, errors: &mut Errors) {
    if !at.is_set() {
        return;
    }
    if at.count() <= 0 {
        errors.push(at.invalid(check::NOT_POSITIVE));
    }
    if when != "DoNotSchedule" {
        let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
        errors.push(at.invalid(why));
    }
}

fn spread_keys(constraint: &At<'_>, errors: &mut Errors) {
    let (keys, selector) = (
        constraint.get("matchLabelKeys"),
        constraint.get("labelSelector"),
    );
    if keys.is_empty() {
        return;
    }
    if !selector.is_set() {
        errors.push(keys.forbidden(NEEDS_SELECTOR));
    }
    let labels = selector.get("matchLabels");
    let expressions = selector.get("matchExpressions");
    // Expressions the server itself has made of these keys do not count.
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    for expression in expressions.items() {
        *by_key.entry(expression.get("key").text()).or_default() += 1;
    }
    for key in keys.items() {
        check::label_key(&key, errors);
        let in_labels = labels.value().get(key.text()).is_some();
        if in_labels || by_key.get(key.text()).is_some_and(|count| *count > 0) {
            errors.push(key.invalid(IN_BOTH));
        }
    }
}

/// The taints a Pod tolerates.
pub fn tolerations(at: &At<'_>, errors: &mut Errors) {
    for toleration in at.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        if !key.is_empty() {
            check::label_key(&key, errors);
        } else if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid_text(why));
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(effect.invalid_text(why));
        }
        match operator.text() {
            "Equal" | "" => {
                let messages = names::label_value(value.text());
                if !messages.is_empty() {
                    let why = messages.join(";");
                    errors.push(FieldError::invalid(operator.path(), value.text(), why));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let why = "value must be empty when `operator` is 'Exists'";
                    errors.push(FieldError::invalid(operator.path(), value.text(), why));
                }
            }
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            check::one_of(&effect, EFFECTS, errors);
        }
    }
}

/// What must happen before a Pod is scheduled.
pub fn gates(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for gate in at.items() {
        let name = gate.get("name").said_at(gate.path().clone());
        check::qualified_name(&name, errors);
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(gate.path(), name.text()));
        }
    }
}

/// Turns keys of labels into requirements on the values the Pod itself has.
pub fn apply_label_keys(pod: &mut Value) {
    let labels = model::object::labels(pod).cloned().unwrap_or_default();
    let term = |term: &mut Value| {
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys = term
                .get(field)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let Some(selector) = term.get_mut("labelSelector").filter(|s| s.is_object()) else {
                continue;
            };
            for key in keys.iter().filter_map(Value::as_str) {
                let Some(value) = labels.get(key) else {
                    continue;
                };
                let requirement =
                    serde_json::json!({"key": key, "operator": operator, "values": [value]});
                crate::edit::fill(selector, "matchExpressions", Value::Array(Vec::new()));
                if let Some(list) = selector["matchExpressions"].as_array_mut() {
                    list.push(requirement);
                }
            }
        }
    };
    let Some(affinity) = pod.pointer_mut("/spec/affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        crate::edit::with(affinity, kind, |pods| {
            crate::edit::each(
                pods,
                "preferredDuringSchedulingIgnoredDuringExecution",
                |weighted| {
                    crate::edit::with(weighted, "podAffinityTerm", term);
                },
            );
            crate::edit::each(pods, "requiredDuringSchedulingIgnoredDuringExecution", term);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations_are_checked() {
        let object =
            json!({"t": [{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "x"}]});
        let mut errors = Vec::new();
        tolerations(&At::root(&object).get("t"), &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "t[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                "t[1].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ]
        );
    }
}
