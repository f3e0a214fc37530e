//! The group `coordination.k8s.io`: leases.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{remove, with};

/// Leases.
pub const LEASE: Behaviour = Behaviour {
    create_on_update: true,
    unconditional_update: false,
    prepare_create: |lease| drop_coordination(lease, None),
    prepare_update: |lease, old| drop_coordination(lease, Some(old)),
    validate_create,
    validate_update: |lease, _| validate_create(lease),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// The fields of coordinated leader election, which is off by default, go unless they were there.
fn drop_coordination(lease: &mut Value, old: Option<&Value>) {
    for field in ["strategy", "preferredHolder"] {
        let used = old.is_some_and(|old| object::at(old, &["spec", field]).is_some());
        if !used {
            with(lease, "spec", |spec| remove(spec, field));
        }
    }
}

fn validate_create(lease: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(lease).get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    check::nonnegative(&spec.get("leaseTransitions"), &mut errors);
    errors
}

fn cells(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(object::name(lease)),
        json!(object::text(lease, &["spec", "holderIdentity"])),
        cell::age_of(lease, now),
    ]
}
