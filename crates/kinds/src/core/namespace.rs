//! Namespaces.

use jiff::Timestamp;
use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use crate::at::Errors;
use crate::behaviour::{Behaviour, NameRule, StatusRule, Subresource};
use crate::cell;
use crate::edit::{restore, set, within};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespaces.
pub const BEHAVIOUR: Behaviour = Behaviour {
    name: NameRule::Label,
    delete_returns_object: true,
    status: StatusRule::Separate,
    default,
    prepare_create,
    prepare_update: |namespace, old| restore_finalizers(namespace, old),
    validate_status,
    subresources: &[Subresource {
        name: "finalize",
        prepare: prepare_finalize,
        validate: |_, _| Vec::new(),
    }],
    cells: Some(cells),
    selectable_fields: &["status.phase"],
    ..Behaviour::DEFAULT
};

/// Every namespace has a label with its name, whatever a client sends.
fn default(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        within(namespace, "metadata", |metadata| {
            within(metadata, "labels", |labels| set(labels, NAME_LABEL, name));
        });
    }
    within(namespace, "status", |status| {
        crate::edit::fill_zero(status, "phase", "Active");
    });
}

fn prepare_create(namespace: &mut Value) {
    set(namespace, "status", json!({"phase": "Active"}));
    within(namespace, "spec", |spec| {
        let mut finalizers = object::list(spec, &["finalizers"]).to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push(json!("kubernetes"));
        }
        set(spec, "finalizers", finalizers);
    });
}

fn restore_finalizers(namespace: &mut Value, old: &Value) {
    let before = old.get("spec").cloned().unwrap_or_default();
    within(namespace, "spec", |spec| {
        restore(spec, &before, "finalizers");
    });
}

fn prepare_finalize(namespace: &mut Value, old: &Value) {
    restore(namespace, old, "status");
}

fn validate_status(namespace: &Value, _: &Value) -> Errors {
    let phase = object::text(namespace, &["status", "phase"]);
    let path = FieldPath::new("status.Phase");
    let why = match (object::is_deleting(namespace), phase) {
        (false, "Active") | (true, "Terminating") => return Vec::new(),
        (false, _) => "may only be 'Active' if `deletionTimestamp` is empty",
        (true, _) => "may only be 'Terminating' if `deletionTimestamp` is not empty",
    };
    vec![FieldError::invalid(&path, phase, why)]
}

fn cells(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(object::name(namespace)),
        json!(object::text(namespace, &["status", "phase"])),
        cell::age_of(namespace, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_has_its_label_and_finalizer() {
        let mut namespace = json!({"metadata": {"name": "n"}});
        default(&mut namespace);
        prepare_create(&mut namespace);
        assert_eq!(namespace["metadata"]["labels"][NAME_LABEL], "n");
        assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(namespace["status"]["phase"], "Active");
    }
}
