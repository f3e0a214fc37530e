//! What is measured of work queues and leader elections, under client-go's names.
//!
//! All queues of a process are told together, by name, as client-go does; those of one name are summed. Nothing is kept of a
//! queue that is gone, so what a term as the leader has counted ends with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

/// The bounds of client-go's histograms: from 10 ns to 1,000 s, each ten times the one before.
const BOUNDS: [f64; 12] = [
    1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3,
];

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// How many took no longer than a bound and longer than the one before; the last took longer than all.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[place] += 1;
        self.sum += seconds;
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        self.sum += other.sum;
    }
}

/// What is known of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueMeasures {
    pub depth: usize,
    pub adds: u64,
    pub retries: u64,
    /// How long keys waited for a worker.
    pub waited: Histogram,
    /// How long workers took.
    pub worked: Histogram,
    /// How long the work that is not done yet has taken, in all and at most.
    pub unfinished: Duration,
    pub longest: Duration,
}

impl QueueMeasures {
    fn add(&mut self, other: &Self) {
        self.depth += other.depth;
        self.adds += other.adds;
        self.retries += other.retries;
        self.waited.add(&other.waited);
        self.worked.add(&other.worked);
        self.unfinished += other.unfinished;
        self.longest = self.longest.max(other.longest);
    }
}

/// A queue that tells what is known of it.
pub(crate) trait Measured: Send + Sync {
    fn name(&self) -> &str;
    fn measures(&self) -> QueueMeasures;
}

static QUEUES: Mutex<Vec<Weak<dyn Measured>>> = Mutex::new(Vec::new());
static ELECTIONS: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());

/// Tells of a queue as long as it is there.
pub(crate) fn register(queue: Weak<dyn Measured>) {
    let mut queues = QUEUES.lock();
    queues.retain(|queue| queue.strong_count() > 0);
    queues.push(queue);
}

/// Tells whether this process leads.
pub(crate) fn leads(lease: &str, leads: bool) {
    ELECTIONS.lock().insert(lease.to_owned(), leads);
}

/// The metrics of all work queues and leader elections of this process, in the format of OpenMetrics without its end.
pub fn metrics() -> String {
    let mut by_name: BTreeMap<String, QueueMeasures> = BTreeMap::new();
    let queues: Vec<Arc<dyn Measured>> = QUEUES.lock().iter().filter_map(Weak::upgrade).collect();
    for queue in queues {
        let measures = queue.measures();
        let name = queue.name().to_owned();
        by_name.entry(name).or_default().add(&measures);
    }
    let elections = ELECTIONS.lock().clone();
    print(&by_name, &elections)
}

fn print(queues: &BTreeMap<String, QueueMeasures>, elections: &BTreeMap<String, bool>) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: String| {
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}"
        );
    };
    let each = |sample: &dyn Fn(&str, &QueueMeasures) -> String| -> String {
        let samples = queues.iter().map(|(name, queue)| sample(name, queue));
        samples.collect()
    };
    let name = "workqueue_depth";
    let samples = each(&|queue, of| format!("{name}{{name={queue:?}}} {}\n", of.depth));
    family(name, "gauge", "Current depth of workqueue.", samples);
    let name = "workqueue_adds";
    let samples = each(&|queue, of| format!("{name}_total{{name={queue:?}}} {}\n", of.adds));
    let help = "Total number of adds handled by workqueue.";
    family(name, "counter", help, samples);
    let name = "workqueue_retries";
    let samples = each(&|queue, of| format!("{name}_total{{name={queue:?}}} {}\n", of.retries));
    let help = "Total number of retries handled by workqueue.";
    family(name, "counter", help, samples);
    let name = "workqueue_queue_duration_seconds";
    let samples = each(&|queue, of| histogram(name, queue, &of.waited));
    let help = "How long in seconds an item stays in workqueue before being requested.";
    family(name, "histogram", help, samples);
    let name = "workqueue_work_duration_seconds";
    let samples = each(&|queue, of| histogram(name, queue, &of.worked));
    let help = "How long in seconds processing an item from workqueue takes.";
    family(name, "histogram", help, samples);
    let seconds = |name: &str, of: &dyn Fn(&QueueMeasures) -> Duration| {
        each(&|queue, measures| {
            format!("{name}{{name={queue:?}}} {}\n", of(measures).as_secs_f64())
        })
    };
    let name = "workqueue_unfinished_work_seconds";
    let help = "How many seconds of work is in progress and not yet counted in work_duration.";
    family(name, "gauge", help, seconds(name, &|of| of.unfinished));
    let name = "workqueue_longest_running_processor_seconds";
    let help = "How many seconds the longest running processor has been running.";
    family(name, "gauge", help, seconds(name, &|of| of.longest));
    let name = "leader_election_master_status";
    let samples = elections
        .iter()
        .map(|(lease, leads)| format!("{name}{{name={lease:?}}} {}\n", u8::from(*leads)));
    let help = "Whether this process leads (1) or another one does (0).";
    family(name, "gauge", help, samples.collect());
    text
}

fn histogram(name: &str, queue: &str, of: &Histogram) -> String {
    let (mut text, mut count) = (String::new(), 0);
    let bounds = BOUNDS.iter().map(|bound| format!("{bound:?}"));
    for (bound, own) in bounds.chain(["+Inf".to_owned()]).zip(of.counts) {
        count += own;
        let _ = writeln!(text, "{name}_bucket{{name={queue:?},le={bound:?}}} {count}");
    }
    let _ = writeln!(text, "{name}_sum{{name={queue:?}}} {}", of.sum);
    let _ = writeln!(text, "{name}_count{{name={queue:?}}} {count}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_filed_by_their_bounds() {
        let mut all = Histogram::default();
        for nanoseconds in [0, 10, 11, 5_000_000_000, 5_000_000_000_000] {
            all.observe(Duration::from_nanos(nanoseconds));
        }
        assert_eq!(all.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn they_are_told_under_the_names_of_client_go() {
        let mut queue = QueueMeasures {
            depth: 2,
            adds: 7,
            ..QueueMeasures::default()
        };
        queue.waited.observe(Duration::from_millis(20));
        queue.longest = Duration::from_millis(1500);
        let queues = [("job".to_owned(), queue)].into();
        let elections = [("corvus-controllers".to_owned(), true)].into();
        let text = print(&queues, &elections);
        for line in [
            "# TYPE workqueue_depth gauge",
            "workqueue_depth{name=\"job\"} 2",
            "# TYPE workqueue_adds counter",
            "workqueue_adds_total{name=\"job\"} 7",
            "workqueue_retries_total{name=\"job\"} 0",
            "workqueue_queue_duration_seconds_bucket{name=\"job\",le=\"0.01\"} 0",
            "workqueue_queue_duration_seconds_bucket{name=\"job\",le=\"0.1\"} 1",
            "workqueue_queue_duration_seconds_bucket{name=\"job\",le=\"+Inf\"} 1",
            "workqueue_queue_duration_seconds_sum{name=\"job\"} 0.02",
            "workqueue_work_duration_seconds_count{name=\"job\"} 0",
            "workqueue_unfinished_work_seconds{name=\"job\"} 0",
            "workqueue_longest_running_processor_seconds{name=\"job\"} 1.5",
            "leader_election_master_status{name=\"corvus-controllers\"} 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }
}
