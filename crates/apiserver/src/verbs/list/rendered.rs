//! Lists whose items are written anew for the client: pretty, or nothing but metadata.
//!
//! Each item is read, written and forgotten before the next, as the client takes it, so that a list of a
//! hundred thousand objects never stands in memory as a whole.

use std::sync::Arc;

use bytes::Bytes;
use model::Status;
use serde_json::Value;
use store::Entry;

use crate::body::Body;
use crate::catalog::Definition;
use crate::envelope;
use crate::verbs::metadata_only;

/// Items are sent in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// How items are written.
#[derive(Clone, Copy)]
pub enum Form {
    /// Whole objects, for people.
    Pretty,
    /// Metadata alone, in this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// A list that is written while it is sent: `head` up to its items, `tail` after them.
pub fn body(
    definition: Arc<Definition>,
    form: Form,
    head: String,
    entries: Vec<Arc<Entry>>,
    tail: &'static str,
) -> Body {
    let writer = Writer {
        definition,
        form,
        entries: entries.into_iter(),
        out: head,
        first: true,
        tail: Some(tail),
    };
    Body::Made(Box::new(writer))
}

struct Writer {
    definition: Arc<Definition>,
    form: Form,
    entries: std::vec::IntoIter<Arc<Entry>>,
    out: String,
    first: bool,
    tail: Option<&'static str>,
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.out.len() < PIECE_BYTES {
            let Some(entry) = self.entries.next() else {
                self.out.push_str(self.tail.take().unwrap_or_default());
                break;
            };
            match self.item(&entry) {
                Ok(text) => {
                    if !std::mem::take(&mut self.first) {
                        self.out.push(',');
                    }
                    self.out.push_str(&text);
                }
                Err(status) => tracing::error!(
                    key = &**entry.key(),
                    message = status.message,
                    "a stored object cannot be read"
                ),
            }
        }
        let piece = std::mem::take(&mut self.out);
        (!piece.is_empty()).then(|| Bytes::from(piece))
    }
}

impl Writer {
    fn item(&self, entry: &Entry) -> Result<String, Status> {
        let mut value = envelope::decode(entry)?;
        self.definition.present(&mut value);
        match self.form {
            Form::Metadata(version) => Ok(metadata_only(&value, version).to_string()),
            Form::Pretty => {
                if self.definition.custom.is_none()
                    && let Some(members) = value.as_object_mut()
                {
                    members.remove("kind");
                    members.remove("apiVersion");
                }
                indented(&value)
            }
        }
    }
}

/// A value as an item of a list that is written for people.
fn indented(value: &Value) -> Result<String, Status> {
    let text = serde_json::to_string_pretty(value).map_err(Status::internal)?;
    // A line break in JSON text is never part of a string.
    Ok(format!("\n    {}", text.replace('\n', "\n    ")))
}
