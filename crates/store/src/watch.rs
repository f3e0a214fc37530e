//! Watching: a cursor into a topic's history.
//!
//! A watch holds no events of its own. It remembers how far it has read and is woken when its topic
//! changes, so a thousand watches of one resource cost a thousand cursors, and a client that never
//! reads costs nothing but falls out of the window and is told so.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch::Receiver;

use crate::entry::Revision;
use crate::index::{Event, Index};
use crate::{Error, Result};

/// Most events one call hands out.
const EVENTS_PER_CALL_MAX: usize = 512;

/// All changes below a prefix from some revision on.
#[derive(Debug)]
pub struct Watch {
    index: Arc<RwLock<Index>>,
    prefix: Box<str>,
    position: Revision,
    changed: Receiver<Revision>,
}

impl Watch {
    /// A watch of `prefix` after a revision.
    pub(crate) fn new(index: Arc<RwLock<Index>>, prefix: &str, after: Revision) -> Result<Self> {
        let changed = index.write().subscribe(prefix, after)?;
        Ok(Self {
            index,
            prefix: prefix.into(),
            position: after,
            changed,
        })
    }

    /// Waits for changes and hands out the next ones, in order, never none.
    ///
    /// Cancel-safe. Fails with [`Error::Compacted`] when the watch has fallen out of the history.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>> {
        loop {
            self.changed.borrow_and_update();
            let events = self.poll_now()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.changed.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// The changes that are there already; none is a fine answer.
    pub fn poll_now(&mut self) -> Result<Vec<Arc<Event>>> {
        let index = self.index.read();
        let (events, position) = index.changes(&self.prefix, self.position, EVENTS_PER_CALL_MAX)?;
        drop(index);
        self.position = position;
        Ok(events)
    }

    /// The revision up to which everything has been handed out: what a bookmark may promise.
    pub fn position(&self) -> Revision {
        self.position
    }
}
