//! Metrics under kro's names, so that dashboards and alerts keep working.
//!
//! kro writes resources in three ways in its labels; so do we: (A) `group/version/resource`, (B) `group/version,
//! Resource=plural`, (C) `group/version, Kind=Kind`. Each file has the metrics of one subject, and what they are told.
//!
//! Left out: metrics of Go's runtime, of controller-runtime, of kro's client and of its cache of schemas, which
//! have no counterpart here.

mod conditions;
mod definitions;
mod engine;
mod instances;
mod revisions;
mod watches;

use std::sync::Arc;

use controller::Resource;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use instances::InstanceEnd;
pub(crate) use watches::{WatchCounts, event_type};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// kro's buckets for things that take seconds.
const WIDE: [f64; 16] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 120.0,
];

fn wide() -> Histogram {
    Histogram::new(WIDE)
}

/// The metrics of the graph controllers; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    instances: instances::Instances,
    definitions: definitions::Definitions,
    revisions: revisions::Revisions,
    engine: engine::Engine,
    watches: watches::Watching,
    conditions: conditions::Conditions,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let mut book = Book(&mut registry);
        let instances = instances::Instances::new(&mut book);
        let definitions = definitions::Definitions::new(&mut book);
        let revisions = revisions::Revisions::new(&mut book);
        let engine = engine::Engine::new(&mut book);
        let watches = watches::Watching::new(&mut book);
        let conditions = conditions::Conditions::new(&mut book);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            instances,
            definitions,
            revisions,
            engine,
            watches,
            conditions,
        }
    }
}

impl Metrics {
    /// All metrics in the text form of OpenMetrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}

/// Where metrics are entered when they are made.
struct Book<'a>(&'a mut Registry);

impl Book<'_> {
    /// Counters; the name lacks `_total`, which is added when they are written out.
    fn counters(&mut self, name: &str, help: &str) -> Counters {
        let counters = Counters::default();
        self.0.register(name, help, counters.clone());
        counters
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.0.register(name, help, counter.clone());
        counter
    }

    fn gauges(&mut self, name: &str, help: &str) -> Family<Labels, Gauge> {
        let gauges = Family::default();
        self.0.register(name, help, Family::clone(&gauges));
        gauges
    }

    /// Durations of things that take seconds.
    fn durations(&mut self, name: &str, help: &str) -> Histograms {
        let histograms = Family::new_with_constructor(wide as fn() -> Histogram);
        self.0.register(name, help, histograms.clone());
        histograms
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: Histogram) -> Histogram {
        self.0.register(name, help, histogram.clone());
        histogram
    }

    /// What is looked up when it is asked for.
    fn collector(&mut self, collector: impl Collector) {
        self.0.register_collector(Box::new(collector));
    }
}

fn form_a(resource: &Resource) -> String {
    format!("{}/{}", resource.api_version(), resource.plural)
}

fn form_b(resource: &Resource) -> String {
    format!("{}, Resource={}", resource.api_version(), resource.plural)
}

fn form_c(resource: &Resource) -> String {
    format!("{}, Kind={}", resource.api_version(), resource.kind)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_and_labels_are_those_of_kro() {
        let metrics = Metrics::default();
        let apps = Resource::namespaced("kro.run/v1", "apps", "App");
        metrics.instance_reconciled(&apps, Duration::from_millis(20), InstanceEnd::Failed);
        metrics.instance_changed(&apps, "IN_PROGRESS", "ACTIVE");
        metrics.revision_issued(true);
        metrics.revision_is(None, "pending");
        metrics.revision_is(Some("pending"), "active");
        metrics.revision_is(Some("active"), "active");
        metrics.revision_is(None, "pending");
        metrics.revision_forgotten("pending");
        metrics.revision_status_failed(true);
        metrics.rgd_deleted("app", Duration::from_millis(20));
        metrics.rgd_changed("app", "", "Inactive");
        metrics.rgd_changed("app", "Inactive", "Active");
        metrics.revision_waited("WaitingForGraphRevisionWarmup");
        metrics.event_seen(&apps, "add");
        let text = metrics.encode();
        for line in [
            "dynamic_controller_reconcile_total{gvr=\"kro.run/v1/apps\"} 1",
            "dynamic_controller_requeue_total{gvr=\"kro.run/v1/apps\",type=\"rate_limited\"} 1",
            "instance_reconcile_errors_total{gvr=\"kro.run/v1, Resource=apps\"} 1",
            "instance_state_transitions_total{gvr=\"kro.run/v1, Kind=App\",from_state=\"IN_PROGRESS\",to_state=\"ACTIVE\"} 1",
            "rgd_graph_revision_issue_total{reason=\"no_revision\"} 1",
            "rgd_graph_revision_resolution_total{result=\"issue\"} 1",
            "graph_revision_registry_entries{state=\"active\"} 1",
            "graph_revision_registry_entries{state=\"pending\"} 0",
            "graph_revision_registry_transitions_total{from=\"pending\",to=\"active\"} 1",
            "graph_revision_registry_evictions_total 1",
            "graph_revision_status_update_errors_total 1",
            "graph_revision_activation_deferred_total 1",
            "rgd_deletions_total{name=\"app\"} 1",
            "rgd_deletion_duration_seconds_count{name=\"app\"} 1",
            "rgd_state_transitions_total{name=\"app\",from=\"Inactive\",to=\"Active\"} 1",
            "rgd_graph_revision_wait_total{reason=\"warming_up\"} 1",
            "rgd_graph_revision_registry_miss_total{reason=\"latest_not_warmed\"} 1",
            "dynamic_controller_informer_events_total{gvr=\"kro.run/v1, Resource=apps\",event_type=\"add\"} 1",
            "instance_reconcile_duration_seconds_bucket{le=\"0.05\",gvr=\"kro.run/v1, Resource=apps\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        // A definition that had no state yet did not change it.
        assert!(!text.contains("from=\"\""), "{text}");
    }
}
