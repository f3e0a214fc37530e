//! `/metrics`, with upstream's names and labels.
//!
//! Left out: metrics of Go's runtime, of upstream's caches and of its client towards etcd, which have no
//! counterpart here.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::Body as _;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::Store;

use crate::body::Body;
use crate::catalog::{Catalog, Definition};
use crate::identity::Attributes;
use crate::respond;

/// What every family of requests is told apart by.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StorageLabels {
    storage_cluster_id: &'static str,
}

/// Upstream's buckets of request durations, in seconds, thinned out.
const BUCKETS_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// Buckets of sizes, in bytes, as upstream's.
const BUCKETS_BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const COMPONENT: &str = "apiserver";
/// How media types of server-side apply begin, for JSON, YAML and CBOR.
const APPLY_MEDIA_TYPE: &[u8] = b"application/apply-patch+";

fn durations() -> Histogram {
    Histogram::new(BUCKETS_SECONDS)
}

fn sizes() -> Histogram {
    Histogram::new(BUCKETS_BYTES)
}

type Histograms = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// The metrics of one server. Each server has its own, so that many can live in one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<OutcomeLabels, Counter>,
    durations: Histograms,
    sizes: Histograms,
    inflight: Family<KindLabels, Gauge>,
    watches: Family<RequestLabels, Gauge>,
    events: Family<WatchLabels, Counter>,
    objects: Family<ResourceLabels, Gauge>,
    bytes: Family<StorageLabels, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            sizes: Family::new_with_constructor(sizes),
            inflight: Family::default(),
            watches: Family::default(),
            events: Family::default(),
            objects: Family::default(),
            bytes: Family::default(),
        };
        metrics.register();
        metrics
    }
}

/// Something that runs; it is counted until this is dropped.
pub struct Running(Gauge);

impl Running {
    fn begin(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The events one watch has sent.
pub struct Sent(Counter);

impl Sent {
    /// Counts some.
    pub fn add(&self, events: u64) {
        self.0.inc_by(events);
    }
}

/// Where a request goes, as upstream tells it.
fn scope(seen: &Attributes) -> &'static str {
    if seen.resource.is_empty() {
        ""
    } else if !seen.name.is_empty() {
        "resource"
    } else if !seen.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}

/// What upstream's metrics call a verb: the method, but for what a method does not tell.
fn verb(seen: &Attributes, is_apply: bool) -> String {
    const CONNECTIONS: [&str; 5] = ["log", "exec", "portforward", "attach", "proxy"];
    if CONNECTIONS.contains(&seen.subresource.as_str()) {
        return "CONNECT".to_owned();
    }
    match seen.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "patch" if is_apply => "APPLY",
        "deletecollection" => "DELETE",
        other => return other.to_uppercase(),
    }
    .to_owned()
}

fn labels(seen: &Attributes, is_apply: bool) -> RequestLabels {
    RequestLabels {
        verb: verb(seen, is_apply),
        group: seen.group.clone(),
        version: seen.version.clone(),
        resource: seen.resource.clone(),
        subresource: seen.subresource.clone(),
        scope: scope(seen),
        component: COMPONENT,
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock();
        registry.register(
            "apiserver_request",
            "Requests by outcome",
            self.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the response's head",
            self.durations.clone(),
        );
        registry.register(
            "apiserver_response_sizes",
            "Bytes of answers whose length is known when they begin",
            self.sizes.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests that are being answered, without watches",
            self.inflight.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches that are open",
            self.watches.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Events sent to watchers",
            self.events.clone(),
        );
        registry.register(
            "apiserver_resource_objects",
            "Stored objects by resource",
            self.objects.clone(),
        );
        registry.register(
            "apiserver_storage_size_bytes",
            "Bytes of all stored objects",
            self.bytes.clone(),
        );
    }

    /// Counts a request among those that run.
    pub fn begin(&self, seen: &Attributes) -> Option<Running> {
        let request_kind = match seen.verb.as_str() {
            "watch" => return None,
            "get" | "list" => "readOnly",
            _ => "mutating",
        };
        let gauge = self
            .inflight
            .get_or_create_owned(&KindLabels { request_kind });
        Some(Running::begin(gauge))
    }

    /// Counts a request that is answered.
    pub fn request(
        &self,
        head: &Request<()>,
        seen: &Attributes,
        response: &Response<Body>,
        taken: Duration,
    ) {
        let code = response.status().as_u16();
        // A resource that does not exist must not make a series of its own.
        if code == 404 && seen.name.is_empty() {
            return;
        }
        let content_type = head.headers().get(CONTENT_TYPE);
        let is_apply =
            content_type.is_some_and(|found| found.as_bytes().starts_with(APPLY_MEDIA_TYPE));
        let labels = labels(seen, is_apply);
        let outcome = OutcomeLabels {
            verb: labels.verb.clone(),
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
            component: labels.component,
            code,
        };
        self.requests.get_or_create(&outcome).inc();
        self.durations
            .get_or_create(&labels)
            .observe(taken.as_secs_f64());
        if let Some(bytes) = response.body().size_hint().exact() {
            self.sizes.get_or_create(&labels).observe(bytes as f64);
        }
    }

    /// Counts a watch among those that are open.
    pub fn watch(&self, definition: &Definition, namespace: &str) -> (Running, Sent) {
        let gvr = &definition.gvr;
        let seen = Attributes {
            verb: "watch".to_owned(),
            group: gvr.group.clone(),
            version: gvr.version.clone(),
            resource: gvr.resource.clone(),
            namespace: namespace.to_owned(),
            ..Attributes::default()
        };
        let events = WatchLabels {
            group: gvr.group.clone(),
            version: gvr.version.clone(),
            resource: gvr.resource.clone(),
        };
        (
            Running::begin(self.watches.get_or_create_owned(&labels(&seen, false))),
            Sent(self.events.get_or_create_owned(&events)),
        )
    }

    /// The metrics as text.
    pub fn expose(&self, store: &dyn Store, catalog: &Catalog) -> Response<Body> {
        for definition in catalog.all() {
            let labels = ResourceLabels {
                group: definition.gvr.group.clone(),
                resource: definition.gvr.resource.clone(),
            };
            let count = store.count(&definition.prefix(None));
            self.objects.get_or_create(&labels).set(count as i64);
        }
        let storage = StorageLabels {
            storage_cluster_id: "etcd-0",
        };
        let bytes = store.stats().bytes as f64;
        self.bytes.get_or_create(&storage).set(bytes);
        let mut text = String::new();
        match encode(&mut text, &self.registry.lock()) {
            Ok(()) => respond::bytes(
                200,
                "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                text,
            ),
            Err(error) => respond::text(500, error.to_string()),
        }
    }
}
