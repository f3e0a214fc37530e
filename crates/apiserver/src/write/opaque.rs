//! Members that upstream keeps as the text the client sent.
//!
//! A `ControllerRevision`'s `data` is any JSON, of which upstream stores the bytes and never looks
//! inside: two ways to write the same data are different data, and `data` may not change. So its text
//! is stored as it came, white space and all. Clients do not notice (it is the same JSON), except for
//! whoever patches a revision that was written with white space: upstream reads a patched object back
//! from its compact form and finds that the data has changed.

use model::{FieldError, FieldPath, Status};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::Entry;

use crate::catalog::Definition;
use crate::context::Context;
use crate::media;

/// An object of which only the opaque member matters.
#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

fn is_opaque(definition: &Definition) -> bool {
    definition.custom.is_none()
        && definition.gvr.group == "apps"
        && definition.gvr.resource == "controllerrevisions"
}

/// The text of the opaque member in a JSON document, on one line as all that is stored.
fn text_in(document: &[u8]) -> Option<String> {
    let holder: Holder = serde_json::from_slice(document).ok()?;
    Some(holder.data?.get().replace(['\n', '\r'], " "))
}

/// The text in which the client wrote the opaque member, where the kind has one and it is that of
/// `object` indeed.
pub fn sent(context: &Context, object: &Value) -> Option<String> {
    if !is_opaque(&context.definition) || context.path.subresource.is_some() {
        return None;
    }
    if media::content_type(&context.headers) != "application/json" {
        return None;
    }
    let text = text_in(&context.body)?;
    let value: Value = serde_json::from_str(&text).ok()?;
    (object.get("data") == Some(&value)).then_some(text)
}

/// Refuses other text where the object itself is not refused for other data.
pub fn check_unchanged(context: &Context, entry: &Entry, new: &Value) -> Result<(), Status> {
    if !is_opaque(&context.definition) {
        return Ok(());
    }
    let Some(old) = text_in(entry.bytes()) else {
        return Ok(());
    };
    let data = new.get("data").unwrap_or(&Value::Null);
    let compact = data.to_string();
    if old == sent(context, new).unwrap_or(compact) {
        return Ok(());
    }
    let error = FieldError::invalid(&FieldPath::new("data"), data.clone(), "field is immutable");
    Err(context.invalid(context.name(), &[error]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_white_space() {
        let text = text_in(br#"{"kind": "X", "data": {"a":  [1]}, "revision": 1}"#);
        assert_eq!(text.as_deref(), Some(r#"{"a":  [1]}"#));
        assert_eq!(text_in(b"{}"), None);
    }
}
