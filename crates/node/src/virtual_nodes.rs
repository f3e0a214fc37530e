//! Virtual nodes: simulated kubelets for any number of nodes, in a few tasks.
//!
//! A Pod that is assigned to a virtual node becomes Running and Ready at once; one whose containers are
//! to end (`restartPolicy` other than `Always`) ends after a second; one that is deleted goes at once.
//! Annotations of Pods and nodes make it otherwise: slow, failing, crashing, cut off
//! (`docs/virtual-nodes.md` lists them). `plan` decides what a Pod's status is; nothing runs.
//!
//! Left out: a node refusing Pods that do not fit, and volumes, which are all there at once.

mod addresses;
mod behaviour;
mod conditions;
mod container;
mod kubelets;
mod node;
mod plan;
mod register;
mod resize;
mod scenario;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Api, Backoff, Controller, Event, EventRecorder, Informer, InformerOptions, Informers, Object,
    Resource, WorkQueue, index,
};
use model::object;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::addresses::{NodeAddresses, PodAddresses};
use self::kubelets::{Kubelets, Nodes};
pub use self::node::{Template, TemplateError};
use self::scenario::Play;
pub use self::scenario::{Scenario, ScenarioError};

/// The label every virtual node has.
pub const LABEL: &str = "node.corvus.dev/virtual";
/// The annotation that says why a virtual node is silent although its server lives.
const SILENCED: &str = "node.corvus.dev/silenced";
/// The label that says which server simulates a virtual node.
pub const SERVER: &str = "node.corvus.dev/server";

/// Parallel status writes.
const WORKERS: usize = 8;
/// How long nodes' Leases last, as kubelets' do; they are renewed twice in that time.
pub const LEASE_DURATION: Duration = Duration::from_secs(40);
/// A virtual node that the node life cycle controller has lost is not waited for longer than this: its server is gone.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);
/// How often nodes repeat their status, as a kubelet does.
const STATUS_EVERY: Duration = Duration::from_mins(5);

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who this is: servers that share a store have different names, and one keeps its name.
    pub server: String,
    /// The nodes.
    pub templates: Vec<Template>,
    /// Whether nodes are given ranges for their Pods (`spec.podCIDRs`): Pods wait for them.
    pub pod_cidrs: bool,
    /// How long the nodes' Leases last ([`LEASE_DURATION`] is usual); they are renewed twice in that time.
    pub lease_duration: Duration,
    /// What happens to Pods and nodes, counted from the start; none leaves that to annotations.
    pub scenario: Option<Scenario>,
}

fn nodes() -> Resource {
    Resource::cluster("v1", "nodes", "Node")
}

fn pods() -> Resource {
    Resource::namespaced("v1", "pods", "Pod")
}

/// What is known of the nodes simulated here, and of the addresses given out.
#[derive(Debug)]
struct Known {
    /// When each last repeated its status, by name.
    own: HashMap<String, Own>,
    pods: PodAddresses,
    nodes: NodeAddresses,
}

#[derive(Debug, Clone)]
struct Own {
    node: Arc<Object>,
    address: String,
    status_at: Option<Instant>,
}

type Shared = Arc<Mutex<Known>>;

/// Makes the virtual nodes, removes those of earlier runs that are too many, and plays their kubelets
/// until `shutdown`. What it reads comes through `informers`, which others may share.
pub async fn run(
    client: kube::Client,
    informers: Informers,
    options: Options,
    shutdown: CancellationToken,
) {
    let api = Api::new(client);
    let Options {
        server,
        templates,
        pod_cidrs,
        lease_duration,
        scenario,
    } = options;
    let play = scenario.map(|scenario| Arc::new(Play::new(scenario)));
    let registering = {
        let (api, server, shutdown) = (api.clone(), server.clone(), shutdown.clone());
        async move {
            let mut delay = Duration::from_millis(50);
            while let Err(error) = register::register(&api, &server, &templates).await {
                tracing::warn!(%error, "registering virtual nodes");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
                delay = (delay * 2).min(Duration::from_secs(2));
            }
        }
    };
    let selected = InformerOptions {
        label_selector: Some(format!("{LABEL}=true")),
        ..InformerOptions::default()
    };
    let virtual_nodes = informers.informer(&nodes(), selected);
    let pods = informers.informer(&pods(), InformerOptions::default());
    pods.add_node_index();
    let known: Shared = Arc::new(Mutex::new(Known {
        own: HashMap::new(),
        pods: PodAddresses::default(),
        nodes: NodeAddresses::default(),
    }));
    let pod_queue: WorkQueue = WorkQueue::new("virtual-pods", Backoff::default());
    let node_queue: WorkQueue = WorkQueue::new("virtual-nodes", Backoff::default());
    let _nodes_handler = follow_nodes(
        &virtual_nodes,
        &pods,
        &server,
        &known,
        &node_queue,
        &pod_queue,
    );
    let _pods_handler = follow_pods(&pods, &known, &pod_queue);
    let (recorder, _sending) = EventRecorder::new(api.clone(), "kubelet", shutdown.clone());
    let kubelets = Kubelets {
        api: api.clone(),
        pods: pods.clone(),
        known: known.clone(),
        recorder,
        pod_cidrs,
        play: play.clone(),
    };
    let lives = Nodes {
        api,
        nodes: virtual_nodes.clone(),
        known,
        server,
        leases: Mutex::default(),
        lease_duration,
        play: play.clone(),
    };
    let wakes = Wakes {
        nodes: virtual_nodes.clone(),
        pods: pods.clone(),
        node_queue: node_queue.clone(),
        pod_queue: pod_queue.clone(),
    };
    let scenario_played = wakes.with(play, shutdown.clone());
    let pods_played = Controller::new("virtual-pods", pod_queue, kubelets)
        .workers(WORKERS)
        .wait_for(vec![pods, virtual_nodes.clone()])
        .run(shutdown.clone());
    let nodes_played = Controller::new("virtual-nodes", node_queue, lives)
        .workers(WORKERS)
        .wait_for(vec![virtual_nodes])
        .run(shutdown);
    tokio::join!(registering, pods_played, nodes_played, scenario_played);
}

/// Wakes those whom a step of the scenario concerns when it begins and when it ends.
struct Wakes {
    nodes: Informer,
    pods: Informer,
    node_queue: WorkQueue,
    pod_queue: WorkQueue,
}

impl Wakes {
    async fn with(self, play: Option<Arc<Play>>, shutdown: CancellationToken) {
        let Some(play) = play else {
            return;
        };
        while let Some(next) = play.next_change() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            tracing::info!(now = ?play.current(), "the scenario goes on");
            for node in self.nodes.list() {
                if play.concerns(&node, true) {
                    self.node_queue.add(node.key());
                    for pod in self.pods.by_index(index::NODE_NAME, node.name()) {
                        self.pod_queue.add(pod.key());
                    }
                }
            }
            for pod in self.pods.list() {
                if play.concerns(&pod, false) {
                    self.pod_queue.add(pod.key());
                }
            }
        }
    }
}

/// A Pod or a node as it is to behave.
fn seen(play: Option<&Arc<Play>>, object: &Arc<Object>, is_node: bool) -> Arc<Object> {
    play.map_or_else(|| object.clone(), |play| play.look(object, is_node))
}

/// Keeps track of the nodes that are simulated here.
fn follow_nodes(
    nodes: &Informer,
    pods: &Informer,
    server: &str,
    known: &Shared,
    node_queue: &WorkQueue,
    pod_queue: &WorkQueue,
) -> controller::HandlerGuard {
    let (server, known, pods) = (server.to_owned(), known.clone(), pods.clone());
    let (node_queue, pod_queue) = (node_queue.clone(), pod_queue.clone());
    nodes.add_handler(move |event| {
        let node = event.object();
        let gone = matches!(event, Event::Deleted(_));
        let is_own = node.label(SERVER) == Some(&server) && !gone;
        let mut woken = false;
        {
            let mut known = known.lock();
            if gone {
                known.nodes.release(node.name());
            } else {
                known.nodes.observe(node.name(), internal_address(node));
            }
            if is_own {
                known.pods.set_ranges(node.name(), pod_cidrs(node));
                let address = known.nodes.of(node.name());
                let old = known.own.get(node.name());
                woken = old.is_none_or(|old| {
                    let changed = |name: &[&str]| old.node.get(name) != node.get(name);
                    changed(&["metadata", "annotations"])
                        || changed(&["status", "allocatable"])
                        || changed(&["spec", "podCIDRs"])
                });
                let own = Own {
                    node: node.clone(),
                    address,
                    status_at: old.and_then(|old| old.status_at),
                };
                known.own.insert(node.name().to_owned(), own);
            } else {
                known.own.remove(node.name());
                known.pods.forget(node.name());
            }
        }
        // Others' nodes are theirs, until nobody hears of them; nobody's are claimed.
        let is_left = || node.label(SERVER).is_none() || node::silent_since(node).is_some();
        if is_own || !gone && is_left() {
            node_queue.add(node.key());
        }
        if woken {
            for pod in pods.by_index(index::NODE_NAME, node.name()) {
                pod_queue.add(pod.key());
            }
        }
    })
}

fn follow_pods(pods: &Informer, known: &Shared, queue: &WorkQueue) -> controller::HandlerGuard {
    let (known, queue) = (known.clone(), queue.clone());
    pods.add_handler(move |event| {
        let pod = event.object();
        let node = object::text(pod.value(), &["spec", "nodeName"]);
        let gone = matches!(event, Event::Deleted(_));
        let is_own = {
            let mut known = known.lock();
            if gone || matches!(phase(pod), "Succeeded" | "Failed") {
                known.pods.release(node, pod.uid());
            } else if !node.is_empty() && plan::needs_addresses(pod) {
                let addresses = object::list(pod.status(), &["podIPs"]).iter();
                let addresses = addresses.map(|address| object::text(address, &["ip"]));
                known.pods.observe(node, pod.uid(), addresses);
            }
            known.own.contains_key(node) && !gone
        };
        if is_own {
            queue.add(pod.key());
        }
    })
}

fn phase(pod: &Object) -> &str {
    object::text(pod.status(), &["phase"])
}

/// The ranges a node has for its Pods.
fn pod_cidrs(node: &Object) -> Vec<String> {
    let cidrs = object::list(node.spec(), &["podCIDRs"]).iter();
    cidrs.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn internal_address(node: &Object) -> &str {
    object::list(node.status(), &["addresses"])
        .iter()
        .find(|address| object::text(address, &["type"]) == "InternalIP")
        .map_or("", |address| object::text(address, &["address"]))
}

/// What a node has to give.
fn allocatable(node: &Object) -> &Value {
    node.get(&["status", "allocatable"]).unwrap_or(&Value::Null)
}
