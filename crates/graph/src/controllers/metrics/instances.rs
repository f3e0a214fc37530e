//! Metrics of instances.

use std::time::Duration;

use controller::Resource;

use super::{Book, Counters, Histograms, Metrics, form_a, form_b, form_c};

#[derive(Clone, Debug)]
pub(super) struct Instances {
    handled: Counters,
    handled_seconds: Histograms,
    handler_errors: Counters,
    requeues: Counters,
    reconciles: Counters,
    seconds: Histograms,
    errors: Counters,
    resolutions: Counters,
    resolutions_pending: Counters,
    resolution_failures: Counters,
    transitions: Counters,
}

impl Instances {
    pub fn new(book: &mut Book<'_>) -> Self {
        Self {
            handled: book.counters("dynamic_controller_reconcile", "Reconciles of instances"),
            handled_seconds: book.durations(
                "dynamic_controller_reconcile_duration_seconds",
                "Time reconciles of instances take",
            ),
            handler_errors: book.counters(
                "dynamic_controller_handler_errors",
                "Reconciles of instances that failed",
            ),
            requeues: book.counters(
                "dynamic_controller_requeue",
                "Instances queued again, by type",
            ),
            reconciles: book.counters("instance_reconcile", "Reconciles of instances"),
            seconds: book.durations(
                "instance_reconcile_duration_seconds",
                "Time reconciles of instances take",
            ),
            errors: book.counters(
                "instance_reconcile_errors",
                "Reconciles of instances that failed",
            ),
            resolutions: book.counters(
                "instance_graph_resolution_success",
                "Instances that found their graph",
            ),
            resolutions_pending: book.counters(
                "instance_graph_resolution_pending",
                "Instances whose graph is not compiled yet",
            ),
            resolution_failures: book.counters(
                "instance_graph_resolution_failures",
                "Instances that found no graph, by reason",
            ),
            transitions: book.counters("instance_state_transitions", "Changes of instances' state"),
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
        self.instances.handled.get_or_create(&a).inc();
        self.instances
            .handled_seconds
            .get_or_create(&a)
            .observe(took.as_secs_f64());
        self.instances.reconciles.get_or_create(&b).inc();
        self.instances
            .seconds
            .get_or_create(&b)
            .observe(took.as_secs_f64());
        let requeue = match end {
            InstanceEnd::Done => return,
            InstanceEnd::RequeueAfter => "requeue_after",
            InstanceEnd::Failed => {
                self.instances.handler_errors.get_or_create(&a).inc();
                self.instances.errors.get_or_create(&b).inc();
                "rate_limited"
            }
        };
        let labels = vec![("gvr", form_a(resource)), ("type", requeue.to_owned())];
        self.instances.requeues.get_or_create(&labels).inc();
    }

    pub(crate) fn graph_resolved(&self, resource: &Resource) {
        self.instances
            .resolutions
            .get_or_create(&vec![("gvr", form_b(resource))])
            .inc();
    }

    pub(crate) fn graph_pending(&self, resource: &Resource) {
        self.instances
            .resolutions_pending
            .get_or_create(&vec![("gvr", form_b(resource))])
            .inc();
    }

    pub(crate) fn graph_not_resolved(&self, resource: &Resource, reason: &str) {
        let labels = vec![("gvr", form_b(resource)), ("reason", reason.to_owned())];
        self.instances
            .resolution_failures
            .get_or_create(&labels)
            .inc();
    }

    pub(crate) fn instance_changed(&self, resource: &Resource, from: &str, to: &str) {
        let labels = vec![
            ("gvr", form_c(resource)),
            ("from_state", from.to_owned()),
            ("to_state", to.to_owned()),
        ];
        self.instances.transitions.get_or_create(&labels).inc();
    }
}
