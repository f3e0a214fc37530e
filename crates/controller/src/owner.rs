//! Builds owner references.

use serde_json::{Value, json};

use crate::object::Object;

/// A reference to `owner`; the managing owner also blocks foreground deletion, as upstream's controllers do.
pub fn reference(owner: &Object, controller: bool) -> Value {
    let mut reference = json!({
        "apiVersion": owner.api_version(),
        "kind": owner.kind(),
        "name": owner.name(),
        "uid": owner.uid(),
    });
    if controller {
        reference["controller"] = true.into();
        reference["blockOwnerDeletion"] = true.into();
    }
    reference
}
