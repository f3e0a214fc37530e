//! What happens in the demo: an API is declared, used, changed and taken away again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use controller::{
    Api, ApplyOptions, DeleteOptions, Informer, InformerOptions, Informers, ObjectKey, Resource,
    Subresource,
};
use model::object;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::screen::{NodeState, Screen};
use crate::plane::Plane;

const DEFINITION: &str = include_str!("../../../../../examples/site/rgd.yaml");
const INSTANCE: &str = include_str!("../../../../../examples/site/instance.yaml");

/// The nodes of the example's graph, in its order, with the kind each makes.
const NODES: [(&str, &str); 3] = [
    ("config", "ConfigMap"),
    ("app", "Deployment"),
    ("service", "Service"),
];

/// How long any one step may take before the demo gives up and says so.
const STEP_LIMIT: Duration = Duration::from_secs(30);

fn rgds() -> Resource {
    Resource::cluster(
        "kro.run/v1alpha1",
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    )
}

fn sites() -> Resource {
    Resource::namespaced("kro.run/v1alpha1", "sites", "Site")
}

/// The cluster as the demo looks at it.
struct Stage {
    api: Api,
    children: Vec<Informer>,
    pods: Informer,
    informers: Informers,
    changed: Arc<Notify>,
}

impl Stage {
    fn new(plane: &Plane, shutdown: CancellationToken) -> Self {
        let api = Api::new(plane.client("corvus-demo"));
        let informers = Informers::new(api.clone(), shutdown);
        let changed = Arc::new(Notify::new());
        let follow = |resource: Resource| {
            let informer = informers.informer(&resource, InformerOptions::default());
            let changed = changed.clone();
            informer.add_handler(move |_| changed.notify_one()).forget();
            informer
        };
        let children = vec![
            follow(Resource::namespaced("v1", "configmaps", "ConfigMap")),
            follow(Resource::namespaced("apps/v1", "deployments", "Deployment")),
            follow(Resource::namespaced("v1", "services", "Service")),
        ];
        let pods = follow(Resource::namespaced("v1", "pods", "Pod"));
        Self {
            api,
            children,
            pods,
            informers,
            changed,
        }
    }

    /// Follows one more resource.
    fn follow(&self, resource: &Resource) -> Informer {
        let informer = self
            .informers
            .informer(resource, InformerOptions::default());
        let changed = self.changed.clone();
        informer.add_handler(move |_| changed.notify_one()).forget();
        informer
    }

    /// Waits until `probe` gives a value; it is asked again whenever something has changed.
    async fn until<T>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> Option<T>,
    ) -> anyhow::Result<T> {
        let waiting = async {
            loop {
                if let Some(value) = probe() {
                    return value;
                }
                self.changed.notified().await;
            }
        };
        match tokio::time::timeout(STEP_LIMIT, waiting).await {
            Ok(value) => Ok(value),
            Err(_) => bail!("{what} did not happen within {} s", STEP_LIMIT.as_secs()),
        }
    }

    /// The state of each node of the instance's graph.
    fn nodes(&self) -> Vec<NodeState> {
        NODES
            .iter()
            .map(|(id, _)| {
                let found = self
                    .children
                    .iter()
                    .flat_map(Informer::list)
                    .find(|child| child.label("kro.run/node-id") == Some(id));
                match found {
                    None => NodeState::Waiting,
                    Some(child) if is_ready(child.value()) => {
                        NodeState::Ready(detail(child.value()))
                    }
                    Some(child) => NodeState::Applied(detail(child.value())),
                }
            })
            .collect()
    }
}

fn is_ready(child: &Value) -> bool {
    if object::text(child, &["kind"]) != "Deployment" {
        return true;
    }
    let number = |path: &[&str]| object::number(child, path).unwrap_or(0);
    number(&["status", "availableReplicas"]) == number(&["spec", "replicas"])
}

fn detail(child: &Value) -> String {
    let name = object::name(child);
    match object::text(child, &["kind"]) {
        "Deployment" => {
            let number = |path: &[&str]| object::number(child, path).unwrap_or(0);
            let (ready, wanted) = (
                number(&["status", "availableReplicas"]),
                number(&["spec", "replicas"]),
            );
            format!("{name}, {ready} of {wanted} Pods available")
        }
        "Service" => format!("{name} at {}", object::text(child, &["spec", "clusterIP"])),
        _ => name.to_owned(),
    }
}

fn yaml(text: &str) -> anyhow::Result<Value> {
    serde_saphyr::from_str(text).context("reading the example")
}

/// Plays the demo on a running control plane.
pub async fn tell(plane: &Plane, screen: &mut Screen) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let _ends = shutdown.clone().drop_guard();
    let stage = Stage::new(plane, shutdown);
    declare(&stage, screen).await?;
    create(&stage, screen).await?;
    change(&stage, screen).await?;
    remove(&stage, screen).await
}

async fn declare(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let started = Instant::now();
    let definitions = stage.follow(&rgds());
    // Its own definition is installed while the control plane starts.
    let apply = ApplyOptions::force("corvus-demo");
    let definition = yaml(DEFINITION)?;
    let deadline = started + STEP_LIMIT;
    while let Err(error) = stage.api.apply(&rgds(), &definition, &apply).await {
        if !error.is_not_found() || Instant::now() > deadline {
            return Err(error).context("applying the ResourceGraphDefinition");
        }
        tokio::task::yield_now().await;
    }
    let key = ObjectKey::cluster("site.kro.run");
    stage
        .until("the API Site becoming active", || {
            let rgd = definitions.get(&key)?;
            (object::text(rgd.value(), &["status", "state"]) == "Active").then_some(())
        })
        .await?;
    screen.done(
        "a new API, Site (examples/site/rgd.yaml)",
        started.elapsed(),
    );
    Ok(())
}

async fn create(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let started = Instant::now();
    let apply = ApplyOptions::force("corvus-demo");
    let mut instance = yaml(INSTANCE)?;
    instance["metadata"]["namespace"] = json!("default");
    stage
        .api
        .apply(&sites(), &instance, &apply)
        .await
        .context("applying the Site")?;
    let instances = stage.follow(&sites());
    screen.tree("Site hello", &NODES);
    let site = stage
        .until("the Site becoming ready", || {
            screen.nodes(&stage.nodes());
            let site = instances.get(&ObjectKey::new("default", "hello"))?;
            let state = object::text(site.value(), &["status", "state"]);
            let ready = object::number(site.value(), &["status", "ready"]) == Some(2);
            (state == "ACTIVE" && ready).then_some(site)
        })
        .await?;
    screen.nodes(&stage.nodes());
    screen.end_tree();
    screen.done(
        "one Site becomes three objects and their Pods",
        started.elapsed(),
    );
    let pods: Vec<String> = stage
        .pods
        .list()
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    screen.note(&format!(
        "Pods: {} (simulated by a virtual node)",
        pods.join(", ")
    ));
    let status = site.get(&["status"]).cloned().unwrap_or_default();
    screen.note(&format!(
        "status: state {}, address {}, ready {}",
        object::text(&status, &["state"]),
        object::text(&status, &["address"]),
        object::number(&status, &["ready"]).unwrap_or(0),
    ));
    Ok(())
}

async fn change(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let started = Instant::now();
    let instances = stage.follow(&sites());
    let key = ObjectKey::new("default", "hello");
    let patch = json!({"spec": {"replicas": 3}});
    stage
        .api
        .merge_patch(&sites(), &key, Subresource::None, &patch)
        .await
        .context("changing the Site")?;
    stage
        .until("the change arriving in the status", || {
            let site = instances.get(&key)?;
            (object::number(site.value(), &["status", "ready"]) == Some(3)).then_some(())
        })
        .await?;
    screen.done(
        "spec.replicas 2 -> 3, down to the Pods and back into status.ready",
        started.elapsed(),
    );
    Ok(())
}

async fn remove(stage: &Stage, screen: &mut Screen) -> anyhow::Result<()> {
    let started = Instant::now();
    let instances = stage.follow(&sites());
    let key = ObjectKey::new("default", "hello");
    stage
        .api
        .delete(&sites(), &key, &DeleteOptions::default())
        .await
        .context("deleting the Site")?;
    stage
        .until("everything going", || {
            let gone = instances.get(&key).is_none()
                && stage.nodes().iter().all(|node| *node == NodeState::Waiting)
                && stage.pods.is_empty();
            gone.then_some(())
        })
        .await?;
    screen.done(
        "deleted, dependents before what they depend on",
        started.elapsed(),
    );
    Ok(())
}
