//! The instance's status, as far as it can be told.

use serde_json::{Value, json};

use super::Pass;
use super::desired::upsert;
use crate::expression::Evaluated;

impl Pass<'_> {
    /// The author's status fields whose expressions have a value; the others are left out.
    pub fn status(&self) -> Value {
        let mut status = json!({});
        for field in &self.graph().status_fields {
            // What cannot be told yet appears when it can.
            if let Ok(Evaluated::Value(mut value)) = self.field_value(&field.value, &[]) {
                remove_nulls(&mut value, 0);
                if !value.is_null() {
                    upsert(&mut status, field.path.steps(), value);
                }
            }
        }
        status
    }
}

/// Removes map entries that are null, as the server does: what is written must compare equal to what is read back.
fn remove_nulls(value: &mut Value, depth: usize) {
    const DEPTH_LIMIT: usize = 128;
    match value {
        Value::Object(fields) if depth < DEPTH_LIMIT => {
            fields.retain(|_, value| !value.is_null());
            for value in fields.values_mut() {
                remove_nulls(value, depth + 1);
            }
        }
        Value::Array(items) if depth < DEPTH_LIMIT => {
            for item in items {
                remove_nulls(item, depth + 1);
            }
        }
        _ => {}
    }
}
