//! The revisioned store behind the API server.
//!
//! A store is an ordered map from keys (`/group/resource/namespace/name`) to immutable documents.
//! One counter, the [`Revision`], numbers every change; a conditional write succeeds only where the
//! key is still at the revision the writer saw. Readers never touch the disk: all live entries are in
//! memory, shared by reference with whoever lists or watches them.
//!
//! ```text
//! commit --> queue --> committer thread: check, number, one durable batch --> index --> acknowledge
//!                                                                              |
//! get, list <------------------------------------------------------------------+--> watch
//! ```
//!
//! Invariant: acknowledged means durable. What a reader or a watcher can see has already survived a
//! crash, because the index changes only after the batch is on disk.
//!
//! Left out on purpose: what the documents mean. An entry can carry one parsed form of its bytes
//! ([`Entry::attachment`]), made once and shared, whose type is the caller's business.

pub mod backup;
mod committer;
pub mod conformance;
mod embedded;
mod entry;
mod etcd;
mod index;
mod local;
mod watch;

use futures::future::BoxFuture;

pub use embedded::{EmbeddedOptions, open_embedded};
pub use entry::{Document, Entry, Revision};
pub use etcd::{EtcdOptions, EtcdStore, open_etcd};
pub use index::{Event, EventKind, Listing};
pub use local::{LocalStore, memory};
pub use watch::Watch;

use std::sync::Arc;

/// What a writer believes of a key; the write fails with [`Error::Conflict`] where it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// The entry of exactly this revision is there.
    Revision(Revision),
}

/// What a write does to its key.
#[derive(Debug)]
pub enum Change {
    /// Puts this document there.
    Put(Document),
    /// Removes the entry. The document is its last state, as watchers get to see it.
    Delete(Document),
}

/// One conditional write.
#[derive(Debug)]
pub struct Write {
    /// The key.
    pub key: Arc<str>,
    /// The condition.
    pub expect: Expect,
    /// The change.
    pub change: Change,
}

/// What part of a prefix to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// As of this revision instead of now.
    pub at: Option<Revision>,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many entries.
    pub limit: Option<usize>,
}

/// Counts for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live entries.
    pub entries: usize,
    /// Bytes of live documents.
    pub bytes: usize,
}

/// What can go wrong in a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key is not as the writer expected; `current` is what is there.
    #[error("key {key} is not as expected")]
    Conflict {
        /// The key.
        key: Arc<str>,
        /// What is there instead.
        current: Option<Arc<Entry>>,
    },
    /// The revision is older than the history that is kept.
    #[error("revision {requested} is older than {oldest}, the oldest that is kept")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest that could be answered.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision {requested} is ahead of {current}, the current one")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The current revision.
        current: Revision,
    },
    /// Another process has the store open.
    #[error("another process is using {0}")]
    InUse(String),
    /// The file is of a format this program does not read.
    #[error("{path} has store format {found}; this program reads format {expected}")]
    Format {
        /// The file.
        path: String,
        /// The format in the file.
        found: u64,
        /// The format this program writes.
        expected: u64,
    },
    /// What is on disk is not what was written. Nothing of it is served.
    #[error("{path} is damaged: {what}; restore a backup")]
    Corrupt {
        /// The file.
        path: String,
        /// What was found.
        what: String,
    },
    /// The disk said no; nothing of the write happened.
    #[error("store {operation}: {message}")]
    Disk {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        message: String,
    },
    /// The store is shut down.
    #[error("the store is closed")]
    Closed,
}

/// The result of an operation on a store.
pub type Result<T> = std::result::Result<T, Error>;

/// A revisioned map; see the crate's documentation for its promises.
///
/// Every engine passes [`conformance`].
pub trait Store: Send + Sync + 'static {
    /// The revision of the latest change.
    fn revision(&self) -> Revision;

    /// Resolves once reads show everything that anybody was told to be done before this was asked:
    /// what a consistent read waits for. `None` where that is so at any time.
    fn barrier(&self) -> Option<BoxFuture<'static, Result<()>>> {
        None
    }

    /// The entry at a key.
    fn get(&self, key: &str) -> Option<Arc<Entry>>;

    /// The entries whose keys start with `prefix`, which must end with a slash or name one topic
    /// (`/group/resource/`), in the order of their keys.
    ///
    /// Fails with [`Error::Compacted`] or [`Error::Future`] where `options.at` cannot be answered.
    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Listing>;

    /// Number of entries whose keys start with `prefix`.
    fn count(&self, prefix: &str) -> usize;

    /// Applies one conditional write; resolves once it is durable, with the new entry (for a
    /// deletion: its last state, at the revision of the deletion).
    fn commit(&self, write: Write) -> BoxFuture<'static, Result<Arc<Entry>>>;

    /// All changes below `prefix` after a revision, in order. A revision that has not happened yet
    /// is waited for.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch>;

    /// Forgets the history up to and including a revision: reading there gives
    /// [`Error::Compacted`] from now on.
    fn compact(&self, up_to: Revision);

    /// Whether a write would be taken now, as a health check asks: engines that have met trouble try
    /// again, the others answer at once.
    fn health(&self) -> BoxFuture<'static, Result<()>>;

    /// Counts for metrics.
    fn stats(&self) -> Stats;

    /// Everything, as of now: what a [`backup`] is made of. Entries are shared, not copied.
    fn snapshot(&self) -> backup::Snapshot;

    /// Finishes what is queued and lets go of files and connections. Later writes fail with
    /// [`Error::Closed`].
    fn close(&self);
}
