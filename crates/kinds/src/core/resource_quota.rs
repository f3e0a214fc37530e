//! Resource quotas.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use model::{FieldError, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::with;
use crate::resources;

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// What Pods use up.
const OF_PODS: &[&str] = &[
    "pods",
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// Resource quotas.
pub const BEHAVIOUR: Behaviour = Behaviour {
    status: StatusRule::Separate,
    delete_returns_object: true,
    default,
    validate_create,
    validate_update,
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(quota: &mut Value) {
    with(quota, "spec", |spec| {
        with(spec, "hard", resources::round_up);
    });
    with(quota, "status", |status| {
        with(status, "hard", resources::round_up);
        with(status, "used", resources::round_up);
    });
}

fn amounts(at: &At<'_>, errors: &mut Errors) {
    for (name, amount) in at.entries() {
        resources::check_quota_name(name, &amount, errors);
        resources::check_amount(name, &amount, errors);
    }
}

fn validate_create(quota: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(quota).get("spec");
    amounts(&spec.get("hard"), &mut errors);
    scopes(&spec, &mut errors);
    selector(&spec, &mut errors);
    errors
}

/// Whether a scope makes sense for a resource.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => OF_PODS.contains(&resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn conflicting(scopes: &HashSet<&str>) -> bool {
    [
        ("BestEffort", "NotBestEffort"),
        ("Terminating", "NotTerminating"),
    ]
    .iter()
    .any(|(one, other)| scopes.contains(one) && scopes.contains(other))
}

fn misfits(spec: &At<'_>, scope: &str) -> usize {
    let names = spec
        .get("hard")
        .map()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    names
        .filter(|name| resources::is_standard_quota(name) && !fits(scope, name))
        .count()
}

fn scopes(spec: &At<'_>, errors: &mut Errors) {
    let list = spec.get("scopes");
    for scope in list.texts() {
        if !SCOPES.contains(&scope) {
            errors.push(list.invalid("unsupported scope"));
        }
        for _ in 0..misfits(spec, scope) {
            errors.push(list.invalid("unsupported scope applied to resource"));
        }
    }
    if conflicting(&list.texts().collect()) {
        errors.push(list.invalid("conflicting scopes"));
    }
}

fn selector(spec: &At<'_>, errors: &mut Errors) {
    let list = spec.at("scopeSelector.matchExpressions");
    let mut names = HashSet::new();
    for requirement in list.items() {
        let said = |field: &str| requirement.get(field).said_at(list.path().child(field));
        let (scope, operator, values) = (said("scopeName"), said("operator"), said("values"));
        if !SCOPES.contains(&scope.text()) {
            errors.push(scope.invalid_text("unsupported scope"));
        }
        for _ in 0..misfits(spec, scope.text()) {
            let value = spec.get("scopeSelector").value().clone();
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(list.path(), value, why));
        }
        let takes_no_values = SCOPES.contains(&scope.text())
            && !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
        if takes_no_values && operator.text() != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(operator.invalid_text(why));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(values.required(why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(values.invalid(why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid_text("not a valid selector operator")),
        }
        names.insert(scope.text());
    }
    if conflicting(&names) {
        let said = spec.get("scopes").said_at(list.path().clone());
        errors.push(said.invalid("conflicting scopes"));
    }
}

fn validate_update(quota: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(quota);
    let (scopes, before) = (
        At::root(quota).at("spec.scopes"),
        At::root(old).at("spec.scopes"),
    );
    let set = |at: &At<'_>| at.texts().map(str::to_owned).collect::<BTreeSet<_>>();
    if set(&scopes) != set(&before) {
        errors.push(scopes.invalid(check::IMMUTABLE));
    }
    errors
}

fn validate_status(quota: &Value, _: &Value) -> Errors {
    let mut errors = Vec::new();
    let status = At::root(quota).get("status");
    amounts(&status.get("hard"), &mut errors);
    amounts(&status.get("used"), &mut errors);
    errors
}

fn cells(quota: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = object::at(quota, &["status", "hard"]).and_then(Value::as_object);
    for (name, amount) in hard.into_iter().flatten() {
        let used = object::text(quota, &["status", "used", name]);
        let used = if used.is_empty() { "0" } else { used };
        let text = format!("{name}: {used}/{}", amount.as_str().unwrap_or_default());
        if name.starts_with("limits") {
            &mut limits
        } else {
            &mut requests
        }
        .push(text);
    }
    vec![
        json!(object::name(quota)),
        json!(requests.join(", ")),
        json!(limits.join(", ")),
        cell::age_of(quota, now),
    ]
}
