//! The events of a watch as a client gets them.

use std::sync::Arc;

use model::Status;
use serde_json::{Value, json};
use store::{Entry, Revision};

use crate::catalog::Definition;
use crate::media::{Encoding, Shape};
use crate::server::State;
use crate::verbs::metadata_only;
use crate::{envelope, table};

/// How events are written for one client.
pub struct Frames {
    pub state: Arc<State>,
    pub definition: Arc<Definition>,
    pub shape: Shape,
    pub encoding: Encoding,
    /// Whether the columns of a table have been sent: only the first event has them.
    pub columns_sent: bool,
    pub include: table::Include,
    pub clock: crate::Clock,
}

impl Frames {
    /// Writes an event of an object: the stored bytes themselves where that is what is asked for.
    pub async fn object(&mut self, kind: &str, entry: &Entry, out: &mut Vec<u8>) {
        let stored = self.definition.serves_as_stored(entry);
        if self.shape == Shape::Object && self.encoding == Encoding::Json && stored {
            return line(kind, entry.bytes(), out);
        }
        match envelope::decode(entry) {
            Ok(value) => self.value(kind, value, out).await,
            Err(status) => error(self.encoding, &status, out),
        }
    }

    /// Writes that an object left the selection: what it was, at the revision at which it left.
    pub async fn left(&mut self, previous: &Entry, revision: Revision, out: &mut Vec<u8>) {
        match envelope::decode(previous) {
            Ok(mut value) => {
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                self.value("DELETED", value, out).await;
            }
            Err(status) => error(self.encoding, &status, out),
        }
    }

    async fn value(&mut self, kind: &str, mut value: Value, out: &mut Vec<u8>) {
        if let Err(status) = self.definition.read(&self.state, &mut value).await {
            return error(self.encoding, &status, out);
        }
        let shaped = match self.shape {
            Shape::Table(version) => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                let now = (self.clock)();
                table::event(
                    &self.definition,
                    version,
                    self.include,
                    value,
                    with_columns,
                    now,
                )
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                metadata_only(&value, version)
            }
            Shape::Object | Shape::AggregatedDiscovery(_) => value,
        };
        event(self.encoding, kind, &shaped, out);
    }

    /// Writes a bookmark: everything up to a revision has been sent.
    pub fn bookmark(&mut self, revision: Revision, initial_end: bool, out: &mut Vec<u8>) {
        let kind = &self.definition.kind;
        let mut object = json!({
            "kind": kind.kind,
            "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shaped = match self.shape {
            Shape::Table(version) => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                // As upstream: a row like any other, of an object that has almost nothing.
                table::event(
                    &self.definition,
                    version,
                    self.include,
                    object,
                    with_columns,
                    (self.clock)(),
                )
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                metadata_only(&object, version)
            }
            Shape::Object | Shape::AggregatedDiscovery(_) => object,
        };
        event(self.encoding, "BOOKMARK", &shaped, out);
    }
}

fn line(kind: &str, object: &[u8], out: &mut Vec<u8>) {
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

fn event(encoding: Encoding, kind: &str, object: &Value, out: &mut Vec<u8>) {
    if encoding != Encoding::Protobuf {
        return line(kind, object.to_string().as_bytes(), out);
    }
    match protobuf::encode_event(kind, object) {
        Ok(frame) => out.extend_from_slice(&frame),
        Err(error) => tracing::error!(%error, "an event that has no protobuf encoding"),
    }
}

/// Writes an error, after which a watch ends.
pub fn error(encoding: Encoding, status: &Status, out: &mut Vec<u8>) {
    event(encoding, "ERROR", &status.to_value(), out);
}
