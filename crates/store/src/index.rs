//! The in-memory state: live entries and a window of history, by topic.
//!
//! A topic is the first two parts of a key, `/group/resource/`: what Kubernetes calls a resource.
//! Lists and watches stay within one topic, so each has its own map and its own history, and a busy
//! resource does not push out the history of a quiet one.
//!
//! Pure: nothing here waits, and nothing here touches a disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::watch::{Receiver, Sender};

use crate::backup::Snapshot;
use crate::entry::{Entry, Revision};
use crate::{Error, Expect, ListOptions, Result, Stats};

/// Most events a topic remembers.
const HISTORY_EVENTS_MAX: usize = 8_192;
/// Most bytes of documents a topic's history keeps alive.
const HISTORY_BYTES_MAX: usize = 16 << 20;
/// What a topic remembers however large its documents.
const HISTORY_EVENTS_MIN: usize = 128;

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It came to be.
    Created,
    /// It changed.
    Updated,
    /// It went; the event's entry is its last state.
    Deleted,
}

/// One change.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new entry, or the last state of a deleted one, at the revision of the change.
    pub entry: Arc<Entry>,
    /// What was there before.
    pub previous: Option<Arc<Entry>>,
}

impl Event {
    /// The number of the change.
    pub fn revision(&self) -> Revision {
        self.entry.revision()
    }
}

/// A part of the store as of one revision.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The revision the listing is of.
    pub revision: Revision,
    /// The entries, by key.
    pub entries: Vec<Arc<Entry>>,
    /// How many more there are beyond the limit.
    pub remaining: usize,
}

/// All live entries and the recent history.
#[derive(Debug, Default)]
pub struct Index {
    revision: Revision,
    floor: Revision,
    bytes: usize,
    entries: usize,
    topics: HashMap<Box<str>, Topic>,
}

#[derive(Debug)]
struct Topic {
    live: BTreeMap<Arc<str>, Arc<Entry>>,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    /// Changes up to and including this revision are forgotten.
    floor: Revision,
    changed: Sender<Revision>,
}

/// The first two parts of a key or prefix, with both slashes.
pub fn topic_of(key: &str) -> &str {
    key.match_indices('/')
        .nth(2)
        .map_or(key, |(at, _)| &key[..=at])
}

impl Topic {
    fn new(floor: Revision) -> Self {
        Self {
            live: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            floor,
            changed: Sender::new(floor),
        }
    }

    fn remember(&mut self, event: Arc<Event>) {
        self.history_bytes += event.entry.bytes().len();
        self.history.push_back(event);
        while self.history.len() > HISTORY_EVENTS_MAX
            || (self.history_bytes > HISTORY_BYTES_MAX && self.history.len() > HISTORY_EVENTS_MIN)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= event.entry.bytes().len();
            self.floor = event.revision();
        }
    }

    fn events_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let start = self
            .history
            .partition_point(|event| event.revision() <= revision);
        self.history.range(start..)
    }

    fn below<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Entry>)> {
        let start = match after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        self.live
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

impl Index {
    /// An index at a revision, with no history before it.
    pub fn at(revision: Revision) -> Self {
        Self {
            revision,
            floor: revision,
            ..Self::default()
        }
    }

    /// Puts an entry there that was read from disk; no event.
    pub fn load(&mut self, entry: impl Into<Arc<Entry>>) {
        let entry = entry.into();
        let floor = self.floor;
        self.bytes += entry.bytes().len();
        self.entries += 1;
        let topic = self
            .topics
            .entry(topic_of(entry.key()).into())
            .or_insert_with(|| Topic::new(floor));
        topic.live.insert(entry.key().clone(), entry);
    }

    /// The revision of the latest change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The entry at a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.topics.get(topic_of(key))?.live.get(key)
    }

    /// Makes one change visible and wakes who watches its topic.
    ///
    /// Invariant: revisions come in order.
    pub fn apply(&mut self, event: Arc<Event>) {
        assert!(event.revision() > self.revision, "revisions only grow");
        self.revision = event.revision();
        let (floor, key) = (self.floor, event.entry.key());
        let topic = self
            .topics
            .entry(topic_of(key).into())
            .or_insert_with(|| Topic::new(floor));
        let old = match event.kind {
            EventKind::Deleted => topic.live.remove(key),
            EventKind::Created | EventKind::Updated => {
                self.bytes += event.entry.bytes().len();
                self.entries += 1;
                topic.live.insert(key.clone(), event.entry.clone())
            }
        };
        if let Some(old) = old {
            self.bytes -= old.bytes().len();
            self.entries -= 1;
        }
        topic.remember(event);
        topic.changed.send_replace(self.revision);
    }

    /// Notes that everything up to a revision is there, also where the last changes were of keys that
    /// are not kept here.
    pub fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Takes the state of another index, of a later revision. Watches find that what happened in between
    /// is not known.
    pub fn replace(&mut self, mut other: Self) {
        for (name, topic) in std::mem::take(&mut self.topics) {
            let floor = other.floor;
            let new = other
                .topics
                .entry(name)
                .or_insert_with(|| Topic::new(floor));
            new.changed = topic.changed;
            new.changed.send_replace(other.revision);
        }
        *self = other;
    }

    /// See [`crate::Store::list`].
    pub fn list(&self, prefix: &str, options: &ListOptions) -> Result<Listing> {
        let revision = options.at.unwrap_or(self.revision);
        if revision > self.revision {
            return Err(Error::Future {
                requested: revision,
                current: self.revision,
            });
        }
        let Some(topic) = self.topics.get(topic_of(prefix)) else {
            self.check_floor(self.floor, revision)?;
            return Ok(Listing {
                revision,
                entries: Vec::new(),
                remaining: 0,
            });
        };
        let after = options.after.as_deref();
        let past = self.past(topic, prefix, after, revision)?;
        let mut entries = Vec::new();
        let mut remaining = 0;
        let limit = options.limit.unwrap_or(usize::MAX);
        let mut take = |entry: &Arc<Entry>| {
            if entries.len() < limit {
                entries.push(entry.clone());
            } else {
                remaining += 1;
            }
        };
        if past.is_empty() {
            topic
                .below(prefix, after)
                .for_each(|(_, entry)| take(entry));
        } else {
            let mut merged: BTreeMap<&str, &Arc<Entry>> = topic
                .below(prefix, after)
                .map(|(key, entry)| (&**key, entry))
                .collect();
            for (key, entry) in past {
                match entry {
                    Some(entry) => merged.insert(key, entry),
                    None => merged.remove(key),
                };
            }
            for entry in merged.values() {
                take(entry);
            }
        }
        Ok(Listing {
            revision,
            entries,
            remaining,
        })
    }

    /// What was at each key that has changed since a revision.
    fn past<'a>(
        &self,
        topic: &'a Topic,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
    ) -> Result<BTreeMap<&'a str, Option<&'a Arc<Entry>>>> {
        let mut past = BTreeMap::new();
        if revision < self.revision {
            self.check_floor(topic.floor, revision)?;
            for event in topic.events_after(revision) {
                let key: &str = event.entry.key();
                if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
                    // The first change after the revision tells what was there at it.
                    past.entry(key).or_insert(event.previous.as_ref());
                }
            }
        }
        Ok(past)
    }

    fn check_floor(&self, floor: Revision, requested: Revision) -> Result<()> {
        let oldest = floor.max(self.floor);
        if requested < oldest && requested < self.revision {
            return Err(Error::Compacted { requested, oldest });
        }
        Ok(())
    }

    /// Number of live entries below a prefix.
    pub fn count(&self, prefix: &str) -> usize {
        let Some(topic) = self.topics.get(topic_of(prefix)) else {
            return 0;
        };
        if topic_of(prefix) == prefix {
            topic.live.len()
        } else {
            topic.below(prefix, None).count()
        }
    }

    /// A receiver that changes with the topic of a prefix, once it is known that the history after
    /// `after` is complete.
    pub fn subscribe(&mut self, prefix: &str, after: Revision) -> Result<Receiver<Revision>> {
        let floor = self.floor;
        let topic = self
            .topics
            .entry(topic_of(prefix).into())
            .or_insert_with(|| Topic::new(floor));
        let oldest = topic.floor.max(floor);
        if after < oldest {
            return Err(Error::Compacted {
                requested: after,
                oldest,
            });
        }
        Ok(topic.changed.subscribe())
    }

    /// The changes below a prefix after a revision, at most `limit`, and the revision up to which
    /// they are complete.
    pub fn changes(
        &self,
        prefix: &str,
        after: Revision,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision)> {
        let Some(topic) = self.topics.get(topic_of(prefix)) else {
            return Ok((Vec::new(), self.revision.max(after)));
        };
        if after < topic.floor {
            return Err(Error::Compacted {
                requested: after,
                oldest: topic.floor,
            });
        }
        let mut changes = Vec::new();
        for event in topic.events_after(after) {
            if event.entry.key().starts_with(prefix) {
                changes.push(event.clone());
                if changes.len() == limit {
                    return Ok((changes, event.revision()));
                }
            }
        }
        Ok((changes, self.revision.max(after)))
    }

    /// See [`crate::Store::compact`].
    pub fn compact(&mut self, up_to: Revision) {
        let up_to = up_to.min(self.revision);
        self.floor = self.floor.max(up_to);
        for topic in self.topics.values_mut() {
            while topic
                .history
                .front()
                .is_some_and(|event| event.revision() <= up_to)
            {
                topic.forget_oldest();
            }
            topic.floor = topic.floor.max(up_to);
        }
    }

    /// All live entries.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.topics.values().flat_map(|topic| topic.live.values())
    }

    /// See [`crate::Store::snapshot`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            entries: self.all().cloned().collect(),
        }
    }

    /// See [`crate::Store::stats`].
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.entries,
            bytes: self.bytes,
        }
    }
}

/// Fails where what is at a key is not as expected.
pub fn check(key: &Arc<str>, current: Option<&Arc<Entry>>, expect: Expect) -> Result<()> {
    let as_expected = match (expect, current) {
        (Expect::Absent, None) => true,
        (Expect::Revision(revision), Some(entry)) => entry.revision() == revision,
        _ => false,
    };
    if as_expected {
        Ok(())
    } else {
        Err(Error::Conflict {
            key: key.clone(),
            current: current.cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_first_two_parts() {
        assert_eq!(
            topic_of("/apps/deployments/default/web"),
            "/apps/deployments/"
        );
        assert_eq!(topic_of("//pods/"), "//pods/");
        assert_eq!(topic_of("//pods/default/"), "//pods/");
    }
}
