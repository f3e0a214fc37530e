//! Stateful sets.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::workload::{self};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule};
use crate::cell;
use crate::check;
use crate::core::{persistent_volume_claim, pod};
use crate::edit::{each, fill, fill_zero, remove, restore, set, within};
use crate::features;

const REVISIONS: i64 = 10;
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const MAY_CHANGE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Stateful sets.
pub const BEHAVIOUR: Behaviour = Behaviour {
    name: NameRule::Label,
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default,
    prepare_create: |object| drop_max_unavailable(object, None),
    prepare_update: |object, old| drop_max_unavailable(object, Some(old)),
    validate_create,
    validate_update,
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// `maxUnavailable` belongs to a feature that is off by default: it stays where it was in use.
fn drop_max_unavailable(object: &mut Value, old: Option<&Value>) {
    let path = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if features::stateful_set_max_unavailable() {
        return;
    }
    if old.is_some_and(|old| object::at(old, &path).is_some()) {
        return;
    }
    if let Some(update) = object.pointer_mut("/spec/updateStrategy/rollingUpdate") {
        remove(update, "maxUnavailable");
    }
}

fn default(object: &mut Value) {
    within(object, "spec", |spec| {
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", REVISIONS);
        fill_zero(spec, "podManagementPolicy", "OrderedReady");
        within(spec, "template", pod::default_template);
        within(spec, "updateStrategy", |strategy| {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                within(strategy, "rollingUpdate", |update| {
                    fill(update, "partition", 0);
                });
            }
        });
        within(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
            fill_zero(policy, "whenDeleted", "Retain");
            fill_zero(policy, "whenScaled", "Retain");
        });
        each(spec, "volumeClaimTemplates", |claim| {
            set(claim, "apiVersion", "v1");
            set(claim, "kind", "PersistentVolumeClaim");
            within(claim, "spec", persistent_volume_claim::default_spec);
            within(claim, "status", |status| {
                fill_zero(status, "phase", "Pending");
            });
        });
    });
}

fn validate_create(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(object).get("spec");
    let policy = spec.get("podManagementPolicy");
    match policy.text() {
        "" => errors.push(policy.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    strategy(&spec.get("updateStrategy"), &mut errors);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        check::one_of(&retention.get(field), &["Retain", "Delete"], &mut errors);
    }
    for path in [
        "replicas",
        "minReadySeconds",
        "ordinals.start",
        "revisionHistoryLimit",
    ] {
        check::nonnegative(&spec.at(path), &mut errors);
    }
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    let empty = "empty selector is invalid for statefulset";
    if workload::check_selector(&selector, empty, &mut errors) {
        if !workload::matches(&selector, &template) {
            errors.push(template.at("metadata.labels").invalid(workload::NO_MATCH));
        }
        // As upstream: volumes come from the claims too, so the rest of the template is not checked.
        let (labels, annotations) = (
            template.at("metadata.labels"),
            template.at("metadata.annotations"),
        );
        check::labels(
            &labels.said_at(template.path().child("labels")),
            &mut errors,
        );
        check::annotations(
            &annotations.said_at(template.path().child("annotations")),
            &mut errors,
        );
    } else {
        errors.push(workload::invalid_selector(&selector, ""));
    }
    workload::check_always_restarts(&template, "StatefulSet", &mut errors);
    errors
}

fn strategy(at: &At<'_>, errors: &mut Errors) {
    let update = at.get("rollingUpdate");
    match at.get("type").text() {
        "" => errors.push(at.required("")),
        "OnDelete" => {
            if update.is_set() {
                let (zero, null) = (json!(0), Value::Null);
                let get = |name: &str| update.value().get(name);
                let printed = check::print_struct(&[
                    ("Partition", get("partition").unwrap_or(&zero)),
                    ("MaxUnavailable", get("maxUnavailable").unwrap_or(&null)),
                ]);
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(update.invalid(why).printed_as(printed));
            }
        }
        "RollingUpdate" => {
            check::nonnegative(&update.get("partition"), errors);
            let unavailable = update.get("maxUnavailable");
            if unavailable.is_set() {
                check::number_or_percent(&unavailable, errors);
                check::not_above_hundred_percent(&unavailable, errors);
            }
        }
        _ => {
            let printed = workload::print_strategy(at);
            errors.push(
                at.invalid("must be 'RollingUpdate' or 'OnDelete'")
                    .printed_as(printed),
            );
        }
    }
}

fn validate_update(object: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(object);
    let spec = At::root(object).get("spec");
    let before = old.get("spec").cloned().unwrap_or_default();
    let mut rest = spec.value().clone();
    for field in MAY_CHANGE {
        restore(&mut rest, &before, field);
    }
    if rest != before {
        errors.push(spec.forbidden(FIXED));
    }
    errors
}

fn validate_status(object: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (status, before) = (At::root(object).get("status"), At::root(old).get("status"));
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    workload::check_counts(&status, &counts, &mut errors);
    let parts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    workload::check_parts(&status, &parts, &mut errors);
    workload::check_collisions(&status, &before, &mut errors);
    errors
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &[&str]| object::number(object, path).unwrap_or(0);
    let spec = object::at(object, &["spec", "template", "spec"]);
    vec![
        json!(object::name(object)),
        json!(format!(
            "{}/{}",
            count(&["status", "readyReplicas"]),
            count(&["spec", "replicas"])
        )),
        cell::age_of(object, now),
        cell::container_names(spec),
        cell::images(spec),
    ]
}
