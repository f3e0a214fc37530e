//! The compiled graphs of all revisions, in memory.
//!
//! Instances run on the newest revision, whatever its state: there is no falling back to an older one, so that what runs
//! is always what the newest revision says. Only the newest keeps its graph.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Metrics;
use crate::build::Graph;

/// What is known about a revision.
#[derive(Clone, Debug)]
pub(crate) enum RevisionState {
    /// Not compiled yet.
    Pending,
    /// Compiled.
    Active(Arc<Graph>),
    /// Compiled in an earlier life and no longer the newest.
    Retained,
    /// Cannot be compiled.
    Failed(String),
}

impl RevisionState {
    /// What metrics call it.
    fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active(_) | Self::Retained => "active",
            Self::Failed(_) => "failed",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub revision: i64,
    pub hash: String,
    pub state: RevisionState,
}

pub(crate) struct Registry {
    metrics: Metrics,
    revisions: Mutex<HashMap<String, BTreeMap<i64, Entry>>>,
    /// Graphs built for revisions that were just issued, by the hash of their spec.
    fresh: Mutex<HashMap<(String, String), Arc<Graph>>>,
}

impl Registry {
    /// Knows nothing yet.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            revisions: Mutex::default(),
            fresh: Mutex::default(),
        }
    }

    /// The newest revision of a ResourceGraphDefinition.
    pub fn latest(&self, rgd: &str) -> Option<Entry> {
        self.revisions
            .lock()
            .get(rgd)?
            .last_key_value()
            .map(|(_, entry)| entry.clone())
    }

    /// One revision.
    pub fn get(&self, rgd: &str, revision: i64) -> Option<Entry> {
        self.revisions.lock().get(rgd)?.get(&revision).cloned()
    }

    /// Sets a revision; graphs of older ones are dropped.
    pub fn put(&self, rgd: &str, revision: i64, hash: &str, state: RevisionState) {
        let mut all = self.revisions.lock();
        let revisions = all.entry(rgd.to_owned()).or_default();
        let is_active = matches!(state, RevisionState::Active(_));
        let name = state.name();
        let entry = Entry {
            revision,
            hash: hash.to_owned(),
            state,
        };
        let before = revisions.insert(revision, entry);
        self.metrics
            .revision_is(before.map(|before| before.state.name()), name);
        if is_active {
            for (_, entry) in revisions.range_mut(..revision) {
                if matches!(entry.state, RevisionState::Active(_)) {
                    entry.state = RevisionState::Retained;
                }
            }
        }
    }

    /// Forgets a revision.
    pub fn remove(&self, rgd: &str, revision: i64) {
        let mut all = self.revisions.lock();
        if let Some(revisions) = all.get_mut(rgd) {
            if let Some(entry) = revisions.remove(&revision) {
                self.metrics.revision_forgotten(entry.state.name());
            }
            if revisions.is_empty() {
                all.remove(rgd);
            }
        }
    }

    /// Forgets all revisions of a ResourceGraphDefinition.
    pub fn remove_all(&self, rgd: &str) {
        let forgotten = self.revisions.lock().remove(rgd);
        for entry in forgotten.iter().flat_map(BTreeMap::values) {
            self.metrics.revision_forgotten(entry.state.name());
        }
    }

    /// Keeps a graph for the revision about to be compiled, which saves compiling it twice.
    pub fn put_fresh(&self, rgd: &str, hash: &str, graph: Arc<Graph>) {
        let mut fresh = self.fresh.lock();
        fresh.retain(|(name, _), _| name != rgd);
        fresh.insert((rgd.to_owned(), hash.to_owned()), graph);
    }

    /// Takes such a graph.
    pub fn take_fresh(&self, rgd: &str, hash: &str) -> Option<Arc<Graph>> {
        self.fresh.lock().remove(&(rgd.to_owned(), hash.to_owned()))
    }
}
