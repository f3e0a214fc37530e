//! Never act on a cache that is older than one's own writes.
//!
//! A controller that scales one replica set and then looks at a cache from before that decides on numbers that are no
//! longer true. [`Settled`] remembers the version of what was last written for an owner, and waits until the informer has
//! come that far. After a failure that leaves open whether the write was done, it asks the server what there is and waits
//! until the cache shows the same. A restart needs none of this: caches begin with a fresh list.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use controller::{Api, Error, Informer, ListOptions, Object, ObjectKey, index};
use model::{LabelSelector, object};
use parking_lot::Mutex;

/// When to look again at a cache that lags behind; its events wake the owner before.
pub const LAG: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Open {
    /// The version of the last write, 0 where there was none.
    version: u64,
    /// Whether it is open if a write was done.
    doubted: bool,
}

/// What owners' caches have to show before they are believed.
#[derive(Debug, Default)]
pub struct Settled {
    open: Mutex<HashMap<ObjectKey, Open>>,
}

fn version(text: &str) -> Option<u64> {
    text.parse().ok()
}

impl Settled {
    /// Notes how a write of one of the owner's objects went.
    pub fn note(&self, owner: &ObjectKey, outcome: &Result<Object, Error>) {
        match outcome {
            Ok(written) => {
                let Some(version) = version(written.resource_version()) else {
                    return;
                };
                let mut open = self.open.lock();
                let entry = open.entry(owner.clone()).or_default();
                entry.version = entry.version.max(version);
            }
            Err(error) if error.is_ambiguous() => self.doubt(owner),
            Err(_) => {}
        }
    }

    /// It is open whether something was done for this owner.
    pub fn doubt(&self, owner: &ObjectKey) {
        self.open.lock().entry(owner.clone()).or_default().doubted = true;
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.open.lock().remove(owner);
    }

    /// Whether the cache shows all that was done for an owner. Where it does not, the events that are missing wake it.
    pub async fn is(
        &self,
        api: &Api,
        owner: &Object,
        selector: &LabelSelector,
        children: &Informer,
    ) -> Result<bool, Error> {
        let key = owner.key();
        let (written, doubted) = match self.open.lock().get(&key) {
            None => return Ok(true),
            Some(open) => (open.version, open.doubted),
        };
        if version(&children.last_resource_version()).is_some_and(|seen| seen < written) {
            return Ok(false);
        }
        if doubted {
            let options = ListOptions {
                namespace: owner.namespace().map(str::to_owned),
                label_selector: Some(selector.to_string()),
                metadata_only: true,
                ..ListOptions::default()
            };
            let present = api.list(children.resource(), &options).await?;
            let is_own = |child: &&Object| {
                let by = child.controller_of();
                by.is_some_and(|by| by.uid == owner.uid())
            };
            let uids: HashSet<&str> = present.items.iter().map(Object::uid).collect();
            // There since the start in most controllers; adding it again costs nothing.
            children.add_owner_index();
            let cached = children.by_index(index::CONTROLLER_UID, owner.uid());
            let all_seen = present
                .items
                .iter()
                .filter(is_own)
                .all(|child| shows(children, child));
            // What fits the selector no more is not listed, and is nothing that was asked for.
            let none_gone = cached.iter().all(|child| {
                uids.contains(child.uid()) || !selector.matches(object::labels(child.value()))
            });
            if !all_seen || !none_gone {
                return Ok(false);
            }
        }
        self.open.lock().remove(&key);
        Ok(true)
    }
}

/// The versions in which owners themselves were last written: to decide on an older one ends in a conflict.
#[derive(Debug, Default)]
pub struct Own {
    written: Mutex<HashMap<ObjectKey, u64>>,
}

impl Own {
    /// Notes the answer to a write.
    pub fn note(&self, written: &Object) {
        if let Some(version) = version(written.resource_version()) {
            self.written.lock().insert(written.key(), version);
        }
    }

    /// Whether the cache is that far. Where it is not, the event of the write is on its way and wakes the owner.
    pub fn is_shown(&self, cached: &Object) -> bool {
        let mut written = self.written.lock();
        let key = cached.key();
        let Some(last) = written.get(&key) else {
            return true;
        };
        if version(cached.resource_version()).is_some_and(|seen| seen < *last) {
            return false;
        }
        written.remove(&key);
        true
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.written.lock().remove(owner);
    }
}

/// Whether the cache has an object in the state it has on the server: the same one, of the same generation.
fn shows(cache: &Informer, present: &Object) -> bool {
    cache.get(&present.key()).is_some_and(|cached| {
        cached.uid() == present.uid()
            && cached.generation() >= present.generation()
            && (cached.is_terminating() || !present.is_terminating())
    })
}
