//! How soon a failed Pod of a node is tried again: later each time, so that a node that refuses Pods is left in peace.

use std::collections::HashMap;
use std::time::Duration;

use controller::{Backoff, ObjectKey};
use jiff::Timestamp;
use parking_lot::Mutex;

/// As upstream's.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_mins(15),
};

#[derive(Debug)]
struct Entry {
    /// The generation of the set it is about: a new one starts anew.
    generation: i64,
    failures: u32,
    last: Timestamp,
}

/// What has failed lately, by set and node.
#[derive(Debug, Default)]
pub struct Failed {
    entries: Mutex<HashMap<ObjectKey, HashMap<String, Entry>>>,
}

impl Failed {
    /// Whether a failed Pod may be replaced now, which is noted; the time to wait otherwise.
    pub fn replace(
        &self,
        set: &ObjectKey,
        generation: i64,
        node: &str,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let mut entries = self.entries.lock();
        let of_set = entries.entry(set.clone()).or_default();
        let age = |entry: &Entry| Duration::try_from(now - entry.last).unwrap_or_default();
        let failures = match of_set.get(node) {
            Some(entry) if entry.generation == generation && age(entry) <= BACKOFF.max * 2 => {
                let delay = BACKOFF.delay(entry.failures);
                let left = delay.saturating_sub(age(entry));
                if !left.is_zero() {
                    return Err(left);
                }
                entry.failures + 1
            }
            _ => 0,
        };
        let entry = Entry {
            generation,
            failures,
            last: now,
        };
        of_set.insert(node.to_owned(), entry);
        Ok(())
    }

    /// Forgets a set that is gone.
    pub fn forget(&self, set: &ObjectKey) {
        self.entries.lock().remove(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_node_waits_longer_each_time() {
        let (failed, key) = (Failed::default(), ObjectKey::new("n", "agent"));
        let at = |second| Timestamp::from_second(second).expect("a time");
        let check = |second, node, generation, expect: Result<(), u64>| {
            let found = failed.replace(&key, generation, node, at(second));
            let found = found.map_err(|left| left.as_secs());
            assert_eq!(found, expect, "{second} {node}");
        };
        check(100, "a", 1, Ok(()));
        check(100, "a", 1, Err(1));
        check(101, "a", 1, Ok(()));
        check(102, "a", 1, Err(1));
        check(103, "a", 1, Ok(()));
        check(104, "a", 1, Err(3));
        check(104, "b", 1, Ok(()));
        check(104, "a", 2, Ok(()));
        check(104 + 31 * 60, "a", 2, Ok(()));
        failed.forget(&key);
        check(105, "a", 2, Ok(()));
    }
}
