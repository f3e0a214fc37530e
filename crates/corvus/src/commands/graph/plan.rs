//! `corvus graph plan`: what a changed definition would do to the instances there are, before it is applied.
//!
//! Every instance is rendered twice against what the cluster shows of it, by the definition it has and by
//! the one in the file; what differs is what the change would do. Objects are told apart by kind,
//! namespace and name: one that gets another name is deleted and made anew, and the plan says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use graph::render::{Rendered, RenderedNode};
use graph::runtime::{NodeState, PassOptions};
use graph::{Deletion, Features, Graph, compatibility, keys};
use serde_json::{Value, json};

use super::difference::{Difference, Scope, differences, shown};
use super::documents::{self, Document};
use super::live::Live;
use crate::commands::attach::Cluster;
use crate::plane;

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The arguments of `corvus graph plan`.
#[derive(clap::Args)]
#[command(after_help = "\
Nothing is changed on the cluster. Exit codes: 0 it can be applied, 1 the server would refuse it or instances would
fail, 2 the file or the cluster cannot be read.

Examples:
  corvus graph plan rgd.yaml
  corvus graph plan rgd.yaml --kubeconfig .corvus/kubeconfig -o json")]
pub struct Arguments {
    /// A file with one ResourceGraphDefinition, and the CustomResourceDefinitions it brings along.
    #[arg(value_name = "RGD")]
    definition: PathBuf,
    #[command(flatten)]
    cluster: Cluster,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// What would become of one object.
struct ObjectPlan {
    resource: String,
    object: String,
    action: Action,
}

enum Action {
    Create,
    Delete,
    /// It stays in the cluster and belongs to nobody.
    Release,
    Change(Vec<Difference>),
}

/// What would become of one instance.
struct InstancePlan {
    instance: String,
    objects: Vec<ObjectPlan>,
    /// What would fail that does not fail today.
    problems: Vec<String>,
}

/// What would happen.
struct Plan {
    definition: String,
    is_new: bool,
    api: compatibility::Report,
    /// What holds instances back.
    held: Vec<String>,
    breaking_allowed: bool,
    instances: Vec<InstancePlan>,
}

impl Plan {
    fn is_refused(&self) -> bool {
        !self.api.breaking.is_empty() && !self.breaking_allowed
    }

    fn has_problems(&self) -> bool {
        self.is_refused() || self.instances.iter().any(|plan| !plan.problems.is_empty())
    }
}

impl InstancePlan {
    fn untouched(instance: &Value) -> Self {
        Self {
            instance: title(instance),
            objects: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// Plans.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let plan = match plane::runtime()?.block_on(make(arguments, features)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("corvus: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    match arguments.output {
        Output::Text => print(&plan),
        Output::Json => println!("{:#}", as_json(&plan)),
    }
    Ok(if plan.has_problems() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn make(arguments: &Arguments, features: Features) -> anyhow::Result<Plan> {
    let documents = documents::read(&arguments.definition)?;
    let definition =
        only_definition(&documents).with_context(|| arguments.definition.display().to_string())?;
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let mut live = Live::new(arguments.cluster.client().await?, features).await?;
    let before = match live.definition(name).await? {
        Some(there) => Some(live.build(&there).context("as it is on the cluster")?),
        None => None,
    };
    for document in documents.iter().filter(|document| document.is_crd()) {
        live.add_crd(&document.value);
    }
    let after = live.build(definition)?;
    let api = before
        .as_ref()
        .map_or_else(compatibility::Report::default, |before| {
            let rules = compatibility::Rules::of(features);
            compatibility::compare(&before.crd(), &after.crd(), rules)
        });
    let mut instances = Vec::new();
    if let Some(before) = &before {
        for instance in live.instances(before).await? {
            if is_pinned(&instance) {
                instances.push(InstancePlan::untouched(&instance));
                continue;
            }
            instances.push(of_instance(&live, before, &after, &instance).await?);
        }
    }
    let allowed = &definition["metadata"]["annotations"][keys::ALLOW_BREAKING_CHANGES];
    Ok(Plan {
        definition: name.to_owned(),
        is_new: before.is_none(),
        api,
        held: held(&after),
        breaking_allowed: allowed == "true",
        instances,
    })
}

/// What holds instances back from moving to the new revision.
fn held(after: &Graph) -> Vec<String> {
    if after.rollout.is_manual {
        return vec!["the strategy Manual".to_owned()];
    }
    let gates = after.rollout.propagate_when.iter();
    gates.map(|gate| gate.source().to_owned()).collect()
}

/// Whether an instance stays on a revision whatever becomes of its definition.
fn is_pinned(instance: &Value) -> bool {
    let pin = instance["metadata"]["annotations"][keys::GRAPH_REVISION].as_str();
    pin.is_some_and(|pin| pin.parse::<i64>().is_ok())
}

fn only_definition(documents: &[Document]) -> anyhow::Result<&Value> {
    let mut found = documents.iter().filter(|document| document.is_definition());
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(&only.value),
        (None, _) => bail!("there is no ResourceGraphDefinition"),
        (Some(_), Some(_)) => bail!("there is more than one ResourceGraphDefinition"),
    }
}

async fn of_instance(
    live: &Live,
    before: &Graph,
    after: &Graph,
    instance: &Value,
) -> anyhow::Result<InstancePlan> {
    let mut observed = live.observed(before, instance).await?;
    for object in live.observed(after, instance).await? {
        if !observed.contains(&object) {
            observed.push(object);
        }
    }
    let render =
        |graph: &Graph| graph::render::render(graph, instance, &observed, PassOptions::default());
    let (old, new) = (render(before), render(after));
    let mut problems = refused_fields(after, instance);
    problems
        .extend(failures(&new).filter(|failure| !failures(&old).any(|known| known == *failure)));
    Ok(InstancePlan {
        instance: title(instance),
        objects: compare(&old, &new),
        problems,
    })
}

/// What the new API says of an instance.
fn refused_fields(graph: &Graph, instance: &Value) -> Vec<String> {
    let crd = graph.crd();
    let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let Ok(schema) = schema::Schema::custom_resource(root, false) else {
        return Vec::new();
    };
    let mut filled = graph::render::with_defaults(graph, instance);
    if let Some(fields) = filled.as_object_mut() {
        fields.remove("status");
    }
    let mut problems: Vec<String> = schema::validate(&schema, &filled)
        .into_iter()
        .map(|error| error.to_string())
        .collect();
    let dropped = schema::prune(&schema, &mut filled);
    problems.extend(
        dropped
            .into_iter()
            .map(|path| format!("{path}: would be dropped")),
    );
    problems
}

fn failures(rendered: &Rendered) -> impl Iterator<Item = String> {
    rendered.nodes.iter().filter_map(|node| match &node.state {
        NodeState::Error(message) => Some(format!("resource {:?}: {message}", node.id)),
        _ => None,
    })
}

/// An object of the instance by what tells it from others, and its resource's id.
fn by_identity(rendered: &Rendered) -> BTreeMap<String, (&RenderedNode, &Value)> {
    let nodes = rendered.nodes.iter();
    nodes
        .flat_map(|node| node.objects.iter().map(move |object| (node, object)))
        .map(|(node, object)| {
            let title = title(object);
            if node.is_patch {
                (format!("fields of {title}"), (node, object))
            } else {
                (title, (node, object))
            }
        })
        .collect()
}

fn compare(old: &Rendered, new: &Rendered) -> Vec<ObjectPlan> {
    let (before, after) = (by_identity(old), by_identity(new));
    let mut plans = Vec::new();
    let mut plan = |node: &RenderedNode, object: &str, action| {
        plans.push(ObjectPlan {
            resource: node.id.clone(),
            object: object.to_owned(),
            action,
        });
    };
    for (object, (node, value)) in &after {
        match before.get(object) {
            None => plan(node, object, Action::Create),
            Some((_, was)) => {
                let differences = differences(was, value, Scope::All);
                if !differences.is_empty() {
                    plan(node, object, Action::Change(differences));
                }
            }
        }
    }
    for (object, (node, _)) in &before {
        // What cannot be told yet is not deleted: pruning waits until everything is resolved.
        let is_open = new.nodes.iter().any(|found| {
            found.id == node.id
                && matches!(found.state, NodeState::InProgress(_) | NodeState::Error(_))
        });
        if !after.contains_key(object) && !is_open {
            // What the object says counts, and that is what the present definition says.
            match node.policy.deletion {
                Deletion::Delete => plan(node, object, Action::Delete),
                Deletion::Retain => plan(node, object, Action::Release),
            }
        }
    }
    plans
}

/// `Kind namespace/name`
fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let kind = text(&object["kind"]);
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

fn print(plan: &Plan) {
    if plan.is_new {
        println!(
            "ResourceGraphDefinition {:?} is new: there are no instances yet.",
            plan.definition
        );
        return;
    }
    for change in &plan.api.breaking {
        println!(
            "! API: {}: {} (breaks users)",
            change.path, change.description
        );
    }
    for change in &plan.api.compatible {
        println!("~ API: {}: {}", change.path, change.description);
    }
    let (mut created, mut changed, mut deleted, mut untouched) = (0, 0, 0, 0);
    let mut released = 0;
    for instance in &plan.instances {
        if instance.objects.is_empty() && instance.problems.is_empty() {
            untouched += 1;
            continue;
        }
        println!("{}", instance.instance);
        for problem in &instance.problems {
            println!("  ! {problem}");
        }
        for ObjectPlan {
            resource,
            object,
            action,
        } in &instance.objects
        {
            match action {
                Action::Create => {
                    created += 1;
                    println!("  + {object} ({resource})");
                }
                Action::Delete => {
                    deleted += 1;
                    println!("  - {object} ({resource})");
                }
                Action::Release => {
                    released += 1;
                    println!("  o {object} ({resource}): stays, and belongs to nobody");
                }
                Action::Change(differences) => {
                    changed += 1;
                    println!("  ~ {object} ({resource})");
                    for Difference {
                        path,
                        before,
                        after,
                    } in differences
                    {
                        println!(
                            "      {path}: {} -> {}",
                            shown(before.as_ref()),
                            shown(after.as_ref())
                        );
                    }
                }
            }
        }
    }
    let released = match released {
        0 => String::new(),
        _ => format!(", {released} to release"),
    };
    println!(
        "{created} to create, {changed} to change, {deleted} to delete{released}; {untouched} of {} instances are not touched",
        plan.instances.len()
    );
    if !plan.held.is_empty() {
        println!("Instances are held back by: {}", plan.held.join("; "));
    }
    if plan.is_refused() {
        println!(
            "The change of the API would be refused: it breaks users. The annotation {}: \"true\" allows it.",
            keys::ALLOW_BREAKING_CHANGES
        );
    }
}

fn as_json(plan: &Plan) -> Value {
    let changes = |list: &[compatibility::Change]| -> Vec<Value> {
        let one = |change: &compatibility::Change| json!({"path": change.path, "description": change.description});
        list.iter().map(one).collect()
    };
    let instances = plan.instances.iter().map(|instance| {
        let objects = instance.objects.iter().map(|object| {
            let (action, fields) = match &object.action {
                Action::Create => ("create", Vec::new()),
                Action::Delete => ("delete", Vec::new()),
                Action::Release => ("release", Vec::new()),
                Action::Change(differences) => ("change", differences.iter().map(|d| {
                    json!({"path": d.path, "before": d.before, "after": d.after})
                }).collect()),
            };
            json!({"resource": object.resource, "object": object.object, "action": action, "fields": fields})
        });
        json!({
            "instance": instance.instance,
            "objects": objects.collect::<Vec<_>>(),
            "problems": instance.problems,
        })
    });
    json!({
        "definition": plan.definition,
        "new": plan.is_new,
        "refused": plan.is_refused(),
        "held": plan.held,
        "api": {"breaking": changes(&plan.api.breaking), "compatible": changes(&plan.api.compatible)},
        "instances": instances.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use graph::Policy;

    use super::*;

    #[test]
    fn what_is_kept_is_released_instead_of_deleted() {
        let node = |id: &str, deletion| RenderedNode {
            id: id.to_owned(),
            objects: vec![
                json!({"kind": "ConfigMap", "metadata": {"name": id, "namespace": "ns"}}),
            ],
            value: None,
            is_patch: false,
            state: NodeState::Synced,
            policy: Policy {
                deletion,
                ..Policy::default()
            },
        };
        let rendered = |nodes| Rendered {
            nodes,
            status: Value::Null,
        };
        let before = vec![
            node("kept", Deletion::Retain),
            node("gone", Deletion::Delete),
        ];
        let plans = compare(&rendered(before), &rendered(Vec::new()));
        let check = |id: &str, expect: fn(&Action) -> bool| {
            let plan = plans.iter().find(|plan| plan.resource == id);
            assert!(plan.is_some_and(|plan| expect(&plan.action)), "{id}");
        };
        check("kept", |action| matches!(action, Action::Release));
        check("gone", |action| matches!(action, Action::Delete));
    }
}
