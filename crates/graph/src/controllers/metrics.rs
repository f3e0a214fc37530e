//! Metrics under kro's names, so that dashboards and alerts keep working.
//!
//! kro writes resources in three ways in its labels; so do we: (A) `group/version/resource`, (B) `group/version,
//! Resource=plural`, (C) `group/version, Kind=Kind`.

use std::time::Duration;

use controller::Resource;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

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

fn histograms() -> Histograms {
    Family::new_with_constructor(wide as fn() -> Histogram)
}

/// The metrics of the graph controllers; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Counters,
    reconcile_seconds: Histograms,
    handler_errors: Counters,
    requeues: Counters,
    instance_reconciles: Counters,
    instance_reconcile_seconds: Histograms,
    instance_errors: Counters,
    resolutions: Counters,
    resolutions_pending: Counters,
    resolution_failures: Counters,
    instance_transitions: Counters,
    builds: Counters,
    build_seconds: Histograms,
    build_errors: Counters,
    rgd_deletions: Counters,
    rgd_transitions: Counters,
    revisions_issued: Counters,
    revision_waits: Counters,
    revision_resolutions: Counters,
    revisions_collected: Counters,
    revision_collection_errors: Counters,
    compiles: Counters,
    compile_seconds: Histograms,
    evictions: Counters,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Counters::default(),
            reconcile_seconds: histograms(),
            handler_errors: Counters::default(),
            requeues: Counters::default(),
            instance_reconciles: Counters::default(),
            instance_reconcile_seconds: histograms(),
            instance_errors: Counters::default(),
            resolutions: Counters::default(),
            resolutions_pending: Counters::default(),
            resolution_failures: Counters::default(),
            instance_transitions: Counters::default(),
            builds: Counters::default(),
            build_seconds: histograms(),
            build_errors: Counters::default(),
            rgd_deletions: Counters::default(),
            rgd_transitions: Counters::default(),
            revisions_issued: Counters::default(),
            revision_waits: Counters::default(),
            revision_resolutions: Counters::default(),
            revisions_collected: Counters::default(),
            revision_collection_errors: Counters::default(),
            compiles: Counters::default(),
            compile_seconds: histograms(),
            evictions: Counters::default(),
        }
    }
}

/// How the reconcile of an instance ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InstanceEnd {
    Done,
    RequeueAfter,
    Failed,
}

impl Metrics {
    /// Makes the metrics part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        // The names lack `_total`, which is added when counters are written out.
        let counters = [
            (
                "dynamic_controller_reconcile",
                "Reconciles of instances",
                &self.reconciles,
            ),
            (
                "dynamic_controller_handler_errors",
                "Reconciles of instances that failed",
                &self.handler_errors,
            ),
            (
                "dynamic_controller_requeue",
                "Instances queued again, by type",
                &self.requeues,
            ),
            (
                "instance_reconcile",
                "Reconciles of instances",
                &self.instance_reconciles,
            ),
            (
                "instance_reconcile_errors",
                "Reconciles of instances that failed",
                &self.instance_errors,
            ),
            (
                "instance_graph_resolution_success",
                "Instances that found their graph",
                &self.resolutions,
            ),
            (
                "instance_graph_resolution_pending",
                "Instances whose graph is not compiled yet",
                &self.resolutions_pending,
            ),
            (
                "instance_graph_resolution_failures",
                "Instances that found no graph, by reason",
                &self.resolution_failures,
            ),
            (
                "instance_state_transitions",
                "Changes of instances' state",
                &self.instance_transitions,
            ),
            ("rgd_graph_build", "Builds of graphs", &self.builds),
            (
                "rgd_graph_build_errors",
                "Builds of graphs that failed",
                &self.build_errors,
            ),
            (
                "rgd_deletions",
                "Deleted ResourceGraphDefinitions",
                &self.rgd_deletions,
            ),
            (
                "rgd_state_transitions",
                "Changes of ResourceGraphDefinitions' state",
                &self.rgd_transitions,
            ),
            (
                "rgd_graph_revision_issue",
                "Issued revisions, by reason",
                &self.revisions_issued,
            ),
            (
                "rgd_graph_revision_wait",
                "Waits for revisions, by reason",
                &self.revision_waits,
            ),
            (
                "rgd_graph_revision_resolution",
                "Looks at the newest revision, by result",
                &self.revision_resolutions,
            ),
            (
                "rgd_graph_revision_gc_deleted",
                "Revisions deleted because there are newer ones",
                &self.revisions_collected,
            ),
            (
                "rgd_graph_revision_gc_errors",
                "Old revisions that could not be deleted",
                &self.revision_collection_errors,
            ),
            (
                "graph_revision_compile",
                "Compiled revisions, by result",
                &self.compiles,
            ),
            (
                "graph_revision_finalizer_evictions",
                "Revisions forgotten because they were deleted",
                &self.evictions,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let histograms = [
            (
                "dynamic_controller_reconcile_duration_seconds",
                "Time reconciles of instances take",
                &self.reconcile_seconds,
            ),
            (
                "instance_reconcile_duration_seconds",
                "Time reconciles of instances take",
                &self.instance_reconcile_seconds,
            ),
            (
                "rgd_graph_build_duration_seconds",
                "Time builds take",
                &self.build_seconds,
            ),
            (
                "graph_revision_compile_duration_seconds",
                "Time compiling a revision takes",
                &self.compile_seconds,
            ),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
    }

    pub(crate) fn instance_reconciled(
        &self,
        resource: &Resource,
        took: Duration,
        end: InstanceEnd,
    ) {
        let (a, b) = (
            vec![("gvr", form_a(resource))],
            vec![("gvr", form_b(resource))],
        );
        self.reconciles.get_or_create(&a).inc();
        self.reconcile_seconds
            .get_or_create(&a)
            .observe(took.as_secs_f64());
        self.instance_reconciles.get_or_create(&b).inc();
        self.instance_reconcile_seconds
            .get_or_create(&b)
            .observe(took.as_secs_f64());
        let requeue = match end {
            InstanceEnd::Done => return,
            InstanceEnd::RequeueAfter => "requeue_after",
            InstanceEnd::Failed => {
                self.handler_errors.get_or_create(&a).inc();
                self.instance_errors.get_or_create(&b).inc();
                "rate_limited"
            }
        };
        let labels = vec![("gvr", form_a(resource)), ("type", requeue.to_owned())];
        self.requeues.get_or_create(&labels).inc();
    }

    pub(crate) fn graph_resolved(&self, resource: &Resource) {
        self.resolutions
            .get_or_create(&vec![("gvr", form_b(resource))])
            .inc();
    }

    pub(crate) fn graph_pending(&self, resource: &Resource) {
        self.resolutions_pending
            .get_or_create(&vec![("gvr", form_b(resource))])
            .inc();
    }

    pub(crate) fn graph_not_resolved(&self, resource: &Resource, reason: &str) {
        let labels = vec![("gvr", form_b(resource)), ("reason", reason.to_owned())];
        self.resolution_failures.get_or_create(&labels).inc();
    }

    pub(crate) fn instance_changed(&self, resource: &Resource, from: &str, to: &str) {
        let gvr = format!("{}, Kind={}", resource.api_version(), resource.kind);
        let labels = vec![
            ("gvr", gvr),
            ("from_state", from.to_owned()),
            ("to_state", to.to_owned()),
        ];
        self.instance_transitions.get_or_create(&labels).inc();
    }

    pub(crate) fn graph_built(&self, name: &str, took: Duration, is_error: bool) {
        let labels = vec![("name", name.to_owned())];
        self.builds.get_or_create(&labels).inc();
        self.build_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if is_error {
            self.build_errors.get_or_create(&labels).inc();
        }
    }

    pub(crate) fn rgd_deleted(&self, name: &str) {
        self.rgd_deletions
            .get_or_create(&vec![("name", name.to_owned())])
            .inc();
    }

    pub(crate) fn rgd_changed(&self, name: &str, from: &str, to: &str) {
        let labels = vec![
            ("name", name.to_owned()),
            ("from", from.to_owned()),
            ("to", to.to_owned()),
        ];
        self.rgd_transitions.get_or_create(&labels).inc();
    }

    pub(crate) fn revision_issued(&self, is_first: bool) {
        let reason = if is_first {
            "no_revision"
        } else {
            "spec_changed"
        };
        self.revisions_issued
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
        self.revision_resolved("issue");
    }

    pub(crate) fn revision_waited(&self, condition_reason: &str) {
        let reason = match condition_reason {
            "WaitingForGraphRevisionWarmup" => "warming_up",
            "WaitingForGraphRevisionSettlement" => "settling",
            _ => "compiling",
        };
        self.revision_waits
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
        self.revision_resolved("wait");
    }

    pub(crate) fn revision_resolved(&self, result: &str) {
        self.revision_resolutions
            .get_or_create(&vec![("result", result.to_owned())])
            .inc();
    }

    pub(crate) fn revision_collected(&self, is_error: bool) {
        let counters = if is_error {
            &self.revision_collection_errors
        } else {
            &self.revisions_collected
        };
        counters.get_or_create(&Labels::new()).inc();
    }

    pub(crate) fn revision_compiled(&self, took: Duration, is_error: bool) {
        let result = if is_error { "failed" } else { "success" };
        let labels = vec![("result", result.to_owned())];
        self.compiles.get_or_create(&labels).inc();
        self.compile_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn revision_evicted(&self) {
        self.evictions.get_or_create(&Labels::new()).inc();
    }
}

fn form_a(resource: &Resource) -> String {
    format!("{}/{}", resource.api_version(), resource.plural)
}

fn form_b(resource: &Resource) -> String {
    format!("{}, Resource={}", resource.api_version(), resource.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_kro() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let apps = Resource::namespaced("kro.run/v1", "apps", "App");
        metrics.instance_reconciled(&apps, Duration::from_millis(20), InstanceEnd::Failed);
        metrics.instance_changed(&apps, "IN_PROGRESS", "ACTIVE");
        metrics.revision_issued(true);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "dynamic_controller_reconcile_total{gvr=\"kro.run/v1/apps\"} 1",
            "dynamic_controller_requeue_total{gvr=\"kro.run/v1/apps\",type=\"rate_limited\"} 1",
            "instance_reconcile_errors_total{gvr=\"kro.run/v1, Resource=apps\"} 1",
            "instance_state_transitions_total{gvr=\"kro.run/v1, Kind=App\",from_state=\"IN_PROGRESS\",to_state=\"ACTIVE\"} 1",
            "rgd_graph_revision_issue_total{reason=\"no_revision\"} 1",
            "instance_reconcile_duration_seconds_bucket{le=\"0.05\",gvr=\"kro.run/v1, Resource=apps\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
