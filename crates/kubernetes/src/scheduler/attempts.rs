//! What is told of every attempt to find a node, for measurements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An attempt that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// From taking the Pod off the queue until the answer to its binding, or until no node was found;
    /// as upstream's `scheduler_scheduling_attempt_duration_seconds`.
    pub taken: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The Pod has its node.
    Scheduled,
    /// No node takes it.
    Unschedulable,
    /// The binding could not be written.
    Error,
}

/// Is told of every attempt; by default nobody is.
#[derive(Clone, Default)]
pub struct AttemptObserver(Option<Arc<dyn Fn(Attempt) + Send + Sync>>);

impl AttemptObserver {
    /// Calls `observe`, which must not block.
    pub fn new(observe: impl Fn(Attempt) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Tells of an attempt.
    pub(super) fn tell(&self, outcome: Outcome, taken: Duration) {
        if let Some(observe) = &self.0 {
            observe(Attempt { outcome, taken });
        }
    }
}

impl fmt::Debug for AttemptObserver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0.is_some() {
            "observed"
        } else {
            "nobody"
        };
        formatter
            .debug_tuple("AttemptObserver")
            .field(&name)
            .finish()
    }
}
