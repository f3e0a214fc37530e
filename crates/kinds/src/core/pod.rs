//! Pods.

mod cells;
mod containers;
mod defaults;
mod fields;
mod handlers;
mod image;
mod parts;
mod quality;
mod scheduling;
mod security;
mod spec;
mod status;
mod update;
pub mod volumes;

pub use self::quality::class as quality_class;

use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::edit::{self, set};

pub use defaults::{template as default_template, volume_source as default_volume_source};
pub use scheduling::{EFFECTS, tolerations as check_tolerations};
pub use spec::check_template;

/// Pods.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    delete_returns_object: true,
    grace_period_seconds: Some(grace_period_seconds),
    default: defaults::pod,
    prepare_create,
    prepare_status,
    validate_create,
    validate_update,
    validate_status: status::check,
    subresources: &[parts::EPHEMERAL_CONTAINERS, parts::RESIZE],
    cells: Some(cells::cells),
    selectable_fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    ..Behaviour::DEFAULT
};

/// A Pod on no node, or one that has ended, goes at once.
fn grace_period_seconds(pod: &Value, wanted: Option<i64>) -> i64 {
    let ended = matches!(
        object::text(pod, &["status", "phase"]),
        "Failed" | "Succeeded"
    );
    if ended || object::text(pod, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = || object::number(pod, &["spec", "terminationGracePeriodSeconds"]);
    match wanted.or_else(own).unwrap_or(0) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

fn prepare_create(pod: &mut Value) {
    let class = quality::class(pod.get("spec").unwrap_or(&Value::Null));
    set(
        pod,
        "status",
        json!({"phase": "Pending", "qosClass": class}),
    );
    if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
        let created = object::text(pod, &["metadata", "creationTimestamp"]).to_owned();
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "lastTransitionTime": created,
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    scheduling::apply_label_keys(pod);
}

/// Old kubelets drop what they do not know of the status, and owners; both are kept.
fn prepare_status(pod: &mut Value, old: &Value) {
    if let (Some(new), Some(before)) = (pod.get_mut("metadata"), old.get("metadata")) {
        edit::restore(new, before, "ownerReferences");
        edit::restore(new, before, "deletionTimestamp");
    }
    if let Some(class) = object::at(old, &["status", "qosClass"]) {
        edit::within(pod, "status", |status| {
            edit::fill_zero(status, "qosClass", class.clone());
        });
    }
    let generation = object::number(old, &["status", "observedGeneration"]).unwrap_or(0);
    if generation > 0 {
        edit::with(pod, "status", |s| {
            edit::fill_zero(s, "observedGeneration", generation);
        });
    }
}

fn check_pod(pod: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(pod);
    let spec = root.get("spec");
    spec::check_annotations(&root.at("metadata.annotations"), &spec, &mut errors);
    spec::check_spec(&spec, Some(pod), &mut errors);
    if spec.get("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            for source in volume.at("projected.sources").items() {
                let token = source.get("serviceAccountToken");
                if token.is_set() {
                    let why = "must not be specified when serviceAccountName is not set";
                    errors.push(token.forbidden(why));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).items() {
            containers::only_in_pods(&container, &mut errors);
        }
    }
    errors
}

fn validate_create(pod: &Value) -> Errors {
    let mut errors = check_pod(pod);
    let root = At::root(pod);
    let spec = root.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        errors.push(
            spec.get("ephemeralContainers")
                .forbidden("cannot be set on create"),
        );
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(spec.get("nodeName").forbidden(why));
    }
    spec::match_annotations(&root.at("metadata.annotations"), &spec, &mut errors);
    errors
}

fn validate_update(pod: &Value, old: &Value) -> Errors {
    let mut errors = check_pod(pod);
    update::annotations(pod, old, &mut errors);
    update::check(pod, old, &mut errors);
    errors
}
