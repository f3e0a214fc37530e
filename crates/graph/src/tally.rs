//! What is counted where no controller is in sight: evaluations of expressions.
//!
//! Expressions are evaluated by code that knows nothing of controllers; so these numbers are the process's, as kro's are.

use std::sync::LazyLock;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// Buckets of evaluations, in seconds. kro's begin at 5 ms, which says nothing where evaluations take less than one.
const BUCKETS_SECONDS: [f64; 15] = [
    0.000_001, 0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// Evaluations of this process.
pub(crate) struct Tally {
    /// How many.
    pub evaluations: Counter,
    /// How long each took.
    pub seconds: Histogram,
}

impl Tally {
    /// Counts what `evaluate` does as one evaluation.
    pub fn count<T>(&self, evaluate: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = evaluate();
        self.evaluations.inc();
        self.seconds.observe(started.elapsed().as_secs_f64());
        result
    }
}

/// The process's.
pub(crate) fn global() -> &'static Tally {
    static TALLY: LazyLock<Tally> = LazyLock::new(|| Tally {
        evaluations: Counter::default(),
        seconds: Histogram::new(BUCKETS_SECONDS),
    });
    &TALLY
}
