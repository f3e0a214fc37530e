//! `watch`: a stream of changes.
//!
//! The stream pulls from the store as the client reads, so a client that does not read holds nothing;
//! when it has fallen out of the store's window it is told so (410) and the stream ends. What is there
//! at the beginning is held as references to the stored objects, and written when it is read.

mod frames;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use model::{FieldError, FieldPath, Reason, Status};
use rand::Rng as _;
use store::{Entry, Error, Event, EventKind, ListOptions, Revision, Watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use frames::Frames;

use super::list::{check_not_ahead, parse_version};
use crate::body::Body;
use crate::context::Context;
use crate::media::Encoding;
use crate::metrics::{Running, Sent};
use crate::selection::Selection;
use crate::server::State;
use crate::{respond, table};

/// How often a bookmark is sent where the client allows them. Upstream: about a minute.
const BOOKMARK_PERIOD: Duration = Duration::from_mins(1);
/// Shortest life of a watch that names no timeout; the longest is twice as long. As upstream.
const TIMEOUT_MIN: Duration = Duration::from_mins(30);

/// Events that are there together are sent together, in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces follow each other no faster than this. The first event after a pause is sent at once; in a
/// burst, what comes within the time is sent as one piece: many watches of a busy resource spend most
/// of their work on waking and on packets, not on events.
const PIECE_PERIOD: Duration = Duration::from_millis(2);

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
        state: context.state.clone(),
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
            let mut line = Vec::new();
            frames::error(encoding, &expired(requested, oldest), &mut line);
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
    frames: Frames,
) -> Result<Session, Error> {
    let store = &context.state.store;
    let (mut initial, mut mark) = (Vec::new(), None);
    let watch = if let Some(after) = start.after {
        store.watch(prefix, after)?
    } else {
        let listing = store.list(prefix, &ListOptions::default())?;
        initial = listing.entries;
        initial.retain(|entry| selection.selects(entry));
        mark = start.mark_initial.then_some(listing.revision);
        store.watch(prefix, listing.revision)?
    };
    let mut ticks = tokio::time::interval_at(Instant::now() + BOOKMARK_PERIOD, BOOKMARK_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (running, sent) = context
        .state
        .metrics
        .watch(&context.definition, context.namespace());
    Ok(Session {
        state: context.state.clone(),
        selection: Selection::of(context).map_err(|_| Error::Closed)?,
        watch,
        frames,
        initial: initial.into_iter(),
        mark,
        events: VecDeque::new(),
        out: Vec::new(),
        bookmarks: start.bookmarks.then_some(ticks),
        deadline: Instant::now(),
        ended: false,
        quiet_until: None,
        sent,
        _running: running,
    })
}

/// One running watch.
struct Session {
    state: Arc<State>,
    selection: Selection,
    watch: Watch,
    frames: Frames,
    /// What was there at the beginning and is not written yet.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The end of which is to be marked, once.
    mark: Option<Revision>,
    /// Changes that are not written yet.
    events: VecDeque<Arc<Event>>,
    /// What is written and not sent yet.
    out: Vec<u8>,
    bookmarks: Option<Interval>,
    deadline: Instant,
    ended: bool,
    /// Until when what comes is gathered instead of sent at once.
    quiet_until: Option<Instant>,
    sent: Sent,
    _running: Running,
}

impl Session {
    fn until(mut self, deadline: Instant) -> Self {
        self.deadline = deadline;
        self
    }

    /// The next piece, of one event or of several that are there already; none when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.write().await;
            if self.gather().await {
                continue;
            }
            if !self.out.is_empty() {
                self.quiet_until = Some(Instant::now() + PIECE_PERIOD);
                return Some(Bytes::from(std::mem::take(&mut self.out)));
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
                    self.frames.bookmark(position, false, &mut self.out);
                }
                () = tokio::time::sleep_until(self.deadline) => self.ended = true,
                () = self.state.shutdown.cancelled() => self.ended = true,
            }
        }
    }

    /// Waits for more to send along, once for each piece that would follow another closely; whether it
    /// has.
    async fn gather(&mut self) -> bool {
        let is_full = self.out.len() >= PIECE_BYTES || self.initial.len() > 0;
        if self.out.is_empty() || is_full || self.ended {
            return false;
        }
        let Some(until) = self.quiet_until.take() else {
            return false;
        };
        if until <= Instant::now() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.state.shutdown.cancelled() => {}
        }
        let events = self.watch.poll_now();
        self.take(events);
        true
    }

    /// Writes what waits, up to about a piece.
    async fn write(&mut self) {
        let before = self.initial.len() + self.events.len();
        self.write_piece().await;
        let written = before - (self.initial.len() + self.events.len());
        if written > 0 {
            self.sent.add(written as u64);
        }
    }

    async fn write_piece(&mut self) {
        while self.out.len() < PIECE_BYTES {
            if let Some(entry) = self.initial.next() {
                self.frames.object("ADDED", &entry, &mut self.out).await;
            } else if let Some(revision) = self.mark.take() {
                self.frames.bookmark(revision, true, &mut self.out);
            } else if let Some(event) = self.events.pop_front() {
                self.translate(&event).await;
            } else {
                return;
            }
        }
    }

    fn take(&mut self, events: Result<Vec<Arc<Event>>, Error>) {
        match events {
            Ok(events) => self.events = events.into(),
            Err(error) => {
                let status = match error {
                    Error::Compacted { requested, oldest } => expired(requested, oldest),
                    other => Status::internal(other),
                };
                frames::error(self.frames.encoding, &status, &mut self.out);
                self.ended = true;
            }
        }
    }

    /// Writes a change as this watch sees it: an object that enters the selection is added, one that
    /// leaves it is deleted, with the content it had when it was selected.
    async fn translate(&mut self, event: &Event) {
        let before = event
            .previous
            .as_ref()
            .filter(|entry| self.selection.selects(entry));
        let after = (event.kind != EventKind::Deleted && self.selection.selects(&event.entry))
            .then_some(&event.entry);
        let (frames, out) = (&mut self.frames, &mut self.out);
        match (before, after) {
            (None, None) => {}
            (None, Some(entry)) => frames.object("ADDED", entry, out).await,
            (Some(_), Some(entry)) => frames.object("MODIFIED", entry, out).await,
            (Some(_), None) if event.kind == EventKind::Deleted => {
                frames.object("DELETED", &event.entry, out).await;
            }
            (Some(previous), None) => frames.left(previous, event.revision(), out).await,
        }
    }
}
