//! What a controller has done but its informers have not shown it yet.
//!
//! A controller that creates three Pods and looks at its cache again right away would create three more. It states
//! what it expects before it writes and does not act again before its handlers have seen that. Expectations lapse
//! after five minutes (as upstream), so a lost answer delays and never stops a controller.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::object::ObjectKey;

/// Matches `controller.ExpectationsTimeout`.
const LAPSE_AFTER: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

/// Expectations per controlled object; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    expected: Arc<Mutex<HashMap<ObjectKey, Expected>>>,
}

impl Expectations {
    /// No expectations.
    pub fn new() -> Self {
        Self::default()
    }

    /// `count` objects are about to be created.
    pub fn expect_creations(&self, key: &ObjectKey, count: usize) {
        self.with(key, |expected| expected.creations += count);
    }

    /// The objects with these uids are about to be deleted.
    pub fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.with(key, |expected| expected.deletions.extend(uids));
    }

    fn with(&self, key: &ObjectKey, change: impl FnOnce(&mut Expected)) {
        let mut all = self.expected.lock();
        let now = Instant::now();
        let expected = all.entry(key.clone()).or_insert_with(|| Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: now,
        });
        expected.since = now;
        change(expected);
    }

    /// An object was created, or its creation failed.
    pub fn creation_observed(&self, key: &ObjectKey) {
        if let Some(expected) = self.expected.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// An object was deleted or began to terminate, or its deletion failed.
    pub fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.expected.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether the cache can be trusted for this object.
    pub fn satisfied(&self, key: &ObjectKey) -> bool {
        let mut all = self.expected.lock();
        let Some(expected) = all.get(key) else {
            return true;
        };
        let fulfilled = expected.creations == 0 && expected.deletions.is_empty();
        if fulfilled || expected.since.elapsed() >= LAPSE_AFTER {
            all.remove(key);
            return true;
        }
        false
    }

    /// Forgets an object that is gone.
    pub fn delete(&self, key: &ObjectKey) {
        self.expected.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn satisfied_when_everything_was_seen_or_too_long_ago() {
        let expectations = Expectations::new();
        let key = ObjectKey::new("a", "b");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.expect_deletions(&key, ["u".to_owned()]);
        expectations.creation_observed(&key);
        expectations.deletion_observed(&key, "u");
        expectations.deletion_observed(&key, "u");
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 1);
        tokio::time::advance(LAPSE_AFTER).await;
        assert!(expectations.satisfied(&key));
    }
}
