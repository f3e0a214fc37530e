//! Shared informers: one list and watch per resource and selection, shared by everyone who asks for it.
//!
//! Informers start when first asked for and stop when the last handle is dropped, so controllers may follow kinds they
//! meet at run time. There is no periodic resync: a lost event is a bug, not something to paper over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::api::{Api, ListOptions};
use crate::cache::{Cache, Event, OPEN_MAX};
use crate::object::{Object, ObjectKey};
use crate::queue::Backoff;
use crate::reflector::{self, Reflector};
use crate::resource::Resource;

/// Which objects an informer follows, and how much of them it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InformerOptions {
    /// One namespace, or all of them.
    pub namespace: Option<String>,
    /// Only objects with these labels.
    pub label_selector: Option<String>,
    /// Only objects with these fields.
    pub field_selector: Option<String>,
    /// Keep metadata only.
    pub metadata_only: bool,
    /// Keep only what says who owns whom: names, owners and finalizers.
    pub ownership_only: bool,
    /// Keep `metadata.managedFields`, which hardly anybody reads.
    pub keep_managed_fields: bool,
    /// Keep objects folded however few they are: they are large and seldom looked at.
    pub folded: bool,
}

impl InformerOptions {
    /// Everything, but only its metadata.
    pub fn metadata_only() -> Self {
        Self {
            metadata_only: true,
            ..Self::default()
        }
    }

    /// Everything, folded.
    pub fn folded() -> Self {
        Self {
            folded: true,
            ..Self::default()
        }
    }

    /// Everything, but only who owns whom.
    pub fn ownership_only() -> Self {
        Self {
            ownership_only: true,
            ..Self::default()
        }
    }
}

type Handler = Box<dyn Fn(&Event) + Send + Sync>;

struct Subscriber {
    alive: Arc<AtomicBool>,
    handler: Handler,
}

/// What the reflector and the handles share.
pub(crate) struct Shared {
    pub resource: Resource,
    cache: RwLock<Cache>,
    /// Held while the cache changes and the change is told, so a new subscriber misses and repeats nothing.
    subscribers: Mutex<Vec<Subscriber>>,
    version: Mutex<String>,
    synced: watch::Sender<SyncState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SyncState {
    Waiting,
    Synced,
    Stopped,
}

impl Shared {
    /// Makes the cache equal to a fresh list, object by object.
    pub fn replace(&self, objects: Vec<(ObjectKey, Arc<Object>)>, version: &str) {
        let mut subscribers = self.subscribers.lock();
        let present = objects.iter().map(|(key, _)| key).collect();
        let gone = self.cache.read().missing_from(&present);
        for key in gone {
            if let Some(event) = self.cache.write().remove(&key, None) {
                tell(&mut subscribers, &event);
            }
        }
        for (key, object) in objects {
            self.put(&mut subscribers, &key, object);
        }
        self.seen(Some(version));
        self.synced.send_if_modified(|state| {
            std::mem::replace(state, SyncState::Synced) == SyncState::Waiting
        });
    }

    pub fn apply(&self, deleted: bool, key: &ObjectKey, object: Arc<Object>) {
        let mut subscribers = self.subscribers.lock();
        if !deleted {
            return self.put(&mut subscribers, key, object);
        }
        let event = self.cache.write().remove(key, Some(object));
        if let Some(event) = event {
            tell(&mut subscribers, &event);
        }
    }

    fn put(&self, subscribers: &mut Vec<Subscriber>, key: &ObjectKey, object: Arc<Object>) {
        let event = self.cache.write().upsert(object);
        if let Some(event) = event {
            tell(subscribers, &event);
        }
        self.cache.write().fold(key);
    }

    /// Lets go of what nobody looks at any more.
    pub fn tidy(&self) {
        self.cache.write().fold_all();
    }

    pub fn seen(&self, version: Option<&str>) {
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            let mut last = self.version.lock();
            last.clear();
            last.push_str(version);
        }
    }

    pub fn stopped(&self) {
        self.synced.send_replace(SyncState::Stopped);
    }
}

fn tell(subscribers: &mut Vec<Subscriber>, event: &Event) {
    subscribers.retain(|subscriber| subscriber.alive.load(Ordering::Acquire));
    for subscriber in subscribers {
        (subscriber.handler)(event);
    }
}

/// Removes its handler when dropped.
#[must_use = "dropping the guard removes the handler; use `forget` to keep it"]
pub struct HandlerGuard {
    alive: Option<Arc<AtomicBool>>,
}

impl HandlerGuard {
    /// Keeps the handler for as long as the informer runs.
    pub fn forget(mut self) {
        self.alive = None;
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        if let Some(alive) = &self.alive {
            alive.store(false, Ordering::Release);
        }
    }
}

struct Running {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// A handle to a running informer; it stops with its last handle.
#[derive(Clone)]
pub struct Informer {
    running: Arc<Running>,
}

impl Informer {
    /// What is followed.
    pub fn resource(&self) -> &Resource {
        &self.running.shared.resource
    }

    /// The object of that key, if there is one.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.running.shared.cache.read().get(key)
    }

    /// All objects, in no particular order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.running.shared.cache.read().all().cloned().collect()
    }

    /// All objects of one namespace, in no particular order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let cache = self.running.shared.cache.read();
        cache.of_namespace(namespace).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.running.shared.cache.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index, unless one of that name exists (so sharers may all ask for it).
    pub fn add_index(
        &self,
        name: &str,
        function: impl Fn(&Object) -> Vec<String> + Send + Sync + 'static,
    ) {
        self.running
            .shared
            .cache
            .write()
            .add_index(name, Arc::new(function));
    }

    /// Objects that the index `name` files under `value`, sorted by key; empty if there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<Object>> {
        let found = self.running.shared.cache.read().by_index(name, value);
        debug_assert!(found.is_some(), "index {name:?} was never added");
        found.unwrap_or_default()
    }

    /// Calls `handler` for every present object (as added) and every change from now on.
    ///
    /// Handlers run one after the other on the informer's task: they must only queue keys, and must not add handlers to
    /// the same informer.
    pub fn add_handler(&self, handler: impl Fn(&Event) + Send + Sync + 'static) -> HandlerGuard {
        let alive = Arc::new(AtomicBool::new(true));
        let mut subscribers = self.running.shared.subscribers.lock();
        for object in self.list() {
            handler(&Event::Added(object));
        }
        subscribers.push(Subscriber {
            alive: Arc::clone(&alive),
            handler: Box::new(handler),
        });
        HandlerGuard { alive: Some(alive) }
    }

    /// Whether the first list is complete.
    pub fn has_synced(&self) -> bool {
        *self.running.shared.synced.borrow() == SyncState::Synced
    }

    /// Waits for the first list; `false` if the informer stops before.
    pub async fn wait_for_sync(&self) -> bool {
        let mut state = self.running.shared.synced.subscribe();
        let result = state.wait_for(|state| *state != SyncState::Waiting).await;
        result.is_ok_and(|state| *state == SyncState::Synced)
    }

    /// Waits for the first list, but not forever.
    pub async fn wait_for_sync_timeout(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.wait_for_sync())
            .await
            .unwrap_or(false)
    }

    /// The last resource version heard of.
    pub fn last_resource_version(&self) -> String {
        self.running.shared.version.lock().clone()
    }
}

type Registry = HashMap<(Resource, InformerOptions), Weak<Running>>;

/// All informers of a process.
#[derive(Clone)]
pub struct Informers {
    api: Api,
    shutdown: CancellationToken,
    running: Arc<Mutex<Registry>>,
    tasks: TaskTracker,
    backoff: Backoff,
}

impl std::fmt::Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informers").finish_non_exhaustive()
    }
}

impl Informers {
    /// Informers that read through `api` until `shutdown`.
    pub fn new(api: Api, shutdown: CancellationToken) -> Self {
        Self {
            api,
            shutdown,
            running: Arc::default(),
            tasks: TaskTracker::new(),
            backoff: reflector::BACKOFF,
        }
    }

    /// The same with other delays after lists and watches that fail; client-go's otherwise.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// What the informers read through.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The informer for this selection, started if nobody else holds it.
    pub fn informer(&self, resource: &Resource, options: InformerOptions) -> Informer {
        let mut registry = self.running.lock();
        let key = (resource.clone(), options);
        if let Some(running) = registry.get(&key).and_then(Weak::upgrade) {
            return Informer { running };
        }
        registry.retain(|_, running| running.strong_count() > 0);
        let running = self.start(&key.0, &key.1);
        registry.insert(key, Arc::downgrade(&running));
        Informer { running }
    }

    fn start(&self, resource: &Resource, options: &InformerOptions) -> Arc<Running> {
        let shared = Arc::new(Shared {
            resource: resource.clone(),
            cache: RwLock::new(Cache::new(if options.folded { 0 } else { OPEN_MAX })),
            subscribers: Mutex::default(),
            version: Mutex::default(),
            synced: watch::Sender::new(SyncState::Waiting),
        });
        let stop = self.shutdown.child_token();
        let reflector = Reflector {
            api: self.api.clone(),
            options: ListOptions {
                namespace: options.namespace.clone(),
                label_selector: options.label_selector.clone(),
                field_selector: options.field_selector.clone(),
                metadata_only: options.metadata_only || options.ownership_only,
            },
            keep_managed_fields: options.keep_managed_fields,
            ownership_only: options.ownership_only,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
            backoff: self.backoff,
            streaming_list: true,
        };
        self.tasks.spawn(reflector.run());
        Arc::new(Running {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// How many informers run.
    pub fn len(&self) -> usize {
        self.running
            .lock()
            .values()
            .filter(|running| running.strong_count() > 0)
            .count()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until all informers have ended; call after the shutdown.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
