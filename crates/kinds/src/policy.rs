//! The group `policy`: Pod disruption budgets.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;

/// Pod disruption budgets.
pub const BUDGET: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    unconditional_update: false,
    validate_create,
    validate_update: |budget, _| validate_create(budget),
    validate_status: |budget, _| {
        let mut errors = Vec::new();
        let status = At::root(budget).get("status");
        let counts = [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ];
        workload::check_counts(&status, &counts, &mut errors);
        errors
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(budget: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(budget).get("spec");
    let (low, high) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    let policy = spec.get("unhealthyPodEvictionPolicy");
    if low.is_set() && high.is_set() {
        let printed = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            low.value(),
            if spec.get("selector").is_set() {
                check::print_selector(spec.get("selector").value())
            } else {
                "null".to_owned()
            },
            high.value(),
            policy.value(),
        );
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(spec.invalid(why).printed_as(printed));
    }
    for amount in [low, high] {
        check::number_or_percent(&amount, &mut errors);
        check::not_above_hundred_percent(&amount, &mut errors);
    }
    check::label_selector(&spec.get("selector"), &mut errors);
    check::optional_one_of(&policy, &["AlwaysAllow", "IfHealthyBudget"], &mut errors);
    errors
}

fn cells(budget: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |name: &str| match object::at(budget, &["spec", name]) {
        Some(Value::String(text)) => json!(text),
        Some(Value::Number(number)) => json!(number.to_string()),
        _ => json!("N/A"),
    };
    vec![
        json!(object::name(budget)),
        amount("minAvailable"),
        amount("maxUnavailable"),
        cell::count(budget, &["status", "disruptionsAllowed"]),
        cell::age_of(budget, now),
    ]
}
