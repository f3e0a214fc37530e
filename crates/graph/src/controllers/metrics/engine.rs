//! Metrics of passes over graphs: resources looked at, expressions evaluated.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Book, Metrics};
use crate::runtime::Step;
use crate::tally;

/// The buckets Prometheus' clients have by default, in seconds.
const DEFAULT: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Clone, Debug)]
pub(super) struct Engine {
    passes: Counter,
    pass_seconds: Histogram,
    steps: Counter,
    step_seconds: Histogram,
    step_errors: Counter,
    inclusions: Counter,
    left_out: Counter,
    readiness: Counter,
    not_ready: Counter,
    collection_sizes: Histogram,
}

impl Engine {
    pub fn new(book: &mut Book<'_>) -> Self {
        let default = || Histogram::new(DEFAULT);
        // Expressions are evaluated where no controller is in sight.
        let tally = tally::global();
        book.0.register(
            "cel_expr_eval",
            "Evaluations of expressions",
            tally.evaluations.clone(),
        );
        book.0.register(
            "cel_expr_eval_duration_seconds",
            "Time evaluations of expressions take",
            tally.seconds.clone(),
        );
        Self {
            passes: book.counter("runtime_creation", "Passes over graphs"),
            pass_seconds: book.histogram(
                "runtime_creation_duration_seconds",
                "Time the start of a pass takes",
                default(),
            ),
            steps: book.counter("runtime_node_eval", "Looks at what a resource needs"),
            step_seconds: book.histogram(
                "runtime_node_eval_duration_seconds",
                "Time it takes to say what a resource needs",
                default(),
            ),
            step_errors: book.counter(
                "runtime_node_eval_errors",
                "Resources whose objects could not be told",
            ),
            inclusions: book.counter(
                "runtime_node_ignored_check",
                "Looks at whether a resource is included",
            ),
            left_out: book.counter("runtime_node_ignored", "Resources that were not included"),
            readiness: book.counter(
                "runtime_node_ready_check",
                "Looks at whether a resource is ready",
            ),
            not_ready: book.counter("runtime_node_not_ready", "Resources that were not ready"),
            collection_sizes: book.histogram(
                "runtime_collection_size",
                "Objects of collections",
                Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            ),
        }
    }
}

impl Metrics {
    pub(crate) fn pass_begun(&self, took: Duration) {
        self.engine.passes.inc();
        self.engine.pass_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn step_taken(&self, took: Duration, step: &Step, is_collection: bool) {
        let engine = &self.engine;
        engine.inclusions.inc();
        match step {
            // It was not its turn.
            Step::Blocked(_) => return,
            Step::Skip => {
                engine.left_out.inc();
                return;
            }
            Step::Pending(_) | Step::Fail(_) => {
                engine.step_errors.inc();
            }
            Step::Apply(objects) if is_collection => {
                engine.collection_sizes.observe(objects.len() as f64);
            }
            Step::Apply(_) | Step::Read(_) | Step::List { .. } | Step::Value(_) => {}
        }
        engine.steps.inc();
        engine.step_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn readiness_checked(&self, is_ready: bool) {
        self.engine.readiness.inc();
        if !is_ready {
            self.engine.not_ready.inc();
        }
    }
}
