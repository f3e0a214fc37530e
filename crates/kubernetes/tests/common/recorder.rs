//! Follows what is in the cluster through a reliable watch and checks what must always hold at every change.
//!
//! Events of one resource come in order and none is left out. Between resources there is no order, as with every watch: an
//! invariant should look at one resource and at numbers the test knows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use controller::{Api, Event, Informer, InformerOptions, Informers, Object, Resource};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::objects;

/// Violations that are kept.
const KEPT: usize = 5;

/// What must hold.
pub type Check = Arc<dyn Fn(&World) -> Result<(), String> + Send + Sync>;

/// Everything in the cluster, as far as it is followed.
#[derive(Default)]
pub struct World {
    objects: BTreeMap<(String, String), Arc<Object>>,
    /// How many objects of each resource have been created so far.
    pub created: BTreeMap<String, usize>,
    /// How many objects of each resource are gone.
    pub deleted: BTreeMap<String, usize>,
}

impl World {
    /// All objects of a resource (its plural name), sorted by namespace and name.
    pub fn all(&self, plural: &'static str) -> impl Iterator<Item = &Arc<Object>> {
        let from = (plural.to_owned(), String::new());
        let found = self.objects.range(from..);
        found
            .take_while(move |((of, _), _)| of == plural)
            .map(|(_, object)| object)
    }

    /// All Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.all("pods")
    }

    /// An object of the test's namespace, or of none.
    pub fn get(&self, plural: &'static str, name: &str) -> Option<&Arc<Object>> {
        self.all(plural).find(|object| object.name() == name)
    }
}

#[derive(Default)]
struct State {
    world: World,
    checks: Vec<Check>,
    violations: Vec<String>,
}

/// Follows the cluster.
pub struct Recorder {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    _informers: Vec<Informer>,
}

impl Recorder {
    /// Follows what controllers make and make things from.
    pub async fn start(api: Api, shutdown: CancellationToken) -> Self {
        let informers = Informers::new(api, shutdown);
        let state: Arc<Mutex<State>> = Arc::default();
        let changes = watch::Sender::new(0);
        let mut following = Vec::new();
        for resource in objects::FOLLOWED() {
            let informer = informers.informer(&resource, InformerOptions::default());
            let (state, changes) = (state.clone(), changes.clone());
            let note = move |event: &Event| {
                note(&mut state.lock(), &resource, event);
                changes.send_modify(|count| *count += 1);
            };
            informer.add_handler(note).forget();
            following.push(informer);
        }
        for informer in &following {
            assert!(informer.wait_for_sync().await, "the recorder follows");
        }
        Self {
            state,
            changes,
            _informers: following,
        }
    }

    /// What must hold after every change from now on.
    pub fn always(&self, check: Check) {
        self.state.lock().checks.push(check);
    }

    /// Wakes at every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Looks at the world.
    pub fn with<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.state.lock().world)
    }

    /// Fails where something that must hold did not.
    pub fn check(&self) {
        let violations = std::mem::take(&mut self.state.lock().violations);
        assert!(
            violations.is_empty(),
            "{}\n{}",
            violations.join("\n"),
            self.describe()
        );
    }

    /// What is in the cluster.
    pub fn describe(&self) -> String {
        let state = self.state.lock();
        let mut text = String::new();
        for ((plural, _), object) in &state.world.objects {
            if plural == "nodes" || plural == "events" {
                continue;
            }
            let going = if object.is_terminating() {
                " (going)"
            } else {
                ""
            };
            let (generation, replicas) = (object.generation(), object.pointer("/spec/replicas"));
            let wanted = replicas
                .map(|n| format!(" replicas {n}"))
                .unwrap_or_default();
            let owner = object
                .controller_of()
                .map(|owner| format!(" of {}", owner.name));
            let (key, owner) = (object.key(), owner.unwrap_or_default());
            let _ = writeln!(
                text,
                "{plural} {key}{owner}{going} generation {generation}{wanted} {}",
                object.status()
            );
        }
        for event in state.world.all("events") {
            let text_of = |name: &str| event.value()[name].as_str().unwrap_or_default().to_owned();
            let _ = writeln!(text, "event {} {}", text_of("reason"), text_of("message"));
        }
        text
    }
}

fn note(state: &mut State, resource: &Resource, event: &Event) {
    let object = event.object();
    let key = (resource.plural.to_string(), object.key().to_string());
    let world = &mut state.world;
    match event {
        Event::Added(_) => {
            *world
                .created
                .entry(resource.plural.to_string())
                .or_default() += 1;
            world.objects.insert(key, object.clone());
        }
        Event::Updated { .. } => {
            world.objects.insert(key, object.clone());
        }
        Event::Deleted(_) => {
            *world
                .deleted
                .entry(resource.plural.to_string())
                .or_default() += 1;
            world.objects.remove(&key);
        }
    }
    for check in &state.checks {
        if let Err(problem) = check(&state.world)
            && state.violations.len() < KEPT
        {
            state.violations.push(format!(
                "after {} of {}: {problem}",
                object.resource_version(),
                object.key()
            ));
        }
    }
}

/// What must hold of Pods that serve: never fewer than so many at a time.
pub fn available_at_least(least: usize) -> impl Fn(&World) -> Result<(), String> {
    move |world| {
        let available = world
            .pods()
            .filter(|pod| objects::is_active(pod) && objects::is_ready(pod))
            .count();
        if available < least {
            return Err(format!(
                "{available} Pods available where at least {least} must be"
            ));
        }
        Ok(())
    }
}
