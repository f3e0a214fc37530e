//! Handlers that turn events into keys, for [`Informer::add_handler`](crate::Informer::add_handler).
//!
//! On an update both the old and the new state count: an object that changes owners wakes both.

use crate::cache::Event;
use crate::object::{Object, ObjectKey};
use crate::queue::{QueueKey, WorkQueue};

/// Queues the object itself.
pub fn object(queue: &WorkQueue) -> impl Fn(&Event) + Send + Sync + 'static {
    mapped(queue, |object| vec![object.key()])
}

/// Queues the owner that manages the object, if it is of this group and kind.
pub fn controller(
    queue: &WorkQueue,
    group: &'static str,
    kind: &'static str,
) -> impl Fn(&Event) + Send + Sync + 'static {
    mapped(queue, move |object| {
        let owner = object
            .controller_of()
            .filter(|o| o.kind == kind && o.group() == group);
        owner
            .map(|owner| owner_key(object, owner.name))
            .into_iter()
            .collect()
    })
}

/// Queues every owner of this group and kind.
pub fn owners(
    queue: &WorkQueue,
    group: &'static str,
    kind: &'static str,
) -> impl Fn(&Event) + Send + Sync + 'static {
    mapped(queue, move |object| {
        let owners = object.owner_references().into_iter();
        owners
            .filter(|owner| owner.kind == kind && owner.group() == group)
            .map(|owner| owner_key(object, owner.name))
            .collect()
    })
}

/// Queues whatever keys the function finds for the object.
pub fn mapped<K: QueueKey>(
    queue: &WorkQueue<K>,
    keys: impl Fn(&Object) -> Vec<K> + Send + Sync + 'static,
) -> impl Fn(&Event) + Send + Sync + 'static {
    let queue = queue.clone();
    move |event| {
        if let Event::Updated { old, .. } = event {
            for key in keys(old) {
                queue.add(key);
            }
        }
        for key in keys(event.object()) {
            queue.add(key);
        }
    }
}

/// Owners live in the namespace of what they own, or in none; the queue's reader knows which.
fn owner_key(object: &Object, name: String) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), name)
}
