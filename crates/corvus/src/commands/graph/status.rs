//! `corvus graph status`: why an instance is where it is, resource by resource.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use graph::render::RenderedNode;
use graph::runtime::{NodeState, PassOptions};
use graph::{Features, Graph};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::follow::Follow;
use super::live::Live;
use super::render::reason;
use crate::commands::attach::Cluster;
use crate::plane;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The arguments of `corvus graph status`.
#[derive(clap::Args)]
#[command(after_help = "\
NAME is the instance's; KIND/NAME where several kinds have one of that name.

Examples:
  corvus graph status my-site
  corvus graph status site/my-site -n shop -w
  corvus graph status my-site -o json")]
pub struct Arguments {
    /// The instance.
    #[arg(value_name = "NAME")]
    name: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Print again whenever something has changed, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    cluster: Cluster,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// One resource of the instance.
#[derive(Clone)]
struct Row {
    id: String,
    kind: String,
    depth: usize,
    state: String,
    reason: String,
    /// The objects there are: name and age.
    objects: Vec<(String, String)>,
    wanted: usize,
}

/// An instance, told.
#[derive(Clone)]
struct Told {
    instance: Value,
    rows: Vec<Row>,
    events: Vec<String>,
}

/// Tells.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    plane::runtime()?.block_on(async {
        let mut last = String::new();
        let mut following: Option<Follow> = None;
        loop {
            let live = Live::new(arguments.cluster.client().await?, Features::all()).await?;
            let (graph, instance) = find(&live, arguments).await?;
            if arguments.watch {
                // Watched before it is read, so that nothing is missed in between.
                following.take_if(|follow| !follow.is_about(&graph, &instance));
                following.get_or_insert_with(|| Follow::start(&live.api, &graph, &instance));
            }
            let told = tell(&live, &graph, instance).await?;
            // That time passes is no news.
            let news = text(&ageless(&told));
            if news != last {
                match arguments.output {
                    Output::Text => print!("{}", text(&told)),
                    Output::Json => println!("{:#}", as_json(&told)),
                }
                last = news;
            }
            let Some(follow) = &following else {
                let state = told.instance["status"]["state"].as_str();
                return Ok(match state {
                    Some("ERROR" | "FAILED") => ExitCode::FAILURE,
                    _ => ExitCode::SUCCESS,
                });
            };
            tokio::select! {
                () = follow.changed() => {}
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            }
        }
    })
}

/// The instance of that name, and its graph.
async fn find(live: &Live, arguments: &Arguments) -> anyhow::Result<(Graph, Value)> {
    let (kind, name) = match arguments.name.split_once('/') {
        Some((kind, name)) => (Some(kind), name),
        None => (None, arguments.name.as_str()),
    };
    let mut found = Vec::new();
    for definition in live.definitions().await? {
        let own = definition["spec"]["schema"]["kind"]
            .as_str()
            .unwrap_or_default();
        if kind.is_some_and(|kind| !own.eq_ignore_ascii_case(kind)) {
            continue;
        }
        // A definition that cannot be built has no instances that could be told of.
        let Ok(graph) = live.build(&definition) else {
            continue;
        };
        for instance in live.instances(&graph).await? {
            let metadata = &instance["metadata"];
            let here =
                metadata["namespace"].is_null() || metadata["namespace"] == arguments.namespace;
            if metadata["name"] == name && here {
                let own = live.own_graph(&definition, &instance).await?;
                found.push((own.unwrap_or_else(|| graph.clone()), instance));
            }
        }
    }
    if found.len() > 1 {
        let kinds: Vec<&str> = found
            .iter()
            .map(|(graph, _)| graph.schema.kind.as_str())
            .collect();
        bail!(
            "there are instances {name:?} of several kinds: {}; say KIND/{name}",
            kinds.join(", ")
        );
    }
    found.pop().with_context(|| {
        format!(
            "there is no instance {:?} in namespace {:?}",
            arguments.name, arguments.namespace
        )
    })
}

async fn tell(live: &Live, graph: &Graph, instance: Value) -> anyhow::Result<Told> {
    let observed = live.observed(graph, &instance).await?;
    let rendered = graph::render::render(graph, &instance, &observed, PassOptions::default());
    let rows = rendered
        .nodes
        .iter()
        .map(|node| row(graph, node, &observed));
    let rows = rows.collect();
    let events = events(live, &instance).await?;
    Ok(Told {
        instance,
        rows,
        events,
    })
}

fn row(graph: &Graph, node: &RenderedNode, observed: &[Value]) -> Row {
    let position = graph
        .order
        .iter()
        .copied()
        .find(|at| graph.nodes[*at].id == node.id);
    let (mut objects, mut missing) = (Vec::new(), Vec::new());
    for wanted in &node.objects {
        let there = observed.iter().find(|found| {
            ["apiVersion", "kind"]
                .iter()
                .all(|field| found[*field] == wanted[*field])
                && ["name", "namespace"]
                    .iter()
                    .all(|field| found["metadata"][*field] == wanted["metadata"][*field])
        });
        let name = wanted["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match there {
            Some(found) => objects.push((name, age(found))),
            None => missing.push(name),
        }
    }
    let (state, reason) = if missing.is_empty() || matches!(node.state, NodeState::Error(_)) {
        (node.state.name().to_owned(), reason(&node.state).to_owned())
    } else {
        (
            "MISSING".to_owned(),
            format!("not there yet: {}", missing.join(", ")),
        )
    };
    Row {
        id: node.id.clone(),
        kind: position.map_or_else(String::new, |at| graph.nodes[at].resource.kind.to_string()),
        depth: position.map_or(0, |at| depth(graph, at)),
        state,
        reason,
        wanted: node.objects.len(),
        objects,
    }
}

/// How many resources have to be there before, one after the other.
fn depth(graph: &Graph, node: usize) -> usize {
    let mut depths = vec![0; graph.nodes.len()];
    for at in graph.order.iter().copied() {
        let before = graph.nodes[at]
            .dependencies
            .iter()
            .map(|on| depths[*on] + 1);
        depths[at] = before.max().unwrap_or(0);
    }
    depths[node]
}

/// How long an object has been there, as kubectl says it.
fn age(object: &Value) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str();
    let created: Option<Timestamp> = created.and_then(|text| text.parse().ok());
    created.map_or_else(String::new, |created| {
        let seconds = Timestamp::now().duration_since(created).as_secs().max(0);
        match seconds {
            0..120 => format!("{seconds}s"),
            120..7_200 => format!("{}m", seconds / 60),
            7_200..172_800 => format!("{}h", seconds / 3_600),
            _ => format!("{}d", seconds / 86_400),
        }
    })
}

/// The same without the ages of objects.
fn ageless(told: &Told) -> Told {
    let mut told = told.clone();
    for (_, age) in told.rows.iter_mut().flat_map(|row| &mut row.objects) {
        age.clear();
    }
    told
}

/// The latest warnings about the instance.
async fn events(live: &Live, instance: &Value) -> anyhow::Result<Vec<String>> {
    const SHOWN_MAX: usize = 3;
    let resource = controller::Resource::namespaced("v1", "events", "Event");
    let uid = instance["metadata"]["uid"].as_str().unwrap_or_default();
    let options = controller::ListOptions {
        field_selector: Some(format!("involvedObject.uid={uid},type=Warning")),
        ..controller::ListOptions::default()
    };
    let list = live
        .api
        .list(&resource, &options)
        .await
        .context("reading the events")?;
    let mut events: Vec<(String, String)> = list
        .items
        .iter()
        .map(|event| {
            let text = |field: &str| event.value()[field].as_str().unwrap_or_default().to_owned();
            (
                text("lastTimestamp"),
                format!("{}: {}", text("reason"), text("message")),
            )
        })
        .collect();
    events.sort();
    let latest = events.into_iter().rev().take(SHOWN_MAX);
    Ok(latest.map(|(_, text)| text).collect())
}

fn text(told: &Told) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let (instance, status) = (&told.instance, &told.instance["status"]);
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = status["state"].as_str().unwrap_or("(no state yet)");
    let _ = writeln!(
        out,
        "{} {}: {state}",
        name(&instance["kind"]),
        name(&instance["metadata"]["name"])
    );
    let (current, target) = (&status["graphRevision"], &status["targetGraphRevision"]);
    if current.is_i64() && current != target {
        let _ = writeln!(out, "  on revision {current}, should be on {target}");
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if condition["status"] != "True" {
            let text = name(&condition["message"]).replace('\n', " ");
            let _ = writeln!(
                out,
                "  {} is {}: {text}",
                name(&condition["type"]),
                name(&condition["status"])
            );
        }
    }
    let width = told
        .rows
        .iter()
        .map(|row| 2 * row.depth + row.id.len())
        .max()
        .unwrap_or(0);
    for row in &told.rows {
        let id = format!("{}{}", "  ".repeat(row.depth), row.id);
        let count = if row.wanted > 1 {
            format!(" {}/{}", row.objects.len(), row.wanted)
        } else {
            String::new()
        };
        let _ = write!(out, "  {id:width$}  {:22} {}{count}", row.state, row.kind);
        if let [(name, age)] = row.objects.as_slice() {
            let _ = write!(out, " {name} ({age})");
        }
        let reason = row.reason.replace('\n', " ");
        let _ = writeln!(out, "{}{reason}", if reason.is_empty() { "" } else { ": " });
    }
    for event in &told.events {
        let _ = writeln!(out, "  last warning: {event}");
    }
    out
}

fn as_json(told: &Told) -> Value {
    let resources = told.rows.iter().map(|row| {
        let objects = row.objects.iter();
        let objects = objects.map(|(name, age)| json!({"name": name, "age": age}));
        json!({
            "id": row.id,
            "kind": row.kind,
            "state": row.state,
            "reason": row.reason,
            "objects": objects.collect::<Vec<_>>(),
        })
    });
    json!({
        "instance": told.instance["metadata"]["name"],
        "state": told.instance["status"]["state"],
        "conditions": told.instance["status"]["conditions"],
        "resources": resources.collect::<Vec<_>>(),
        "warnings": told.events,
    })
}
