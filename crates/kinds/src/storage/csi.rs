//! Drivers of volumes: `CSIDriver`, `CSINode`, `CSIStorageCapacity`.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::core::pod::volumes::driver_name;
use crate::edit::{fill, within};
use crate::resources;

const NODE_ID_LENGTH_MAX: usize = 256;

/// Drivers.
pub const DRIVER: Behaviour = Behaviour {
    unconditional_update: false,
    delete_returns_object: true,
    default: |driver| {
        within(driver, "spec", |spec| {
            fill(spec, "attachRequired", true);
            fill(spec, "podInfoOnMount", false);
            fill(spec, "storageCapacity", false);
            fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if object::list(spec, &["volumeLifecycleModes"]).is_empty() {
                crate::edit::set(spec, "volumeLifecycleModes", json!(["Persistent"]));
            }
            fill(spec, "requiresRepublish", false);
            fill(spec, "seLinuxMount", false);
        });
    },
    validate_create: validate_driver,
    validate_update: |driver, old| {
        let mut errors = validate_driver(driver);
        for field in ["attachRequired", "volumeLifecycleModes"] {
            let get = |value| At::root(value).get("spec").get(field);
            check::immutable(&get(driver), &get(old), &mut errors);
        }
        errors
    },
    cells: Some(driver_cells),
    ..Behaviour::DEFAULT
};

/// The drivers of a node.
pub const NODE: Behaviour = Behaviour {
    unconditional_update: false,
    delete_returns_object: true,
    validate_create: validate_node,
    validate_update: |node, old| {
        let mut errors = validate_node(node);
        let before = At::root(old).at("spec.drivers");
        for driver in At::root(node).at("spec.drivers").items() {
            let known = before
                .items()
                .find(|d| d.get("name").text() == driver.get("name").text());
            let without = |at: &At<'_>| {
                let mut value = at.value().clone();
                crate::edit::remove(&mut value, "allocatable");
                value
            };
            if known.is_some_and(|known| without(&known) != without(&driver)) {
                let name = driver.get("name");
                errors.push(name.invalid("field is immutable"));
            }
        }
        errors
    },
    cells: Some(|node, now| {
        vec![
            json!(object::name(node)),
            json!(object::list(node, &["spec", "drivers"]).len()),
            cell::age_of(node, now),
        ]
    }),
    ..Behaviour::DEFAULT
};

/// How much room a driver has where.
pub const CAPACITY: Behaviour = Behaviour {
    unconditional_update: false,
    default: |capacity| {
        for field in ["capacity", "maximumVolumeSize"] {
            let mut list = json!({"amount": capacity.get(field).cloned()});
            resources::round_up(&mut list);
            if !list["amount"].is_null() {
                crate::edit::set(capacity, field, list["amount"].take());
            }
        }
    },
    validate_create: validate_capacity,
    validate_update: |capacity, old| {
        let mut errors = validate_capacity(capacity);
        for field in ["nodeTopology", "storageClassName"] {
            let get = |value| At::root(value).get(field);
            check::immutable(&get(capacity), &get(old), &mut errors);
        }
        errors
    },
    ..Behaviour::DEFAULT
};

fn validate_driver(driver: &Value) -> Errors {
    let mut errors = Vec::new();
    let name = json!(object::name(driver));
    driver_name(&At::new(&name, FieldPath::new("name")), &mut errors);
    let spec = At::root(driver).get("spec");
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.get(field).is_set() {
            errors.push(spec.get(field).required(""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    check::optional_one_of(&spec.get("fsGroupPolicy"), &policies, &mut errors);
    let mut audiences = HashSet::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if !audiences.insert(audience.text()) {
            errors.push(FieldError::duplicate(audience.path(), audience.text()));
        }
        let seconds = request.get("expirationSeconds");
        if seconds.is_set() && seconds.count() < 600 {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.count() > 1 << 32 {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes
        .texts()
        .filter(|mode| !["Ephemeral", "Persistent"].contains(mode))
    {
        let supported = ["Ephemeral", "Persistent"];
        errors.push(FieldError::not_supported(modes.path(), mode, &supported));
    }
    errors
}

fn validate_node(node: &Value) -> Errors {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for driver in At::root(node).at("spec.drivers").items() {
        let (name, id) = (driver.get("name"), driver.get("nodeID"));
        driver_name(&name, &mut errors);
        check::required(&id, &mut errors);
        if id.text().len() > NODE_ID_LENGTH_MAX {
            let why = format!("must be {NODE_ID_LENGTH_MAX} characters or less");
            errors.push(id.invalid(why));
        }
        check::nonnegative(&driver.at("allocatable.count"), &mut errors);
        let mut keys = HashSet::new();
        for key in driver.get("topologyKeys").items() {
            if !keys.insert(key.text()) {
                errors.push(FieldError::duplicate(
                    driver.get("topologyKeys").path(),
                    key.text(),
                ));
            }
            check::qualified_name(
                &key.said_at(driver.get("topologyKeys").path().clone()),
                &mut errors,
            );
        }
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text()));
        }
    }
    errors
}

fn validate_capacity(capacity: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(capacity);
    check::subdomain(&root.get("storageClassName"), &mut errors);
    check::label_selector(&root.get("nodeTopology"), &mut errors);
    for field in ["capacity", "maximumVolumeSize"] {
        resources::check_amount("storage", &root.get(field), &mut errors);
    }
    errors
}

fn driver_cells(driver: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |name: &str| object::at(driver, &["spec", name]);
    let flag = |name: &str| json!(spec(name) == Some(&json!(true)));
    let join = |name: &str, inner: &[&str]| {
        let texts: Vec<&str> = object::list(driver, &["spec", name])
            .iter()
            .map(|item| {
                if inner.is_empty() {
                    item.as_str().unwrap_or("")
                } else {
                    object::text(item, inner)
                }
            })
            .collect();
        texts.join(",")
    };
    vec![
        json!(object::name(driver)),
        json!(spec("attachRequired") != Some(&json!(false))),
        flag("podInfoOnMount"),
        flag("storageCapacity"),
        cell::or_unset(&join("tokenRequests", &["audience"])),
        flag("requiresRepublish"),
        cell::or_none(&join("volumeLifecycleModes", &[])),
        cell::age_of(driver, now),
    ]
}
