//! `corvus graph test`: what instances should become, written down and checked.
//!
//! A file of tests names a definition and has cases: an instance, what is known of the cluster, and what
//! is expected of the objects, the states and the status. Expectations name the fields they are about;
//! others may be anything.

use graph::Features;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use graph::render::Rendered;
use graph::runtime::PassOptions;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::difference::{Scope, differences, shown};
use super::documents;

/// The arguments of `corvus graph test`.
#[derive(clap::Args)]
#[command(after_help = "\
A file of tests:
  definition: rgd.yaml            # beside this file; what else it needs may stand in it too
  cases:
  - name: small
    instance:                     # or the name of a file
      metadata: {name: a}
      spec: {greeting: hi, replicas: 1}
    observed:                     # objects as they are in the cluster; optional
    - apiVersion: v1
      kind: Service
      metadata: {name: a, namespace: default}
      spec: {clusterIP: 10.0.0.1}
    expect:
      resources:                  # by id; fields that are not named may be anything, null means none
        app:
          state: SYNCED
          objects:
          - spec: {replicas: 1}
      status: {address: 10.0.0.1}

Exit codes: 0 all pass, 1 some do not, 2 a file cannot be read or its definition not be built.

Examples:
  corvus graph test site_test.yaml
  corvus graph test tests/*.yaml")]
pub struct Arguments {
    /// The files of tests.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    definition: PathBuf,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    instance: Value,
    #[serde(default)]
    observed: Vec<Value>,
    expect: Expect,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Expect {
    resources: Map<String, Value>,
    status: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedResource {
    state: Option<String>,
    message: Option<String>,
    objects: Option<Vec<Value>>,
    value: Option<Value>,
}

/// Runs the tests.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in &arguments.files {
        let outcomes = match run_file(file, features) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                eprintln!("corvus: {error:#}");
                return Ok(ExitCode::from(2));
            }
        };
        for (name, problems) in outcomes {
            let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
            println!("{}: {name}: {verdict}", file.display());
            for problem in &problems {
                println!("    {problem}");
            }
            if problems.is_empty() {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The cases of a file, each with what is wrong with it.
fn run_file(file: &Path, features: Features) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let tests: Tests =
        serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let graph = documents::one_graph(&folder.join(&tests.definition), features, |_| true, "")?;
    let mut outcomes = Vec::new();
    for case in tests.cases {
        let instance = instance(&case.instance, folder, &graph)
            .with_context(|| format!("{}: case {:?}", file.display(), case.name))?;
        let rendered =
            graph::render::render(&graph, &instance, &case.observed, PassOptions::default());
        outcomes.push((case.name, problems(&rendered, &case.expect)));
    }
    Ok(outcomes)
}

/// The instance of a case: from a file, or as it stands there with what goes without saying filled in.
fn instance(given: &Value, folder: &Path, graph: &graph::Graph) -> anyhow::Result<Value> {
    let mut instance = match given.as_str() {
        Some(path) => documents::one(&folder.join(path))?,
        None => given.clone(),
    };
    let Some(fields) = instance.as_object_mut() else {
        return Err(anyhow!(
            "the instance is neither an object nor a file's name"
        ));
    };
    let mut fill = |name: &str, value: Value| {
        fields.entry(name).or_insert(value);
    };
    fill("apiVersion", json!(graph.schema.group_version()));
    fill("kind", json!(graph.schema.kind));
    fill("metadata", json!({}));
    for (name, value) in [("name", "test"), ("namespace", "default")] {
        if instance["metadata"][name].is_null() {
            instance["metadata"][name] = json!(value);
        }
    }
    Ok(instance)
}

fn problems(rendered: &Rendered, expect: &Expect) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, expected) in &expect.resources {
        let Some(node) = rendered.nodes.iter().find(|node| node.id == *id) else {
            let known: Vec<&str> = rendered.nodes.iter().map(|node| node.id.as_str()).collect();
            problems.push(format!(
                "{id}: there is no such resource; there are {}",
                known.join(", ")
            ));
            continue;
        };
        let expected = match ExpectedResource::deserialize(expected) {
            Ok(expected) => expected,
            Err(error) => {
                problems.push(format!("{id}: {error}"));
                continue;
            }
        };
        let (state, message) = (node.state.name(), super::render::reason(&node.state));
        if expected
            .state
            .as_deref()
            .is_some_and(|wanted| wanted != state)
        {
            let wanted = expected.state.as_deref().unwrap_or_default();
            let why = if message.is_empty() {
                String::new()
            } else {
                format!(" ({message})")
            };
            problems.push(format!("{id}.state: expected {wanted}, found {state}{why}"));
        }
        if let Some(wanted) = expected
            .message
            .filter(|wanted| !message.contains(wanted.as_str()))
        {
            problems.push(format!(
                "{id}.message: expected {wanted:?} in it, found {message:?}"
            ));
        }
        if let Some(value) = &expected.value {
            let found = node.value.clone().unwrap_or_default();
            differing(&format!("{id}.value"), value, &found, &mut problems);
        }
        if let Some(objects) = expected.objects {
            let found = Value::Array(node.objects.clone());
            differing(
                &format!("{id}.objects"),
                &Value::Array(objects),
                &found,
                &mut problems,
            );
        }
    }
    if !expect.status.is_null() {
        differing("status", &expect.status, &rendered.status, &mut problems);
    }
    problems
}

fn differing(root: &str, expected: &Value, found: &Value, problems: &mut Vec<String>) {
    for difference in differences(expected, found, Scope::Expected) {
        let dot = if difference.path.is_empty() || difference.path.starts_with('[') {
            ""
        } else {
            "."
        };
        problems.push(format!(
            "{root}{dot}{}: expected {}, found {}",
            difference.path,
            shown(difference.before.as_ref()),
            shown(difference.after.as_ref())
        ));
    }
}
