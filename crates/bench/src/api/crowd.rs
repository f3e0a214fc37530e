//! A crowd: connections that say nothing, and watchers that all wait for the same event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::client::Target;
use crate::machine::{median, ms, weight};

/// Connections opened at a time.
const OPENERS: usize = 64;
/// Longest wait for an event to reach everybody.
const LIMIT: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
const ITEM: &str = "/api/v1/namespaces/default/configmaps/corvus-bench-crowd";

/// The arguments of `corvus-bench crowd`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The server, such as `https://127.0.0.1:6443`.
    #[arg(long)]
    server: String,
    /// The bearer token of an administrator.
    #[arg(long)]
    token: String,
    /// How many watchers.
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// How many connections besides, which have asked once and say nothing more.
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// How many events.
    #[arg(long, default_value_t = 50)]
    events: usize,
    /// The server's process, to be weighed.
    #[arg(long)]
    pid: Option<u32>,
}

/// Events that have reached a watcher, and a bell for the last of them.
#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    expected: AtomicUsize,
    all: Notify,
}

impl Arrivals {
    fn add(&self, events: usize) {
        let count = self.count.fetch_add(events, Ordering::SeqCst) + events;
        if count >= self.expected.load(Ordering::SeqCst) {
            self.all.notify_one();
        }
    }
}

/// Gathers the crowd and sends events through it.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let target = Target::new(&arguments.server, &arguments.token)?;
    let started = Instant::now();
    let idle: Vec<_> = stream::iter(0..arguments.connections)
        .map(|_| async {
            let mut connection = target.connect().await?;
            connection
                .send(&Method::GET, "/version", "", Bytes::new())
                .await?;
            anyhow::Ok(connection)
        })
        .buffer_unordered(OPENERS)
        .try_collect()
        .await
        .context("opening connections")?;
    let opened = started.elapsed();
    let mut writer = target.connect().await?;
    // It may be there from an earlier run.
    let _ = writer.send(&Method::DELETE, ITEM, "", Bytes::new()).await;
    let body = json!({"metadata": {"name": "corvus-bench-crowd"}}).to_string();
    let collection = "/api/v1/namespaces/default/configmaps";
    writer
        .send(&Method::POST, collection, JSON, body.into())
        .await?;
    let arrivals = Arc::new(Arrivals::default());
    arrivals
        .expected
        .store(arguments.watchers, Ordering::SeqCst);
    let watchers: Vec<_> = stream::iter(0..arguments.watchers)
        .map(|_| watcher(&target, arrivals.clone()))
        .buffer_unordered(OPENERS)
        .try_collect()
        .await
        .context("opening watches")?;
    wait(&arrivals).await.context("the first events")?;
    let mut taken = Vec::with_capacity(arguments.events);
    for number in 0..arguments.events {
        arrivals
            .expected
            .fetch_add(arguments.watchers, Ordering::SeqCst);
        let body = json!({"data": {"n": number.to_string()}}).to_string();
        let sent = Instant::now();
        writer
            .send(
                &Method::PATCH,
                ITEM,
                "application/merge-patch+json",
                body.into(),
            )
            .await?;
        wait(&arrivals).await?;
        taken.push(sent.elapsed());
    }
    let middle = median(&mut taken);
    let mut line = json!({
        "bench": "crowd",
        "server": arguments.server,
        "idle_connections": idle.len(),
        "opened_ms": ms(opened),
        "watchers": watchers.len(),
        "to_all_median_ms": ms(middle),
        "to_all_longest_ms": ms(taken.last().copied().unwrap_or_default()),
    });
    if let Some(process) = arguments.pid {
        line["resident_mib"] = json!(weight(process)?.0);
    }
    for watcher in watchers {
        watcher.abort();
    }
    Ok(line)
}

async fn wait(arrivals: &Arrivals) -> anyhow::Result<()> {
    let all = async {
        while arrivals.count.load(Ordering::SeqCst) < arrivals.expected.load(Ordering::SeqCst) {
            arrivals.all.notified().await;
        }
    };
    if tokio::time::timeout(LIMIT, all).await.is_err() {
        bail!(
            "{} of {} events have arrived",
            arrivals.count.load(Ordering::SeqCst),
            arrivals.expected.load(Ordering::SeqCst)
        );
    }
    Ok(())
}

/// Opens one watch of the one object.
async fn watcher(
    target: &Target,
    arrivals: Arc<Arrivals>,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let path = "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dcorvus-bench-crowd";
    let mut connection = target.connect().await?;
    let mut body = connection
        .open(&Method::GET, path, "", Bytes::new())
        .await?;
    Ok(tokio::spawn(async move {
        // The connection lives as long as its watch.
        let _connection = connection;
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                arrivals.add(memchr::memchr_iter(b'\n', data).count());
            }
        }
    }))
}
