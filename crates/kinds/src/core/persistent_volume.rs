//! Persistent volumes.

use jiff::Timestamp;
use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use super::persistent_volume_claim::{check_access_modes, class};
use super::pod::volumes::{self as sources, ONE_TYPE};
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, fill_zero, set, with, within};
use crate::resources;

type Check = fn(&At<'_>, &mut Errors);

/// The sources a persistent volume may have, in the order they are looked at.
const SOURCES: &[(&str, &str, Check)] = &[
    ("hostPath", "hostPath", sources::host_path),
    ("gcePersistentDisk", "persistentDisk", sources::gce_disk),
    (
        "awsElasticBlockStore",
        "awsElasticBlockStore",
        sources::aws_disk,
    ),
    ("glusterfs", "glusterfs", sources::glusterfs),
    ("flocker", "flocker", sources::flocker),
    ("nfs", "nfs", sources::nfs),
    ("rbd", "rbd", sources::rbd),
    ("quobyte", "quobyte", sources::quobyte),
    ("cephfs", "cephfs", sources::cephfs),
    ("iscsi", "iscsi", sources::iscsi_of_volume),
    ("cinder", "cinder", sources::cinder_of_volume),
    ("fc", "fc", sources::fc),
    ("flexVolume", "flexVolume", sources::flex),
    ("azureFile", "azureFile", sources::azure_file_of_volume),
    ("vsphereVolume", "vsphereVolume", sources::vsphere),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        sources::photon,
    ),
    ("portworxVolume", "portworxVolume", sources::portworx),
    ("azureDisk", "azureDisk", sources::azure_disk),
    ("scaleIO", "scaleIO", sources::scale_io),
    ("local", "local", local),
    ("storageos", "storageos", sources::storage_os_of_volume),
    ("csi", "csi", csi),
];

/// Persistent volumes.
pub const BEHAVIOUR: Behaviour = Behaviour {
    status: StatusRule::Separate,
    delete_returns_object: true,
    default,
    prepare_create,
    stamp: Some(stamp),
    validate_create,
    validate_update,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(volume: &mut Value) {
    within(volume, "spec", |spec| {
        fill_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
        with(spec, "capacity", resources::round_up);
        super::pod::default_volume_source(spec);
    });
    with(volume, "status", |status| {
        fill_zero(status, "phase", "Pending");
    });
}

fn prepare_create(volume: &mut Value) {
    set(volume, "status", json!({"phase": "Pending"}));
}

/// The server notes when the phase last changed.
fn stamp(volume: &mut Value, old: Option<&Value>, now: &str) {
    let phase = |volume: &Value| object::text(volume, &["status", "phase"]).to_owned();
    let before = old.map(phase);
    if before.is_none_or(|before| before != phase(volume)) {
        let by_hand = old.is_some_and(|old| {
            let time =
                |v: &Value| object::text(v, &["status", "lastPhaseTransitionTime"]).to_owned();
            !time(volume).is_empty() && time(volume) != time(old)
        });
        if !by_hand {
            within(volume, "status", |status| {
                set(status, "lastPhaseTransitionTime", now);
            });
        }
    }
}

fn local(at: &At<'_>, errors: &mut Errors) {
    if check::required(&at.get("path"), errors) {
        check::no_backsteps(&at.get("path"), errors);
    }
}

fn csi(at: &At<'_>, errors: &mut Errors) {
    sources::driver_name(&at.get("driver"), errors);
    check::required(&at.get("volumeHandle"), errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = at.get(field);
        if !secret.is_set() {
            continue;
        }
        if check::required(&secret.get("name"), errors) {
            check::subdomain(&secret.get("name"), errors);
        }
        if check::required(&secret.get("namespace"), errors) {
            check::dns_label(&secret.get("namespace"), errors);
        }
    }
}

fn validate_create(volume: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(volume).get("spec");
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        errors.push(modes.required(""));
    }
    check_access_modes(&modes, &mut errors);
    capacity(&spec.get("capacity"), &mut errors);
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        check::one_of(&policy, &["Delete", "Recycle", "Retain"], &mut errors);
    }
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set() {
        if affinity.get("required").is_set() {
            check::node_selector(&affinity.get("required"), &mut errors);
        } else {
            let why = "must specify required node constraints";
            errors.push(affinity.get("required").required(why));
        }
    }
    source(volume, &spec, &mut errors);
    let path = spec.at("hostPath.path");
    let root_path = !path.is_empty() && path.text().split('/').all(|part| matches!(part, "" | "."));
    if root_path && path.text().starts_with('/') && policy.text() == "Recycle" {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    if !spec.get("storageClassName").is_empty() {
        check::subdomain(&spec.get("storageClassName"), &mut errors);
    }
    check::optional_one_of(
        &spec.get("volumeMode"),
        &["Block", "Filesystem"],
        &mut errors,
    );
    let class = spec.get("volumeAttributesClassName");
    if class.is_set() {
        if class.is_empty() {
            errors.push(class.required("an empty string is disallowed"));
        } else {
            check::subdomain(&class, &mut errors);
        }
        if !spec.get("csi").is_set() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(spec.get("csi").required(why));
        }
    }
    errors
}

fn capacity(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    if at.value().get("storage").is_none() || at.len() > 1 {
        let value = at.value().clone();
        errors.push(FieldError::not_supported(at.path(), value, &["storage"]));
    }
    for (_, amount) in at.entries() {
        resources::check_basic(&amount, errors);
        resources::check_positive(&amount, errors);
    }
}

fn source(volume: &Value, spec: &At<'_>, errors: &mut Errors) {
    let mut found = false;
    for (field, inner, check) in SOURCES {
        let source = spec.get(field);
        if !source.is_set() {
            continue;
        }
        if found {
            errors.push(source.forbidden(ONE_TYPE));
            continue;
        }
        found = true;
        check(&source.said_at(spec.path().child(inner)), errors);
        if *field == "iscsi" && source.get("initiatorName").is_set() {
            let portal = source.get("targetPortal");
            if object::name(volume).len() + 1 + portal.text().len() > 64 {
                let path = source.path().child("targetportal");
                let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
                errors.push(FieldError::invalid(&path, portal.text(), why));
            }
        }
        if *field == "local" && !spec.get("nodeAffinity").is_set() {
            let why = "Local volume requires node affinity";
            errors.push(spec.get("nodeAffinity").required(why));
        }
    }
    if !found {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn validate_update(volume: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(volume);
    let (spec, before) = (At::root(volume).get("spec"), At::root(old).get("spec"));
    let of_volume = |spec: &At<'_>, without_expand: bool| -> Vec<Value> {
        let values = SOURCES
            .iter()
            .map(|(field, _, _)| spec.get(field).value().clone());
        values
            .map(|mut source| {
                if without_expand {
                    crate::edit::remove(&mut source, "controllerExpandSecretRef");
                }
                source
            })
            .collect()
    };
    let may_add =
        before.get("csi").is_set() && !before.at("csi.controllerExpandSecretRef").is_set();
    if of_volume(&spec, may_add) != of_volume(&before, false) {
        let path = FieldPath::new("spec.persistentvolumesource");
        let why = "spec.persistentvolumesource is immutable after creation\n";
        errors.push(FieldError::forbidden(&path, why));
    }
    let mode = spec.get("volumeMode").said_at(FieldPath::new("volumeMode"));
    check::immutable(&mode, &before.get("volumeMode"), &mut errors);
    let affinity = spec
        .get("nodeAffinity")
        .said_at(FieldPath::new("nodeAffinity"));
    if before.get("nodeAffinity").is_set() && affinity.value() != before.get("nodeAffinity").value()
    {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(affinity.invalid(why));
    }
    let class = spec.get("volumeAttributesClassName");
    if before.get("volumeAttributesClassName").is_set() && !class.is_set() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
    errors
}

fn cells(volume: &Value, now: Timestamp) -> Vec<Value> {
    let text = |path: &[&str]| object::text(volume, path);
    let phase = if object::is_deleting(volume) {
        "Terminating"
    } else {
        text(&["status", "phase"])
    };
    let claim = match object::at(volume, &["spec", "claimRef"]) {
        Some(claim) => {
            format!(
                "{}/{}",
                object::text(claim, &["namespace"]),
                object::text(claim, &["name"])
            )
        }
        None => String::new(),
    };
    vec![
        json!(object::name(volume)),
        json!(text(&["spec", "capacity", "storage"])),
        cell::access_modes(object::list(volume, &["spec", "accessModes"])),
        json!(text(&["spec", "persistentVolumeReclaimPolicy"])),
        json!(phase),
        json!(claim),
        json!(class(volume)),
        cell::or_unset(text(&["spec", "volumeAttributesClassName"])),
        json!(text(&["status", "reason"])),
        cell::age_of(volume, now),
        cell::or_unset(text(&["spec", "volumeMode"])),
    ]
}
