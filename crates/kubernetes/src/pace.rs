//! Looks at large owners less often.
//!
//! Every event of a Pod wakes its owner, which looks at all its Pods: with thousands that become ready at once, a controller
//! would do nothing else. An owner that has just been looked at waits for a time in proportion to its size; what happens
//! meanwhile is seen together.

use std::collections::HashMap;
use std::time::Duration;

use controller::ObjectKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long an owner rests for each of its objects: some times what looking at it costs.
const REST_PER_OBJECT: Duration = Duration::from_micros(10);
/// Owners of fewer objects never rest.
const LARGE: usize = 500;

/// When the large owners were looked at.
#[derive(Debug, Default)]
pub struct Pace {
    next: Mutex<HashMap<ObjectKey, Instant>>,
}

impl Pace {
    /// How long an owner is still to rest.
    pub fn left(&self, owner: &ObjectKey) -> Option<Duration> {
        let next = *self.next.lock().get(owner)?;
        let left = next.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Notes that an owner of so many objects has been looked at.
    pub fn note(&self, owner: &ObjectKey, objects: usize) {
        let mut next = self.next.lock();
        if objects < LARGE {
            next.remove(owner);
            return;
        }
        let rest = REST_PER_OBJECT * u32::try_from(objects).unwrap_or(u32::MAX);
        next.insert(owner.clone(), Instant::now() + rest);
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.next.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_owners_rest() {
        let (pace, key) = (Pace::default(), ObjectKey::new("n", "web"));
        pace.note(&key, 10);
        assert_eq!(pace.left(&key), None);
        pace.note(&key, 5_000);
        assert_eq!(pace.left(&key), Some(Duration::from_millis(50)));
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(pace.left(&key), None);
        pace.note(&key, 5_000);
        pace.forget(&key);
        assert_eq!(pace.left(&key), None);
    }
}
