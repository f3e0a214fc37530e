//! The work queue between informers and workers.
//!
//! A key is in the queue at most once (what happened in between is read from the cache anyway), with one worker at a
//! time, and runs again if it was added while in work. Delayed keys wait in a heap that the waiting workers watch
//! themselves, so the queue needs no task of its own. Time is tokio's: paused tests work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::{self, Histogram, Measured, QueueMeasures};
use crate::object::ObjectKey;

/// What can be queued.
pub trait QueueKey: Clone + Eq + Ord + Hash + Display + Send + Sync + 'static {}
impl<T: Clone + Eq + Ord + Hash + Display + Send + Sync + 'static> QueueKey for T {}

/// Delays that double with each failure of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Default for Backoff {
    /// client-go's defaults.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(5),
            max: Duration::from_secs(1000),
        }
    }
}

impl Backoff {
    /// The delay before the attempt after `failures` earlier ones.
    pub fn delay(&self, failures: u32) -> Duration {
        self.base
            .saturating_mul(2_u32.saturating_pow(failures))
            .min(self.max)
    }
}

/// A queue of keys; clones share it.
pub struct WorkQueue<K: QueueKey = ObjectKey> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    name: String,
    backoff: Backoff,
    state: Mutex<State<K>>,
    /// Wakes one waiting worker.
    changed: Notify,
    /// Wakes whoever waits for the queue to run dry.
    idle: Notify,
}

struct State<K> {
    /// With when they came.
    ready: VecDeque<(K, Instant)>,
    /// Invariant: holds exactly the keys of `ready` and those to run again after their present run.
    dirty: HashSet<K>,
    /// With when the work began.
    working: HashMap<K, Instant>,
    delayed: BinaryHeap<Reverse<(Instant, K)>>,
    /// The deadline that counts; other heap entries of the key are stale.
    deadlines: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    closed: bool,
    adds: u64,
    retries: u64,
    waited: Histogram,
    worked: Histogram,
}

impl<K: QueueKey> Measured for Shared<K> {
    fn name(&self) -> &str {
        &self.name
    }

    fn measures(&self) -> QueueMeasures {
        let state = self.state.lock();
        let now = Instant::now();
        let running = state
            .working
            .values()
            .map(|since| now.duration_since(*since));
        QueueMeasures {
            depth: state.ready.len(),
            adds: state.adds,
            retries: state.retries,
            waited: state.waited.clone(),
            worked: state.worked.clone(),
            unfinished: running.clone().sum(),
            longest: running.max().unwrap_or_default(),
        }
    }
}

impl<K: QueueKey> State<K> {
    /// Queues the key; says whether a worker should be woken.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        self.adds += 1;
        if self.working.contains_key(&key) {
            return false;
        }
        self.ready.push_back((key, Instant::now()));
        true
    }

    /// Moves keys whose time has come to the queue; returns when the next one is due.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, _))) = self.delayed.peek() {
            let at = *at;
            if at > now {
                return Some(at);
            }
            let Some(Reverse((_, key))) = self.delayed.pop() else {
                break;
            };
            if self.deadlines.get(&key) == Some(&at) {
                self.deadlines.remove(&key);
                self.add(key);
            }
        }
        None
    }
}

impl<K: QueueKey> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: QueueKey> WorkQueue<K> {
    /// An empty queue.
    pub fn new(name: impl Into<String>, backoff: Backoff) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashMap::new(),
            delayed: BinaryHeap::new(),
            deadlines: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
            adds: 0,
            retries: 0,
            waited: Histogram::default(),
            worked: Histogram::default(),
        };
        let shared = Shared {
            name: name.into(),
            backoff,
            state: Mutex::new(state),
            changed: Notify::new(),
            idle: Notify::new(),
        };
        let shared = Arc::new(shared);
        let measured: Arc<dyn Measured> = shared.clone();
        metrics::register(Arc::downgrade(&measured));
        Self { shared }
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Queues a key unless it is queued already.
    pub fn add(&self, key: K) {
        if self.shared.state.lock().add(key) {
            self.shared.changed.notify_one();
        }
    }

    /// Queues a key once `delay` has passed; an earlier deadline of the same key stays.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.shared.state.lock();
        if state.closed
            || state
                .deadlines
                .get(&key)
                .is_some_and(|earlier| *earlier <= at)
        {
            return;
        }
        state.deadlines.insert(key.clone(), at);
        state.delayed.push(Reverse((at, key)));
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Queues a key after its backoff, which doubles until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = self.shared.backoff.delay(*failures);
            *failures = failures.saturating_add(1);
            state.retries += 1;
            delay
        };
        self.add_after(key, delay);
    }

    /// Resets the backoff of a key.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often a key failed since it was last forgotten.
    pub fn retries(&self, key: &K) -> u32 {
        self.shared
            .state
            .lock()
            .failures
            .get(key)
            .copied()
            .unwrap_or_default()
    }

    /// Takes the next key, waiting for one; `None` once the queue is shut down.
    ///
    /// The key stays with the caller until [`WorkQueue::done`].
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.shared.changed.notified();
            let due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                let due = state.promote(Instant::now());
                if let Some((key, since)) = state.ready.pop_front() {
                    let now = Instant::now();
                    state.dirty.remove(&key);
                    state.waited.observe(now.duration_since(since));
                    state.working.insert(key.clone(), now);
                    let more = !state.ready.is_empty() || due.is_some();
                    drop(state);
                    // `promote` may have made several keys ready at once, and this worker no longer watches the clock.
                    if more {
                        self.shared.changed.notify_one();
                    }
                    return Some(key);
                }
                due
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    /// Ends the work on a key; it is queued again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        if let Some(since) = state.working.remove(key) {
            state.worked.observe(since.elapsed());
        }
        let again = state.dirty.contains(key);
        if again {
            state.ready.push_back((key.clone(), Instant::now()));
        }
        let idle = state.working.is_empty() && state.ready.is_empty();
        drop(state);
        if again {
            self.shared.changed.notify_one();
        }
        if idle {
            self.shared.idle.notify_waiters();
        }
    }

    /// Refuses further keys and ends all [`WorkQueue::next`] calls.
    pub fn shut_down(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_waiters();
        // A worker that is between its check and its wait takes this permit, sees `closed` and returns.
        self.shared.changed.notify_one();
    }

    /// Waits until nothing is queued or in work; delayed keys do not count.
    pub async fn wait_idle(&self) {
        loop {
            let notified = self.shared.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = self.shared.state.lock();
                if state.working.is_empty() && state.ready.is_empty() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// How many keys wait for a worker.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    /// Whether no key waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as StdArc;

    use super::*;

    fn queue() -> WorkQueue<String> {
        WorkQueue::new("test", Backoff::default())
    }

    #[tokio::test(start_paused = true)]
    async fn keys_come_once_and_in_order() {
        let queue = queue();
        for key in ["a", "b", "a", "c", "b"] {
            queue.add(key.to_owned());
        }
        for expect in ["a", "b", "c"] {
            assert_eq!(queue.next().await.unwrap(), expect);
        }
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_in_work_runs_again_only_after_it_is_done() {
        let queue = queue();
        queue.add("a".to_owned());
        let key = queue.next().await.unwrap();
        queue.add("a".to_owned());
        assert!(queue.is_empty());
        queue.done(&key);
        assert_eq!(queue.next().await.unwrap(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_counts() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("a".to_owned(), Duration::from_mins(1));
        queue.add_after("a".to_owned(), Duration::from_secs(5));
        queue.add_after("a".to_owned(), Duration::from_secs(30));
        assert_eq!(queue.next().await.unwrap(), "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"a".to_owned());
        assert!(
            tokio::time::timeout(Duration::from_mins(10), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_until_forgotten() {
        let queue = queue();
        let key = "a".to_owned();
        for (retry, millis) in [5, 10, 20, 40].into_iter().enumerate() {
            assert_eq!(queue.retries(&key), u32::try_from(retry).unwrap());
            let start = Instant::now();
            queue.add_rate_limited(key.clone());
            queue.next().await.unwrap();
            queue.done(&key);
            assert_eq!(start.elapsed().as_millis(), millis);
        }
        queue.forget(&key);
        assert_eq!(queue.retries(&key), 0);
        assert_eq!(
            Backoff::default().delay(u32::MAX),
            Duration::from_secs(1000)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn shutting_down_ends_every_waiting_worker() {
        let queue = StdArc::new(queue());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = StdArc::clone(&queue);
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.shut_down();
        for worker in workers {
            assert!(worker.await.unwrap().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_share_keys_that_become_due_together() {
        let queue = queue();
        for key in ["a", "b", "c"] {
            queue.add_after(key.to_owned(), Duration::from_secs(1));
        }
        let take = || queue.next();
        let (a, b, c) = tokio::join!(take(), take(), take());
        let mut keys = [a.unwrap(), b.unwrap(), c.unwrap()];
        keys.sort();
        assert_eq!(keys, ["a", "b", "c"]);
    }
}
