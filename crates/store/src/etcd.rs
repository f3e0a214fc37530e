//! The etcd engine: several servers share one etcd, and each answers from its own memory.
//!
//! etcd numbers the changes (its revision is ours) and decides who was first; a watch of everything
//! brings each change into the same in-memory index the other engines have. So reads, lists and
//! watches never ask etcd for objects. What they do ask, through [`Store::barrier`], is how far etcd is,
//! and they wait until this index is as far: a list is as fresh as if etcd had answered it.
//!
//! ```text
//! commit --> txn: only where the key is at the revision the writer saw --> wait for our own watch
//! etcd --watch--> index --> get, list, watch
//! ```
//!
//! It speaks to etcd through its HTTP gateway: plain JSON, no code generation. All keys are watched, as
//! only a watch of everything tells how far etcd is; give Corvus an etcd of its own.
//!
//! Left out: TLS towards etcd, and etcd's own users; run it on the same machine or a private network.

mod follow;
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backup::Snapshot;
use crate::entry::{Document, Entry, Revision};
use crate::index::{Index, Listing};
use crate::watch::Watch;
use crate::{Change, Error, Expect, ListOptions, Result, Stats, Store, Write};
use gateway::{Gateway, KeyValue, Outcome};

/// Before our keys in etcd.
const PREFIX: &str = "/corvus";
/// How long a write waits for its own change to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often old revisions are let go of. As upstream's API server.
const COMPACTION_PERIOD: Duration = Duration::from_mins(5);

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `HOST:PORT` of its client port.
    pub endpoint: String,
}

/// A store in etcd.
pub struct EtcdStore {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: Gateway,
    index: Arc<RwLock<Index>>,
    /// How far the index is.
    applied: watch::Sender<Revision>,
    /// The last states of what this process is deleting: key, its revision before, document.
    last_states: Mutex<Vec<(Arc<str>, Revision, Document)>>,
    closed: CancellationToken,
}

/// Opens a store: reads everything, then follows.
pub async fn open_etcd(options: &EtcdOptions) -> Result<EtcdStore> {
    let gateway = Gateway::new(&options.endpoint);
    let index = follow::load(&gateway).await?;
    let revision = index.revision();
    let shared = Arc::new(Shared {
        gateway,
        index: Arc::new(RwLock::new(index)),
        applied: watch::Sender::new(revision),
        last_states: Mutex::default(),
        closed: CancellationToken::new(),
    });
    tokio::spawn(follow::run(shared.clone()));
    tokio::spawn(compact_now_and_then(shared.clone()));
    Ok(EtcdStore { shared })
}

impl EtcdStore {
    /// Stops following; later writes fail with [`Error::Closed`].
    pub fn close(&self) {
        self.shared.closed.cancel();
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.close();
    }
}

async fn compact_now_and_then(shared: Arc<Shared>) {
    let mut before = shared.index.read().revision();
    loop {
        tokio::select! {
            () = tokio::time::sleep(COMPACTION_PERIOD) => {}
            () = shared.closed.cancelled() => return,
        }
        // Other servers do the same; who is late is told that it is done already.
        if let Err(error) = shared.gateway.compact(before).await {
            tracing::debug!(%error, "compacting etcd");
        }
        before = shared.index.read().revision();
    }
}

/// What is stored in etcd: the place of the revision, and the document without it.
fn pack(document: &Document) -> Vec<u8> {
    let (bytes, gap) = document.parts();
    let gap = gap.map_or(u32::MAX, |gap| gap as u32);
    let mut packed = Vec::with_capacity(bytes.len() + 4);
    packed.extend_from_slice(&gap.to_le_bytes());
    packed.extend_from_slice(bytes);
    packed
}

/// The document at a revision, of what [`pack`] has made; none for what it has not.
fn unpack(packed: &[u8], revision: Revision) -> Option<Bytes> {
    let (gap, bytes) = packed.split_first_chunk::<4>()?;
    let document = match u32::from_le_bytes(*gap) {
        u32::MAX => Document::plain(bytes.to_vec()),
        gap if gap as usize <= bytes.len() => Document::with_gap(bytes.to_vec(), gap as usize),
        _ => return None,
    };
    Some(document.finish(revision))
}

/// An entry of what is in etcd; none for foreign keys and values.
fn entry(found: &KeyValue) -> Option<Entry> {
    let key = found.key.strip_prefix(PREFIX)?;
    let bytes = unpack(&found.value, found.modified)?;
    Some(Entry::new(key.into(), found.created, found.modified, bytes))
}

impl Shared {
    /// Waits until the index has everything up to a revision.
    async fn arrived(&self, revision: Revision) -> Result<()> {
        let mut applied = self.applied.subscribe();
        let waited = tokio::select! {
            waited = tokio::time::timeout(
                ARRIVAL_TIMEOUT,
                applied.wait_for(|applied| *applied >= revision),
            ) => waited,
            () = self.closed.cancelled() => return Err(Error::Closed),
        };
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Disk {
                operation: "following etcd",
                message: format!(
                    "revision {revision} has not arrived within {} s",
                    ARRIVAL_TIMEOUT.as_secs()
                ),
            }),
        }
    }

    /// Writes, and waits until what is there now has arrived: the change itself, or what was in its
    /// way.
    async fn write(
        &self,
        place: &str,
        expected: Revision,
        value: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        let outcome = self.gateway.write(place, expected, value).await?;
        let (Outcome::Done { revision } | Outcome::Refused { revision, .. }) = &outcome;
        self.arrived(*revision).await?;
        Ok(outcome)
    }

    async fn commit(&self, write: Write) -> Result<Arc<Entry>> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let Write {
            key,
            expect,
            change,
        } = write;
        let expected = match expect {
            Expect::Absent => Revision(0),
            Expect::Revision(revision) => revision,
        };
        let place = format!("{PREFIX}{key}");
        let known = self.index.read().get(&key).cloned();
        let (value, document) = match change {
            Change::Put(document) => (Some(pack(&document)), document),
            // What is not there cannot be deleted, which etcd would let pass.
            Change::Delete(_) if expect == Expect::Absent => {
                let current = known;
                return Err(Error::Conflict { key, current });
            }
            Change::Delete(document) => (None, document),
        };
        let deletes = value.is_none();
        if deletes {
            // Our own watch may be faster than the answer.
            let state = (key.clone(), expected, document.clone());
            self.last_states.lock().push(state);
        }
        let outcome = self.write(&place, expected, value).await;
        if deletes {
            let mut states = self.last_states.lock();
            states.retain(|(own, at, _)| *own != key || *at != expected);
        }
        match outcome? {
            Outcome::Done { revision } => {
                let bytes = document.finish(revision);
                let created = known
                    .filter(|known| known.revision() == expected)
                    .map_or(revision, |known| known.created());
                Ok(Arc::new(Entry::new(key, created, revision, bytes)))
            }
            Outcome::Refused { current, .. } => {
                let current = current.as_ref().and_then(entry).map(Arc::new);
                Err(Error::Conflict { key, current })
            }
        }
    }
}

impl Store for EtcdStore {
    fn revision(&self) -> Revision {
        self.shared.index.read().revision()
    }

    fn barrier(&self) -> Option<BoxFuture<'static, Result<()>>> {
        let shared = self.shared.clone();
        Some(
            async move {
                let revision = shared.gateway.revision().await?;
                shared.arrived(revision).await
            }
            .boxed(),
        )
    }

    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.shared.index.read().get(key).cloned()
    }

    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Listing> {
        self.shared.index.read().list(prefix, options)
    }

    fn count(&self, prefix: &str) -> usize {
        self.shared.index.read().count(prefix)
    }

    fn commit(&self, write: Write) -> BoxFuture<'static, Result<Arc<Entry>>> {
        let shared = self.shared.clone();
        async move { shared.commit(write).await }.boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        Watch::new(self.shared.index.clone(), prefix, after)
    }

    fn compact(&self, up_to: Revision) {
        self.shared.index.write().compact(up_to);
    }

    fn health(&self) -> BoxFuture<'static, Result<()>> {
        let shared = self.shared.clone();
        async move { shared.gateway.revision().await.map(drop) }.boxed()
    }

    fn stats(&self) -> Stats {
        self.shared.index.read().stats()
    }

    fn snapshot(&self) -> Snapshot {
        self.shared.index.read().snapshot()
    }

    fn close(&self) {
        self.shared.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_survive_packing() {
        let document = Document::with_gap(b"{\"rv\":\"\"}".to_vec(), 7);
        let packed = pack(&document);
        let bytes = unpack(&packed, Revision(9)).expect("packed by us");
        assert_eq!(bytes.as_ref(), b"{\"rv\":\"9\"}");
        let plain = pack(&Document::plain(b"x".to_vec()));
        assert_eq!(unpack(&plain, Revision(9)).expect("ours").as_ref(), b"x");
        assert!(unpack(b"abc", Revision(1)).is_none());
        assert!(unpack(b"\xff\0\0\0x", Revision(1)).is_none());
    }
}
