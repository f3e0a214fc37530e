//! Instances of a made-up graph of a chosen size and shape, on any cluster that runs kro's API: how long until all are
//! ACTIVE, what that costs in requests, what they cost at rest, and what a change of one field costs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use controller::{Api, ObjectKey, Resource, Subresource};
use model::object;
use serde_json::{Value, json};

use crate::instances::{self, Fleet};
use crate::machine::{client, ms, weight};

/// How often a change is looked for.
const POLL: Duration = Duration::from_millis(10);

/// How the resources of a graph depend on each other.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shape {
    /// Not at all.
    Wide,
    /// Each on the one before it.
    Chain,
}

/// The arguments of `corvus-bench graph`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// How many instances.
    #[arg(long, default_value_t = 1_000)]
    instances: usize,
    /// Resources of each; they are ConfigMaps.
    #[arg(long, default_value_t = 10)]
    resources: usize,
    /// How the resources depend on each other.
    #[arg(long, default_value = "wide")]
    shape: Shape,
    /// The process to weigh: the controllers', or the server's where they run in it.
    #[arg(long)]
    pid: Option<u32>,
    /// How long the process is watched at rest.
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 600)]
    timeout_seconds: u64,
}

/// A definition of `resources` ConfigMaps.
pub fn definition(kind: &str, resources: usize, shape: Shape) -> Value {
    let resources: Vec<Value> = (0..resources).map(|at| resource(at, shape)).collect();
    let last = resources.len().saturating_sub(1);
    json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": kind.to_lowercase()},
        "spec": {
            "schema": {
                "apiVersion": "v1alpha1",
                "kind": kind,
                "spec": {"text": "string | default=\"one\"", "other": "string | default=\"two\""},
                "status": {"last": format!("${{r{last}.metadata.name}}")},
            },
            "resources": resources,
        },
    })
}

fn resource(at: usize, shape: Shape) -> Value {
    let before = match shape {
        Shape::Chain if at > 0 => format!("${{r{}.data.before}}", at - 1),
        _ => "none".to_owned(),
    };
    // Only the first sees `text`, so that a change of it concerns one object alone.
    let text = if at == 0 {
        "${schema.spec.text}"
    } else {
        "${schema.spec.other}"
    };
    json!({"id": format!("r{at}"), "template": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("${{schema.metadata.name}}-{at}")},
        "data": {"text": text, "before": before},
    }})
}

/// Measures.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let api = Api::new(client(&arguments.kubeconfig).await?);
    let limit = Duration::from_secs(arguments.timeout_seconds);
    let shape = format!("{:?}", arguments.shape).to_lowercase();
    let kind = format!("Bench{shape}{}", arguments.resources);
    let manifest = definition(&kind, arguments.resources, arguments.shape);
    instances::define(&api, &manifest, limit).await?;
    let template = json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": kind,
        "metadata": {"name": format!("bench-{shape}"), "namespace": "default"},
        "spec": {},
    });
    let before = writes(&api).await?;
    let fleet = Fleet::create(&api, &template, arguments.instances, limit).await?;
    let after = writes(&api).await?;
    let children = arguments.instances * arguments.resources;
    let mut line = json!({
        "bench": "graph",
        "shape": shape,
        "instances": arguments.instances,
        "resources": arguments.resources,
        "active": fleet.active,
        "created_ms": ms(fleet.created),
        "converged_ms": ms(fleet.converged),
        // The instances themselves were created by the bench.
        "writes": after - before - arguments.instances as f64,
        "writes_bar": 1.2 * (children + 3 * arguments.instances) as f64,
    });
    if let Some(process) = arguments.pid {
        let (resident, used) = weight(process)?;
        line["resident_mib"] = json!(resident);
        line["cpu_seconds"] = json!(used.as_secs_f64());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (_, rest) = weight(process)?;
        tokio::time::sleep(Duration::from_secs(arguments.idle_seconds)).await;
        let (resident, end) = weight(process)?;
        let share = end.saturating_sub(rest).as_secs_f64() / arguments.idle_seconds.max(1) as f64;
        line["idle_percent_of_a_core"] = json!((share * 10_000.0).round() / 100.0);
        line["idle_resident_mib"] = json!(resident);
    }
    change_one(&api, &fleet.resource, &template, limit, &mut line).await?;
    Ok(line)
}

/// Changes one field of one instance, which concerns one object.
async fn change_one(
    api: &Api,
    resource: &Resource,
    template: &Value,
    limit: Duration,
    line: &mut Value,
) -> anyhow::Result<()> {
    let name = format!("{}-0", object::name(template));
    let before = writes(api).await?;
    let started = Instant::now();
    let patch = json!({"spec": {"text": format!("changed at {:?}", std::time::SystemTime::now())}});
    api.merge_patch(
        resource,
        &ObjectKey::new("default", name.as_str()),
        Subresource::None,
        &patch,
    )
    .await?;
    let maps = Resource::namespaced("v1", "configmaps", "ConfigMap");
    let child = ObjectKey::new("default", format!("{name}-0").as_str());
    while api.get(&maps, &child).await?.value()["data"]["text"] != patch["spec"]["text"] {
        if started.elapsed() > limit {
            bail!("ConfigMap {child} has not changed with its instance");
        }
        tokio::time::sleep(POLL).await;
    }
    line["change_ms"] = json!(ms(started.elapsed()));
    // What else it might cause is to be counted too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    line["change_writes"] = json!(writes(api).await? - before - 1.0);
    Ok(())
}

/// Writes the server has answered so far, without those of leases.
async fn writes(api: &Api) -> anyhow::Result<f64> {
    const WRITES: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .context("the request of metrics")?;
    let text = api.client().request_text(request).await?;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| {
            let is = |verb: &&str| line.contains(&format!("verb=\"{verb}\""));
            WRITES.iter().any(is) && !line.contains("resource=\"leases\"")
        });
    Ok(lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
