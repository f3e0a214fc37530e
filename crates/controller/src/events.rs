//! Records Events about objects, without ever holding up a reconcile.
//!
//! Repetitions within ten minutes raise the count of the Event there is, as client-go's correlator does. Events are
//! written by one task behind a bounded channel; what does not fit is dropped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Subresource};
use crate::clock::{Clock, SystemClock};
use crate::object::{Object, ObjectKey};
use crate::resource::Resource;

const QUEUE_LENGTH: usize = 1024;
/// Matches client-go's aggregation interval.
const AGGREGATE_WITHIN: Duration = Duration::from_mins(10);
/// Remembered series; more than that starts new Events.
const SERIES_LIMIT: usize = 4096;
/// How often series that are over are looked for: not with every Event of a burst.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// Matches the API server's limit of an Event's message.
const MESSAGE_LENGTH_LIMIT: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Series {
    uid: String,
    type_: &'static str,
    reason: String,
    message: String,
}

struct Record {
    component: Arc<str>,
    series: Series,
    involved: Value,
    key: ObjectKey,
}

/// Records Events; clones write through the same task.
#[derive(Clone)]
pub struct EventRecorder {
    component: Arc<str>,
    sender: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// A recorder for `component`, and its task, which ends with `shutdown`.
    pub fn new(
        api: Api,
        component: impl Into<String>,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        Self::with_clock(api, component, shutdown, Arc::new(SystemClock))
    }

    /// The same with a given clock.
    pub fn with_clock(
        api: Api,
        component: impl Into<String>,
        shutdown: CancellationToken,
        clock: Arc<dyn Clock>,
    ) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        let writer = Writer {
            api,
            clock,
            series: HashMap::new(),
            tidied: Instant::now(),
        };
        let task = tokio::spawn(writer.run(receiver, shutdown));
        (
            Self {
                component: component.into().into(),
                sender,
                dropped: Arc::default(),
            },
            task,
        )
    }

    /// The same recorder in the name of another component.
    pub fn for_component(&self, component: &str) -> Self {
        Self {
            component: component.into(),
            ..self.clone()
        }
    }

    /// Says that something went as it should.
    pub fn normal(&self, object: &Object, reason: &str, message: impl Into<String>) {
        self.record("Normal", object, reason, message.into());
    }

    /// Says that something went wrong.
    pub fn warning(&self, object: &Object, reason: &str, message: impl Into<String>) {
        self.record("Warning", object, reason, message.into());
    }

    fn record(&self, type_: &'static str, object: &Object, reason: &str, mut message: String) {
        if message.len() > MESSAGE_LENGTH_LIMIT {
            let end = message.floor_char_boundary(MESSAGE_LENGTH_LIMIT - 3);
            message.truncate(end);
            message.push_str("...");
        }
        let involved = json!({
            "apiVersion": object.api_version(),
            "kind": object.kind(),
            "name": object.name(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
        });
        let series = Series {
            uid: object.uid().to_owned(),
            type_,
            reason: reason.to_owned(),
            message,
        };
        let record = Record {
            component: Arc::clone(&self.component),
            series,
            involved,
            key: object.key(),
        };
        if self.sender.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many Events were dropped because too many were waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Known {
    key: ObjectKey,
    count: u64,
    last: Instant,
}

struct Writer {
    api: Api,
    clock: Arc<dyn Clock>,
    series: HashMap<Series, Known>,
    /// When series that are over were last forgotten.
    tidied: Instant,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<Record>, shutdown: CancellationToken) {
        loop {
            let record = tokio::select! {
                () = shutdown.cancelled() => return,
                record = records.recv() => record,
            };
            let Some(record) = record else { return };
            if let Err(error) = self.write(record).await {
                tracing::debug!(%error, "event not recorded");
            }
        }
    }

    async fn write(&mut self, record: Record) -> Result<(), crate::error::Error> {
        let events = Resource::namespaced("v1", "events", "Event");
        let now = self.clock.now_text();
        let at = Instant::now();
        let is_live = |known: &Known| at.duration_since(known.last) < AGGREGATE_WITHIN;
        if at.duration_since(self.tidied) >= TIDY_EVERY {
            self.tidied = at;
            self.series.retain(|_, known| is_live(known));
        }
        let found = self.series.get_mut(&record.series);
        if let Some(known) = found.filter(|known| is_live(known)) {
            known.count += 1;
            known.last = at;
            let patch = json!({"count": known.count, "lastTimestamp": now});
            let key = known.key.clone();
            match self
                .api
                .merge_patch(&events, &key, Subresource::None, &patch)
                .await
            {
                // It expired; a new one starts the series again.
                Err(error) if error.is_not_found() => self.series.remove(&record.series),
                answer => return answer.map(drop),
            };
        }
        // Events about cluster-scoped objects live in `default`, as upstream's do.
        let namespace = record.key.namespace().unwrap_or("default").to_owned();
        let nanoseconds = self.clock.now().as_nanosecond();
        let name = format!("{}.{nanoseconds:x}", record.key.name);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": record.involved,
            "type": record.series.type_,
            "reason": record.series.reason,
            "message": record.series.message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": &*record.component},
            "reportingComponent": &*record.component,
            "reportingInstance": "",
        });
        self.api.create(&events, &event).await?;
        if self.series.len() < SERIES_LIMIT {
            let key = ObjectKey::new(namespace, name);
            self.series.insert(
                record.series,
                Known {
                    key,
                    count: 1,
                    last: Instant::now(),
                },
            );
        }
        Ok(())
    }
}
