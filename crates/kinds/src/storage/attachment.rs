//! Volumes on nodes: `VolumeAttachment`.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod::volumes::driver_name;

/// Volumes on nodes.
pub const BEHAVIOUR: Behaviour = Behaviour {
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    unconditional_update: false,
    delete_returns_object: true,
    validate_create,
    validate_update: |attachment, old| {
        let mut errors = validate_create(attachment);
        let spec = |value| At::root(value).get("spec");
        check::immutable(&spec(attachment), &spec(old), &mut errors);
        errors
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(attachment: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(attachment).get("spec");
    driver_name(&spec.get("attacher"), &mut errors);
    let source = spec.get("source");
    let (name, inline) = (
        source.get("persistentVolumeName"),
        source.get("inlineVolumeSpec"),
    );
    match (name.is_set(), inline.is_set()) {
        (false, false) => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(source.required(why));
        }
        (true, true) => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(source.forbidden(why));
        }
        (true, false) if name.is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        _ => {}
    }
    check::subdomain(&spec.get("nodeName"), &mut errors);
    errors
}

fn cells(attachment: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |name: &str| object::text(attachment, &["spec", name]);
    let attached = object::at(attachment, &["status", "attached"]) == Some(&json!(true));
    vec![
        json!(object::name(attachment)),
        json!(spec("attacher")),
        json!(object::text(
            attachment,
            &["spec", "source", "persistentVolumeName"]
        )),
        json!(spec("nodeName")),
        json!(attached),
        cell::age_of(attachment, now),
    ]
}
