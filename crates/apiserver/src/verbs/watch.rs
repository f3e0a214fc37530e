//! `watch`: a stream of changes.
//!
//! The stream pulls from the store as the client reads, so a client that does not read holds nothing;
//! when it has fallen out of the store's window it is told so (410) and the stream ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use model::{FieldError, FieldPath, Reason, Status};
use rand::Rng as _;
use serde_json::{Value, json};
use store::{Entry, Error, Event, EventKind, ListOptions, Revision, Watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::get::metadata_only;
use super::list::{check_not_ahead, parse_version};
use crate::body::Body;
use crate::catalog::Definition;
use crate::context::Context;
use crate::media::{Encoding, Shape};
use crate::selection::Selection;
use crate::server::State;
use crate::{envelope, respond, table};

/// How often a bookmark is sent where the client allows them. Upstream: about a minute.
const BOOKMARK_PERIOD: Duration = Duration::from_mins(1);
/// Shortest life of a watch that names no timeout; the longest is twice as long. As upstream.
const TIMEOUT_MIN: Duration = Duration::from_mins(30);

/// `GET` with `watch`.
pub fn watch(context: &Context) -> Result<Response<Body>, Status> {
    let selection = Selection::of(context)?;
    let start = Start::of(context)?;
    let timeout = match context.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds as u64),
        _ => TIMEOUT_MIN.mul_f64(rand::rng().random_range(1.0..2.0)),
    };
    let prefix = context.definition.prefix(context.path.namespace.as_deref());
    let encoding = context.accept.encoding;
    let frames = Frames {
        definition: context.definition.clone(),
        shape: context.accept.shape,
        encoding,
        columns_sent: false,
        include: table::Include::of(&context.query)?,
        clock: context.state.options.clock.clone(),
    };
    let session = match open(context, &prefix, &start, &selection, frames) {
        Ok(session) => session,
        // As upstream: the stream opens and its first event says that the revision is too old.
        Err(Error::Compacted { requested, oldest }) => {
            let line = error_frame(encoding, &expired(requested, oldest));
            return Ok(streaming(encoding, Body::whole(line)));
        }
        Err(other) => return Err(Status::internal(other)),
    };
    let session = session.until(Instant::now() + timeout);
    let body = Body::stream(stream::unfold(session, |mut session| async move {
        session.next().await.map(|frame| (frame, session))
    }));
    Ok(streaming(encoding, body))
}

fn streaming(encoding: Encoding, body: Body) -> Response<Body> {
    let media_type = match encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        other => other.media_type(),
    };
    respond::with_body(200, media_type, body)
}

fn expired(requested: Revision, oldest: Revision) -> Status {
    Status::new(
        Reason::Expired,
        format!("too old resource version: {requested} ({oldest})"),
    )
}

/// Where a watch begins.
struct Start {
    /// After this revision; `None`: with all that is there now.
    after: Option<Revision>,
    /// Whether the end of what was there is to be marked.
    mark_initial: bool,
    bookmarks: bool,
}

impl Start {
    fn of(context: &Context) -> Result<Self, Status> {
        let query = &context.query;
        let bookmarks = query.flag("allowWatchBookmarks");
        let version = query.get("resourceVersion");
        let rule = query.get("resourceVersionMatch");
        let initial = query
            .get("sendInitialEvents")
            .map(|_| query.flag("sendInitialEvents"));
        check_rule(initial, rule)?;
        let revision = version.map(parse_version).transpose()?;
        let mark_initial = initial == Some(true);
        if mark_initial && let Some(revision) = revision {
            check_not_ahead(revision, context.state.store.revision())?;
        }
        let after = match (initial, revision) {
            (Some(true), _) => None,
            (Some(false), None) => Some(context.state.store.revision()),
            (_, None) => None,
            (Some(false), Some(Revision(0))) => Some(context.state.store.revision()),
            (_, Some(Revision(0))) => None,
            (_, Some(revision)) => Some(revision),
        };
        Ok(Self {
            after,
            mark_initial: mark_initial && bookmarks,
            bookmarks,
        })
    }
}

/// The combinations of `sendInitialEvents` and `resourceVersionMatch` that upstream refuses.
fn check_rule(initial: Option<bool>, rule: Option<&str>) -> Result<(), Status> {
    let path = FieldPath::new("resourceVersionMatch");
    let error = match (initial, rule) {
        (Some(_), None) => FieldError::forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), Some(rule)) if rule != "NotOlderThan" => {
            FieldError::not_supported(&path, rule, &["NotOlderThan"])
        }
        (None, Some(_)) => FieldError::forbidden(
            &path,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        _ => return Ok(()),
    };
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
}

fn open(
    context: &Context,
    prefix: &str,
    start: &Start,
    selection: &Selection,
    mut frames: Frames,
) -> Result<Session, Error> {
    let store = &context.state.store;
    let mut waiting = VecDeque::new();
    let watch = if let Some(after) = start.after {
        store.watch(prefix, after)?
    } else {
        let listing = store.list(prefix, &ListOptions::default())?;
        for entry in listing
            .entries
            .iter()
            .filter(|entry| selection.selects(entry))
        {
            waiting.push_back(frames.frame("ADDED", entry));
        }
        if start.mark_initial {
            waiting.push_back(Frame::Ready(frames.bookmark(listing.revision, true)));
        }
        store.watch(prefix, listing.revision)?
    };
    let mut ticks = tokio::time::interval_at(Instant::now() + BOOKMARK_PERIOD, BOOKMARK_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Session {
        state: context.state.clone(),
        selection: Selection::of(context).map_err(|_| Error::Closed)?,
        watch,
        frames,
        waiting,
        bookmarks: start.bookmarks.then_some(ticks),
        deadline: Instant::now(),
        ended: false,
    })
}

/// What is to be sent next.
enum Frame {
    /// This.
    Ready(Bytes),
    /// An event about this object, once a webhook has made the right version of it.
    Unconverted(&'static str, Value),
}

/// One running watch.
struct Session {
    state: Arc<State>,
    selection: Selection,
    watch: Watch,
    frames: Frames,
    waiting: VecDeque<Frame>,
    bookmarks: Option<Interval>,
    deadline: Instant,
    ended: bool,
}

impl Session {
    fn until(mut self, deadline: Instant) -> Self {
        self.deadline = deadline;
        self
    }

    /// The next frame; none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.waiting.pop_front() {
                Some(Frame::Ready(frame)) => return Some(frame),
                Some(Frame::Unconverted(kind, mut value)) => {
                    let definition = self.frames.definition.clone();
                    return Some(match definition.read(&self.state, &mut value).await {
                        Ok(()) => self.frames.presented(kind, value),
                        Err(status) => error_frame(self.frames.encoding, &status),
                    });
                }
                None => {}
            }
            if self.ended {
                return None;
            }
            let tick = async {
                match &mut self.bookmarks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                events = self.watch.next() => self.take(events),
                _ = tick => {
                    let position = self.watch.position();
                    let frame = self.frames.bookmark(position, false);
                    self.waiting.push_back(Frame::Ready(frame));
                }
                () = tokio::time::sleep_until(self.deadline) => self.ended = true,
                () = self.state.shutdown.cancelled() => self.ended = true,
            }
        }
    }

    fn take(&mut self, events: Result<Vec<Arc<Event>>, Error>) {
        match events {
            Ok(events) => {
                for event in events {
                    let frame = self.translate(&event);
                    self.waiting.extend(frame);
                }
            }
            Err(error) => {
                let status = match error {
                    Error::Compacted { requested, oldest } => expired(requested, oldest),
                    other => Status::internal(other),
                };
                let frame = error_frame(self.frames.encoding, &status);
                self.waiting.push_back(Frame::Ready(frame));
                self.ended = true;
            }
        }
    }

    /// A change as this watch sees it: an object that enters the selection is added, one that leaves
    /// it is deleted, with the content it had when it was selected.
    fn translate(&mut self, event: &Event) -> Option<Frame> {
        let before = event
            .previous
            .as_ref()
            .filter(|entry| self.selection.selects(entry));
        let after = (event.kind != EventKind::Deleted && self.selection.selects(&event.entry))
            .then_some(&event.entry);
        match (before, after) {
            (None, None) => None,
            (None, Some(entry)) => Some(self.frames.frame("ADDED", entry)),
            (Some(_), Some(entry)) => Some(self.frames.frame("MODIFIED", entry)),
            (Some(_), None) if event.kind == EventKind::Deleted => {
                Some(self.frames.frame("DELETED", &event.entry))
            }
            (Some(previous), None) => Some(self.frames.left(previous, event.revision())),
        }
    }
}

/// How events are written for one client.
struct Frames {
    definition: Arc<Definition>,
    shape: Shape,
    encoding: Encoding,
    columns_sent: bool,
    include: table::Include,
    clock: crate::Clock,
}

impl Frames {
    fn frame(&mut self, kind: &'static str, entry: &Entry) -> Frame {
        let stored = self.definition.serves_as_stored(entry);
        if self.shape == Shape::Object && self.encoding == Encoding::Json && stored {
            return Frame::Ready(line(kind, entry.bytes()));
        }
        match envelope::decode(entry) {
            Ok(value) => self.value(kind, value),
            Err(status) => Frame::Ready(error_frame(self.encoding, &status)),
        }
    }

    /// An object that left the selection: what it was, at the revision at which it left.
    fn left(&mut self, previous: &Entry, revision: Revision) -> Frame {
        match envelope::decode(previous) {
            Ok(mut value) => {
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                self.value("DELETED", value)
            }
            Err(status) => Frame::Ready(error_frame(self.encoding, &status)),
        }
    }

    fn value(&mut self, kind: &'static str, mut value: Value) -> Frame {
        if self.definition.needs_webhook(&value) {
            return Frame::Unconverted(kind, value);
        }
        self.definition.present(&mut value);
        Frame::Ready(self.presented(kind, value))
    }

    /// An event about an object in the right version.
    fn presented(&mut self, kind: &str, value: Value) -> Bytes {
        let shaped = match self.shape {
            Shape::Table(version) => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                let now = (self.clock)();
                table::event(
                    &self.definition,
                    version,
                    self.include,
                    value,
                    with_columns,
                    now,
                )
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                metadata_only(&value, version)
            }
            Shape::Object | Shape::AggregatedDiscovery(_) => value,
        };
        event(self.encoding, kind, &shaped)
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let kind = &self.definition.kind;
        let mut object = json!({
            "kind": kind.kind,
            "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shaped = match self.shape {
            Shape::Table(version) => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                // As upstream: a row like any other, of an object that has almost nothing.
                table::event(
                    &self.definition,
                    version,
                    self.include,
                    object,
                    with_columns,
                    (self.clock)(),
                )
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                metadata_only(&object, version)
            }
            Shape::Object | Shape::AggregatedDiscovery(_) => object,
        };
        event(self.encoding, "BOOKMARK", &shaped)
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    Bytes::from(frame)
}

fn event(encoding: Encoding, kind: &str, object: &Value) -> Bytes {
    if encoding != Encoding::Protobuf {
        return line(kind, object.to_string().as_bytes());
    }
    match protobuf::encode_event(kind, object) {
        Ok(frame) => Bytes::from(frame),
        Err(error) => {
            tracing::error!(%error, "an event that has no protobuf encoding");
            Bytes::new()
        }
    }
}

fn error_frame(encoding: Encoding, status: &Status) -> Bytes {
    event(encoding, "ERROR", &status.to_value())
}
