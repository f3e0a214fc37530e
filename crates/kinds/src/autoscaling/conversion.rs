//! Autoscalers of `v1` keep what it has no fields for in annotations.

use model::object;
use serde_json::{Map, Value, json};

use crate::edit::{remove, set, with, within};

/// Where `v1` keeps metrics other than the CPU's utilization.
pub const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Whether a metric is one `v1` has a field for; the number of that field.
fn cpu_utilization(metric: &Value, side: &str) -> Option<Value> {
    let resource = metric.get("resource")?;
    if object::text(resource, &["name"]) != "cpu" {
        return None;
    }
    resource.get(side)?.get("averageUtilization").cloned()
}

fn annotate(scaler: &mut Value, key: &str, value: &Value) {
    let empty = value.as_array().is_some_and(Vec::is_empty) || value.is_null();
    if !empty {
        let text = if key == BEHAVIOR {
            behavior_text(value)
        } else {
            in_order(value)
        };
        within(scaler, "metadata", |metadata| {
            within(metadata, "annotations", |own| set(own, key, text));
        });
    }
}

/// Members in the order in which upstream's types declare them, which is how Go prints them.
const ORDER: &[&str] = &[
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "target",
    "kind",
    "name",
    "apiVersion",
    "metricName",
    "metricSelector",
    "currentValue",
    "currentAverageUtilization",
    "currentAverageValue",
    "targetValue",
    "targetAverageUtilization",
    "targetAverageValue",
    "selector",
    "averageValue",
    "container",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
];

/// JSON with its members in [`ORDER`].
fn in_order(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_order).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let place = |name: &str| ORDER.iter().position(|own| *own == name);
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| place(name).unwrap_or(ORDER.len()));
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\":{}", in_order(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// The scaling behaviour as upstream notes it: its internal type, whose fields have no JSON names.
fn behavior_text(behavior: &Value) -> String {
    let part = |value: &Value, names: &[(&str, &str)]| {
        let members: Vec<String> = names
            .iter()
            .map(|(go, name)| format!("\"{go}\":{}", value.get(*name).unwrap_or(&Value::Null)))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let rules = |name: &str| {
        let Some(rules) = behavior.get(name).filter(|rules| !rules.is_null()) else {
            return "null".to_owned();
        };
        let policies = rules.get("policies").and_then(Value::as_array);
        let policies = policies.map_or_else(
            || "null".to_owned(),
            |policies| {
                let names = [
                    ("Type", "type"),
                    ("Value", "value"),
                    ("PeriodSeconds", "periodSeconds"),
                ];
                let list: Vec<String> = policies.iter().map(|p| part(p, &names)).collect();
                format!("[{}]", list.join(","))
            },
        );
        let or_null = |name: &str| rules.get(name).cloned().unwrap_or_default();
        format!(
            "{{\"StabilizationWindowSeconds\":{},\"SelectPolicy\":{},\"Policies\":{policies},\"Tolerance\":{}}}",
            or_null("stabilizationWindowSeconds"),
            or_null("selectPolicy"),
            or_null("tolerance")
        )
    };
    format!(
        "{{\"ScaleUp\":{},\"ScaleDown\":{}}}",
        rules("scaleUp"),
        rules("scaleDown")
    )
}

/// Names as JSON has them, and nothing that is null: what [`behavior_text`] has written.
fn with_json_names(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                let mut letters = name.chars();
                let name = letters.next().map_or_else(String::new, |first| {
                    first.to_lowercase().chain(letters).collect()
                });
                (name, with_json_names(value))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(with_json_names).collect(),
        other => other,
    }
}

fn take_annotation(scaler: &mut Value, key: &str) -> Option<Value> {
    let annotations = scaler
        .pointer_mut("/metadata/annotations")?
        .as_object_mut()?;
    let text = annotations.remove(key)?;
    let emptied = annotations.is_empty();
    if emptied {
        with(scaler, "metadata", |metadata| {
            remove(metadata, "annotations");
        });
    }
    serde_json::from_str(text.as_str()?).ok()
}

/// Takes a list out of a part of the object.
fn take(scaler: &mut Value, part: &str, name: &str) -> Value {
    let members = scaler.get_mut(part).and_then(Value::as_object_mut);
    members
        .and_then(|members| members.remove(name))
        .unwrap_or_default()
}

/// From `v2` to `v1`.
pub fn to_v1(scaler: &mut Value) {
    let metrics = take(scaler, "spec", "metrics");
    let (mut rest, mut target) = (Vec::new(), None);
    for metric in metrics.as_array().into_iter().flatten() {
        match cpu_utilization(metric, "target").filter(|_| target.is_none()) {
            Some(number) => target = Some(number),
            None => rest.push(rename_metric(metric, false)),
        }
    }
    if let Some(target) = target {
        within(scaler, "spec", |spec| {
            set(spec, "targetCPUUtilizationPercentage", target);
        });
    }
    annotate(scaler, METRICS, &json!(rest));
    let behavior = take(scaler, "spec", "behavior");
    annotate(scaler, BEHAVIOR, &behavior);
    let current = take(scaler, "status", "currentMetrics");
    let utilization = current
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|metric| cpu_utilization(metric, "current"));
    if let Some(number) = utilization {
        within(scaler, "status", |status| {
            set(status, "currentCPUUtilizationPercentage", number);
        });
    }
    let shown: Vec<Value> = current
        .as_array()
        .into_iter()
        .flatten()
        .map(|metric| rename_metric(metric, false))
        .collect();
    annotate(scaler, CURRENT, &json!(shown));
    let conditions = take(scaler, "status", "conditions");
    annotate(scaler, CONDITIONS, &conditions);
}

/// From `v1` to `v2`.
pub fn to_v2(scaler: &mut Value) {
    let mut metrics = Vec::new();
    let target = take(scaler, "spec", "targetCPUUtilizationPercentage");
    if !target.is_null() {
        let target = json!({"type": "Utilization", "averageUtilization": target});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if let Some(Value::Array(more)) = take_annotation(scaler, METRICS) {
        metrics.extend(more.iter().map(|metric| rename_metric(metric, true)));
    }
    if !metrics.is_empty() {
        within(scaler, "spec", |spec| set(spec, "metrics", metrics));
    }
    if let Some(behavior) = take_annotation(scaler, BEHAVIOR).map(with_json_names) {
        within(scaler, "spec", |spec| set(spec, "behavior", behavior));
    }
    let utilization = take(scaler, "status", "currentCPUUtilizationPercentage");
    let mut current: Vec<Value> = match take_annotation(scaler, CURRENT) {
        Some(Value::Array(list)) => list
            .iter()
            .map(|metric| rename_metric(metric, true))
            .collect(),
        _ => Vec::new(),
    };
    let known = current
        .iter()
        .any(|metric| cpu_utilization(metric, "current").is_some());
    if !utilization.is_null() && !known {
        let now = json!({"averageUtilization": utilization});
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": now}}));
    }
    if !current.is_empty() {
        within(scaler, "status", |status| {
            set(status, "currentMetrics", current);
        });
    }
    if let Some(conditions) = take_annotation(scaler, CONDITIONS) {
        within(scaler, "status", |status| {
            set(status, "conditions", conditions);
        });
    }
}

/// The flat names the annotations of `v1` have, and where `v2` keeps the same.
const NAMES: &[(&str, &str, &str)] = &[
    (
        "resource",
        "targetAverageUtilization",
        "/target/averageUtilization",
    ),
    ("resource", "targetAverageValue", "/target/averageValue"),
    (
        "resource",
        "currentAverageUtilization",
        "/current/averageUtilization",
    ),
    ("resource", "currentAverageValue", "/current/averageValue"),
    (
        "containerResource",
        "targetAverageUtilization",
        "/target/averageUtilization",
    ),
    (
        "containerResource",
        "targetAverageValue",
        "/target/averageValue",
    ),
    (
        "containerResource",
        "currentAverageUtilization",
        "/current/averageUtilization",
    ),
    (
        "containerResource",
        "currentAverageValue",
        "/current/averageValue",
    ),
    ("pods", "metricName", "/metric/name"),
    ("pods", "selector", "/metric/selector"),
    ("pods", "targetAverageValue", "/target/averageValue"),
    ("pods", "currentAverageValue", "/current/averageValue"),
    ("object", "target", "/describedObject"),
    ("object", "metricName", "/metric/name"),
    ("object", "selector", "/metric/selector"),
    ("object", "targetValue", "/target/value"),
    ("object", "averageValue", "/target/averageValue"),
    ("object", "currentValue", "/current/value"),
    ("external", "metricName", "/metric/name"),
    ("external", "metricSelector", "/metric/selector"),
    ("external", "targetValue", "/target/value"),
    ("external", "targetAverageValue", "/target/averageValue"),
    ("external", "currentValue", "/current/value"),
    ("external", "currentAverageValue", "/current/averageValue"),
];

/// A metric between its flat form and that of `v2`.
fn rename_metric(metric: &Value, to_v2: bool) -> Value {
    let mut made = Map::new();
    for (kind, source) in metric.as_object().into_iter().flatten() {
        let rules = NAMES.iter().filter(|(of, _, _)| of == kind);
        let Some(members) = source
            .as_object()
            .filter(|_| rules.clone().next().is_some())
        else {
            made.insert(kind.clone(), source.clone());
            continue;
        };
        let structured = ["metric", "target", "current", "describedObject"];
        let mut new: Map<String, Value> = members
            .iter()
            .filter(|(name, _)| {
                !structured.contains(&name.as_str())
                    && !rules.clone().any(|(_, flat, _)| flat == name)
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (_, flat, deep) in rules {
            if to_v2 {
                if let Some(value) = members.get(*flat) {
                    insert(&mut new, deep, value);
                }
            } else if let Some(value) = source.pointer(deep) {
                new.insert((*flat).to_owned(), value.clone());
            }
        }
        let mut new = Value::Object(new);
        if to_v2 {
            with(&mut new, "target", name_target);
        }
        made.insert(kind.clone(), new);
    }
    Value::Object(made)
}

/// A target says which of its numbers counts.
fn name_target(target: &mut Value) {
    let kind = if target.get("averageUtilization").is_some() {
        "Utilization"
    } else if target.get("averageValue").is_some() {
        "AverageValue"
    } else {
        "Value"
    };
    set(target, "type", kind);
}

fn insert(members: &mut Map<String, Value>, path: &str, value: &Value) {
    let mut names = path.trim_start_matches('/').splitn(2, '/');
    let (Some(first), second) = (names.next(), names.next()) else {
        return;
    };
    match second {
        None => {
            members.insert(first.to_owned(), value.clone());
        }
        Some(second) => {
            let inner = members.entry(first.to_owned()).or_insert_with(|| json!({}));
            set(inner, second, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_versions() {
        let scaler = json!({
            "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
            ], "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}},
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut converted = scaler.clone();
        to_v1(&mut converted);
        assert_eq!(converted["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(converted["spec"].get("metrics"), None);
        to_v2(&mut converted);
        assert_eq!(converted, scaler);
    }
}
