//! Keeps a cache equal to what the server has: list, watch, and start over where needed.
//!
//! The list comes as a stream of initial events where the server offers that, in pages otherwise. A watch that ends is
//! opened again where it stopped; "410 Gone" lists again. Failures back off.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ListOptions};
use crate::error::Error;
use crate::informer::Shared;
use crate::lines::Lines;
use crate::object::{Object, ObjectKey};
use crate::query::Query;
use crate::queue::Backoff;

/// client-go's reflector backoff.
pub(crate) const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(800),
    max: Duration::from_secs(30),
};
/// A resource that is not served most often is about to be: its definition was just created.
const NOT_SERVED_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(20),
    max: Duration::from_secs(5),
};
/// The server ends a watch after this long; it is opened again.
const WATCH_TIMEOUT_SECONDS: u32 = 290;
/// A watch that is silent for longer than the server may keep it open is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(WATCH_TIMEOUT_SECONDS as u64 + 30);

/// What of the metadata says who owns whom.
const OWNERSHIP: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
];
/// How often a cache lets go of what nobody looks at any more.
const TIDY_PERIOD: Duration = Duration::from_secs(30);

pub(crate) struct Reflector {
    pub api: Api,
    pub options: ListOptions,
    pub keep_managed_fields: bool,
    pub ownership_only: bool,
    pub shared: Arc<Shared>,
    pub stop: CancellationToken,
    /// The delays after failures.
    pub backoff: Backoff,
    /// Whether the server can stream the initial list; learned on the first refusal.
    pub streaming_list: bool,
}

/// How a watch ended.
enum End {
    /// Continue from the last version seen.
    Reopen,
    /// The last version seen is too old.
    Relist,
}

#[derive(Deserialize)]
struct WatchLine {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

impl Reflector {
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
            () = tidy_now_and_then(&shared) => {}
        }
        self.shared.stopped();
    }

    async fn follow(&mut self) {
        let mut failures = 0;
        let mut version: Option<String> = None;
        loop {
            let before = version.clone();
            match self.step(&mut version).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    if error.is_gone() {
                        version = None;
                    }
                    let backoff = if error.is_not_found() {
                        tracing::debug!(resource = %self.shared.resource, "not served yet");
                        NOT_SERVED_BACKOFF
                    } else {
                        tracing::warn!(resource = %self.shared.resource, %error, "watch failed");
                        self.backoff
                    };
                    // A watch that made progress before it broke starts the backoff anew.
                    failures = if version == before || version.is_none() {
                        failures + 1
                    } else {
                        1
                    };
                    tokio::time::sleep(self.spread(backoff.delay(failures - 1), failures)).await;
                }
            }
        }
    }

    /// One list or one watch.
    async fn step(&mut self, version: &mut Option<String>) -> Result<(), Error> {
        let Some(from) = version.clone() else {
            return self.list(version).await;
        };
        let query = Query {
            watch: true,
            resource_version: Some(&from),
            timeout_seconds: Some(WATCH_TIMEOUT_SECONDS),
            ..Query::default()
        };
        let body = self
            .api
            .watch_body(&self.shared.resource, &self.options, query)
            .await?;
        if let End::Relist = self.consume(Lines::new(body), version).await? {
            *version = None;
        }
        Ok(())
    }

    async fn consume(&self, mut lines: Lines, version: &mut Option<String>) -> Result<End, Error> {
        while let Some(line) = self.next_line(&mut lines).await? {
            match line.kind.as_str() {
                "ERROR" => {
                    let error = self.watch_error(&line.object);
                    if error.is_gone() {
                        return Ok(End::Relist);
                    }
                    return Err(error);
                }
                "BOOKMARK" => *version = Some(version_of(&line.object)),
                kind => {
                    *version = Some(version_of(&line.object));
                    let (key, object) = self.prepare(line.object);
                    self.shared.apply(kind == "DELETED", &key, Arc::new(object));
                }
            }
            self.shared.seen(version.as_deref());
        }
        Ok(End::Reopen)
    }

    async fn next_line(&self, lines: &mut Lines) -> Result<Option<WatchLine>, Error> {
        let operation = || format!("watch {}", self.shared.resource);
        let Ok(line) = tokio::time::timeout(SILENCE_LIMIT, lines.next()).await else {
            return Ok(None);
        };
        let Some(line) = line.map_err(|error| Error::from_kube(operation(), error))? else {
            return Ok(None);
        };
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|source| Error::Decode {
                what: format!("event of {}", operation()),
                source,
            })
    }

    fn watch_error(&self, status: &Value) -> Error {
        let operation = format!("watch {}", self.shared.resource);
        match Deserialize::deserialize(status) {
            Ok(status) => Error::Api {
                operation,
                status: Box::new(status),
            },
            Err(source) => Error::Decode {
                what: format!("error of {operation}"),
                source,
            },
        }
    }

    /// Fetches the whole set and tells what differs. A streamed list goes on as a watch until that ends.
    async fn list(&mut self, version: &mut Option<String>) -> Result<(), Error> {
        if self.streaming_list {
            match self.list_as_stream(version).await {
                // The stream ended before it was complete, or the server does not stream: it refuses the parameters, or
                // says that its etcd is too old. A plain list shows which; one that goes well is asked for from now on.
                Ok(()) if version.is_none() => {}
                Err(error) if version.is_none() && may_list_plainly(&error) => {}
                outcome => return outcome,
            }
        }
        let list = self.api.list(&self.shared.resource, &self.options).await?;
        self.streaming_list = false;
        let objects = list
            .items
            .into_iter()
            .map(|item| self.prepare(item.into_value()))
            .map(|(key, object)| (key, Arc::new(object.folded())))
            .collect();
        self.shared.replace(objects, &list.resource_version);
        *version = Some(list.resource_version);
        Ok(())
    }

    async fn list_as_stream(&self, version: &mut Option<String>) -> Result<(), Error> {
        let query = Query {
            watch: true,
            send_initial_events: true,
            timeout_seconds: Some(WATCH_TIMEOUT_SECONDS),
            ..Query::default()
        };
        let body = self
            .api
            .watch_body(&self.shared.resource, &self.options, query)
            .await?;
        let mut lines = Lines::new(body);
        let mut objects = Vec::new();
        while let Some(line) = self.next_line(&mut lines).await? {
            match line.kind.as_str() {
                "ADDED" | "MODIFIED" => {
                    let (key, object) = self.prepare(line.object);
                    // All are held until the list is complete: small, then.
                    objects.push((key, Arc::new(object.folded())));
                }
                "BOOKMARK" if ends_initial_events(&line.object) => {
                    let listed = version_of(&line.object);
                    self.shared.replace(objects, &listed);
                    *version = Some(listed);
                    return match self.consume(lines, version).await? {
                        End::Reopen => Ok(()),
                        End::Relist => Err(Error::gone(&self.shared.resource)),
                    };
                }
                "ERROR" => return Err(self.watch_error(&line.object)),
                _ => {}
            }
        }
        Ok(())
    }

    fn prepare(&self, mut value: Value) -> (ObjectKey, Object) {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            if self.ownership_only {
                metadata.retain(|field, _| OWNERSHIP.contains(&field.as_str()));
            } else if !self.keep_managed_fields {
                metadata.remove("managedFields");
            }
        }
        let object = Object::new(value);
        (object.key(), object)
    }

    /// Moves delays of different informers apart, by up to half; the same every time for the same informer.
    fn spread(&self, delay: Duration, attempt: u32) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.shared.resource, &self.options, attempt).hash(&mut hasher);
        let part = (hasher.finish() % 1024) as u32;
        delay + delay / 2048 * part
    }
}

async fn tidy_now_and_then(shared: &Shared) {
    loop {
        tokio::time::sleep(TIDY_PERIOD).await;
        shared.tidy();
    }
}

/// Whether a list may go well where streaming it did not: the server has said something, and not that nothing goes.
fn may_list_plainly(error: &Error) -> bool {
    let code = error.status().map(|status| status.code);
    code.is_some_and(|code| !matches!(code, 401 | 403 | 404 | 410 | 429))
}

fn version_of(object: &Value) -> String {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn ends_initial_events(bookmark: &Value) -> bool {
    bookmark
        .pointer("/metadata/annotations/k8s.io~1initial-events-end")
        .and_then(Value::as_str)
        == Some("true")
}
