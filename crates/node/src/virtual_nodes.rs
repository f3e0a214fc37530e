//! Virtual nodes: a simulated kubelet for any number of nodes, in one task.
//!
//! A Pod that is assigned to a virtual node becomes Running and Ready at once; one whose containers are
//! to end (`restartPolicy` other than `Always`) ends after [`RUN_SECONDS`]; one that is deleted goes at
//! once. `plan` decides what a Pod's status is; nothing runs.

mod addresses;
mod node;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use controller::{
    Api, Backoff, Clock, Controller, DeleteOptions, Error, Informer, InformerOptions, Informers,
    ObjectKey, Outcome, Reconciler, Resource, SystemClock, WorkQueue, format_time,
};
use model::object;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::addresses::Addresses;
use self::plan::{Plan, plan};

/// The label every virtual node has.
pub const LABEL: &str = "node.corvus.dev/virtual";
/// The annotation of a Pod that says for how many seconds its containers run before they end. Only
/// for Pods whose containers are to end.
pub const RUN_SECONDS: &str = "virtual.corvus.dev/run-seconds";

/// Parallel status writes.
const WORKERS: usize = 8;

fn nodes() -> Resource {
    Resource::cluster("v1", "nodes", "Node")
}

fn pods() -> Resource {
    Resource::namespaced("v1", "pods", "Pod")
}

/// The name of the virtual node of a number.
pub fn name(number: u32) -> String {
    format!("virtual-{number}")
}

/// Makes `count` virtual nodes, removes those of earlier runs that are too many, and plays their
/// kubelets until `shutdown`.
pub async fn run(client: kube::Client, count: u32, shutdown: CancellationToken) {
    let api = Api::new(client);
    let names: BTreeSet<String> = (0..count).map(name).collect();
    if let Err(error) = register(&api, &names).await {
        tracing::error!(%error, "registering virtual nodes");
    }
    if count == 0 {
        return;
    }
    let informers = Informers::new(api.clone(), shutdown.clone());
    let pods = informers.informer(&pods(), InformerOptions::default());
    let queue: WorkQueue = WorkQueue::new("virtual-nodes", Backoff::default());
    let (pending, own, addresses) = (queue.clone(), names.clone(), Arc::new(Mutex::default()));
    let known: Arc<Mutex<Addresses>> = addresses;
    let taken = known.clone();
    let _handler = pods.add_handler(move |event| {
        let pod = event.object();
        if !own.contains(object::text(pod.value(), &["spec", "nodeName"])) {
            return;
        }
        match event {
            controller::Event::Deleted(gone) => taken.lock().release(gone.uid()),
            _ => {
                taken
                    .lock()
                    .observe(pod.uid(), object::text(pod.value(), &["status", "podIP"]));
                pending.add(pod.key());
            }
        }
    });
    let kubelets = Kubelets {
        api,
        pods: pods.clone(),
        names,
        addresses: known,
    };
    Controller::new("virtual-nodes", queue, kubelets)
        .workers(WORKERS)
        .wait_for(vec![pods])
        .run(shutdown)
        .await;
}

/// Brings the Node objects in line with the wanted names.
async fn register(api: &Api, names: &BTreeSet<String>) -> Result<(), Error> {
    let options = controller::ListOptions {
        label_selector: Some(format!("{LABEL}=true")),
        ..controller::ListOptions::default()
    };
    let present = api.list(&nodes(), &options).await?;
    for node in &present.items {
        if !names.contains(node.name()) {
            api.delete(&nodes(), &node.key(), &DeleteOptions::of_uid(node.uid()))
                .await?;
        }
    }
    let now = format_time(SystemClock.now());
    for name in names {
        if present.items.iter().any(|node| node.name() == name) {
            continue;
        }
        let mut node = match api.create(&nodes(), &node::object(name)).await {
            Ok(node) => node.into_value(),
            Err(error) if error.is_already_exists() => continue,
            Err(error) => return Err(error),
        };
        node["status"] = node::status(name, &now);
        api.update_status(&nodes(), &node).await?;
    }
    Ok(())
}

/// The kubelets of all virtual nodes.
struct Kubelets {
    api: Api,
    pods: Informer,
    names: BTreeSet<String>,
    addresses: Arc<Mutex<Addresses>>,
}

impl Reconciler for Kubelets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Outcome::Done);
        };
        if !self
            .names
            .contains(object::text(pod.value(), &["spec", "nodeName"]))
        {
            return Ok(Outcome::Done);
        }
        let address = self.addresses.lock().of(pod.uid());
        match plan(&pod, &address, SystemClock.now()) {
            Plan::Keep => Ok(Outcome::Done),
            Plan::Wait(wait) => Ok(Outcome::RequeueAfter(wait)),
            Plan::Delete => {
                let options = DeleteOptions {
                    grace_period_seconds: Some(0),
                    ..DeleteOptions::of_uid(pod.uid())
                };
                match self.api.delete(&pods(), key, &options).await {
                    Err(error) if error.is_conflict() => Ok(Outcome::Done),
                    outcome => outcome.map(|_| Outcome::Done),
                }
            }
            Plan::Report { status, wait } => {
                let mut new = pod.value().clone();
                new["status"] = status;
                match self.api.update_status(&pods(), &new).await {
                    // The newer state is on its way and wakes the Pod again.
                    Err(error) if error.is_conflict() || error.is_not_found() => Ok(Outcome::Done),
                    Err(error) => Err(error),
                    Ok(_) => Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter)),
                }
            }
        }
    }
}
