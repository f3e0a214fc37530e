//! The contract every controller fulfils, and the loop that drives it.
//!
//! A reconciler gets a key and nothing else: it reads the world, decides, acts and reports. What happened to wake it
//! up is not told, so missing or merging events is never a bug.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::informer::Informer;
use crate::queue::{QueueKey, WorkQueue};

/// What a successful reconcile asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more until the next event.
    Done,
    /// Again, after the key's backoff.
    Requeue,
    /// Again after a fixed time.
    RequeueAfter(Duration),
}

/// Brings one object closer to what it should be.
pub trait Reconciler: Send + Sync + 'static {
    /// What identifies the object.
    type Key: QueueKey;
    /// Why a reconcile failed; printed, then retried with backoff.
    type Error: Display + Send;

    /// Reads the world, decides, acts. Runs for one key at a time, for different keys in parallel.
    fn reconcile(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;
}

/// Counts of what a controller did; shared and cheap to read.
#[derive(Debug, Default)]
pub struct ControllerStats {
    /// Reconciles that ended, in any way.
    pub reconciles: AtomicU64,
    /// Reconciles that returned an error.
    pub errors: AtomicU64,
    /// Reconciles that panicked.
    pub panics: AtomicU64,
}

/// A reconciler, its queue and its workers.
pub struct Controller<R: Reconciler> {
    name: String,
    queue: WorkQueue<R::Key>,
    reconciler: Arc<R>,
    workers: usize,
    max_retries: Option<u32>,
    informers: Vec<Informer>,
    stats: Arc<ControllerStats>,
}

impl<R: Reconciler> Controller<R> {
    /// A controller with one worker that retries forever.
    pub fn new(name: impl Into<String>, queue: WorkQueue<R::Key>, reconciler: R) -> Self {
        Self {
            name: name.into(),
            queue,
            reconciler: Arc::new(reconciler),
            workers: 1,
            max_retries: None,
            informers: Vec::new(),
            stats: Arc::default(),
        }
    }

    /// How many keys are worked on at the same time.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Drops a key after this many failures in a row, until the next event.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Starts the workers only when these informers have their first list. Keeps them alive, too.
    pub fn wait_for(mut self, informers: impl IntoIterator<Item = Informer>) -> Self {
        self.informers.extend(informers);
        self
    }

    /// What the controller has done so far.
    pub fn stats(&self) -> Arc<ControllerStats> {
        Arc::clone(&self.stats)
    }

    /// Works until `shutdown`; returns when the last reconcile has ended.
    pub async fn run(self, shutdown: CancellationToken) {
        for informer in &self.informers {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = informer.wait_for_sync() => {}
            }
        }
        let workers = self.workers;
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            tasks.spawn(Arc::clone(&this).work());
        }
        shutdown.cancelled().await;
        this.queue.shut_down();
        while tasks.join_next().await.is_some() {}
    }

    async fn work(self: Arc<Self>) {
        while let Some(key) = self.queue.next().await {
            self.process(&key).await;
            self.queue.done(&key);
        }
    }

    async fn process(&self, key: &R::Key) {
        let run = AssertUnwindSafe(self.reconciler.reconcile(key)).catch_unwind();
        let result = run.await;
        self.stats.reconciles.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(Ok(Outcome::Done)) => self.queue.forget(key),
            Ok(Ok(Outcome::RequeueAfter(delay))) => {
                self.queue.forget(key);
                self.queue.add_after(key.clone(), delay);
            }
            Ok(Ok(Outcome::Requeue)) => self.queue.add_rate_limited(key.clone()),
            Ok(Err(error)) => {
                self.stats.errors.fetch_add(1, Ordering::Relaxed);
                self.retry(key, &error);
            }
            Err(panic) => {
                self.stats.panics.fetch_add(1, Ordering::Relaxed);
                self.retry(key, &format!("panic: {}", panic_text(panic.as_ref())));
            }
        }
    }

    fn retry(&self, key: &R::Key, error: &dyn Display) {
        let retries = self.queue.retries(key);
        if self.max_retries.is_some_and(|max| retries >= max) {
            tracing::error!(controller = self.name, %key, %error, retries, "reconcile failed; giving up until the next event");
            self.queue.forget(key);
        } else {
            tracing::warn!(controller = self.name, %key, %error, retries, "reconcile failed");
            self.queue.add_rate_limited(key.clone());
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::queue::Backoff;

    struct Scripted {
        /// What each run does, in order.
        script: Mutex<Vec<&'static str>>,
        done: CancellationToken,
    }

    impl Reconciler for Scripted {
        type Key = String;
        type Error = String;

        async fn reconcile(&self, _key: &String) -> Result<Outcome, String> {
            let step = self.script.lock().pop();
            match step {
                Some("fail") => Err("asked to".to_owned()),
                Some("panic") => panic!("asked to"),
                Some("later") => Ok(Outcome::RequeueAfter(Duration::from_secs(1))),
                _ => {
                    self.done.cancel();
                    Ok(Outcome::Done)
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_panics_are_retried_and_end_one_reconcile_only() {
        let queue = WorkQueue::new("test", Backoff::default());
        let done = CancellationToken::new();
        let script = Mutex::new(vec!["later", "panic", "fail"]);
        let controller = Controller::new(
            "test",
            queue.clone(),
            Scripted {
                script,
                done: done.clone(),
            },
        );
        let stats = controller.stats();
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(controller.run(shutdown.clone()));
        queue.add("key".to_owned());
        done.cancelled().await;
        shutdown.cancel();
        run.await.unwrap();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(
            (
                count(&stats.reconciles),
                count(&stats.errors),
                count(&stats.panics)
            ),
            (4, 1, 1)
        );
    }
}
