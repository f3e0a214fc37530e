//! Watches of what instances are made of and look at.
//!
//! Children say in their labels whose they are, so one informer per kind, limited to our own objects, wakes the right
//! instance. What exists without us is watched by metadata, and who looks at it is kept in a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::{
    HandlerGuard, Informer, InformerOptions, Informers, Object, ObjectKey, Resource, WorkQueue,
    enqueue,
};
use parking_lot::Mutex;

use super::Metrics;
use super::context::InstanceKey;
use super::interests::{Interest, Interests};
use super::metrics::WatchCounts;
use crate::keys;

/// The index of children by the ApplySet they are members of.
const PART_OF_INDEX: &str = "part-of";

struct Watched {
    informer: Informer,
    _guard: HandlerGuard,
}

pub(crate) struct Watches {
    informers: Informers,
    queue: WorkQueue<InstanceKey>,
    sync_timeout: Duration,
    children: Mutex<HashMap<Resource, Watched>>,
    externals: Mutex<HashMap<Resource, Watched>>,
    interests: Arc<Mutex<Interests>>,
    metrics: Metrics,
}

/// A watch whose first list did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the watch of {0} has not delivered its first list in time")]
pub(crate) struct NotSynced(Resource);

impl Watches {
    pub fn new(
        informers: Informers,
        queue: WorkQueue<InstanceKey>,
        sync_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            informers,
            queue,
            sync_timeout,
            children: Mutex::default(),
            externals: Mutex::default(),
            interests: Arc::default(),
            metrics,
        }
    }

    /// The informer of our objects of a kind, with its first list.
    pub async fn children(&self, resource: &Resource) -> Result<Children, NotSynced> {
        let informer = {
            let mut children = self.children.lock();
            let watched = children
                .entry(resource.clone())
                .or_insert_with(|| self.watch_children(resource));
            watched.informer.clone()
        };
        self.synced(resource, &informer).await?;
        Ok(Children { informer })
    }

    fn watch_children(&self, resource: &Resource) -> Watched {
        let label_selector = Some(format!("{}=true,{}", keys::OWNED, keys::NODE_ID));
        let options = InformerOptions {
            label_selector,
            ..InformerOptions::default()
        };
        let informer = self.informers.informer(resource, options);
        informer.add_index(PART_OF_INDEX, |object| {
            object
                .label(keys::PART_OF)
                .map(str::to_owned)
                .into_iter()
                .collect()
        });
        let guard = informer.add_handler(enqueue::mapped(&self.queue, instance_of));
        Watched {
            informer,
            _guard: guard,
        }
    }

    async fn synced(&self, resource: &Resource, informer: &Informer) -> Result<(), NotSynced> {
        if informer.has_synced() {
            return Ok(());
        }
        let started = Instant::now();
        if informer.wait_for_sync_timeout(self.sync_timeout).await {
            self.metrics.watch_synced(resource, started.elapsed());
            Ok(())
        } else {
            Err(NotSynced(resource.clone()))
        }
    }

    /// Adds to what an instance looks at; returns when it is watched.
    pub async fn also_look_at(
        &self,
        instance: &InstanceKey,
        interest: Interest,
    ) -> Result<(), NotSynced> {
        let resource = interest.resource().clone();
        self.interests.lock().add(instance, interest);
        let informer = {
            let mut externals = self.externals.lock();
            externals
                .entry(resource.clone())
                .or_insert_with(|| self.watch_external(&resource))
                .informer
                .clone()
        };
        self.synced(&resource, &informer).await
    }

    /// Keeps only these of what an instance looks at.
    pub fn look_only_at(&self, instance: &InstanceKey, interests: Vec<Interest>) {
        if self.interests.lock().replace(instance, interests) {
            self.stop_unused();
        }
    }

    /// Invariant: whoever holds both locks took `externals` first; adding a handler does, as it replays events.
    fn stop_unused(&self) {
        let mut externals = self.externals.lock();
        let all = self.interests.lock();
        externals.retain(|resource, _| all.has(resource));
    }

    fn watch_external(&self, resource: &Resource) -> Watched {
        let informer = self
            .informers
            .informer(resource, InformerOptions::metadata_only());
        let (queue, interests) = (self.queue.clone(), Arc::clone(&self.interests));
        let (watched, metrics) = (resource.clone(), self.metrics.clone());
        let guard = informer.add_handler(move |event| {
            let concerned = interests.lock().concerned(&watched, event);
            metrics.event_routed(&watched, event, !concerned.is_empty());
            for instance in concerned {
                queue.add(instance);
            }
        });
        Watched {
            informer,
            _guard: guard,
        }
    }

    /// How many watches there are, and of what.
    pub fn count(&self, counts: &mut WatchCounts) {
        counts.watches += self.children.lock().len() + self.externals.lock().len();
        self.interests.lock().count(counts);
    }

    /// Forgets an instance that is gone.
    pub fn forget(&self, instance: &InstanceKey) {
        if self.interests.lock().forget(instance) {
            self.stop_unused();
        }
    }
}

/// The instance a child belongs to.
fn instance_of(child: &Object) -> Vec<InstanceKey> {
    let label = |key: &str| child.label(key);
    let key = || {
        let (group, version) = (label(keys::INSTANCE_GROUP)?, label(keys::INSTANCE_VERSION)?);
        let (kind, name) = (label(keys::INSTANCE_KIND)?, label(keys::INSTANCE_NAME)?);
        let api_version = format!("{group}/{version}");
        let plural = crate::plural(kind);
        let namespace = label(keys::INSTANCE_NAMESPACE).unwrap_or_default();
        let resource = if namespace.is_empty() {
            Resource::cluster(&api_version, &plural, kind)
        } else {
            Resource::namespaced(&api_version, &plural, kind)
        };
        Some(InstanceKey {
            resource,
            key: ObjectKey::new(namespace, name),
        })
    };
    key().into_iter().collect()
}

/// Our objects of one kind.
pub(crate) struct Children {
    informer: Informer,
}

impl Children {
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.informer.get(key)
    }

    /// The members of an ApplySet.
    pub fn members(&self, applyset: &str) -> Vec<Arc<Object>> {
        self.informer.by_index(PART_OF_INDEX, applyset)
    }
}
