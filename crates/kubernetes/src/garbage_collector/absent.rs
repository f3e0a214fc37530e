//! Owners that are known to be gone: a uid never comes back, so nobody needs to ask twice.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

/// How many are remembered.
const LIMIT: usize = 500;

/// Uids of objects that do not exist.
#[derive(Default)]
pub struct Absent(Mutex<(HashSet<String>, VecDeque<String>)>);

impl Absent {
    /// Whether an object is known to be gone.
    pub fn has(&self, uid: &str) -> bool {
        self.0.lock().0.contains(uid)
    }

    /// Remembers that an object is gone.
    pub fn add(&self, uid: &str) {
        let mut known = self.0.lock();
        let (set, order) = &mut *known;
        if set.insert(uid.to_owned()) {
            order.push_back(uid.to_owned());
        }
        if order.len() > LIMIT
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let absent = Absent::default();
        for number in 0..=LIMIT {
            absent.add(&number.to_string());
        }
        assert!(!absent.has("0") && absent.has("1") && absent.has(&LIMIT.to_string()));
    }
}
