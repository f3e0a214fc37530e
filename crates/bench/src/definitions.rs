//! ResourceGraphDefinitions themselves: how long one takes to compile, and what many of them weigh.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use controller::{Api, ApplyOptions, ListOptions, Resource};
use graph::{BuildOptions, OfflineKinds, build, read_spec};
use model::object;
use serde_json::{Value, json};

use crate::graph::{Shape, definition};
use crate::machine::{client, median, ms, weight};

/// How often the definitions are counted.
const POLL: Duration = Duration::from_millis(100);

/// The arguments of `corvus-bench compile`.
#[derive(clap::Args)]
pub struct Compile {
    /// Deployments in the definition; each has six expressions.
    #[arg(long, default_value_t = 50)]
    resources: usize,
    /// How often it is compiled.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

/// Compiles one definition again and again.
pub fn compile(arguments: &Compile) -> anyhow::Result<Value> {
    let resources: Vec<Value> = (0..arguments.resources).map(deployment).collect();
    let spec = json!({
        "schema": {
            "apiVersion": "v1",
            "kind": "App",
            "spec": {"name": "string", "image": "string", "tag": "string", "replicas": "integer"},
            "status": {"up": "${r0.status.readyReplicas}"},
        },
        "resources": resources,
    });
    let spec = read_spec(&spec)?;
    let (kinds, options) = (OfflineKinds::new(), BuildOptions::default());
    let mut taken = Vec::with_capacity(arguments.rounds);
    for _ in 0..arguments.rounds.max(1) {
        let started = Instant::now();
        let built = build(&spec, &kinds, &options)?;
        taken.push(started.elapsed());
        drop(built);
    }
    let first = taken[0];
    Ok(json!({
        "bench": "compile",
        "resources": arguments.resources,
        "expressions": arguments.resources * 6 + 1,
        "first_ms": ms(first),
        "median_ms": ms(median(&mut taken)),
    }))
}

fn deployment(index: usize) -> Value {
    let labels = json!({"app": "${schema.spec.name}"});
    let container = json!({
        "name": "${schema.spec.name.lowerAscii()}",
        "image": "${schema.spec.image}:${schema.spec.tag}",
    });
    json!({"id": format!("r{index}"), "template": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": format!("${{schema.spec.name}}-{index}")},
        "spec": {
            "replicas": "${schema.spec.replicas > 3 ? 3 : schema.spec.replicas}",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }})
}

/// The arguments of `corvus-bench definitions`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// How many ResourceGraphDefinitions.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Resources of each.
    #[arg(long, default_value_t = 10)]
    resources: usize,
    /// The process to weigh: the server's, or the controllers'.
    #[arg(long)]
    pid: Option<u32>,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 300)]
    timeout_seconds: u64,
}

/// Creates many definitions and waits for them.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let api = Api::new(client(&arguments.kubeconfig).await?);
    let rgds = Resource::cluster(
        "kro.run/v1alpha1",
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    );
    let limit = Duration::from_secs(arguments.timeout_seconds);
    let before = arguments.pid.map(weight).transpose()?;
    let started = Instant::now();
    for number in 0..arguments.count {
        let kind = format!("Bench{number}");
        let manifest = definition(&kind, arguments.resources, Shape::Wide);
        api.apply(&rgds, &manifest, &ApplyOptions::force("corvus-bench"))
            .await?;
    }
    loop {
        let list = api.list(&rgds, &ListOptions::default()).await?;
        let ours = list
            .items
            .iter()
            .filter(|rgd| rgd.name().starts_with("bench"))
            .filter(|rgd| object::text(rgd.value(), &["status", "state"]) == "Active");
        let active = ours.count();
        if active >= arguments.count {
            break;
        }
        if started.elapsed() > limit {
            bail!(
                "{active} of {} definitions became Active in {limit:?}",
                arguments.count
            );
        }
        tokio::time::sleep(POLL).await;
    }
    let mut line = json!({
        "bench": "definitions",
        "definitions": arguments.count,
        "resources": arguments.resources,
        "active_ms": ms(started.elapsed()),
    });
    if let (Some(process), Some((before, used_before))) = (arguments.pid, before) {
        let (resident, used) = weight(process)?;
        line["resident_mib"] = json!(resident);
        line["kib_each"] = json!(((resident - before) * 1024.0 / arguments.count as f64).round());
        line["cpu_seconds"] = json!((used.saturating_sub(used_before)).as_secs_f64());
    }
    Ok(line)
}
