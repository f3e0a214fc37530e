//! Daemon sets.

use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

use super::workload::{self, amount};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod;
use crate::edit::{fill, fill_zero, set, within};

const REVISIONS: i64 = 10;

/// The annotation that stands for a field older versions had.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Daemon sets.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    default,
    prepare_update: |object, old| {
        let template = |object: &Value| object::at(object, &["spec", "template"]).cloned();
        let changed = template(object) != template(old);
        note(object, template_generation(old) + i64::from(changed));
    },
    validate_create,
    validate_update,
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn template_generation(object: &Value) -> i64 {
    object::annotation(object, TEMPLATE_GENERATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn note(object: &mut Value, generation: i64) {
    within(object, "metadata", |metadata| {
        within(metadata, "annotations", |annotations| {
            set(annotations, TEMPLATE_GENERATION, generation.to_string());
        });
    });
}

fn default(object: &mut Value) {
    // Upstream keeps it in a field of its own, which every version of the API writes as annotation.
    let generation = template_generation(object).max(1);
    note(object, generation);
    within(object, "spec", |spec| {
        within(spec, "template", pod::default_template);
        within(spec, "updateStrategy", |strategy| {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate" {
                within(strategy, "rollingUpdate", |update| {
                    fill(update, "maxUnavailable", 1);
                    fill(update, "maxSurge", 0);
                });
            }
        });
        fill(spec, "revisionHistoryLimit", REVISIONS);
    });
}

fn validate_create(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(object).get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    check::label_selector(&selector, &mut errors);
    if errors.is_empty() && !workload::matches(&selector, &template) {
        errors.push(template.at("metadata.labels").invalid(workload::NO_MATCH));
    }
    let parts = ["matchLabels", "matchExpressions"];
    if selector.is_set() && parts.iter().all(|part| selector.get(part).is_empty()) {
        let why = "empty selector is invalid for daemonset";
        errors.push(workload::invalid_selector(&selector, why));
    }
    pod::check_template(&template, &mut errors);
    workload::check_always_restarts(&template, "DaemonSet", &mut errors);
    check::nonnegative(&spec.get("minReadySeconds"), &mut errors);
    strategy(&spec.get("updateStrategy"), &mut errors);
    check::nonnegative(&spec.get("revisionHistoryLimit"), &mut errors);
    errors
}

fn strategy(at: &At<'_>, errors: &mut Errors) {
    match at.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(&at.get("rollingUpdate"), errors),
        _ => {
            let printed = workload::print_strategy(at);
            errors.push(
                at.not_supported(&["RollingUpdate", "OnDelete"])
                    .printed_as(printed),
            );
        }
    }
}

fn rolling_update(at: &At<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (at.get("maxUnavailable"), at.get("maxSurge"));
    check::number_or_percent(&unavailable, errors);
    check::number_or_percent(&surge, errors);
    check::not_above_hundred_percent(&unavailable, errors);
    check::not_above_hundred_percent(&surge, errors);
    match (amount(&unavailable) != 0, amount(&surge) != 0) {
        (true, true) => {
            errors.push(surge.invalid("may not be set when maxUnavailable is non-zero"));
        }
        (false, false) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

fn validate_update(object: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(object);
    workload::immutable_selector(object, old, &mut errors);
    errors
}

fn validate_status(object: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (status, before) = (At::root(object).get("status"), At::root(old).get("status"));
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    workload::check_counts(&status, &counts, &mut errors);
    workload::check_collisions(&status, &before, &mut errors);
    errors
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = object::at(object, &["spec", "template", "spec"]);
    let nodes = spec
        .and_then(|spec| spec.get("nodeSelector"))
        .and_then(Value::as_object);
    let status = |name: &str| cell::count(object, &["status", name]);
    vec![
        json!(object::name(object)),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        cell::labels(nodes.filter(|nodes: &&Map<String, Value>| !nodes.is_empty())),
        cell::age_of(object, now),
        cell::container_names(spec),
        cell::images(spec),
        cell::selector(object::at(object, &["spec", "selector"])),
    ]
}
