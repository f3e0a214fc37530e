//! Classes of volumes: `StorageClass` and `VolumeAttributesClass`.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::core::pod::volumes::driver_name;
use crate::edit::fill;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 << 10;
const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Storage classes.
pub const STORAGE: Behaviour = Behaviour {
    delete_returns_object: true,
    default: |class| {
        fill(class, "reclaimPolicy", "Delete");
        fill(class, "volumeBindingMode", "Immediate");
    },
    validate_create: validate_storage,
    validate_update: update_storage,
    cells: Some(storage_cells),
    ..Behaviour::DEFAULT
};

/// Classes of attributes of volumes.
pub const ATTRIBUTES: Behaviour = Behaviour {
    delete_returns_object: true,
    validate_create: validate_attributes,
    validate_update: update_attributes,
    cells: Some(attributes_cells),
    ..Behaviour::DEFAULT
};

fn parameters(at: &At<'_>, required: bool, errors: &mut Errors) {
    if at.len() > PARAMETERS_MAX {
        errors.push(FieldError::too_long(at.path(), PARAMETERS_MAX));
        return;
    }
    let mut total_bytes = 0;
    for (key, value) in at.map().into_iter().flatten() {
        if key.is_empty() {
            errors.push(FieldError::invalid(
                at.path(),
                "",
                "field can not be empty.",
            ));
        }
        total_bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if total_bytes > PARAMETERS_BYTES_MAX {
        errors.push(at.too_long(PARAMETERS_BYTES_MAX));
    }
    if required && at.is_empty() {
        errors.push(at.required("must contain at least one key/value pair"));
    }
}

fn validate_storage(class: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(class);
    let provisioner = root.get("provisioner");
    if check::required(&provisioner, &mut errors) {
        let lower = provisioner.text().to_lowercase();
        for message in names::qualified_name(&lower) {
            errors.push(FieldError::invalid(
                provisioner.path(),
                lower.as_str(),
                message,
            ));
        }
    }
    parameters(&root.get("parameters"), false, &mut errors);
    check::optional_one_of(
        &root.get("reclaimPolicy"),
        &["Delete", "Retain"],
        &mut errors,
    );
    let mode = root.get("volumeBindingMode");
    if mode.is_set() {
        check::one_of(&mode, &["Immediate", "WaitForFirstConsumer"], &mut errors);
    } else {
        errors.push(mode.required(""));
    }
    for term in root.get("allowedTopologies").items() {
        let mut keys = HashSet::new();
        for requirement in term.get("matchLabelExpressions").items() {
            let (key, values) = (requirement.get("key"), requirement.get("values"));
            if values.is_empty() {
                errors.push(values.required(""));
            }
            let mut seen = HashSet::new();
            errors.extend(
                values
                    .items()
                    .filter(|v| !seen.insert(v.text()))
                    .map(|v| v.duplicate()),
            );
            check::label_key(&key, &mut errors);
            if !keys.insert(key.text()) {
                errors.push(key.duplicate());
            }
        }
    }
    errors
}

fn update_storage(class: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (root, before) = (At::root(class), At::root(old));
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if root.get(field).value() != before.get(field).value() {
            let why = format!("updates to {field} are forbidden.");
            errors.push(root.get(field).forbidden(&why));
        }
    }
    let mode = "volumeBindingMode";
    check::immutable(&root.get(mode), &before.get(mode), &mut errors);
    errors
}

fn validate_attributes(class: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(class);
    driver_name(&root.get("driverName"), &mut errors);
    parameters(&root.get("parameters"), true, &mut errors);
    errors
}

fn update_attributes(class: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (root, before) = (At::root(class), At::root(old));
    if root.get("driverName").value() != before.get("driverName").value() {
        errors.push(
            root.get("driverName")
                .forbidden("updates to driverName are forbidden."),
        );
    }
    if root.get("parameters").value() != before.get("parameters").value() {
        errors.push(
            root.get("parameters")
                .forbidden("updates to parameters are forbidden."),
        );
    }
    errors
}

fn storage_cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let text = |name: &str| object::text(class, &[name]);
    let is_default = DEFAULT_ANNOTATIONS
        .iter()
        .any(|key| object::annotation(class, key) == Some("true"));
    let name = object::name(class);
    vec![
        json!(if is_default {
            format!("{name} (default)")
        } else {
            name.to_owned()
        }),
        json!(text("provisioner")),
        json!(text("reclaimPolicy")),
        json!(text("volumeBindingMode")),
        json!(class.get("allowVolumeExpansion") == Some(&json!(true))),
        cell::age_of(class, now),
    ]
}

fn attributes_cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let name = object::name(class);
    let is_default = object::annotation(
        class,
        "volumeattributesclass.beta.kubernetes.io/is-default-class",
    ) == Some("true");
    vec![
        json!(if is_default {
            format!("{name} (default)")
        } else {
            name.to_owned()
        }),
        json!(object::text(class, &["driverName"])),
        cell::age_of(class, now),
    ]
}
