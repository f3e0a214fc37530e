//! A cluster for tests of controllers: an API server in this process, controllers that run through a client with seeded faults,
//! a kubelet that obeys the test, and a recorder that looks at every change.
//!
//! ```text
//!  controllers --faults, stale caches, restarts--> API server <--reliable-- kubelet, recorder, the test
//! ```
//!
//! A test names the controllers, states what must always hold ([`Harness::always`]), does something, and waits until
//! ([`Harness::until`]) the world is as wanted. [`each_seed`] repeats it under several schedules; `CORVUS_SEED=7` repeats one,
//! `CORVUS_SEEDS=100` tries many.

#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod autoscaling;
pub mod expect;
pub mod kubelet;
pub mod leaders;
pub mod objects;
pub mod recorder;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Api, Backoff, DeleteOptions, FaultPlan, Faults, Informers, Object, ObjectKey, RequestLog,
    Resource, Subresource,
};
use http::Method;
use kubernetes::Selection;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::kubelet::{Act, Kubelet};
use self::recorder::{Recorder, World};

/// The namespace everything is in.
pub const NAMESPACE: &str = "default";
/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often autoscalers look; upstream's 15 s would make every look that fails a long wait.
const AUTOSCALER_PERIOD: Duration = Duration::from_millis(1500);
/// Without a write for so long, controllers are at rest.
const REST: Duration = Duration::from_millis(400);

/// What a test runs.
#[derive(Clone)]
pub struct Setup {
    /// The names of the controllers, as in `--controllers`.
    pub controllers: &'static [&'static str],
    /// What goes wrong for them.
    pub faults: FaultPlan,
    /// The number of nodes.
    pub nodes: usize,
    /// How often autoscalers look.
    pub autoscaler_period: Duration,
}

impl Setup {
    /// Controllers for which everything goes wrong now and then, and caches that are late.
    pub fn faulty(seed: u64, controllers: &'static [&'static str]) -> Self {
        let faults =
            FaultPlan::evenly(seed, 0.04).with_stale_caches(0.25, Duration::from_millis(60));
        Self {
            controllers,
            faults,
            nodes: 3,
            autoscaler_period: AUTOSCALER_PERIOD,
        }
    }

    /// Controllers for which nothing goes wrong.
    pub fn calm(controllers: &'static [&'static str]) -> Self {
        Self {
            controllers,
            faults: FaultPlan::default(),
            nodes: 3,
            autoscaler_period: AUTOSCALER_PERIOD,
        }
    }

    /// With so many nodes.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// With autoscalers that look every so often.
    pub fn autoscaler_period(self, autoscaler_period: Duration) -> Self {
        Self {
            autoscaler_period,
            ..self
        }
    }
}

struct Running {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
    /// From then on nothing is sent any more.
    dead: CancellationToken,
    /// Those that are on their way.
    requests: TaskTracker,
}

/// A cluster and all that runs beside it.
pub struct Harness {
    /// A client for which nothing goes wrong.
    pub api: Api,
    /// Every change.
    pub recorder: Recorder,
    /// What the kubelets do.
    pub kubelet: Kubelet,
    cluster: testkit::Cluster,
    faults: Faults,
    log: RequestLog,
    setup: Setup,
    running: Mutex<Option<Running>>,
}

impl Harness {
    /// Starts a cluster, its nodes, its kubelets and the controllers.
    pub async fn start(setup: Setup) -> Self {
        let harness = Self::without_controllers(setup).await;
        harness.run_controllers();
        harness
    }

    /// Starts a cluster, its nodes and its kubelets.
    pub async fn without_controllers(setup: Setup) -> Self {
        let mut options = testkit::options();
        // No accounts are needed here, and nobody would take the taint of new nodes away.
        let off = ["ServiceAccount", "TaintNodesByCondition"].map(str::to_owned);
        options.admission = apiserver::admission::Plugins::with(&[], &off).expect("a known plugin");
        let cluster = testkit::Cluster::with(options).await;
        let api = Api::new(cluster.client());
        for number in 0..setup.nodes {
            let node = objects::node(&format!("node-{number}"));
            api.create(&objects::NODES(), &node).await.expect("a node");
        }
        Self {
            recorder: Recorder::start(api.clone(), cluster.shutdown()).await,
            kubelet: Kubelet::start(api.clone(), cluster.shutdown()),
            api,
            cluster,
            faults: Faults::new(setup.faults),
            log: RequestLog::new(),
            setup,
            running: Mutex::new(None),
        }
    }

    fn run_controllers(&self) {
        let (requests, dead) = (TaskTracker::new(), CancellationToken::new());
        let client = mortal(self.cluster.client(), requests.clone(), dead.clone());
        let client = self.faulty(client);
        let shutdown = self.cluster.shutdown().child_token();
        let options = options(&self.setup, &client, &shutdown);
        let token = shutdown.clone();
        let task = tokio::spawn(async move { kubernetes::run(client, &options, token).await });
        *self.running.lock() = Some(Running {
            task,
            shutdown,
            dead,
            requests,
        });
    }

    /// A client for which everything goes wrong now and then, and whose requests are noted.
    fn faulty(&self, client: kube::Client) -> kube::Client {
        self.log.wrap(self.faults.wrap(client))
    }

    /// Kills the controllers wherever they are and starts them anew: their memory is lost.
    pub async fn restart(&self) {
        self.kill().await;
        self.run_controllers();
    }

    /// Kills the controllers wherever they are.
    pub async fn kill(&self) {
        let running = self.running.lock().take();
        if let Some(Running {
            task,
            shutdown,
            dead,
            requests,
        }) = running
        {
            dead.cancel();
            task.abort();
            shutdown.cancel();
            // An aborted task ends with an error, which is what was wanted.
            let _ = task.await;
            // What is on its way has been sent, or never will be.
            requests.close();
            requests.wait().await;
            // What it has sent arrives before another one takes over, as a Lease makes sure of. The server takes writes in
            // turn, so they are done once this one is.
            let leases = Resource::namespaced("coordination.k8s.io/v1", "leases", "Lease");
            let barrier = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "barrier", "namespace": NAMESPACE},
            });
            self.create(&leases, &barrier).await;
            self.delete(&leases, "barrier").await;
        }
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&self) {
        self.faults.stop();
    }

    /// The server, for what needs another user.
    pub fn cluster(&self) -> &testkit::Cluster {
        &self.cluster
    }

    /// What must hold after every change; the text says what does not.
    pub fn always(&self, check: impl Fn(&World) -> Result<(), String> + Send + Sync + 'static) {
        self.recorder.always(Arc::new(check));
    }

    /// Waits until the world is as wanted; fails when that takes too long, or at once when something that must hold does not.
    pub async fn until(&self, what: &str, wanted: impl Fn(&World) -> bool) {
        let mut changes = self.recorder.changes();
        let started = tokio::time::Instant::now();
        loop {
            changes.borrow_and_update();
            self.recorder.check();
            if self.recorder.with(&wanted) {
                return;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            let waited = tokio::time::timeout(left, changes.changed()).await;
            let world = || self.recorder.describe();
            assert!(waited.is_ok(), "waited in vain until {what}\n{}", world());
        }
    }

    /// Waits until the controllers have written nothing for a while, then fails if they read on: no hot loops.
    pub async fn at_rest(&self) {
        let started = tokio::time::Instant::now();
        loop {
            self.log.clear();
            tokio::time::sleep(REST).await;
            let requests: Vec<_> = self.log.requests();
            let busy = |(method, path): &&(Method, String)| {
                // Watches end and are opened again.
                *method != Method::GET || !path.contains("watch=true")
            };
            let found: Vec<_> = requests.iter().filter(busy).collect();
            if found.is_empty() {
                break;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the controllers never rest: {} requests, such as {:?}",
                found.len(),
                &found[..found.len().min(8)]
            );
        }
        self.recorder.check();
    }

    /// Every request of the controllers since the last call or rest.
    pub fn requests(&self) -> Vec<(Method, String)> {
        let requests = self.log.requests();
        self.log.clear();
        requests
    }

    /// Creates an object.
    pub async fn create(&self, resource: &Resource, object: &Value) -> Object {
        let created = self.api.create(resource, object).await;
        created.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads an object.
    pub async fn get(&self, resource: &Resource, name: &str) -> Object {
        let found = self.api.get(resource, &self.key(resource, name)).await;
        found.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, resource: &Resource, name: &str, patch: &Value) -> Object {
        let key = self.key(resource, name);
        let patched = self
            .api
            .merge_patch(resource, &key, Subresource::None, patch)
            .await;
        patched.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Deletes an object, which need not be there.
    pub async fn delete(&self, resource: &Resource, name: &str) {
        self.delete_with(resource, name, &DeleteOptions::default())
            .await;
    }

    /// Deletes an object in a certain way.
    pub async fn delete_with(&self, resource: &Resource, name: &str, options: &DeleteOptions) {
        let deleted = self
            .api
            .delete(resource, &self.key(resource, name), options)
            .await;
        deleted.unwrap_or_else(|error| panic!("{error}"));
    }

    #[allow(clippy::unused_self, reason = "it reads better")]
    fn key(&self, resource: &Resource, name: &str) -> ObjectKey {
        if resource.namespaced {
            ObjectKey::new(NAMESPACE, name)
        } else {
            ObjectKey::cluster(name)
        }
    }

    /// What the kubelets do with every Pod from now on.
    pub fn pods_become(&self, act: impl Fn(&Object) -> Act + Send + Sync + 'static) {
        self.kubelet.set(Arc::new(act));
    }
}

/// What controllers are run with.
fn options(
    setup: &Setup,
    client: &kube::Client,
    shutdown: &CancellationToken,
) -> kubernetes::Options {
    let names: Vec<String> = setup.controllers.iter().map(|&n| n.to_owned()).collect();
    // Several failures in a row would be a wait of half a minute with client-go's delays.
    let delays = Backoff {
        base: Duration::from_millis(50),
        max: Duration::from_secs(1),
    };
    let informers = Informers::new(Api::new(client.clone()), shutdown.clone());
    kubernetes::Options {
        selection: Selection::parse(&names).expect("known controllers"),
        node_cidrs: Some(node_cidrs()),
        // Whatever is not used today is old.
        token_clean_up_period: Some(Duration::from_millis(1)),
        autoscaler_sync_period: Some(setup.autoscaler_period),
        hpa_scale_to_zero: kinds::features::hpa_scale_to_zero(),
        stateful_set_max_unavailable: kinds::features::stateful_set_max_unavailable(),
        informers: Some(informers.with_backoff(delays)),
        ..kubernetes::Options::default()
    }
}

/// A client that sends nothing any more once its process is dead; `requests` are those on their way.
fn mortal(client: kube::Client, requests: TaskTracker, dead: CancellationToken) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, dead, on_its_way) = (client.clone(), dead.clone(), requests.token());
        async move {
            if dead.is_cancelled() {
                return Err(tower::BoxError::from("the process is dead"));
            }
            let answer = client.send(request).await;
            drop(on_its_way);
            Ok(answer?)
        }
    });
    kube::Client::new(service, namespace)
}

/// Ranges for sixteen nodes.
fn node_cidrs() -> kubernetes::NodeCidrs {
    let sizes = kubernetes::MaskSizes::default();
    kubernetes::NodeCidrs::parse("10.244.0.0/20", sizes, "").expect("a range")
}

/// Runs a test under several seeds (`CORVUS_SEEDS`), or under the one in `CORVUS_SEED`; says which one failed.
pub fn each_seed<F: Future<Output = ()>>(count: u64, test: impl Fn(u64) -> F) {
    for seed in testkit::seeds(count) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test(seed.number));
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
