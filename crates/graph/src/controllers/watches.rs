//! Watches of what instances are made of and look at.
//!
//! Children say in their labels whose they are, so one informer per kind, limited to our own objects, wakes the right
//! instance. What exists without us is watched by metadata, and who looks at it is kept in a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::{
    Event, HandlerGuard, Informer, InformerOptions, Informers, Object, ObjectKey, Resource,
    WorkQueue, enqueue,
};
use model::LabelSelector;
use parking_lot::Mutex;

use super::Metrics;
use super::context::InstanceKey;
use super::metrics::WatchCounts;
use crate::keys;

/// The index of children by the ApplySet they are members of.
const PART_OF_INDEX: &str = "part-of";

/// What an instance looks at without owning it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Interest {
    /// One object.
    Object(Resource, ObjectKey),
    /// Objects with certain labels, in one namespace or all.
    Selection(Resource, Option<String>, LabelSelector),
}

impl Interest {
    fn resource(&self) -> &Resource {
        match self {
            Self::Object(resource, _) | Self::Selection(resource, ..) => resource,
        }
    }

    fn covers(&self, object: &Object) -> bool {
        match self {
            Self::Object(_, key) => object.key() == *key,
            Self::Selection(_, namespace, selector) => {
                namespace
                    .as_deref()
                    .is_none_or(|namespace| object.namespace() == Some(namespace))
                    && selector.matches_with(|key| object.label(key))
            }
        }
    }
}

struct Watched {
    informer: Informer,
    _guard: HandlerGuard,
}

type Interests = Arc<Mutex<HashMap<InstanceKey, Vec<Interest>>>>;

pub(crate) struct Watches {
    informers: Informers,
    queue: WorkQueue<InstanceKey>,
    sync_timeout: Duration,
    children: Mutex<HashMap<Resource, Watched>>,
    externals: Mutex<HashMap<Resource, Watched>>,
    interests: Interests,
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
        {
            let mut all = self.interests.lock();
            let looked_at = all.entry(instance.clone()).or_default();
            if !looked_at.contains(&interest) {
                looked_at.push(interest);
            }
        }
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
        {
            let mut all = self.interests.lock();
            if all.get(instance).map_or(0, Vec::len) == interests.len() {
                return;
            }
            if interests.is_empty() {
                all.remove(instance);
            } else {
                all.insert(instance.clone(), interests);
            }
        }
        self.stop_unused();
    }

    /// Invariant: whoever holds both locks took `externals` first; adding a handler does, as it replays events.
    fn stop_unused(&self) {
        let mut externals = self.externals.lock();
        let all = self.interests.lock();
        externals.retain(|resource, _| {
            all.values()
                .flatten()
                .any(|interest| interest.resource() == resource)
        });
    }

    fn watch_external(&self, resource: &Resource) -> Watched {
        let informer = self
            .informers
            .informer(resource, InformerOptions::metadata_only());
        let (queue, interests) = (self.queue.clone(), Arc::clone(&self.interests));
        let (watched, metrics) = (resource.clone(), self.metrics.clone());
        let guard = informer.add_handler(move |event| {
            let concerns = |object: &Object, interest: &Interest| {
                *interest.resource() == watched && interest.covers(object)
            };
            let mut has_matched = false;
            for (instance, looked_at) in interests.lock().iter() {
                // An object that leaves a selection concerns those who had it.
                let hit = looked_at.iter().any(|interest| match event {
                    Event::Updated { old, new } => {
                        concerns(old, interest) || concerns(new, interest)
                    }
                    Event::Added(object) | Event::Deleted(object) => concerns(object, interest),
                });
                if hit {
                    has_matched = true;
                    queue.add(instance.clone());
                }
            }
            metrics.event_routed(&watched, event, has_matched);
        });
        Watched {
            informer,
            _guard: guard,
        }
    }

    /// How many watches there are, and of what.
    pub fn count(&self, counts: &mut WatchCounts) {
        counts.watches += self.children.lock().len() + self.externals.lock().len();
        let (mut watchers, mut requests) = (HashMap::new(), HashMap::new());
        for (instance, interests) in self.interests.lock().iter() {
            *watchers.entry(instance.resource.clone()).or_insert(0) += 1;
            for interest in interests {
                let kinds: &mut [usize; 2] =
                    requests.entry(interest.resource().clone()).or_default();
                kinds[usize::from(matches!(interest, Interest::Selection(..)))] += 1;
            }
        }
        counts.watchers.extend(watchers);
        counts.requests.extend(requests);
    }

    /// Forgets an instance that is gone.
    pub fn forget(&self, instance: &InstanceKey) {
        let was_known = self.interests.lock().remove(instance).is_some();
        if was_known {
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
