//! etcd's HTTP gateway: the few calls the engine needs, as JSON.
//!
//! The gateway writes 64-bit numbers as text and bytes in base64, and leaves out what is zero.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::entry::Revision;
use crate::{Error, Result};

/// How long etcd may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Keys read in one piece when everything is read.
pub const PAGE: usize = 2_000;
/// As the end of a range: everything from the first key on.
const EVERYTHING: &[u8] = b"\0";

/// A client of one etcd.
pub struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
}

/// A key and what is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    #[serde(deserialize_with = "text")]
    pub key: String,
    #[serde(rename = "create_revision", deserialize_with = "number")]
    pub created: Revision,
    #[serde(rename = "mod_revision", deserialize_with = "number")]
    pub modified: Revision,
    #[serde(deserialize_with = "bytes")]
    pub value: Vec<u8>,
}

/// What became of a write.
pub enum Outcome {
    /// It happened, at this revision.
    Done {
        /// Its number.
        revision: Revision,
    },
    /// The key was not as expected.
    Refused {
        /// What is there.
        current: Option<KeyValue>,
        /// How far etcd was.
        revision: Revision,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: Revision,
}

/// The answer to a range.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Range {
    header: Header,
    pub kvs: Vec<KeyValue>,
    pub more: bool,
}

impl Range {
    /// How far etcd was.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transaction {
    header: Header,
    succeeded: bool,
    responses: Vec<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    response_range: Option<Range>,
}

/// One change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: String,
    pub kv: KeyValue,
    pub prev_kv: Option<KeyValue>,
}

/// One message of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    pub created: bool,
    pub canceled: bool,
    #[serde(deserialize_with = "number")]
    pub compact_revision: Revision,
    pub events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Wrapped {
    result: Message,
}

fn number<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Revision, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(from)?;
    text.parse().map(Revision).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(from)?;
    STANDARD
        .decode(text.as_bytes())
        .map_err(serde::de::Error::custom)
}

fn text<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    // Foreign keys may be anything; they are looked at by their beginning only.
    Ok(String::from_utf8_lossy(&bytes(from)?).into_owned())
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn failure(operation: &'static str, error: impl std::fmt::Display) -> Error {
    Error::Disk {
        operation,
        message: error.to_string(),
    }
}

/// What the client's error comes from; that a request failed is clear already.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let texts: Vec<String> = causes.take(8).map(ToString::to_string).collect();
    if texts.is_empty() {
        return error.to_string();
    }
    texts.join(": ")
}

impl Gateway {
    /// A client of the etcd at `HOST:PORT`.
    pub fn new(endpoint: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            endpoint: endpoint.to_owned(),
        }
    }

    async fn open(&self, path: &str, body: &Value) -> Result<Incoming> {
        let uri = format!("http://{}{path}", self.endpoint);
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| failure("asking etcd", error))?;
        let response = tokio::time::timeout(TIMEOUT, self.client.request(request))
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| {
                failure(
                    "asking etcd",
                    format!("{}: {}", self.endpoint, causes(&error)),
                )
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let text = response.into_body().collect().await;
        let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).into_owned());
        let text = text.unwrap_or_default();
        Err(failure("asking etcd", format!("{path}: {status}: {text}")))
    }

    fn silent(&self) -> Error {
        let seconds = TIMEOUT.as_secs();
        failure(
            "asking etcd",
            format!("{} has not answered within {seconds} s", self.endpoint),
        )
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let answer = self.open(path, body).await?;
        let bytes = tokio::time::timeout(TIMEOUT, answer.collect())
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| failure("asking etcd", error))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| failure("reading etcd's answer", error))
    }

    /// How far etcd is: what was acknowledged before this was asked lies at or before it.
    pub async fn revision(&self) -> Result<Revision> {
        let body = json!({"key": encode(EVERYTHING), "limit": "1", "keys_only": true});
        let answer: Range = self.call("/v3/kv/range", &body).await?;
        Ok(answer.revision())
    }

    /// The keys below a prefix after one of them (none for the first page), as of a revision (0 for
    /// now).
    pub async fn page(&self, prefix: &str, after: Option<&str>, at: Revision) -> Result<Range> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let start = match after {
            Some(key) => [key.as_bytes(), b"\0"].concat(),
            None => prefix.as_bytes().to_vec(),
        };
        let body = json!({
            "key": encode(start),
            "range_end": encode(end),
            "limit": PAGE.to_string(),
            "revision": at.to_string(),
        });
        self.call("/v3/kv/range", &body).await
    }

    /// Puts a value (or deletes, for none) where the key is at a revision; 0 means that it is not
    /// there.
    pub async fn write(
        &self,
        key: &str,
        expected: Revision,
        value: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        let key = encode(key);
        let change = match value {
            Some(value) => json!({"request_put": {"key": key, "value": encode(value)}}),
            None => json!({"request_delete_range": {"key": key}}),
        };
        let body = json!({
            "compare": [{
                "key": key,
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": expected.to_string(),
            }],
            "success": [change],
            "failure": [{"request_range": {"key": key}}],
        });
        let answer: Transaction = self.call("/v3/kv/txn", &body).await?;
        let revision = answer.header.revision;
        if answer.succeeded {
            return Ok(Outcome::Done { revision });
        }
        let current = answer
            .responses
            .into_iter()
            .find_map(|part| part.response_range)
            .and_then(|range| range.kvs.into_iter().next());
        Ok(Outcome::Refused { current, revision })
    }

    /// Lets go of the revisions before one.
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        let body = json!({"revision": revision.to_string()});
        self.call::<Value>("/v3/kv/compaction", &body)
            .await
            .map(drop)
    }

    /// Watches everything from a revision on.
    pub async fn watch(&self, from: Revision) -> Result<Messages> {
        let body = json!({"create_request": {
            "key": encode(EVERYTHING),
            "range_end": encode(EVERYTHING),
            "start_revision": from.to_string(),
            "prev_kv": true,
        }});
        let body = self.open("/v3/watch", &body).await?;
        Ok(Messages {
            body,
            read: Vec::new(),
        })
    }
}

/// The messages of a watch.
pub struct Messages {
    body: Incoming,
    read: Vec<u8>,
}

impl Messages {
    /// The next one; none when the stream has ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.read) {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let wrapped: Wrapped = serde_json::from_slice(&line)
                    .map_err(|error| failure("reading etcd's watch", error))?;
                return Ok(Some(wrapped.result));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|error| failure("reading etcd's watch", error))?;
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_gateway_writes_them() {
        let line = br#"{"result":{"header":{"revision":"7"},"events":[{"type":"DELETE","kv":{"key":"L2E=","mod_revision":"7"},"prev_kv":{"key":"L2E=","create_revision":"3","mod_revision":"4","value":"eA=="}}]}}"#;
        let message: Wrapped = serde_json::from_slice(line).expect("a message");
        let [event] = message.result.events.as_slice() else {
            panic!("one event");
        };
        assert_eq!(
            (event.kind.as_str(), event.kv.key.as_str()),
            ("DELETE", "/a")
        );
        assert_eq!(event.kv.modified, Revision(7));
        let previous = event.prev_kv.as_ref().expect("asked for");
        assert_eq!(
            (previous.created, previous.value.as_slice()),
            (Revision(3), &b"x"[..])
        );
    }
}
