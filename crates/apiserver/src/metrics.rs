//! `/metrics`, with upstream's names.

use std::time::Duration;

use http::Response;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::Stats;

use crate::body::Body;
use crate::identity::Attributes;
use crate::respond;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    verb: String,
    resource: String,
}

/// Upstream's buckets of request durations, in seconds, thinned out.
const BUCKETS_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_SECONDS)
}

/// The metrics of one server. Each server has its own, so that many can live in one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    objects: Gauge,
    bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(histogram);
        let (objects, bytes) = (Gauge::default(), Gauge::default());
        registry.register("apiserver_request", "Requests by outcome", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the response's head",
            durations.clone(),
        );
        registry.register(
            "apiserver_storage_objects",
            "Stored objects",
            objects.clone(),
        );
        registry.register(
            "apiserver_storage_size_bytes",
            "Stored bytes",
            bytes.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            requests,
            durations,
            objects,
            bytes,
        }
    }
}

impl Metrics {
    /// Counts a request.
    pub fn request(&self, seen: &Attributes, code: u16, taken: Duration) {
        let labels = RequestLabels {
            verb: seen.verb.to_uppercase(),
            group: seen.group.clone(),
            resource: seen.resource.clone(),
            subresource: seen.subresource.clone(),
            // A resource that does not exist must not make a series of its own.
            code,
        };
        if code == 404 && seen.name.is_empty() {
            return;
        }
        self.requests.get_or_create(&labels).inc();
        let labels = DurationLabels {
            verb: labels.verb,
            resource: labels.resource,
        };
        self.durations
            .get_or_create(&labels)
            .observe(taken.as_secs_f64());
    }

    /// The metrics as text.
    pub fn expose(&self, stats: Stats) -> Response<Body> {
        self.objects.set(stats.entries as i64);
        self.bytes.set(stats.bytes as i64);
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
