//! The group `autoscaling`: horizontal Pod autoscalers, in both versions.
//!
//! Everything is decided in the form of `v2`; an object of `v1` is looked at through its conversion.

mod cells;
mod conversion;
mod validate;

use model::object;
use serde_json::{Value, json};

use crate::behaviour::{Behaviour, StatusRule};
use crate::edit::{fill, set, with, within};
use crate::features;

pub use conversion::{to_v1, to_v2};

const CPU_PERCENT: i64 = 80;

/// Horizontal Pod autoscalers.
pub const AUTOSCALER: Behaviour = Behaviour {
    status: StatusRule::Separate,
    default,
    validate_create: |scaler| validate::check(&in_v2(scaler), features::hpa_scale_to_zero()),
    validate_update: |scaler, old| {
        // What may be zero already may stay so.
        let zero = object::number(old, &["spec", "minReplicas"]) == Some(0);
        validate::check(&in_v2(scaler), zero || features::hpa_scale_to_zero())
    },
    validate_status: |scaler, _| validate::check_status(&in_v2(scaler)),
    cells: Some(|scaler, now| cells::cells(&in_v2(scaler), now)),
    ..Behaviour::DEFAULT
};

fn is_v1(scaler: &Value) -> bool {
    object::text(scaler, &["apiVersion"]) == "autoscaling/v1"
}

fn in_v2(scaler: &Value) -> Value {
    let mut scaler = scaler.clone();
    if is_v1(&scaler) {
        to_v2(&mut scaler);
    }
    scaler
}

fn default(scaler: &mut Value) {
    let v1 = is_v1(scaler);
    let has_metrics = object::annotation(scaler, conversion::METRICS).is_some();
    within(scaler, "spec", |spec| {
        fill(spec, "minReplicas", 1);
        if v1 {
            if !has_metrics {
                fill(spec, "targetCPUUtilizationPercentage", CPU_PERCENT);
            }
            return;
        }
        if object::list(spec, &["metrics"]).is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
            let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
            set(spec, "metrics", json!([metric]));
        }
        with(spec, "behavior", |behavior| {
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            within(behavior, "scaleUp", |rules| {
                fill(rules, "stabilizationWindowSeconds", 0);
                fill(rules, "selectPolicy", "Max");
                fill(rules, "policies", json!([pods, percent.clone()]));
            });
            within(behavior, "scaleDown", |rules| {
                fill(rules, "selectPolicy", "Max");
                fill(rules, "policies", json!([percent]));
            });
        });
    });
}
