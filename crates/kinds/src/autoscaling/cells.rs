//! The row of an autoscaler in a table.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::cell;

const SHOWN_MAX: usize = 2;

/// The cells of an autoscaler of `v2`.
pub fn cells(scaler: &Value, now: Timestamp) -> Vec<Value> {
    let target = |name: &str| object::text(scaler, &["spec", "scaleTargetRef", name]);
    let low = object::number(scaler, &["spec", "minReplicas"]);
    vec![
        json!(object::name(scaler)),
        json!(format!("{}/{}", target("kind"), target("name"))),
        json!(targets(scaler)),
        json!(low.map_or("<unset>".to_owned(), |low| low.to_string())),
        cell::count(scaler, &["spec", "maxReplicas"]),
        cell::count(scaler, &["status", "currentReplicas"]),
        cell::age_of(scaler, now),
    ]
}

fn targets(scaler: &Value) -> String {
    let metrics = object::list(scaler, &["spec", "metrics"]);
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = object::list(scaler, &["status", "currentMetrics"]);
    let texts: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| one(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    cell::first(&texts, SHOWN_MAX, ", ")
}

fn one(metric: &Value, current: &Value) -> String {
    let (field, named) = match object::text(metric, &["type"]) {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let get = |side: &Value, part: &str, name: &str| {
        let value = side.pointer(&format!("/{field}/{part}/{name}"));
        value.map(|value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
    };
    let average = get(metric, "target", "averageValue");
    let unknown = || "<unknown>".to_owned();
    let text = if named {
        match average {
            Some(target) => {
                let now = get(current, "current", "averageValue").unwrap_or_else(unknown);
                format!("{now}/{target}")
            }
            None => {
                let percent = |found: Option<String>| found.map(|number| format!("{number}%"));
                let now = percent(get(current, "current", "averageUtilization"));
                let target = percent(get(metric, "target", "averageUtilization"));
                format!(
                    "{}/{}",
                    now.unwrap_or_else(unknown),
                    target.unwrap_or_else(|| "<auto>".to_owned())
                )
            }
        }
    } else {
        let (part, suffix) = if average.is_some() {
            ("averageValue", " (avg)")
        } else {
            ("value", "")
        };
        let now = get(current, "current", part).unwrap_or_else(unknown);
        let target = get(metric, "target", part).unwrap_or_default();
        let suffix = if field == "pods" { "" } else { suffix };
        format!("{now}/{target}{suffix}")
    };
    if named {
        let name = object::text(metric, &[field, "name"]);
        format!("{name}: {text}")
    } else {
        text
    }
}
