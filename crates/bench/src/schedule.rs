//! Scheduling alone: Pods that are there already, nodes without kubelets, and nothing else at work.
//!
//! By default the API server and Corvus' scheduler are in this process. With `--kubeconfig` the server is another
//! one, and with `--scheduler-name` so is the scheduler. Corvus' own answers to a name of its own, so it is never
//! in the way of a scheduler that is there.
//!
//! Left out: kubelets. Nodes have no lease, so a node life cycle controller taints them after 40 seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use controller::{
    Api, DeleteOptions, Event, InformerOptions, Informers, ListOptions, Object, ObjectKey, Resource,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kubernetes::{AttemptObserver, AttemptOutcome, Options, SchedulerConfiguration, Selection};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::{client, ms};

const NAME: &str = "corvus-bench";
const NAMESPACE: &str = "default";
const LABEL: &str = "app=corvus-bench";
/// How many objects are created at a time.
const CREATORS: usize = 32;

/// The arguments of `corvus-bench schedule`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many nodes are made.
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// How many Pods wait.
    #[arg(long, default_value_t = 5_000)]
    pods: usize,
    /// The cluster, which should have no nodes of its own; a server in this process otherwise.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The cluster's own scheduler of this name is measured, such as default-scheduler. The nodes come last then.
    #[arg(long, requires = "kubeconfig")]
    scheduler_name: Option<String>,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 300)]
    timeout_seconds: u64,
}

/// How long the attempts took that found a node, and how many did not.
#[derive(Default)]
struct Attempts {
    scheduled: Vec<Duration>,
    others: usize,
}

struct Bench {
    api: Api,
    pods: Resource,
    nodes: Resource,
    bound: watch::Receiver<usize>,
    limit: Duration,
}

/// Creates Pods and nodes, and sees how fast they come together.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    // Ends with this function; a cluster of others is none of its business.
    let mut own = None;
    let api = match &arguments.kubeconfig {
        Some(kubeconfig) => Api::new(client(kubeconfig).await?),
        None => Api::new(own.insert(cluster().await?).client()),
    };
    let shutdown = CancellationToken::new();
    let _ends = shutdown.clone().drop_guard();
    let pods = Resource::namespaced("v1", "pods", "Pod");
    let informers = Informers::new(api.clone(), shutdown.clone());
    let informer = informers.informer(
        &pods,
        InformerOptions {
            namespace: Some(NAMESPACE.to_owned()),
            label_selector: Some(LABEL.to_owned()),
            ..InformerOptions::default()
        },
    );
    informer.wait_for_sync().await;
    if !informer.is_empty() {
        bail!("there are Pods with the label {LABEL} in {NAMESPACE} already");
    }
    let (tell, bound) = watch::channel(0);
    let count = AtomicUsize::new(0);
    let _handler = informer.add_handler(move |event| {
        let is_bound = |pod: &Object| pod.pointer("/spec/nodeName").is_some();
        if let Event::Updated { old, new } = event
            && is_bound(new)
            && !is_bound(old)
        {
            tell.send_replace(count.fetch_add(1, Ordering::Relaxed) + 1);
        }
    });
    let mut bench = Bench {
        api,
        pods,
        nodes: Resource::cluster("v1", "nodes", "Node"),
        bound,
        limit: Duration::from_secs(arguments.timeout_seconds),
    };
    let mut line = json!({"bench": "schedule", "nodes": arguments.nodes, "pods": arguments.pods});
    let outcome = bench.measure(arguments, &shutdown, &mut line).await;
    shutdown.cancel();
    if own.is_none() {
        bench.clean(arguments.nodes).await?;
    }
    outcome.map(|()| line)
}

/// A server of this process, with what its Pods need.
async fn cluster() -> anyhow::Result<testkit::Cluster> {
    let mut options = testkit::options();
    // Nobody would make accounts, nor take the taint of new nodes away.
    let off = ["ServiceAccount", "TaintNodesByCondition"].map(str::to_owned);
    options.admission =
        apiserver::admission::Plugins::with(&[], &off).map_err(anyhow::Error::msg)?;
    Ok(testkit::Cluster::with(options).await)
}

impl Bench {
    async fn measure(
        &mut self,
        arguments: &Arguments,
        shutdown: &CancellationToken,
        line: &mut Value,
    ) -> anyhow::Result<()> {
        let (name, wanted) = (arguments.scheduler_name.as_deref(), arguments.pods);
        if name.is_none() {
            self.create(&self.nodes, arguments.nodes, node).await?;
        }
        let scheduler = name.unwrap_or(NAME);
        self.create(&self.pods, wanted, |number| pod(number, scheduler))
            .await?;
        let (began, attempts) = (Instant::now(), Arc::new(Mutex::new(Attempts::default())));
        let running = if name.is_none() {
            Some(self.schedule(attempts.clone(), shutdown.clone())?)
        } else {
            self.create(&self.nodes, arguments.nodes, node).await?;
            None
        };
        self.until("the first Pod is bound", 1).await?;
        let first = Instant::now();
        self.until("all Pods are bound", wanted).await?;
        line["taken_ms"] = json!(ms(began.elapsed()));
        let rate = wanted as f64 / first.elapsed().as_secs_f64();
        line["scheduled_per_second"] = json!(rate.round());
        let Some(running) = running else {
            return Ok(());
        };
        shutdown.cancel();
        running.await.context("the scheduler")?;
        let mut attempts = std::mem::take(&mut *attempts.lock());
        attempts.scheduled.sort();
        let at = |share: f64| {
            let rank = (attempts.scheduled.len() as f64 * share) as usize;
            let time = attempts.scheduled.get(rank).copied().unwrap_or_default();
            json!(ms(time))
        };
        line["attempt_p50_ms"] = at(0.5);
        line["attempt_p99_ms"] = at(0.99);
        line["attempts_in_vain"] = json!(attempts.others);
        Ok(())
    }

    /// Runs Corvus' scheduler, under a name of its own.
    fn schedule(
        &self,
        attempts: Arc<Mutex<Attempts>>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        let observe = move |attempt: kubernetes::Attempt| {
            let mut attempts = attempts.lock();
            match attempt.outcome {
                AttemptOutcome::Scheduled => attempts.scheduled.push(attempt.taken),
                AttemptOutcome::Unschedulable | AttemptOutcome::Error => attempts.others += 1,
            }
        };
        let options = Options {
            selection: Selection::parse(&["scheduler".to_owned()])?,
            scheduler: SchedulerConfiguration::parse(&json!({
                "apiVersion": "kubescheduler.config.k8s.io/v1",
                "kind": "KubeSchedulerConfiguration",
                "profiles": [{"schedulerName": NAME}],
            }))?,
            attempts: AttemptObserver::new(observe),
            ..Options::default()
        };
        let client = self.api.client().clone();
        let running = async move { kubernetes::run(client, &options, shutdown).await };
        Ok(tokio::spawn(running))
    }

    async fn create(
        &self,
        resource: &Resource,
        count: usize,
        object: impl Fn(usize) -> Value + Send + Sync,
    ) -> anyhow::Result<()> {
        stream::iter((0..count).map(&object))
            .map(|object| async move { self.api.create(resource, &object).await })
            .buffer_unordered(CREATORS)
            .try_for_each(|_| async { Ok(()) })
            .await
            .with_context(|| format!("creating {}", resource.plural))
    }

    async fn until(&mut self, what: &str, wanted: usize) -> anyhow::Result<()> {
        let waited = self.bound.wait_for(|bound| *bound >= wanted);
        if matches!(tokio::time::timeout(self.limit, waited).await, Ok(Ok(_))) {
            return Ok(());
        }
        let bound = *self.bound.borrow();
        bail!("waited in vain until {what}: {bound} of them are")
    }

    /// Leaves nothing behind.
    async fn clean(&self, nodes: usize) -> anyhow::Result<()> {
        let selected = ListOptions {
            namespace: Some(NAMESPACE.to_owned()),
            label_selector: Some(LABEL.to_owned()),
            ..ListOptions::default()
        };
        // No kubelet would report that they have ended.
        let at_once = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        self.api
            .delete_collection(&self.pods, &selected, &at_once)
            .await?;
        for number in 0..nodes {
            let key = ObjectKey::cluster(format!("{NAME}-{number}"));
            self.api.delete(&self.nodes, &key, &at_once).await?;
        }
        Ok(())
    }
}

fn node(number: usize) -> Value {
    let name = format!("{NAME}-{number}");
    let room = json!({"cpu": "32", "memory": "64Gi", "pods": "110"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
        }},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "capacity": room,
            "allocatable": room,
        },
    })
}

fn pod(number: usize, scheduler: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{NAME}-{number}"),
            "namespace": NAMESPACE,
            "labels": {"app": NAME},
        },
        "spec": {
            "schedulerName": scheduler,
            // A cluster's admission may taint nodes that have no kubelet yet.
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "containers": [{
                "name": "main",
                "image": "nginx:1.27",
                "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}},
            }],
        },
    })
}
