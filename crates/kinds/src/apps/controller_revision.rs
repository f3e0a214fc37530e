//! Controller revisions.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;

/// Controller revisions.
pub const BEHAVIOUR: Behaviour = Behaviour {
    validate_create,
    validate_update,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(revision: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(revision);
    if !root.get("data").is_set() {
        errors.push(root.get("data").required("data is mandatory"));
    }
    check::nonnegative(&root.get("revision"), &mut errors);
    errors
}

fn validate_update(revision: &Value, old: &Value) -> Errors {
    let mut errors = validate_create(revision);
    check::immutable(
        &At::root(revision).get("data"),
        &At::root(old).get("data"),
        &mut errors,
    );
    errors
}

fn cells(revision: &Value, now: Timestamp) -> Vec<Value> {
    let controller = object::controller_of(revision).map(|owner| {
        let kind = object::text(owner, &["kind"]);
        let group = object::text(owner, &["apiVersion"])
            .split_once('/')
            .map(|(group, _)| group);
        let kind = group.map_or(kind.to_owned(), |group| format!("{kind}.{group}"));
        format!("{}/{}", kind.to_lowercase(), object::text(owner, &["name"]))
    });
    vec![
        json!(object::name(revision)),
        cell::or_none(controller.as_deref().unwrap_or_default()),
        cell::count(revision, &["revision"]),
        cell::age_of(revision, now),
    ]
}
