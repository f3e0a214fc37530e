//! Requests from many clients at once, and watchers that count.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;

use super::client::Target;

/// Longest a watcher waits for its next event.
const WATCH_TIMEOUT: Duration = Duration::from_mins(1);

/// One request.
pub struct Step {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
}

impl Step {
    /// A request.
    pub fn new(method: Method, path: String, content_type: &'static str, body: String) -> Self {
        Self {
            method,
            path,
            content_type,
            body: body.into(),
        }
    }
}

/// How many requests, from how many clients.
pub struct Load {
    /// Requests in all.
    pub count: usize,
    /// Clients.
    pub clients: usize,
}

/// What came of a load.
pub struct Report {
    taken: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
    /// Of all answers.
    pub bytes: usize,
}

impl Report {
    /// Requests.
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.taken.as_secs_f64()
    }

    /// The time within which that share of requests was answered.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl Load {
    /// Sends the requests `step` makes of the numbers from 0 on.
    pub async fn run(
        &self,
        target: &Target,
        step: &(impl Fn(usize) -> Step + Send + Sync),
    ) -> anyhow::Result<Report> {
        let next = AtomicUsize::new(0);
        let mut connections = Vec::new();
        for _ in 0..self.clients {
            connections.push(target.connect().await?);
        }
        let started = Instant::now();
        let clients = connections.into_iter().map(|mut connection| {
            let next = &next;
            async move {
                let (mut latencies, mut bytes) = (Vec::new(), 0);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= self.count {
                        return anyhow::Ok((latencies, bytes));
                    }
                    let Step {
                        method,
                        path,
                        content_type,
                        body,
                    } = step(number);
                    let sent = Instant::now();
                    bytes += connection.send(&method, &path, content_type, body).await?;
                    latencies.push(sent.elapsed());
                }
            }
        });
        let outcomes = try_join_all(clients).await?;
        let taken = started.elapsed();
        let (mut latencies, mut bytes) = (Vec::with_capacity(self.count), 0);
        for (own, length) in outcomes {
            latencies.extend(own);
            bytes += length;
        }
        latencies.sort_unstable();
        Ok(Report {
            taken,
            latencies,
            bytes,
        })
    }
}

/// Watchers that have been told what was there.
pub struct Watching(Vec<JoinHandle<anyhow::Result<()>>>);

impl Watching {
    /// Waits until each has got all of its events.
    pub async fn wait(self) -> anyhow::Result<()> {
        for watcher in self.0 {
            watcher.await??;
        }
        Ok(())
    }
}

/// Opens watchers; returns when each has got `first` events. Each ends after `all`.
pub async fn watch(
    target: &Target,
    path: &str,
    watchers: usize,
    first: usize,
    all: usize,
) -> anyhow::Result<Watching> {
    let (ready, mut told) = tokio::sync::mpsc::channel(watchers.max(1));
    let mut running = Vec::new();
    for _ in 0..watchers {
        let mut connection = target.connect().await?;
        let (path, ready) = (path.to_owned(), ready.clone());
        running.push(tokio::spawn(async move {
            let mut body = connection
                .open(&Method::GET, &path, "", Bytes::new())
                .await?;
            let (mut events, mut announced) = (0, false);
            while events < all {
                let frame = tokio::time::timeout(WATCH_TIMEOUT, body.frame()).await?;
                let Some(frame) = frame else {
                    anyhow::bail!("a watch ended after {events} of {all} events");
                };
                if let Some(data) = frame?.data_ref() {
                    events += memchr::memchr_iter(b'\n', data).count();
                }
                if events >= first && !announced {
                    announced = true;
                    ready.send(()).await?;
                }
            }
            Ok(())
        }));
    }
    drop(ready);
    for _ in 0..watchers {
        if told.recv().await.is_none() {
            break;
        }
    }
    Ok(Watching(running))
}
