//! What the kinds that run Pods from a template have in common.

use model::{FieldError, LabelSelector};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::check;
use crate::core::pod;

/// The template's labels are not what the selector asks for.
pub const NO_MATCH: &str = "`selector` does not match template `labels`";
const ABOVE_REPLICAS: &str = "cannot be greater than status.replicas";

/// A selector; whether it can be used.
pub fn check_selector(at: &At<'_>, empty: &str, errors: &mut Errors) -> bool {
    if !at.is_set() {
        errors.push(at.required(""));
        return true;
    }
    let before = errors.len();
    check::label_selector(at, errors);
    let usable = errors.len() == before;
    if at.get("matchLabels").is_empty() && at.get("matchExpressions").is_empty() {
        errors.push(invalid_selector(at, empty));
    }
    usable
}

/// An error about a whole selector.
pub fn invalid_selector(at: &At<'_>, why: &str) -> FieldError {
    at.invalid(why)
        .printed_as(check::print_selector(at.value()))
}

/// A selector that may not change.
pub fn immutable_selector(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (
        At::root(new).at("spec.selector"),
        At::root(old).at("spec.selector"),
    );
    if new.value() != old.value() {
        errors.push(invalid_selector(&new, check::IMMUTABLE));
    }
}

/// Whether a selector selects what a template makes; without a selector nothing is selected.
pub fn matches(selector: &At<'_>, template: &At<'_>) -> bool {
    let labels = template.at("metadata.labels");
    let selector = Some(selector.value()).filter(|value| value.is_object());
    match LabelSelector::from_object(selector) {
        Ok(found) => selector.is_some() && found.matches(labels.map()),
        Err(_) => true,
    }
}

/// A template of Pods that run for ever and are selected by `selector`.
pub fn check_template(selector: &At<'_>, template: &At<'_>, kind: &str, errors: &mut Errors) {
    if !matches(selector, template) {
        errors.push(template.at("metadata.labels").invalid(NO_MATCH));
    }
    pod::check_template(template, errors);
    check_always_restarts(template, kind, errors);
}

/// Pods that run for ever have no deadline and always restart.
pub fn check_always_restarts(template: &At<'_>, kind: &str, errors: &mut Errors) {
    let (policy, deadline) = (
        template.at("spec.restartPolicy"),
        template.at("spec.activeDeadlineSeconds"),
    );
    check::one_of(&policy, &["Always"], errors);
    if deadline.is_set() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(deadline.forbidden(&why));
    }
}

/// Numbers of a status that must not be negative.
pub fn check_counts(status: &At<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        check::nonnegative(&status.get(field), errors);
    }
}

/// Numbers of a status that must not exceed `replicas`.
pub fn check_parts(status: &At<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        let part = status.get(field);
        if part.count() > status.get("replicas").count() {
            errors.push(part.invalid(ABOVE_REPLICAS));
        }
    }
    let available = status.get("availableReplicas");
    if available.count() > status.get("readyReplicas").count() {
        errors.push(available.invalid("cannot be greater than readyReplicas"));
    }
}

/// The status of what keeps a number of Pods running.
pub fn check_replicas(status: &At<'_>, errors: &mut Errors) {
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ];
    check_counts(status, &counts, errors);
    check_parts(
        status,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        errors,
    );
}

/// A count of collisions never goes down.
pub fn check_collisions(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let (new, old) = (new.get("collisionCount"), old.get("collisionCount"));
    if old.is_set() && new.number().is_none_or(|count| count < old.count()) {
        errors.push(new.invalid_count("cannot be decremented"));
    }
}

/// The number or percentage as a number, 0 where it is neither.
pub fn amount(at: &At<'_>) -> i64 {
    match at.value() {
        Value::String(text) => {
            check::percent(text).map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX))
        }
        _ => at.count(),
    }
}

/// How upstream prints an update strategy.
pub fn print_strategy(at: &At<'_>) -> String {
    let update = at.get("rollingUpdate");
    let parts = update.map().map(|members| {
        let names = [
            ("Partition", "partition"),
            ("MaxUnavailable", "maxUnavailable"),
            ("MaxSurge", "maxSurge"),
        ];
        let found: Vec<String> = names
            .iter()
            .filter_map(|(shown, name)| Some(format!("\"{shown}\":{}", members.get(*name)?)))
            .collect();
        format!("{{{}}}", found.join(","))
    });
    format!(
        "{{\"Type\":{},\"RollingUpdate\":{}}}",
        json!(at.get("type").text()),
        parts.as_deref().unwrap_or("null")
    )
}
