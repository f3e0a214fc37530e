//! Deployments.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::workload::{self, amount};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod;
use crate::edit::{fill, fill_zero, within};

const REVISIONS: i64 = 10;
const DEADLINE_SECONDS: i64 = 600;

/// Deployments.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    generation_counts_annotations: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::KeepsLabels,
    default,
    validate_create,
    validate_update,
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(deployment: &mut Value) {
    within(deployment, "spec", |spec| {
        fill(spec, "replicas", 1);
        within(spec, "template", pod::default_template);
        within(spec, "strategy", |strategy| {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                within(strategy, "rollingUpdate", |update| {
                    fill(update, "maxUnavailable", "25%");
                    fill(update, "maxSurge", "25%");
                });
            }
        });
        fill(spec, "revisionHistoryLimit", REVISIONS);
        fill(spec, "progressDeadlineSeconds", DEADLINE_SECONDS);
    });
}

fn validate_create(deployment: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(deployment).get("spec");
    check::nonnegative(&spec.get("replicas"), &mut errors);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    let empty = "empty selector is invalid for deployment";
    if workload::check_selector(&selector, empty, &mut errors) {
        workload::check_template(&selector, &template, "ReplicaSet", &mut errors);
    } else {
        errors.push(workload::invalid_selector(
            &selector,
            "invalid label selector",
        ));
    }
    strategy(&spec.get("strategy"), &mut errors);
    check::nonnegative(&spec.get("minReadySeconds"), &mut errors);
    check::nonnegative(&spec.get("revisionHistoryLimit"), &mut errors);
    let deadline = spec.get("progressDeadlineSeconds");
    check::nonnegative(&deadline, &mut errors);
    if deadline
        .number()
        .is_some_and(|seconds| seconds <= spec.get("minReadySeconds").count())
    {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    errors
}

fn strategy(at: &At<'_>, errors: &mut Errors) {
    let update = at.get("rollingUpdate");
    match at.get("type").text() {
        "Recreate" => {
            if update.is_set() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(update.forbidden(why));
            }
        }
        "RollingUpdate" => rolling_update(&update, errors),
        _ => {
            let printed = workload::print_strategy(at);
            errors.push(
                at.not_supported(&["Recreate", "RollingUpdate"])
                    .printed_as(printed),
            );
        }
    }
}

fn rolling_update(at: &At<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (at.get("maxUnavailable"), at.get("maxSurge"));
    check::number_or_percent(&unavailable, errors);
    check::number_or_percent(&surge, errors);
    if amount(&unavailable) == 0 && amount(&surge) == 0 {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    check::not_above_hundred_percent(&unavailable, errors);
}

fn validate_update(deployment: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(deployment);
    workload::immutable_selector(deployment, old, &mut errors);
    errors
}

fn validate_status(deployment: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (status, before) = (
        At::root(deployment).get("status"),
        At::root(old).get("status"),
    );
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    workload::check_counts(&status, &counts, &mut errors);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::check_parts(&status, &parts, &mut errors);
    workload::check_collisions(&status, &before, &mut errors);
    errors
}

fn cells(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &[&str]| object::number(deployment, path).unwrap_or(0);
    let spec = object::at(deployment, &["spec", "template", "spec"]);
    vec![
        json!(object::name(deployment)),
        json!(format!(
            "{}/{}",
            count(&["status", "readyReplicas"]),
            count(&["spec", "replicas"])
        )),
        json!(count(&["status", "updatedReplicas"])),
        json!(count(&["status", "availableReplicas"])),
        cell::age_of(deployment, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::selector(object::at(deployment, &["spec", "selector"])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(edit: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut deployment = json!({"spec": {"selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        edit(&mut deployment["spec"]);
        default(&mut deployment);
        validate_create(&deployment)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_selector_must_select_the_template() {
        assert!(errors_of(|_| ()).is_empty());
        assert_eq!(
            errors_of(|spec| spec["selector"] = json!({"matchLabels": {"app": "b"}})),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            errors_of(|spec| spec["strategy"] = json!({"type": "Magic"})),
            [
                "spec.strategy: Unsupported value: {\"Type\":\"Magic\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\""
            ]
        );
    }
}
