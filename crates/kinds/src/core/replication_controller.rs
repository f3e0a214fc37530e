//! Replication controllers.

use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

use super::pod;
use crate::apps::workload::{self, check_replicas};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, set, with, within};

/// Replication controllers.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default,
    validate_create,
    validate_update: |new, _| validate_create(new),
    validate_status,
    cells: Some(cells),
    selectable_fields: &["status.replicas"],
    ..Behaviour::DEFAULT
};

/// Selector and labels are the template's unless said otherwise.
fn default(controller: &mut Value) {
    let labels = object::at(controller, &["spec", "template", "metadata", "labels"])
        .filter(|labels| labels.is_object())
        .cloned();
    within(controller, "spec", |spec| {
        fill(spec, "replicas", 1);
        with(spec, "template", pod::default_template);
        if let Some(labels) = &labels {
            let empty = spec
                .get("selector")
                .and_then(Value::as_object)
                .is_none_or(Map::is_empty);
            if empty {
                set(spec, "selector", labels.clone());
            }
        }
    });
    if let Some(labels) = labels
        && object::labels(controller).is_none_or(Map::is_empty)
    {
        object::metadata_mut(controller).insert("labels".to_owned(), labels);
    }
}

fn validate_create(controller: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(controller).get("spec");
    check::nonnegative(&spec.get("minReadySeconds"), &mut errors);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.is_empty() {
        errors.push(selector.required(""));
    }
    check::nonnegative(&spec.get("replicas"), &mut errors);
    if !template.is_set() {
        errors.push(template.required(""));
        return errors;
    }
    let labels = template.at("metadata.labels");
    let matches = selector
        .map()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.value().get(key) == Some(value));
    if !matches {
        errors.push(labels.invalid(workload::NO_MATCH));
    }
    pod::check_template(&template, &mut errors);
    workload::check_always_restarts(&template, "ReplicationController", &mut errors);
    errors
}

fn validate_status(controller: &Value, _: &Value) -> Errors {
    let mut errors = Vec::new();
    check_replicas(&At::root(controller).get("status"), &mut errors);
    errors
}

fn cells(controller: &Value, now: Timestamp) -> Vec<Value> {
    let spec = object::at(controller, &["spec", "template", "spec"]);
    let selector = object::at(controller, &["spec", "selector"]).and_then(Value::as_object);
    vec![
        json!(object::name(controller)),
        cell::count(controller, &["spec", "replicas"]),
        cell::count(controller, &["status", "replicas"]),
        cell::count(controller, &["status", "readyReplicas"]),
        cell::age_of(controller, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::labels(selector),
    ]
}
