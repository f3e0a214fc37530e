//! Replica sets.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::workload;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod;
use crate::edit::{fill, within};

/// Replica sets.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default: |set| {
        within(set, "spec", |spec| {
            fill(spec, "replicas", 1);
            within(spec, "template", pod::default_template);
        });
    },
    validate_create,
    validate_update,
    validate_status: |set, _| {
        let mut errors = Vec::new();
        workload::check_replicas(&At::root(set).get("status"), &mut errors);
        errors
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(set: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(set).get("spec");
    check::nonnegative(&spec.get("replicas"), &mut errors);
    check::nonnegative(&spec.get("minReadySeconds"), &mut errors);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    // As upstream: the words are a Deployment's.
    let empty = "empty selector is invalid for deployment";
    if workload::check_selector(&selector, empty, &mut errors) {
        workload::check_template(&selector, &template, "ReplicaSet", &mut errors);
    } else {
        errors.push(workload::invalid_selector(
            &selector,
            "invalid label selector",
        ));
    }
    errors
}

fn validate_update(set: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(set);
    workload::immutable_selector(set, old, &mut errors);
    errors
}

fn cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let spec = object::at(set, &["spec", "template", "spec"]);
    vec![
        json!(object::name(set)),
        cell::count(set, &["spec", "replicas"]),
        cell::count(set, &["status", "replicas"]),
        cell::count(set, &["status", "readyReplicas"]),
        cell::age_of(set, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::selector(object::at(set, &["spec", "selector"])),
    ]
}
