//! Service accounts.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::behaviour::Behaviour;
use crate::cell;
use crate::edit::each;

/// Service accounts.
pub const BEHAVIOUR: Behaviour = Behaviour {
    delete_returns_object: true,
    prepare_create: keep_names,
    prepare_update: |account, _| keep_names(account),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// Secrets are referred to by their names alone.
fn keep_names(account: &mut Value) {
    each(account, "secrets", |secret| {
        let name = object::text(secret, &["name"]).to_owned();
        *secret = json!({"name": name});
    });
}

fn cells(account: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(object::name(account)), cell::age_of(account, now)]
}
