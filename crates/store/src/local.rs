//! The store of one process: the index, and the committer in front of it.

use std::sync::Arc;
use std::thread::JoinHandle;

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::backup::Snapshot;
use crate::committer::{self, Batch, Log, QUEUE_WRITES_MAX, Queue};
use crate::entry::{Entry, Revision};
use crate::index::{Index, Listing};
use crate::watch::Watch;
use crate::{Error, ListOptions, Result, Stats, Store, Write};

/// A store whose state lives in this process.
#[derive(Debug)]
pub struct LocalStore {
    index: Arc<RwLock<Index>>,
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    /// Nothing is durable: writes happen at once, one after another.
    Memory(Mutex<()>),
    /// Writes go through the committer thread.
    Durable {
        queue: Mutex<Option<Queue>>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
}

/// A store that forgets everything when it is dropped.
pub fn memory() -> LocalStore {
    LocalStore {
        index: Arc::new(RwLock::new(Index::default())),
        writer: Writer::Memory(Mutex::new(())),
    }
}

impl LocalStore {
    /// Takes over all of a backup at its revisions; the store must be empty.
    pub(crate) fn import(&self, snapshot: Snapshot) -> Result<()> {
        let (reply, answer) = std::sync::mpsc::channel();
        let request = committer::Request::Import { snapshot, reply };
        if let Writer::Durable { queue, .. } = &self.writer
            && let Some(queue) = &*queue.lock()
        {
            queue.send(request).map_err(|_| Error::Closed)?;
        }
        answer.recv().map_err(|_| Error::Closed)?
    }

    /// A store over a loaded index, durable through `log`.
    pub(crate) fn durable(index: Index, mut log: impl Log) -> Result<Self> {
        let index = Arc::new(RwLock::new(index));
        let (queue, requests) = std::sync::mpsc::sync_channel(QUEUE_WRITES_MAX);
        let shared = index.clone();
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer::run(&requests, &shared, &mut log))
            .map_err(|error| Error::Disk {
                operation: "start",
                message: error.to_string(),
            })?;
        let writer = Writer::Durable {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { index, writer })
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for LocalStore {
    fn revision(&self) -> Revision {
        self.index.read().revision()
    }

    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.index.read().get(key).cloned()
    }

    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Listing> {
        self.index.read().list(prefix, options)
    }

    fn count(&self, prefix: &str) -> usize {
        self.index.read().count(prefix)
    }

    fn commit(&self, write: Write) -> BoxFuture<'static, Result<Arc<Entry>>> {
        match &self.writer {
            Writer::Memory(turn) => {
                let _turn = turn.lock();
                let mut batch = Batch::new(&self.index);
                let outcome = batch.add(write);
                let events = batch.events;
                let mut index = self.index.write();
                for event in events {
                    index.apply(event);
                }
                future::ready(outcome).boxed()
            }
            Writer::Durable { queue, .. } => match &*queue.lock() {
                None => future::ready(Err(Error::Closed)).boxed(),
                Some(queue) => {
                    let answer = committer::submit(queue, write);
                    async move { answer.await.unwrap_or(Err(Error::Closed)) }.boxed()
                }
            },
        }
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        Watch::new(self.index.clone(), prefix, after)
    }

    fn compact(&self, up_to: Revision) {
        self.index.write().compact(up_to);
    }

    fn health(&self) -> BoxFuture<'static, Result<()>> {
        let Writer::Durable { queue, .. } = &self.writer else {
            return future::ready(Ok(())).boxed();
        };
        let (reply, answer) = oneshot::channel();
        let asked = match &*queue.lock() {
            None => Err(Error::Closed),
            // A queue that is full is one that moves: whether it does shows in the writes' answers.
            Some(queue) => queue
                .try_send(committer::Request::Probe(reply))
                .map_err(|error| Error::Disk {
                    operation: "queue",
                    message: error.to_string(),
                }),
        };
        async move {
            asked?;
            answer.await.unwrap_or(Err(Error::Closed))
        }
        .boxed()
    }

    fn stats(&self) -> Stats {
        self.index.read().stats()
    }

    fn snapshot(&self) -> Snapshot {
        self.index.read().snapshot()
    }

    fn close(&self) {
        if let Writer::Durable { queue, thread } = &self.writer {
            drop(queue.lock().take());
            if let Some(thread) = thread.lock().take()
                && thread.join().is_err()
            {
                tracing::error!("the committer thread had panicked");
            }
        }
    }
}
