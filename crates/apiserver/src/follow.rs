//! What the server keeps at hand of some resources, always as new as the store.
//!
//! A [`Follower`] is an index made of the entries of a few topics. Reading it first catches up with
//! the store, so a write is seen by the very next request; where nothing was written since, that
//! costs one comparison of numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use store::{Entry, Error, EventKind, ListOptions, Revision, Store, Watch};

use crate::envelope;

/// An index made of stored objects.
pub trait Follower: Default + Send + Sync {
    /// The group and resource of each topic.
    const TOPICS: &'static [(&'static str, &'static str)];

    /// An object of the topic of this number is now this one, or is gone.
    fn apply(&mut self, topic: usize, key: &str, entry: Option<&Entry>);

    /// All is to be told anew.
    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A follower with its place in the history.
#[derive(Default)]
pub struct Followed<T> {
    content: RwLock<T>,
    cursors: Mutex<Vec<Watch>>,
    seen: AtomicU64,
}

impl<T: Follower> Followed<T> {
    /// An index with settings of its own.
    pub fn new(content: T) -> Self {
        Self {
            content: RwLock::new(content),
            ..Self::default()
        }
    }

    /// The index, as of now.
    pub fn read(&self, store: &dyn Store) -> RwLockReadGuard<'_, T> {
        let now = store.revision();
        if self.seen.load(Ordering::Acquire) < now.0 {
            self.catch_up(store, now);
        }
        self.content.read()
    }

    fn catch_up(&self, store: &dyn Store, now: Revision) {
        let mut cursors = self.cursors.lock();
        if self.seen.load(Ordering::Acquire) >= now.0 {
            return;
        }
        if cursors.is_empty() || self.advance(&mut cursors).is_err() {
            // At the beginning, or fallen out of the history.
            match self.start_over(store) {
                Ok(fresh) => *cursors = fresh,
                Err(error) => {
                    tracing::error!(%error, "reading an index anew");
                    return;
                }
            }
        }
        self.seen.store(now.0, Ordering::Release);
    }

    fn advance(&self, cursors: &mut [Watch]) -> Result<(), Error> {
        for (topic, cursor) in cursors.iter_mut().enumerate() {
            loop {
                let events = cursor.poll_now()?;
                if events.is_empty() {
                    break;
                }
                let mut content = self.content.write();
                for event in events {
                    let entry = (event.kind != EventKind::Deleted).then_some(&*event.entry);
                    content.apply(topic, event.entry.key(), entry);
                }
            }
        }
        Ok(())
    }

    fn start_over(&self, store: &dyn Store) -> Result<Vec<Watch>, Error> {
        let mut content = self.content.write();
        content.clear();
        let mut cursors = Vec::new();
        for (topic, (group, resource)) in T::TOPICS.iter().enumerate() {
            let prefix = envelope::key_prefix(group, resource, None);
            let listing = store.list(&prefix, &ListOptions::default())?;
            for entry in &listing.entries {
                content.apply(topic, entry.key(), Some(entry));
            }
            cursors.push(store.watch(&prefix, listing.revision)?);
        }
        Ok(cursors)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use store::{Change, Document, Expect, Write};

    use super::*;

    #[derive(Default)]
    struct Keys(BTreeSet<String>);

    impl Follower for Keys {
        const TOPICS: &'static [(&'static str, &'static str)] = &[("a", "x"), ("b", "y")];

        fn apply(&mut self, _: usize, key: &str, entry: Option<&Entry>) {
            if entry.is_some() {
                self.0.insert(key.to_owned());
            } else {
                self.0.remove(key);
            }
        }
    }

    #[tokio::test]
    async fn a_follower_is_as_new_as_the_store() {
        let store = store::memory();
        let write = |key: &str, expect: Expect, delete: bool| {
            let document = Document::plain(b"{}".to_vec());
            let change = if delete {
                Change::Delete(document)
            } else {
                Change::Put(document)
            };
            store.commit(Write {
                key: Arc::from(key),
                expect,
                change,
            })
        };
        write("/a/x/1", Expect::Absent, false).await.expect("free");
        let followed = Followed::<Keys>::default();
        let keys = |followed: &Followed<Keys>| {
            let content = followed.read(&store);
            content.0.iter().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&followed), "/a/x/1");
        let two = write("/b/y/2", Expect::Absent, false).await.expect("free");
        write("/c/z/3", Expect::Absent, false).await.expect("free");
        assert_eq!(keys(&followed), "/a/x/1 /b/y/2");
        write("/b/y/2", Expect::Revision(two.revision()), true)
            .await
            .expect("there");
        assert_eq!(keys(&followed), "/a/x/1");
        // Fallen out of the history, it reads all anew.
        write("/a/x/4", Expect::Absent, false).await.expect("free");
        store.compact(store.revision());
        write("/a/x/5", Expect::Absent, false).await.expect("free");
        assert_eq!(keys(&followed), "/a/x/1 /a/x/4 /a/x/5");
    }
}
