//! Metrics of ResourceGraphDefinitions and their revisions.

use std::time::Duration;

use super::{Book, Counters, Histograms, Labels, Metrics};

#[derive(Clone, Debug)]
pub(super) struct Definitions {
    builds: Counters,
    build_seconds: Histograms,
    build_errors: Counters,
    rgd_deletions: Counters,
    rgd_deletion_seconds: Histograms,
    rgd_transitions: Counters,
    revisions_issued: Counters,
    revision_waits: Counters,
    registry_misses: Counters,
    revision_resolutions: Counters,
    revisions_collected: Counters,
    revision_collection_errors: Counters,
    compiles: Counters,
    compile_seconds: Histograms,
    evictions: Counters,
}

impl Definitions {
    pub fn new(book: &mut Book<'_>) -> Self {
        Self {
            builds: book.counters("rgd_graph_build", "Builds of graphs"),
            build_seconds: book.durations("rgd_graph_build_duration_seconds", "Time builds take"),
            build_errors: book.counters("rgd_graph_build_errors", "Builds of graphs that failed"),
            rgd_deletions: book.counters("rgd_deletions", "Deleted ResourceGraphDefinitions"),
            rgd_deletion_seconds: book.durations(
                "rgd_deletion_duration_seconds",
                "Time the deletion of ResourceGraphDefinitions takes",
            ),
            rgd_transitions: book.counters(
                "rgd_state_transitions",
                "Changes of ResourceGraphDefinitions' state",
            ),
            revisions_issued: book
                .counters("rgd_graph_revision_issue", "Issued revisions, by reason"),
            revision_waits: book
                .counters("rgd_graph_revision_wait", "Waits for revisions, by reason"),
            registry_misses: book.counters(
                "rgd_graph_revision_registry_miss",
                "Looks at revisions that are not known yet",
            ),
            revision_resolutions: book.counters(
                "rgd_graph_revision_resolution",
                "Looks at the newest revision, by result",
            ),
            revisions_collected: book.counters(
                "rgd_graph_revision_gc_deleted",
                "Revisions deleted because there are newer ones",
            ),
            revision_collection_errors: book.counters(
                "rgd_graph_revision_gc_errors",
                "Old revisions that could not be deleted",
            ),
            compiles: book.counters("graph_revision_compile", "Compiled revisions, by result"),
            compile_seconds: book.durations(
                "graph_revision_compile_duration_seconds",
                "Time compiling a revision takes",
            ),
            evictions: book.counters(
                "graph_revision_finalizer_evictions",
                "Revisions forgotten because they were deleted",
            ),
        }
    }
}

impl Metrics {
    pub(crate) fn graph_built(&self, name: &str, took: Duration, is_error: bool) {
        let labels = vec![("name", name.to_owned())];
        self.definitions.builds.get_or_create(&labels).inc();
        self.definitions
            .build_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if is_error {
            self.definitions.build_errors.get_or_create(&labels).inc();
        }
    }

    pub(crate) fn rgd_deleted(&self, name: &str, took: Duration) {
        let labels = vec![("name", name.to_owned())];
        self.definitions.rgd_deletions.get_or_create(&labels).inc();
        self.definitions
            .rgd_deletion_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// The state of a definition changed; the first is no change.
    pub(crate) fn rgd_changed(&self, name: &str, from: &str, to: &str) {
        if from.is_empty() {
            return;
        }
        let labels = vec![
            ("name", name.to_owned()),
            ("from", from.to_owned()),
            ("to", to.to_owned()),
        ];
        self.definitions
            .rgd_transitions
            .get_or_create(&labels)
            .inc();
    }

    /// A revision was created.
    pub(crate) fn revision_issued(&self, is_first: bool) {
        let reason = if is_first {
            "no_revision"
        } else {
            "spec_changed"
        };
        self.definitions
            .revisions_issued
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
        self.revision_resolved("issue");
    }

    pub(crate) fn revision_waited(&self, condition_reason: &str) {
        let reason = match condition_reason {
            "WaitingForGraphRevisionWarmup" => {
                let labels = vec![("reason", "latest_not_warmed".to_owned())];
                self.definitions
                    .registry_misses
                    .get_or_create(&labels)
                    .inc();
                "warming_up"
            }
            "WaitingForGraphRevisionSettlement" => "settling",
            _ => "compiling",
        };
        self.definitions
            .revision_waits
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
        self.revision_resolved("wait");
    }

    pub(crate) fn revision_resolved(&self, result: &str) {
        self.definitions
            .revision_resolutions
            .get_or_create(&vec![("result", result.to_owned())])
            .inc();
    }

    pub(crate) fn revision_collected(&self, is_error: bool) {
        let counters = if is_error {
            &self.definitions.revision_collection_errors
        } else {
            &self.definitions.revisions_collected
        };
        counters.get_or_create(&Labels::new()).inc();
    }

    pub(crate) fn revision_compiled(&self, took: Duration, is_error: bool) {
        let result = if is_error { "failed" } else { "success" };
        let labels = vec![("result", result.to_owned())];
        self.definitions.compiles.get_or_create(&labels).inc();
        self.definitions
            .compile_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn revision_evicted(&self) {
        self.definitions
            .evictions
            .get_or_create(&Labels::new())
            .inc();
    }
}
