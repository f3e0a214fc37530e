//! Ingress classes.

use jiff::Timestamp;
use model::{names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{fill, with};

const CONTROLLER_LENGTH_MAX: usize = 250;

/// Ingress classes.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    default: |class| {
        with(class, "spec", |spec| {
            with(spec, "parameters", |own| fill(own, "scope", "Cluster"));
        });
    },
    validate_create,
    validate_update: |class, old| {
        let mut errors = validate_create(class);
        let controller = |value| At::root(value).at("spec.controller");
        check::immutable(&controller(class), &controller(old), &mut errors);
        errors
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// A reference to an object of any kind.
pub fn typed_reference(at: &At<'_>, errors: &mut Errors) {
    if !at.get("apiGroup").is_empty() {
        check::subdomain(&at.get("apiGroup"), errors);
    }
    for field in ["kind", "name"] {
        let text = at.get(field);
        if text.is_empty() {
            errors.push(text.required(&format!("{field} is required")));
        } else {
            check::messages(&text, names::path_segment(text.text()), errors);
        }
    }
}

fn validate_create(class: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(class).get("spec");
    let controller = spec.get("controller");
    if controller.text().len() > CONTROLLER_LENGTH_MAX {
        errors.push(controller.too_long(CONTROLLER_LENGTH_MAX));
    }
    check::domain_prefixed_path(&controller, &mut errors);
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return errors;
    }
    typed_reference(&parameters, &mut errors);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    check::one_of(&scope, &["Cluster", "Namespace"], &mut errors);
    match (scope.text(), namespace.is_set()) {
        ("Namespace", false) => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", true) => check::dns_label(&namespace, &mut errors),
        ("Cluster", true) => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        _ => {}
    }
    errors
}

fn cells(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = object::at(class, &["spec", "parameters"]).map(|own| {
        let (kind, name) = (object::text(own, &["kind"]), object::text(own, &["name"]));
        match object::text(own, &["apiGroup"]) {
            "" => format!("{kind}/{name}"),
            group => format!("{kind}.{group}/{name}"),
        }
    });
    vec![
        json!(object::name(class)),
        json!(object::text(class, &["spec", "controller"])),
        cell::or_none(parameters.as_deref().unwrap_or_default()),
        cell::age_of(class, now),
    ]
}
