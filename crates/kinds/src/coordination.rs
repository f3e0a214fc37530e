//! The group `coordination.k8s.io`: leases.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;

/// Leases.
pub const LEASE: Behaviour = Behaviour {
    create_on_update: true,
    unconditional_update: false,
    validate_create,
    validate_update: |lease, _| validate_create(lease),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

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
