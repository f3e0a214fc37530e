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
            if let Ok(Evaluated::Value(value)) = self.field_value(&field.value, &[]) {
                upsert(&mut status, field.path.steps(), value);
            }
        }
        status
    }
}
