//! The envelope of a stored object: how it is encoded, and what is read of it without parsing all.
//!
//! A stored document is JSON that begins with `kind`, `apiVersion` and `metadata`, in this order, with
//! the place of the resource version known when it is written (see [`store::Document`]). So the bytes
//! that are stored are the bytes a client gets, and an item of a list is the same bytes without the
//! first two members.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::Status;
use serde::Deserialize;
use serde_json::{Map, Value};
use store::{Document, Entry};

/// What lists and watches look at. Parsed once per version of an object and kept with it.
#[derive(Debug, Default)]
pub struct Envelope {
    labels: BTreeMap<Box<str>, Box<str>>,
    /// Length of `{"kind":...,"apiVersion":...,`: what an item of a list leaves out.
    prefix: usize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "apiVersion", borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    metadata: HeadMetadata<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HeadMetadata<'a> {
    #[serde(borrow)]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

impl Envelope {
    fn parse(bytes: &Bytes) -> Self {
        let head: Head = serde_json::from_slice(bytes).unwrap_or_default();
        let labels = head.metadata.labels.unwrap_or_default();
        Self {
            prefix: prefix(&head.kind, &head.api_version).len(),
            labels: labels
                .iter()
                .map(|(key, value)| (key.as_ref().into(), value.as_ref().into()))
                .collect(),
        }
    }

    /// The envelope of an entry.
    pub fn of(entry: &Entry) -> &Self {
        entry
            .attachment(Self::parse)
            .expect("the API server attaches nothing but envelopes")
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(AsRef::as_ref)
    }

    /// The bytes of a built-in object as an item of a list: without `kind` and `apiVersion`, which
    /// upstream's lists of built-in kinds leave out.
    pub fn item(&self, bytes: &Bytes) -> (Bytes, Bytes) {
        (Bytes::from_static(b"{"), bytes.slice(self.prefix..))
    }
}

fn prefix(kind: &str, api_version: &str) -> String {
    format!(
        "{{\"kind\":{},\"apiVersion\":{},",
        quoted(kind),
        quoted(api_version)
    )
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Encodes an object for the store: its resource version is left out and its place remembered.
pub fn encode(object: &Value) -> Result<Document, Status> {
    encode_with_text(object, None)
}

/// As [`encode`]; the member `data` is written as this text.
pub fn encode_with_text(object: &Value, data: Option<&str>) -> Result<Document, Status> {
    let members = object
        .as_object()
        .ok_or_else(|| Status::internal("object is no JSON object"))?;
    let text = |name: &str| {
        members
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut out = prefix(text("kind"), text("apiVersion")).into_bytes();
    out.extend_from_slice(b"\"metadata\":{");
    let none = Map::new();
    let metadata = members
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let gap = encode_metadata(metadata, &mut out)?;
    out.push(b'}');
    for (name, value) in members {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            out.push(b',');
            match data.filter(|_| name == "data") {
                Some(text) => {
                    out.extend_from_slice(b"\"data\":");
                    out.extend_from_slice(text.as_bytes());
                }
                None => member(name, value, &mut out)?,
            }
        }
    }
    out.push(b'}');
    Ok(Document::with_gap(out, gap))
}

fn encode_metadata(metadata: &Map<String, Value>, out: &mut Vec<u8>) -> Result<usize, Status> {
    out.extend_from_slice(b"\"resourceVersion\":\"");
    let gap = out.len();
    out.push(b'"');
    for (name, value) in metadata {
        if name != "resourceVersion" {
            out.push(b',');
            member(name, value, out)?;
        }
    }
    Ok(gap)
}

fn member(name: &str, value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    serde_json::to_writer(&mut *out, name).map_err(Status::internal)?;
    out.push(b':');
    serde_json::to_writer(out, value).map_err(Status::internal)
}

/// Parses all of a stored object.
pub fn decode(entry: &Entry) -> Result<Value, Status> {
    serde_json::from_slice(entry.bytes()).map_err(Status::internal)
}

/// The key of an object: `/group/resource/namespace/name`, without the namespace for those that
/// have none.
pub fn key(group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Arc<str> {
    match namespace {
        Some(namespace) => format!("/{group}/{resource}/{namespace}/{name}").into(),
        None => format!("/{group}/{resource}/{name}").into(),
    }
}

/// The prefix of the keys of a resource, or of a resource in one namespace.
pub fn key_prefix(group: &str, resource: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/{group}/{resource}/{namespace}/"),
        None => format!("/{group}/{resource}/"),
    }
}

/// The namespace and name in a key.
pub fn name_of(key: &str) -> (Option<&str>, &str) {
    let mut parts = key.splitn(5, '/').skip(3);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some(name)) => (Some(namespace), name),
        (Some(name), None) => (None, name),
        _ => (None, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use store::Revision;

    fn stored(object: &Value) -> Entry {
        let bytes = encode(object).expect("an object").finish(Revision(7));
        Entry::new("//pods/a/b".into(), Revision(7), Revision(7), bytes)
    }

    #[test]
    fn an_object_is_stored_as_it_is_served() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "data": {"a": 1},
            "metadata": {"name": "b", "labels": {"app": "w\u{e9}b\n"}, "resourceVersion": "1"},
        });
        let entry = stored(&object);
        let mut expect = object.clone();
        expect["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(decode(&entry).expect("JSON"), expect);
        let envelope = Envelope::of(&entry);
        assert_eq!(envelope.label("app"), Some("w\u{e9}b\n"));
        let (open, rest) = envelope.item(entry.bytes());
        let item: Value = serde_json::from_slice(&[open, rest].concat()).expect("JSON");
        expect
            .as_object_mut()
            .expect("object")
            .retain(|k, _| k != "kind" && k != "apiVersion");
        assert_eq!(item, expect);
    }

    #[test]
    fn keys_name_their_object() {
        assert_eq!(
            name_of(&key("apps", "deployments", Some("a"), "b")),
            (Some("a"), "b")
        );
        assert_eq!(name_of(&key("", "nodes", None, "n")), (None, "n"));
        assert_eq!(key_prefix("", "pods", Some("x")), "//pods/x/");
    }
}
