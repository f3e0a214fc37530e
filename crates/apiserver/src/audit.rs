//! The audit log: who asked for what, when, and what became of it, as lines of JSON.
//!
//! The policy says how much is written of which request; the log file is turned over by size. Without
//! a policy nothing is written, and requests pay for one comparison.

mod file;
mod policy;

pub use file::{LogFile, LogFileOptions};
pub use policy::Policy;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::header::USER_AGENT;
use http::{HeaderMap, Request, Response};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::identity::{Attributes, User};
use policy::Level;

/// Longest object that is written into the log.
const OBJECT_BYTES_MAX: usize = 3 << 20;
/// Longest user agent that is written, as upstream.
const USER_AGENT_LENGTH_MAX: usize = 1_024;

/// A policy, and where its events go.
pub struct AuditLog {
    policy: Policy,
    sink: Mutex<Box<dyn std::io::Write + Send>>,
}

/// Where a request came from, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteAddress(pub IpAddr);

/// What admission has noted of a request, on its way to the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations(pub BTreeMap<String, String>);

/// A stage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Received,
    Started,
    Complete,
    Panic,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Received => "RequestReceived",
            Self::Started => "ResponseStarted",
            Self::Complete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What is written of one request.
pub(crate) struct Record {
    log: Arc<AuditLog>,
    level: Level,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
    event: Map<String, Value>,
    /// Whether its end has been written; a request that never gets there has panicked or was cut off.
    ended: bool,
}

impl AuditLog {
    /// A log of a policy.
    pub fn new(policy: Policy, sink: impl std::io::Write + Send + 'static) -> Self {
        Self {
            policy,
            sink: Mutex::new(Box::new(sink)),
        }
    }

    /// Begins the record of a request; `None` where the policy wants none.
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        id: &str,
        user: &User,
        wanted: &Attributes,
        request: &Request<B>,
        now: Timestamp,
    ) -> Option<Record> {
        let asked = self.policy.of(user, wanted);
        if asked.level == Level::None {
            return None;
        }
        let mut event = Map::new();
        let mut set = |name: &str, value: Value| event.insert(name.to_owned(), value);
        set("kind", json!("Event"));
        set("apiVersion", json!("audit.k8s.io/v1"));
        set("level", json!(asked.level.as_str()));
        set("auditID", json!(id));
        let uri = request.uri();
        set(
            "requestURI",
            json!(uri.path_and_query().map_or("/", |target| target.as_str())),
        );
        set("verb", json!(wanted.verb));
        set("user", user_value(user));
        set("sourceIPs", json!(sources(request)));
        let agent = request.headers().get(USER_AGENT);
        if let Some(agent) = agent.and_then(|agent| agent.to_str().ok()) {
            let agent: String = agent.chars().take(USER_AGENT_LENGTH_MAX).collect();
            set("userAgent", json!(agent));
        }
        if wanted.is_resource() {
            set("objectRef", reference(wanted));
        }
        set("requestReceivedTimestamp", json!(micros(now)));
        let mut record = Record {
            log: self.clone(),
            level: asked.level,
            omit_stages: asked.omit_stages,
            omit_managed_fields: asked.omit_managed_fields,
            event,
            ended: false,
        };
        record.write(Stage::Received, now);
        Some(record)
    }
}

fn user_value(user: &User) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn reference(wanted: &Attributes) -> Value {
    let mut value = Map::new();
    for (name, text) in [
        ("resource", &wanted.resource),
        ("namespace", &wanted.namespace),
        ("name", &wanted.name),
        ("apiGroup", &wanted.group),
        ("apiVersion", &wanted.version),
        ("subresource", &wanted.subresource),
    ] {
        if !text.is_empty() {
            value.insert(name.to_owned(), json!(text));
        }
    }
    Value::Object(value)
}

/// Where a request comes from: what proxies say, then who has sent it.
fn sources<B>(request: &Request<B>) -> Vec<String> {
    let listed = |headers: &HeaderMap, name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|text| text.trim().parse::<IpAddr>().ok())
            .map(|address| address.to_string())
            .collect()
    };
    let headers = request.headers();
    let mut found = listed(headers, "x-forwarded-for");
    if found.is_empty() {
        found = listed(headers, "x-real-ip");
    }
    let remote = request.extensions().get::<RemoteAddress>();
    let remote = remote.map(|remote| remote.0.to_string());
    if let Some(remote) = remote.filter(|remote| found.last() != Some(remote)) {
        found.push(remote);
    }
    found
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Record {
    /// In whose name the request is taken.
    pub fn impersonates(&mut self, user: &User) {
        self.set("impersonatedUser", user_value(user));
    }

    /// Notes something.
    pub fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.event.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.entry(key).or_insert_with(|| json!(value));
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        self.event.insert(name.to_owned(), value);
    }

    /// What was sent.
    pub fn request_body(&mut self, body: &Bytes) {
        if body.is_empty() {
            return;
        }
        let Some(mut object) = parse(body) else {
            return;
        };
        if let Some(reference) = self
            .event
            .get_mut("objectRef")
            .and_then(Value::as_object_mut)
        {
            for field in ["name", "uid", "resourceVersion"] {
                let told = object["metadata"][field].as_str().unwrap_or_default();
                if !told.is_empty() && !reference.contains_key(field) {
                    reference.insert(field.to_owned(), json!(told));
                }
            }
        }
        if self.level >= Level::Request {
            self.strip(&mut object);
            self.set("requestObject", object);
        }
    }

    fn strip(&self, object: &mut Value) {
        if !self.omit_managed_fields {
            return;
        }
        let strip = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        strip(object);
        let items = object.get_mut("items").and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(strip);
    }

    /// What was answered. The end of an answer without one is written when it is cut off.
    pub fn answered(mut self, mut response: Response<Body>, clock: Clock) -> Response<Body> {
        if let Some(Annotations(noted)) = response.extensions_mut().remove::<Annotations>() {
            for (key, value) in noted {
                self.annotate(&key, &value);
            }
        }
        let code = response.status().as_u16();
        let object = response.body().known().and_then(|bytes| parse(&bytes));
        let mut status = json!({"metadata": {}, "code": code});
        if code >= 400
            && let Some(object) = object.as_ref().filter(|object| object["kind"] == "Status")
        {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = object.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        self.set("responseStatus", status);
        if self.level >= Level::RequestResponse
            && let Some(mut object) = object
        {
            self.strip(&mut object);
            self.set("responseObject", object);
        }
        let body = std::mem::replace(response.body_mut(), Body::empty());
        *response.body_mut() = match body {
            Body::Stream(inner) => {
                self.write(Stage::Started, clock());
                Body::stream(Watched {
                    inner,
                    record: self,
                    clock,
                })
            }
            whole => {
                self.ended = true;
                self.write(Stage::Complete, clock());
                whole
            }
        };
        response
    }

    fn write(&mut self, stage: Stage, now: Timestamp) {
        if self
            .omit_stages
            .iter()
            .any(|omitted| omitted == stage.as_str())
        {
            return;
        }
        self.set("stage", json!(stage.as_str()));
        self.set("stageTimestamp", json!(micros(now)));
        let mut line = serde_json::to_vec(&self.event).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = self.log.sink.lock().write_all(&line) {
            tracing::error!(%error, "writing the audit log");
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            self.ended = true;
            self.set("responseStatus", json!({"metadata": {}, "code": 500}));
            self.write(Stage::Panic, Timestamp::now());
        }
    }
}

/// Where the time comes from.
pub(crate) type Clock = crate::server::Clock;

fn parse(bytes: &Bytes) -> Option<Value> {
    if bytes.len() > OBJECT_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(bytes)
        .ok()
        .or_else(|| crate::write::yaml_to_value(bytes).ok())
        .filter(Value::is_object)
}

/// A stream whose end is written into the log.
struct Watched {
    inner: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    record: Record,
    clock: Clock,
}

impl Stream for Watched {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.inner.as_mut().poll_next(context)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let now = (self.clock)();
        self.record.ended = true;
        self.record.write(Stage::Complete, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn events(&self) -> Vec<Value> {
            let text = String::from_utf8(self.0.lock().clone()).expect("text");
            text.lines()
                .map(|line| serde_json::from_str(line).expect("a line is an event"))
                .collect()
        }
    }

    fn log(policy: &str) -> (Arc<AuditLog>, Lines) {
        let lines = Lines::default();
        let policy = Policy::parse(policy).expect("a policy");
        (Arc::new(AuditLog::new(policy, lines.clone())), lines)
    }

    fn wanted() -> Attributes {
        Attributes {
            verb: "create".to_owned(),
            version: "v1".to_owned(),
            resource: "configmaps".to_owned(),
            namespace: "a".to_owned(),
            ..Attributes::default()
        }
    }

    fn clock() -> Clock {
        Arc::new(|| Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_request_is_written_as_the_policy_says() {
        let (log, lines) = log(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules: [{level: RequestResponse}]",
        );
        let request = Request::builder()
            .uri("/api/v1/namespaces/a/configmaps?x=1")
            .header("user-agent", "test")
            .header("x-forwarded-for", "10.0.0.1, nonsense")
            .body(())
            .expect("a request");
        let user = User::new("jane", &[]);
        let mut record = log
            .begin("id", &user, &wanted(), &request, Timestamp::UNIX_EPOCH)
            .expect("wanted");
        record.annotate("k", "v");
        let body = br#"{"metadata":{"name":"m","managedFields":[]},"data":{}}"#;
        record.request_body(&Bytes::from_static(body));
        let answer = respond::bytes(201, "application/json", r#"{"kind":"ConfigMap"}"#);
        drop(record.answered(answer, clock()));
        let events = lines.events();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["stage"], "RequestReceived");
        let end = &events[1];
        assert_eq!(end["stage"], "ResponseComplete");
        assert_eq!(end["stageTimestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(end["sourceIPs"], json!(["10.0.0.1"]));
        assert_eq!(end["objectRef"]["name"], "m");
        assert_eq!(end["requestObject"]["metadata"], json!({"name": "m"}));
        assert_eq!(end["responseObject"]["kind"], "ConfigMap");
        assert_eq!(end["responseStatus"]["code"], 201);
        assert_eq!(end["annotations"], json!({"k": "v"}));
    }

    #[test]
    fn a_watch_has_a_beginning_and_an_end() {
        let (log, lines) = log(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived]}]",
        );
        let request = Request::new(());
        let user = User::anonymous();
        let record = log
            .begin("id", &user, &wanted(), &request, Timestamp::UNIX_EPOCH)
            .expect("wanted");
        let body = Body::stream(futures::stream::pending());
        let response = record.answered(respond::with_body(200, "application/json", body), clock());
        let stages = |lines: &Lines| -> Vec<String> {
            let events = lines.events();
            let stage = |event: &Value| event["stage"].as_str().map(str::to_owned);
            events.iter().filter_map(stage).collect()
        };
        assert_eq!(stages(&lines), ["ResponseStarted"]);
        drop(response);
        assert_eq!(stages(&lines), ["ResponseStarted", "ResponseComplete"]);
        assert!(lines.events()[0].get("requestObject").is_none());
    }
}
