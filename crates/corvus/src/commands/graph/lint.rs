//! `corvus graph lint`: everything the server would say about definitions and instances, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use graph::{BuildError, Features, Graph, manifests};
use serde_json::Value;

use super::documents::{self, Definition, Document};
use super::finding::{self, Finding};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For forges and editors: the Static Analysis Results Interchange Format.
    Sarif,
}

/// The arguments of `corvus graph lint`.
#[derive(clap::Args)]
#[command(after_help = "\
CustomResourceDefinitions and ResourceGraphDefinitions in the files are known to all others in them; instances in
them are checked too. Exit codes: 0 nothing found, 1 problems found, 2 a file cannot be read.

Examples:
  corvus graph lint rgd.yaml
  corvus graph lint *.yaml -o json
  corvus graph lint *.yaml -o sarif > lint.sarif
  kubectl get rgd site.kro.run -o yaml | corvus graph lint -")]
pub struct Arguments {
    /// The files; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Checks the files.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let mut documents = Vec::new();
    for file in &arguments.files {
        match documents::read(file) {
            Ok(found) => documents.extend(found),
            Err(error) => {
                eprintln!("corvus: {error:#}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    let definitions = documents::build_all(&documents, features);
    if definitions.is_empty() {
        eprintln!("corvus: there is no ResourceGraphDefinition in these files");
        return Ok(ExitCode::from(2));
    }
    let problems = check(&documents, &definitions);
    match arguments.output {
        Output::Text => print_text(&definitions, &problems),
        Output::Json => {
            let list = problems.iter().map(Finding::json).collect();
            println!("{:#}", Value::Array(list));
        }
        Output::Sarif => println!("{:#}", finding::sarif(&problems)),
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(documents: &[Document], definitions: &[Definition]) -> Vec<Finding> {
    let mut problems = Vec::new();
    let own = manifests::resource_graph_definition_crd();
    let mut add = |document: &Document, errors: Vec<BuildError>| {
        let findings = errors.into_iter();
        problems.extend(findings.map(|error| Finding::new(document, error)));
    };
    for definition in definitions {
        let document = &definition.document;
        let shape = check_shape(&own, &document.value, None);
        // What does not even have the shape of a definition gives follow-up errors only.
        match &definition.graph {
            Err(error) if shape.is_empty() => add(document, vec![error.clone()]),
            _ => add(document, shape),
        }
    }
    for document in documents {
        let graphs = definitions
            .iter()
            .filter_map(|found| found.graph.as_ref().ok());
        for graph in graphs.filter(|graph| is_instance(&document.value, graph)) {
            let filled_in = graph::render::with_defaults(graph, &document.value);
            add(
                document,
                check_shape(&graph.crd(), &filled_in, Some("status")),
            );
        }
    }
    problems
}

fn is_instance(value: &Value, graph: &Graph) -> bool {
    value["kind"] == graph.schema.kind.as_str()
        && value["apiVersion"] == graph.schema.group_version().as_str()
}

/// What the schema of a CustomResourceDefinition says about an object.
fn check_shape(crd: &Value, object: &Value, ignored: Option<&str>) -> Vec<BuildError> {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let schema = match schema::Schema::custom_resource(schema, false) {
        Ok(schema) => schema,
        Err(error) => return vec![BuildError::new(error.to_string())],
    };
    let mut object = object.clone();
    if let (Some(field), Some(fields)) = (ignored, object.as_object_mut()) {
        fields.remove(field);
    }
    let mut problems = Vec::new();
    match schema::coerce_metadata(&schema, &mut object) {
        Ok(unknown) => problems.extend(unknown.into_iter().map(unknown_field)),
        Err(error) => problems.push(BuildError::new(error.to_string()).at("metadata")),
    }
    let pruned = schema::prune(&schema, &mut object);
    problems.extend(pruned.into_iter().map(unknown_field));
    for error in schema::validate(&schema, &object) {
        problems.push(BuildError::new(error.to_string()));
    }
    problems
}

fn unknown_field(path: String) -> BuildError {
    BuildError::new("unknown field").at(path)
}

fn print_text(definitions: &[Definition], problems: &[Finding]) {
    for problem in problems {
        println!("{}", problem.text());
    }
    if problems.is_empty() {
        let names: Vec<String> = definitions
            .iter()
            .map(|definition| definition.document.title())
            .collect();
        println!("no problems in {}", names.join(", "));
    }
}
