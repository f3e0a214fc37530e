//! Objects to the store, and the store's answers to clients.

use model::{Reason, Status};
use serde_json::Value;
use store::{Document, Error};

use crate::catalog::Definition;
use crate::envelope;

/// Largest object, as etcd's default limit of a request.
const OBJECT_BYTES_MAX: usize = 1536 << 10;

/// Encodes an object in the version it is stored in.
pub fn encode_object(definition: &Definition, object: &Value) -> Result<Document, Status> {
    encode_with_text(definition, object, None)
}

/// As [`encode_object`], with the text of `data` as the client wrote it.
pub fn encode_with_text(
    definition: &Definition,
    object: &Value,
    data: Option<&str>,
) -> Result<Document, Status> {
    let document = if definition.storage_version == definition.kind.api_version() {
        envelope::encode_with_text(object, data)?
    } else {
        let mut converted = object.clone();
        definition.to_storage(&mut converted);
        envelope::encode(&converted)?
    };
    if document.len() > OBJECT_BYTES_MAX {
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!(
                "etcdserver: request is too large: {} bytes, the limit is {OBJECT_BYTES_MAX}",
                document.len()
            ),
        ));
    }
    Ok(document)
}

/// What a client is told when the store does not take a write.
pub fn store_error(error: &Error) -> Status {
    match error {
        Error::Disk { .. } | Error::Closed => Status::new(
            Reason::ServiceUnavailable,
            format!("the store is not writable: {error}"),
        ),
        other => Status::internal(other),
    }
}

impl Definition {
    /// Turns a stored object into this definition's version.
    pub fn present(&self, object: &mut Value) {
        convert(object, &self.kind.api_version(), self.custom.is_some());
        if let Some(custom) = &self.custom {
            custom.refresh(object);
        }
    }

    /// Turns an object of this definition's version into the stored one.
    pub fn to_storage(&self, object: &mut Value) {
        convert(object, &self.storage_version, self.custom.is_some());
    }
}

fn convert(object: &mut Value, api_version: &str, custom: bool) {
    if object.get("apiVersion").and_then(Value::as_str) == Some(api_version) {
        return;
    }
    if !custom {
        kinds::convert(object, api_version);
    }
    if let Some(members) = object.as_object_mut() {
        members.insert("apiVersion".to_owned(), api_version.into());
    }
}
