//! Pod templates as objects of their own.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::pod;
use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::edit::within;

/// Pod templates.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    delete_returns_object: true,
    default: |object| within(object, "template", pod::default_template),
    validate_create,
    validate_update: |new, _| validate_create(new),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(object: &Value) -> Errors {
    let mut errors = Vec::new();
    pod::check_template(&At::root(object).get("template"), &mut errors);
    errors
}

fn cells(template: &Value, _: Timestamp) -> Vec<Value> {
    let spec = object::at(template, &["template", "spec"]);
    let labels = object::at(template, &["template", "metadata", "labels"]);
    vec![
        json!(object::name(template)),
        cell::container_names(spec),
        cell::images(spec),
        cell::labels(labels.and_then(Value::as_object)),
    ]
}
