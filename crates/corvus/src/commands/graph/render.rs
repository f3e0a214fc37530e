//! `corvus graph render`: what an instance would become.

use graph::Features;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use graph::render::Rendered;
use graph::runtime::{NodeState, PassOptions};
use serde_json::{Value, json};

use super::documents::{self, Document};

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// The objects, with comments on the state of their resources.
    Yaml,
    /// Everything.
    Json,
}

/// The arguments of `corvus graph render`.
#[derive(clap::Args)]
#[command(after_help = "\
Every object is taken to exist as its template says; --observed gives what is known beyond that, such as a status
or an object the graph only refers to. What waits for data that is not given is left out, and says so.

Examples:
  corvus graph render rgd.yaml instance.yaml
  corvus graph render rgd.yaml instance.yaml --observed cluster.yaml -o json")]
pub struct Arguments {
    /// A file with the ResourceGraphDefinition, and what else it needs.
    #[arg(value_name = "RGD")]
    definition: PathBuf,
    /// A file with one instance.
    #[arg(value_name = "INSTANCE")]
    instance: PathBuf,
    /// A file of objects as they are in the cluster.
    #[arg(long, value_name = "FILE")]
    observed: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
}

/// Renders.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let instance = instance(arguments)?;
    let makes = |definition: &Document| {
        let schema = &definition.value["spec"]["schema"];
        let group = schema["group"].as_str().filter(|group| !group.is_empty());
        let version = schema["apiVersion"].as_str().unwrap_or_default();
        let api_version = format!("{}/{version}", group.unwrap_or("kro.run"));
        schema["kind"] == instance["kind"] && instance["apiVersion"] == api_version.as_str()
    };
    let what = format!(
        " of kind {} in {}",
        instance["kind"].as_str().unwrap_or_default(),
        instance["apiVersion"].as_str().unwrap_or_default()
    );
    let graph = documents::one_graph(&arguments.definition, features, makes, &what)?;
    let observed: Vec<Value> = match &arguments.observed {
        Some(file) => documents::read(file)?
            .into_iter()
            .flat_map(|document| items(document.value))
            .collect(),
        None => Vec::new(),
    };
    let rendered = graph::render::render(&graph, &instance, &observed, PassOptions::default());
    match arguments.output {
        Output::Yaml => print_yaml(&rendered)?,
        Output::Json => println!("{:#}", as_json(&rendered)),
    }
    let is_error = |state: &NodeState| matches!(state, NodeState::Error(_));
    let failed = rendered.nodes.iter().any(|node| is_error(&node.state));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn instance(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut instance = documents::one(&arguments.instance)?;
    if !instance["metadata"]["name"].is_string() {
        bail!("{}: the instance has no name", arguments.instance.display());
    }
    // As kubectl does where no namespace is chosen.
    if instance["metadata"]["namespace"].is_null() {
        instance["metadata"]["namespace"] = "default".into();
    }
    Ok(instance)
}

/// The objects of a `List`, or the object itself.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

/// Why a resource is not done.
pub fn reason(state: &NodeState) -> &str {
    match state {
        NodeState::InProgress(text)
        | NodeState::Waiting(text)
        | NodeState::Deleting(text)
        | NodeState::Error(text) => text,
        NodeState::Synced | NodeState::Skipped => "",
    }
}

fn print_yaml(rendered: &Rendered) -> anyhow::Result<()> {
    for node in &rendered.nodes {
        let reason = reason(&node.state).replace('\n', " ");
        let separator = if reason.is_empty() { "" } else { ": " };
        println!("# {}: {}{separator}{reason}", node.id, node.state.name());
        if let Some(value) = &node.value {
            println!("#   {value}");
        }
        for object in &node.objects {
            let text = serde_saphyr::to_string(object).context("writing YAML")?;
            println!("---\n{}", text.trim_end());
        }
    }
    let status = serde_saphyr::to_string(&rendered.status).context("writing YAML")?;
    println!("# status of the instance:");
    for line in status.trim_end().lines() {
        println!("#   {line}");
    }
    Ok(())
}

fn as_json(rendered: &Rendered) -> Value {
    let resources = rendered.nodes.iter().map(|node| {
        let mut resource = json!({
            "id": node.id,
            "state": node.state.name(),
            "message": reason(&node.state),
            "objects": node.objects,
        });
        if let Some(value) = &node.value {
            resource["value"] = value.clone();
        }
        resource
    });
    json!({"resources": resources.collect::<Vec<_>>(), "status": rendered.status})
}
