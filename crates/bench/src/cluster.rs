//! A cluster at work: many Pods of one Deployment on many nodes, at rest, and being replaced.
//!
//! Everything is read from the watch of the Pods, as a client sees it: when the last Pod was bound and
//! when it was ready, and, while the Deployment is rolled, the most Pods and the fewest available ones
//! there ever were. Works on any cluster whose nodes take that many Pods; `corvus up --virtual-nodes`
//! brings such nodes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use controller::{
    Api, DeleteOptions, Event, InformerOptions, Informers, ListOptions, Object, ObjectKey,
    Resource, Subresource,
};
use model::object;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::{client, ms, weight};

const NAME: &str = "corvus-bench";
const NAMESPACE: &str = "default";
const LABEL: &str = "app=corvus-bench";

/// The arguments of `corvus-bench cluster`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// How many Pods the Deployment has.
    #[arg(long, default_value_t = 5_000)]
    pods: usize,
    /// How many of them are rolled in the end; 0 leaves that out.
    #[arg(long, default_value_t = 1_000)]
    rolled: usize,
    /// How long the idle cluster is weighed.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// The process to weigh: the cluster's.
    #[arg(long)]
    pid: Option<u32>,
    /// Seconds until a phase is given up.
    #[arg(long, default_value_t = 300)]
    timeout_seconds: u64,
}

/// What is known of a Pod.
#[derive(Clone, Copy, Default, PartialEq)]
struct Known {
    bound: bool,
    ready: bool,
    terminating: bool,
    new: bool,
}

impl Known {
    fn of(pod: &Object) -> Self {
        let is_true = |condition: &&Value| {
            object::text(condition, &["type"]) == "Ready"
                && object::text(condition, &["status"]) == "True"
        };
        Self {
            bound: pod.pointer("/spec/nodeName").is_some(),
            ready: object::list(pod.value(), &["status", "conditions"])
                .iter()
                .any(|condition| is_true(&condition)),
            terminating: pod.is_terminating(),
            new: pod.annotation("round") == Some("2"),
        }
    }

    fn is_available(self) -> bool {
        self.ready && !self.terminating
    }
}

/// All Pods of the Deployment, counted.
#[derive(Default)]
struct Census {
    pods: HashMap<ObjectKey, Known>,
    count: Count,
    /// The extremes since the last reset.
    most: usize,
    fewest_available: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Count {
    present: usize,
    bound: usize,
    available: usize,
    available_new: usize,
}

impl Count {
    fn change(&mut self, known: Known, by: isize) {
        let add = |number: &mut usize, counts: bool| {
            if counts {
                *number = number.saturating_add_signed(by);
            }
        };
        add(&mut self.present, !known.terminating);
        add(&mut self.bound, known.bound);
        add(&mut self.available, known.is_available());
        add(&mut self.available_new, known.is_available() && known.new);
    }
}

impl Census {
    fn see(&mut self, event: &Event) {
        let key = event.object().key();
        let after = match event {
            Event::Deleted(_) => None,
            Event::Added(pod) | Event::Updated { new: pod, .. } => Some(Known::of(pod)),
        };
        let before = match after {
            Some(known) => self.pods.insert(key, known),
            None => self.pods.remove(&key),
        };
        if let Some(before) = before {
            self.count.change(before, -1);
        }
        if let Some(after) = after {
            self.count.change(after, 1);
        }
        self.most = self.most.max(self.count.present);
        self.fewest_available = self.fewest_available.min(self.count.available);
    }
}

struct Bench {
    api: Api,
    deployments: Resource,
    census: Arc<Mutex<Census>>,
    counts: watch::Receiver<Count>,
    limit: Duration,
}

/// Runs all phases.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let api = Api::new(client(&arguments.kubeconfig).await?);
    let shutdown = CancellationToken::new();
    let _ends = shutdown.clone().drop_guard();
    let informers = Informers::new(api.clone(), shutdown);
    let pods = informers.informer(
        &Resource::namespaced("v1", "pods", "Pod"),
        InformerOptions {
            namespace: Some(NAMESPACE.to_owned()),
            label_selector: Some(LABEL.to_owned()),
            ..InformerOptions::default()
        },
    );
    pods.wait_for_sync().await;
    if !pods.is_empty() {
        bail!("there are Pods with the label {LABEL} in {NAMESPACE} already");
    }
    let census = Arc::new(Mutex::new(Census::default()));
    let (tell, counts) = watch::channel(Count::default());
    let seen = census.clone();
    let _handler = pods.add_handler(move |event| {
        let mut census = seen.lock();
        census.see(event);
        tell.send_replace(census.count);
    });
    let mut bench = Bench {
        api,
        deployments: Resource::namespaced("apps/v1", "deployments", "Deployment"),
        census,
        counts,
        limit: Duration::from_secs(arguments.timeout_seconds),
    };
    let mut line = json!({"bench": "cluster", "pods": arguments.pods});
    let outcome = bench.phases(arguments, &mut line).await;
    bench.clean().await?;
    outcome.map(|()| line)
}

impl Bench {
    async fn phases(&mut self, arguments: &Arguments, line: &mut Value) -> anyhow::Result<()> {
        let nodes = Resource::cluster("v1", "nodes", "Node");
        let nodes = self.api.list(&nodes, &ListOptions::default()).await?;
        line["nodes"] = json!(nodes.items.len());
        self.start(arguments.pods, line).await?;
        if let Some(process) = arguments.pid {
            line["resident_mib"] = json!(weight(process)?.0);
            idle(process, arguments.idle_seconds, line).await?;
        }
        if arguments.rolled > 0 {
            self.roll(arguments.rolled, line).await?;
        }
        Ok(())
    }

    /// From nothing to all Pods ready.
    async fn start(&mut self, pods: usize, line: &mut Value) -> anyhow::Result<()> {
        let started = Instant::now();
        self.api
            .create(&self.deployments, &deployment(pods))
            .await
            .context("creating the Deployment")?;
        self.until("the first Pod is bound", |count| count.bound > 0)
            .await?;
        let first = Instant::now();
        self.until("all Pods are bound", move |count| count.bound >= pods)
            .await?;
        let (bound, scheduling) = (started.elapsed(), first.elapsed());
        self.until("all Pods are ready", move |count| count.available >= pods)
            .await?;
        line["bound_ms"] = json!(ms(bound));
        line["ready_ms"] = json!(ms(started.elapsed()));
        line["scheduled_per_second"] = json!((pods as f64 / scheduling.as_secs_f64()).round());
        Ok(())
    }

    /// Replaces all Pods of the Deployment, once it is of a given size.
    async fn roll(&mut self, pods: usize, line: &mut Value) -> anyhow::Result<()> {
        self.change(&json!({"spec": {"replicas": pods}})).await?;
        self.until("the Deployment has shrunk", move |count| {
            count.present == pods && count.available == pods
        })
        .await?;
        {
            let mut census = self.census.lock();
            census.most = pods;
            census.fewest_available = pods;
        }
        let started = Instant::now();
        let annotations = json!({"round": "2"});
        let template = json!({"metadata": {"annotations": annotations}});
        self.change(&json!({"spec": {"template": template}}))
            .await?;
        self.until("all Pods are new", move |count| {
            count.available_new == pods && count.present == pods
        })
        .await?;
        let census = self.census.lock();
        // As upstream rounds a quarter: surge up, unavailable down.
        let (surge, unavailable) = (pods.div_ceil(4), pods / 4);
        line["rolled"] = json!({
            "pods": pods,
            "taken_ms": ms(started.elapsed()),
            "most": census.most,
            "most_allowed": pods + surge,
            "fewest_available": census.fewest_available,
            "fewest_allowed": pods - unavailable,
        });
        Ok(())
    }

    async fn change(&self, patch: &Value) -> anyhow::Result<()> {
        let key = ObjectKey::new(NAMESPACE, NAME);
        self.api
            .merge_patch(&self.deployments, &key, Subresource::None, patch)
            .await?;
        Ok(())
    }

    async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&Count) -> bool + Send + Sync,
    ) -> anyhow::Result<()> {
        let waited = tokio::time::timeout(self.limit, self.counts.wait_for(is_so));
        if matches!(waited.await, Ok(Ok(_))) {
            return Ok(());
        }
        let count = *self.counts.borrow();
        bail!(
            "waited in vain until {what}: {} Pods, {} bound, {} available",
            count.present,
            count.bound,
            count.available
        )
    }

    /// Leaves nothing behind.
    async fn clean(&mut self) -> anyhow::Result<()> {
        let key = ObjectKey::new(NAMESPACE, NAME);
        self.api
            .delete(&self.deployments, &key, &DeleteOptions::default())
            .await?;
        self.until("all Pods are gone", |count| count.present == 0)
            .await
    }
}

/// How busy a process is that has nothing to do.
async fn idle(process: u32, seconds: u64, line: &mut Value) -> anyhow::Result<()> {
    // What the start has left behind is no idleness yet.
    tokio::time::sleep(Duration::from_secs(seconds.min(5))).await;
    let (_, before) = weight(process)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (resident, after) = weight(process)?;
    let share = after.saturating_sub(before).as_secs_f64() / seconds as f64;
    line["idle_percent_of_a_core"] = json!((share * 10_000.0).round() / 100.0);
    line["idle_resident_mib"] = json!(resident);
    Ok(())
}

fn deployment(pods: usize) -> Value {
    let labels = json!({"app": NAME});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "main",
                    "image": "nginx:1.27",
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }]},
            },
        },
    })
}
