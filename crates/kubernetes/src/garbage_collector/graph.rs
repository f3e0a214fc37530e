//! Who owns whom: the metadata of every object of every resource that is served.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Discovery, Event, Informer, InformerOptions, Object, ObjectKey, OwnerReference, Resource,
    WorkQueue, index,
};
use model::object;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::is_waiting;
use super::plan::{FOREGROUND, ORPHAN};
use super::served::{Served, served};
use crate::cluster::Cluster;

/// How often the set of resources is looked at, besides when a definition changes.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// How soon it is looked at again where not all could be told.
const DISCOVERY_RETRY: Duration = Duration::from_millis(500);
/// A resource that cannot be listed for so long holds up nobody any more.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

/// An object of any resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// What it is.
    pub resource: Resource,
    /// Its namespace and name.
    pub key: ObjectKey,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.key)
    }
}

struct Followed {
    informer: Informer,
    since: Instant,
}

#[derive(Default)]
struct State {
    /// The resources that are followed, each until it is served no more.
    followed: BTreeMap<Resource, Followed>,
    /// Groups whose resources the server has told.
    told: BTreeSet<String>,
    /// Whether it has told those of all its groups, if not all at once.
    all_told: bool,
}

/// The graph of owners and dependents.
pub struct Graph {
    cluster: Cluster,
    discovery: Discovery,
    queue: WorkQueue<Item>,
    state: Mutex<State>,
    since: Instant,
}

impl Graph {
    /// A graph that follows nothing yet.
    pub fn new(cluster: Cluster, queue: WorkQueue<Item>) -> Self {
        Self {
            discovery: Discovery::new(cluster.api().clone()),
            cluster,
            queue,
            state: Mutex::default(),
            since: Instant::now(),
        }
    }

    /// Which resource serves which kind.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Objects to look at.
    pub fn queue(&self) -> &WorkQueue<Item> {
        &self.queue
    }

    /// Keeps the followed resources those that are served.
    pub async fn follow_served(self: Arc<Self>) {
        let definitions = Resource::cluster(
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
        );
        let changed = Arc::new(Notify::new());
        // What they say is asked of the discovery; it is enough to see that they change.
        let informers = self.cluster.informers();
        let informer = informers.informer(&definitions, InformerOptions::metadata_only());
        let (notify, discovery) = (changed.clone(), self.discovery.clone());
        let _handler = informer.add_handler(move |event| {
            if let Some((_, group)) = event.object().name().split_once('.') {
                discovery.invalidate(group);
            }
            notify.notify_one();
        });
        loop {
            let wait = match served(self.cluster.api()).await {
                Ok(served) if served.unknown.is_empty() => {
                    self.follow(&served);
                    DISCOVERY_PERIOD
                }
                Ok(served) => {
                    for (group, error) in &served.unknown {
                        tracing::debug!(%group, %error, "looking for resources to collect");
                    }
                    self.follow(&served);
                    DISCOVERY_RETRY
                }
                Err(error) => {
                    tracing::debug!(%error, "looking for resources to collect");
                    DISCOVERY_RETRY
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.cluster.shutdown().cancelled() => return,
            }
        }
    }

    fn follow(self: &Arc<Self>, served: &Served) {
        // Events have no dependents and own nothing worth the traffic, as upstream has it.
        let wanted = |resource: &&Resource| &*resource.plural != "events";
        let known: BTreeSet<Resource> = served.resources.iter().filter(wanted).cloned().collect();
        let mut started = Vec::new();
        {
            let mut state = self.state.lock();
            state
                .followed
                .retain(|resource, _| served.may_have(resource, &known));
            let missing = known
                .into_iter()
                .filter(|resource| !state.followed.contains_key(resource));
            for resource in missing.collect::<Vec<_>>() {
                let options = InformerOptions::ownership_only();
                let informer = self.cluster.informers().informer(&resource, options);
                informer.add_owner_index();
                started.push((resource.clone(), informer.clone()));
                let since = Instant::now();
                state
                    .followed
                    .insert(resource, Followed { informer, since });
            }
            state.told.extend(served.groups.iter().cloned());
            let unknown = &mut served.unknown.iter();
            state.all_told |= unknown.all(|(group, _)| state.told.contains(group));
        }
        // Handlers look at the state, and may be called while they are added.
        for (resource, informer) in started {
            let graph = Arc::downgrade(self);
            informer
                .add_handler(move |event| {
                    // A graph that is gone needs no news.
                    if let Some(graph) = graph.upgrade() {
                        graph.note(&resource, event);
                    }
                })
                .forget();
        }
    }

    /// Queues what an event may concern.
    fn note(&self, resource: &Resource, event: &Event) {
        let object = event.object();
        let own = || Item {
            resource: resource.clone(),
            key: object.key(),
        };
        match event {
            Event::Added(_) => {
                if !object::owner_references(object.value()).is_empty() || waits(object) {
                    self.queue.add(own());
                }
                if is_waiting(object) {
                    self.wake_dependents(object);
                }
            }
            Event::Updated { old, new } => {
                let owners = |object: &Object| object::owner_references(object.value()).to_vec();
                if owners(old) != owners(new) {
                    self.queue.add(own());
                    self.wake_owners(old);
                }
                if waits(new) && !waits(old) {
                    self.queue.add(own());
                }
                if is_waiting(new) && !is_waiting(old) {
                    self.wake_dependents(new);
                }
            }
            Event::Deleted(gone) => {
                self.wake_dependents(gone);
                self.wake_owners(gone);
            }
        }
    }

    fn wake_dependents(&self, owner: &Object) {
        for (item, _) in self.dependents(owner.uid()) {
            self.queue.add(item);
        }
    }

    /// Wakes owners that wait for this dependent.
    fn wake_owners(&self, dependent: &Object) {
        for owner in dependent.owner_references() {
            let found = self.find(&owner, dependent.namespace());
            if let Some((resource, found)) = found.filter(|(_, found)| is_waiting(found)) {
                let key = found.key();
                self.queue.add(Item { resource, key });
            }
        }
    }

    /// An object as the cache shows it.
    pub fn get(&self, item: &Item) -> Option<Arc<Object>> {
        self.informer(&item.resource)?.get(&item.key)
    }

    fn informer(&self, resource: &Resource) -> Option<Informer> {
        let state = self.state.lock();
        let followed = state.followed.get(resource)?;
        Some(followed.informer.clone())
    }

    /// An owner as the cache shows it, where it may own things of a namespace.
    pub fn owner(&self, owner: &OwnerReference, namespace: Option<&str>) -> Option<Arc<Object>> {
        self.find(owner, namespace).map(|(_, found)| found)
    }

    fn find(
        &self,
        owner: &OwnerReference,
        namespace: Option<&str>,
    ) -> Option<(Resource, Arc<Object>)> {
        self.of_kind(owner)
            .into_iter()
            .find_map(|(resource, informer)| {
                let key = match (resource.namespaced, namespace) {
                    (true, Some(namespace)) => ObjectKey::new(namespace, &owner.name),
                    (true, None) => return None,
                    (false, _) => ObjectKey::cluster(&owner.name),
                };
                let found = informer.get(&key)?;
                (found.uid() == owner.uid).then_some((resource, found))
            })
    }

    /// Objects of an owner's kind and name in any namespace.
    pub fn same_kind(&self, owner: &OwnerReference) -> Vec<Vec<Arc<Object>>> {
        let named = |informer: Informer| {
            let mut all = informer.list();
            all.retain(|object| object.name() == owner.name);
            all
        };
        let informers = self.of_kind(owner).into_iter();
        informers.map(|(_, informer)| named(informer)).collect()
    }

    fn of_kind(&self, owner: &OwnerReference) -> Vec<(Resource, Informer)> {
        let state = self.state.lock();
        let is_it = |resource: &Resource| {
            *resource.kind == *owner.kind && *resource.group == *owner.group()
        };
        let found = state
            .followed
            .iter()
            .filter(|(resource, _)| is_it(resource));
        found
            .map(|(resource, followed)| (resource.clone(), followed.informer.clone()))
            .collect()
    }

    /// The dependents of an object.
    pub fn dependents(&self, uid: &str) -> Vec<(Item, Arc<Object>)> {
        let state = self.state.lock();
        let mut all = Vec::new();
        for (resource, followed) in &state.followed {
            let found = followed.informer.by_index(index::OWNER_UID, uid);
            all.extend(found.into_iter().map(|object| {
                let item = Item {
                    resource: resource.clone(),
                    key: object.key(),
                };
                (item, object)
            }));
        }
        all
    }

    /// Whether every resource is followed, so that no dependent is overlooked.
    pub fn is_complete(&self) -> bool {
        let state = self.state.lock();
        (state.all_told || self.since.elapsed() > SYNC_LIMIT)
            && state.followed.values().all(|followed| {
                followed.informer.has_synced() || followed.since.elapsed() > SYNC_LIMIT
            })
    }
}

/// Whether an object is going and waits for this controller.
fn waits(object: &Object) -> bool {
    object.is_terminating() && (object.has_finalizer(FOREGROUND) || object.has_finalizer(ORPHAN))
}
