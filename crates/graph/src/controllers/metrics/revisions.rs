//! Metrics of what is known about revisions.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Book, Counters, Labels, Metrics};

#[derive(Clone, Debug)]
pub(super) struct Revisions {
    entries: Family<Labels, Gauge>,
    transitions: Counters,
    evictions: Counter,
    status_update_errors: Counter,
    deferred: Counter,
}

impl Revisions {
    pub fn new(book: &mut Book<'_>) -> Self {
        Self {
            entries: book.gauges(
                "graph_revision_registry_entries",
                "Known revisions, by state",
            ),
            transitions: book.counters(
                "graph_revision_registry_transitions",
                "Changes of revisions' state",
            ),
            evictions: book.counter(
                "graph_revision_registry_evictions",
                "Revisions that are not known any more",
            ),
            status_update_errors: book.counter(
                "graph_revision_status_update_errors",
                "Statuses of revisions that could not be written",
            ),
            deferred: book.counter(
                "graph_revision_activation_deferred",
                "Compiled revisions that do not run yet because their status could not be written",
            ),
        }
    }

    fn entries(&self, state: &'static str) -> impl std::ops::Deref<Target = Gauge> + '_ {
        self.entries
            .get_or_create(&vec![("state", state.to_owned())])
    }
}

impl Metrics {
    /// A revision has become known, or has another state now.
    pub(crate) fn revision_is(&self, before: Option<&'static str>, now: &'static str) {
        if before == Some(now) {
            return;
        }
        self.revisions.entries(now).inc();
        if let Some(before) = before {
            self.revisions.entries(before).dec();
            let labels = vec![("from", before.to_owned()), ("to", now.to_owned())];
            self.revisions.transitions.get_or_create(&labels).inc();
        }
    }

    /// A revision is not known any more.
    pub(crate) fn revision_forgotten(&self, state: &'static str) {
        self.revisions.entries(state).dec();
        self.revisions.evictions.inc();
    }

    /// The status of a revision could not be written.
    pub(crate) fn revision_status_failed(&self, is_compiled: bool) {
        self.revisions.status_update_errors.inc();
        if is_compiled {
            self.revisions.deferred.inc();
        }
    }
}
