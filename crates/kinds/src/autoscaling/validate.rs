//! Checks of autoscalers.

use model::{FieldError, names};
use serde_json::Value;

use crate::at::{At, Errors};
use crate::check;
use crate::resources::quantity;

const WINDOW_SECONDS_MAX: i64 = 3_600;
const PERIOD_SECONDS_MAX: i64 = 1_800;

type Check = fn(&At<'_>, &mut Errors);

/// The kinds of sources: their type, their field, their check.
const SOURCES: &[(&str, &str, Check)] = &[
    ("Object", "object", of_object),
    ("External", "external", external),
    ("Pods", "pods", pods),
    ("Resource", "resource", resource),
    ("ContainerResource", "containerResource", container_resource),
];

/// Checks an autoscaler of `v2`, which may scale to zero or not.
pub fn check(scaler: &Value, to_zero: bool) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(scaler).get("spec");
    let (low, high) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let least = i64::from(!to_zero);
    if low.number().is_some_and(|count| count < least) {
        errors.push(low.invalid(format!("must be greater than or equal to {least}")));
    }
    if high.count() == 0 {
        errors.push(high.required("must be set and greater than 0"));
    } else if high.count() < 0 {
        errors.push(high.invalid("must be greater than 0"));
    }
    if low.number().is_some_and(|low| high.count() < low) {
        errors.push(high.invalid_count("must be greater than or equal to `minReplicas`"));
    }
    let target = spec.get("scaleTargetRef");
    let of_core = target.get("kind").text() == "ReplicationController";
    reference(&target, of_core, &mut errors);
    metrics(&spec.get("metrics"), low.number(), &mut errors);
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.get("behavior").get(direction);
        if rules.is_set() {
            scaling_rules(&rules, &mut errors);
        }
    }
    errors
}

/// Checks the status of an autoscaler of `v2`.
pub fn check_status(scaler: &Value) -> Errors {
    let mut errors = Vec::new();
    let status = At::root(scaler).get("status");
    check::nonnegative(&status.get("currentReplicas"), &mut errors);
    check::nonnegative(&status.get("desiredReplicas"), &mut errors);
    errors
}

fn reference(at: &At<'_>, core_allowed: bool, errors: &mut Errors) {
    for field in ["kind", "name"] {
        let text = at.get(field);
        if check::required(&text, errors) {
            check::messages(&text, names::path_segment(text.text()), errors);
        }
    }
    let version = at.get("apiVersion");
    match version.text().matches('/').count() {
        0 if core_allowed && version.text() == "v1" => {}
        0 => errors.push(version.invalid_text("apiVersion must specify API group")),
        1 => {}
        _ => {
            let why = format!("unexpected GroupVersion string: {}", version.text());
            errors.push(version.invalid(why));
        }
    }
}

fn metrics(at: &At<'_>, min_replicas: Option<i64>, errors: &mut Errors) {
    at.items().for_each(|metric| check_metric(&metric, errors));
    let scales_to_zero = at
        .items()
        .any(|metric| matches!(metric.get("type").text(), "Object" | "External"));
    if min_replicas == Some(0) && !scales_to_zero {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(at.forbidden(why));
    }
}

fn check_metric(at: &At<'_>, errors: &mut Errors) {
    let kind = at.get("type");
    let known = [
        "ContainerResource",
        "External",
        "Object",
        "Pods",
        "Resource",
    ];
    if kind.is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    } else {
        check::one_of(&kind, &known, errors);
    }
    let present: Vec<&str> = SOURCES
        .iter()
        .map(|(_, field, _)| *field)
        .filter(|field| at.get(field).is_set())
        .collect();
    if let Some((_, field, check)) = SOURCES
        .iter()
        .find(|(_, field, _)| present.first() == Some(field))
    {
        check(&at.get(field), errors);
    }
    let expected = SOURCES
        .iter()
        .find(|(name, _, _)| *name == kind.text())
        .map(|(_, f, _)| *f);
    if let Some(field) = expected.filter(|field| !at.get(field).is_set()) {
        let why = "must populate information for the given metric source";
        errors.push(at.get(field).required(why));
    }
    if expected.is_none() && !kind.is_empty() {
        // Said a second time, as upstream does.
        check::one_of(&kind, &known, errors);
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            errors.push(
                at.get(field)
                    .forbidden("must populate the given metric source only"),
            );
        }
    }
}

fn identifier(at: &At<'_>, errors: &mut Errors) {
    let name = at.get("name");
    if name.is_empty() {
        errors.push(name.required("must specify a metric name"));
    } else {
        check::messages(&name, names::path_segment(name.text()), errors);
    }
}

fn target(at: &At<'_>, errors: &mut Errors) {
    let kind = at.get("type");
    match kind.text() {
        "" => errors.push(kind.required("must specify a metric target type")),
        "Utilization" | "Value" | "AverageValue" => {}
        _ => errors.push(kind.invalid("must be either Utilization, Value, or AverageValue")),
    }
    for field in ["value", "averageValue"] {
        let amount = at.get(field);
        if quantity(amount.value()).is_some_and(|amount| amount.sign() != 1) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let percent = at.get("averageUtilization");
    if percent.number().is_some_and(|percent| percent < 1) {
        errors.push(percent.invalid("must be greater than 0"));
    }
}

fn of_object(at: &At<'_>, errors: &mut Errors) {
    // As upstream: the described object may be of the core group.
    let described = at.get("describedObject");
    for field in ["kind", "name"] {
        let text = described.get(field);
        if check::required(&text, errors) {
            check::messages(&text, names::path_segment(text.text()), errors);
        }
    }
    identifier(&at.get("metric"), errors);
    let wanted = at.get("target");
    target(&wanted, errors);
    if !wanted.get("value").is_set() && !wanted.get("averageValue").is_set() {
        let why = "must set either a target value or averageValue";
        errors.push(wanted.get("averageValue").required(why));
    }
}

fn external(at: &At<'_>, errors: &mut Errors) {
    identifier(&at.get("metric"), errors);
    let wanted = at.get("target");
    target(&wanted, errors);
    match (
        wanted.get("value").is_set(),
        wanted.get("averageValue").is_set(),
    ) {
        (false, false) => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.push(wanted.get("averageValue").required(why));
        }
        (true, true) => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(wanted.get("value").forbidden(why));
        }
        _ => {}
    }
}

fn pods(at: &At<'_>, errors: &mut Errors) {
    identifier(&at.get("metric"), errors);
    let wanted = at.get("target");
    target(&wanted, errors);
    let amount = wanted.get("averageValue");
    if quantity(amount.value()).is_none_or(|amount| amount.sign() != 1) {
        errors.push(amount.required("must specify a positive target averageValue"));
    }
}

fn resource(at: &At<'_>, errors: &mut Errors) {
    if at.get("name").is_empty() {
        errors.push(at.get("name").required("must specify a resource name"));
    }
    let wanted = at.get("target");
    target(&wanted, errors);
    let (percent, amount) = (wanted.get("averageUtilization"), wanted.get("averageValue"));
    match (percent.is_set(), amount.is_set()) {
        (false, false) => {
            let why = "must set either a target raw value or a target utilization";
            errors.push(percent.required(why));
        }
        (true, true) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(amount.forbidden(why));
        }
        _ => {}
    }
}

fn container_resource(at: &At<'_>, errors: &mut Errors) {
    resource(at, errors);
    if at.get("container").is_empty() {
        errors.push(at.get("container").required("must specify a container"));
    }
}

fn scaling_rules(at: &At<'_>, errors: &mut Errors) {
    let window = at.get("stabilizationWindowSeconds");
    if window.count() < 0 {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.count() > WINDOW_SECONDS_MAX {
        let why = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
        errors.push(window.invalid(why));
    }
    check::optional_one_of(&at.get("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    let policies = at.get("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        check::one_of(&policy.get("type"), &["Percent", "Pods"], errors);
        for field in ["value", "periodSeconds"] {
            let number = policy.get(field);
            if number.count() <= 0 {
                errors.push(number.invalid_count("must be greater than zero"));
            }
        }
        let period = policy.get("periodSeconds");
        if period.count() > PERIOD_SECONDS_MAX {
            let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.push(period.invalid(why));
        }
    }
    let tolerance = at.get("tolerance");
    if let Some(amount) = quantity(tolerance.value()).filter(|amount| amount.sign() < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(
            tolerance.path(),
            amount.to_string(),
            why,
        ));
    }
}
