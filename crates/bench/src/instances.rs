//! Instances of a resource graph: how long until all of them are ACTIVE.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use controller::{
    Api, ApplyOptions, Discovery, InformerOptions, Informers, ListOptions, ObjectKey, Resource,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use model::{GroupVersionKind, object};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::machine::{client, ms, weight};

/// How many instances are created at a time.
const CREATORS: usize = 16;
/// How often the instances are counted.
const POLL: Duration = Duration::from_millis(50);

/// The arguments of `corvus-bench instances`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The ResourceGraphDefinition.
    #[arg(long, default_value = "examples/site/rgd.yaml")]
    definition: PathBuf,
    /// The instance all others are made from, by name and `spec.name` where it has one.
    #[arg(long, default_value = "examples/site/instance.yaml")]
    instance: PathBuf,
    /// How many instances.
    #[arg(long, default_value_t = 1_000)]
    count: usize,
    /// The process to weigh: the server's.
    #[arg(long)]
    pid: Option<u32>,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 600)]
    timeout_seconds: u64,
}

fn yaml(path: &PathBuf) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

/// Creates the instances and waits for them.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let api = Api::new(client(&arguments.kubeconfig).await?);
    let limit = Duration::from_secs(arguments.timeout_seconds);
    let definition = yaml(&arguments.definition)?;
    define(&api, &definition, limit).await?;
    let template = yaml(&arguments.instance)?;
    let fleet = Fleet::create(&api, &template, arguments.count, limit).await?;
    let pods = Resource::namespaced("v1", "pods", "Pod");
    let options = ListOptions {
        metadata_only: true,
        ..ListOptions::default()
    };
    let mut line = json!({
        "bench": "instances",
        "definition": object::name(&definition),
        "instances": arguments.count,
        "active": fleet.active,
        "created_ms": ms(fleet.created),
        "converged_ms": ms(fleet.converged),
        "pods": api.list(&pods, &options).await?.items.len(),
    });
    if let Some(process) = arguments.pid {
        let (resident, used) = weight(process)?;
        line["resident_mib"] = json!(resident);
        line["cpu_seconds"] = json!(used.as_secs_f64());
    }
    Ok(line)
}

/// Applies a definition and waits until it is Active.
pub async fn define(api: &Api, definition: &Value, limit: Duration) -> anyhow::Result<()> {
    let rgds = Resource::cluster(
        "kro.run/v1alpha1",
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    );
    let began = Instant::now();
    api.apply(&rgds, definition, &ApplyOptions::force("corvus-bench"))
        .await?;
    let key = ObjectKey::cluster(object::name(definition));
    loop {
        let rgd = api.get(&rgds, &key).await?;
        if object::text(rgd.value(), &["status", "state"]) == "Active" {
            return Ok(());
        }
        if began.elapsed() > limit {
            bail!("{key} did not become Active: {}", rgd.status());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Many instances of one kind.
pub struct Fleet {
    /// How they are served.
    pub resource: Resource,
    /// How many became ACTIVE in time.
    pub active: usize,
    /// When all were created.
    pub created: Duration,
    /// When all were ACTIVE.
    pub converged: Duration,
}

impl Fleet {
    /// Creates instances and waits for them.
    pub async fn create(
        api: &Api,
        template: &Value,
        count: usize,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let kind = GroupVersionKind::of(template).context("the instance has no kind")?;
        let resource = Discovery::new(api.clone()).resolve(&kind).await?;
        let shutdown = CancellationToken::new();
        let _ends = shutdown.clone().drop_guard();
        let informers = Informers::new(api.clone(), shutdown);
        let informer = informers.informer(&resource, InformerOptions::default());
        informer.wait_for_sync().await;
        let started = Instant::now();
        stream::iter(0..count)
            .map(|number| {
                let instance = numbered(template, number);
                let (api, resource) = (api.clone(), resource.clone());
                async move { api.create(&resource, &instance).await }
            })
            .buffer_unordered(CREATORS)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let created = started.elapsed();
        let active = loop {
            let active = informer
                .list()
                .iter()
                .filter(|instance| object::text(instance.value(), &["status", "state"]) == "ACTIVE")
                .count();
            if active >= count || started.elapsed() > limit {
                break active;
            }
            tokio::time::sleep(POLL).await;
        };
        Ok(Self {
            resource,
            active,
            created,
            converged: started.elapsed(),
        })
    }
}

fn numbered(template: &Value, number: usize) -> Value {
    let mut instance = template.clone();
    let name = format!("{}-{number}", object::name(template));
    let metadata = object::metadata_mut(&mut instance);
    metadata.insert("name".to_owned(), json!(name));
    metadata
        .entry("namespace")
        .or_insert_with(|| json!("default"));
    if let Some(own) = instance.pointer_mut("/spec/name") {
        *own = json!(name);
    }
    instance
}
