//! Group commit: many writers, one durable batch.
//!
//! Writers queue; one thread takes all that is queued, checks each write against the state the
//! earlier ones of the batch will leave, numbers the good ones, makes the whole batch durable with
//! one sync, shows it to readers and only then acknowledges. While a batch is being synced the next
//! one gathers, so throughput grows with the number of writers and latency stays near that of a sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use parking_lot::RwLock;
use tokio::sync::oneshot;

use crate::backup::Snapshot;
use crate::entry::{Entry, Revision};
use crate::index::{Event, EventKind, Index, check};
use crate::{Change, Error, Result, Write};

/// Most writes in one batch.
const BATCH_WRITES_MAX: usize = 4_096;
/// Most writes that may wait; a writer beyond that is told so instead of growing the queue.
pub const QUEUE_WRITES_MAX: usize = 65_536;

/// Where batches are made durable.
pub trait Log: Send + 'static {
    /// Makes all of a batch durable, or none of it.
    fn append(&mut self, batch: &[Arc<Event>]) -> Result<()>;

    /// Whether a batch would be made durable now; after a failure, by trying.
    fn probe(&mut self) -> Result<()>;

    /// Makes all of a backup durable, at its revision.
    fn import(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// What the committer is asked for.
pub enum Request {
    /// A write, and who waits for it.
    Write(Waiting),
    /// Whether writes are taken, and who asks.
    Probe(oneshot::Sender<Result<()>>),
    /// All of a backup, into an empty store.
    Import {
        /// The backup.
        snapshot: Snapshot,
        /// Who waits.
        reply: std::sync::mpsc::Sender<Result<()>>,
    },
}

/// A write and who waits for it.
pub struct Waiting {
    write: Write,
    reply: oneshot::Sender<Result<Arc<Entry>>>,
}

/// The queue's entrance.
pub type Queue = SyncSender<Request>;

/// Queues a write; the answer comes once it is durable.
pub fn submit(queue: &Queue, write: Write) -> oneshot::Receiver<Result<Arc<Entry>>> {
    let (reply, answer) = oneshot::channel();
    if let Err(refused) = queue.try_send(Request::Write(Waiting { write, reply })) {
        let (request, error) = match refused {
            TrySendError::Full(request) => {
                let message = format!("{QUEUE_WRITES_MAX} writes are waiting already");
                (
                    request,
                    Error::Disk {
                        operation: "queue",
                        message,
                    },
                )
            }
            TrySendError::Disconnected(request) => (request, Error::Closed),
        };
        if let Request::Write(waiting) = request {
            // Who asked may be gone; then nobody needs the answer.
            let _ = waiting.reply.send(Err(error));
        }
    }
    answer
}

/// Takes batches from the queue until every sender is gone.
pub fn run(queue: &Receiver<Request>, index: &RwLock<Index>, log: &mut dyn Log) {
    while let Ok(first) = queue.recv() {
        let mut writes = Vec::new();
        let rest = queue.try_iter().take(BATCH_WRITES_MAX - 1);
        for request in std::iter::once(first).chain(rest) {
            match request {
                Request::Write(waiting) => writes.push(waiting),
                Request::Probe(reply) => {
                    // Who asked may be gone; then nobody needs the answer.
                    let _ = reply.send(log.probe());
                }
                Request::Import { snapshot, reply } => {
                    let outcome = import(snapshot, index, log);
                    // Who asked may be gone; then nobody needs the answer.
                    let _ = reply.send(outcome);
                }
            }
        }
        commit(writes, index, log);
    }
}

fn import(snapshot: Snapshot, index: &RwLock<Index>, log: &mut dyn Log) -> Result<()> {
    log.import(&snapshot)?;
    let mut restored = Index::at(snapshot.revision);
    for entry in snapshot.entries {
        restored.load(entry);
    }
    index.write().replace(restored);
    Ok(())
}

fn commit(requests: Vec<Waiting>, index: &RwLock<Index>, log: &mut dyn Log) {
    let mut batch = Batch::new(index);
    let mut waiting = Vec::with_capacity(requests.len());
    for request in requests {
        waiting.push((request.reply, batch.add(request.write)));
    }
    let outcome = if batch.events.is_empty() {
        Ok(())
    } else {
        log.append(&batch.events)
    };
    if outcome.is_ok() {
        let mut index = index.write();
        for event in batch.events {
            index.apply(event);
        }
    }
    // Refusals wait as well: what a write has lost to may be part of this batch, and nobody may learn
    // of it before it can be read, or where it comes to nothing.
    for (reply, answer) in waiting {
        let _ = reply.send(outcome.clone().and(answer));
    }
}

/// Writes that will become durable together.
pub struct Batch<'a> {
    index: &'a RwLock<Index>,
    revision: Revision,
    /// What the batch leaves at each key it touches.
    pending: HashMap<Arc<str>, Option<Arc<Entry>>>,
    /// The changes, numbered.
    pub events: Vec<Arc<Event>>,
}

impl<'a> Batch<'a> {
    /// An empty batch on top of the current state. Only one batch may be in the making at a time.
    pub fn new(index: &'a RwLock<Index>) -> Self {
        let revision = index.read().revision();
        Self {
            index,
            revision,
            pending: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// Checks and numbers one write.
    pub fn add(&mut self, write: Write) -> Result<Arc<Entry>> {
        let Write {
            key,
            expect,
            change,
        } = write;
        let previous = match self.pending.get(&key) {
            Some(pending) => pending.clone(),
            None => self.index.read().get(&key).cloned(),
        };
        check(&key, previous.as_ref(), expect)?;
        let revision = self.revision.next();
        let (kind, document) = match (change, &previous) {
            (Change::Put(document), None) => (EventKind::Created, document),
            (Change::Put(document), Some(_)) => (EventKind::Updated, document),
            (Change::Delete(document), Some(_)) => (EventKind::Deleted, document),
            (Change::Delete(_), None) => return Err(Error::Conflict { key, current: None }),
        };
        let created = previous.as_ref().map_or(revision, |entry| entry.created());
        let entry = Arc::new(Entry::new(
            key.clone(),
            created,
            revision,
            document.finish(revision),
        ));
        self.revision = revision;
        self.pending
            .insert(key, (kind != EventKind::Deleted).then(|| entry.clone()));
        self.events.push(Arc::new(Event {
            kind,
            entry: entry.clone(),
            previous,
        }));
        Ok(entry)
    }
}
