//! `corvus graph explain`: the API a definition makes, field by field, as `kubectl explain` tells of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use graph::{Features, Graph};
use serde_json::Value;

use super::documents;

/// The arguments of `corvus graph explain`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus graph explain rgd.yaml
  corvus graph explain rgd.yaml spec.ingress
  corvus graph explain rgd.yaml --recursive")]
pub struct Arguments {
    /// A file with one ResourceGraphDefinition, and what else it needs.
    #[arg(value_name = "RGD")]
    definition: PathBuf,
    /// The field to begin with.
    #[arg(value_name = "FIELD", default_value = "")]
    field: String,
    /// Fields of fields too.
    #[arg(long)]
    recursive: bool,
}

/// Explains.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let graph = documents::one_graph(&arguments.definition, features, |_| true, "")?;
    let crd = graph.crd();
    let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let schema = find(root, &graph.schema.kind, &arguments.field)?;
    println!("KIND:     {}", graph.schema.kind);
    println!("VERSION:  {}", graph.schema.group_version());
    if !arguments.field.is_empty() {
        println!("FIELD:    {} <{}>", arguments.field, type_of(schema));
    }
    let scale = &crd["spec"]["versions"][0]["subresources"]["scale"];
    if arguments.field.is_empty() && scale.is_object() {
        let path = |key: &str| scale[key].as_str().unwrap_or("-").to_owned();
        println!(
            "SCALE:    {} -> {}, selector {}",
            path("specReplicasPath"),
            path("statusReplicasPath"),
            path("labelSelectorPath")
        );
    }
    let text = description(schema);
    println!(
        "\nDESCRIPTION:\n    {}",
        if text.is_empty() { "<empty>" } else { text }
    );
    let fields = inner(schema);
    if fields["properties"].is_object() {
        println!("\nFIELDS:");
        print_fields(fields, 1, arguments.recursive);
    }
    if arguments.field.is_empty() {
        print_resources(&graph);
    }
    Ok(ExitCode::SUCCESS)
}

/// The schema of a field, such as `spec.replicas`, of a kind.
fn find<'s>(root: &'s Value, kind: &str, field: &str) -> anyhow::Result<&'s Value> {
    let (mut schema, mut parent) = (root, kind);
    for name in field.split('.').filter(|name| !name.is_empty()) {
        // Elements of lists and values of maps are looked into without saying so.
        let fields = &inner(schema)["properties"];
        if fields[name].is_null() {
            let known = fields.as_object().into_iter().flatten();
            let known: Vec<&str> = known.map(|(name, _)| name.as_str()).collect();
            if known.is_empty() {
                bail!("there is no field {name:?}: {parent} has none");
            }
            let known = known.join(", ");
            bail!("there is no field {name:?} in {parent}; there are {known}");
        }
        (schema, parent) = (&fields[name], name);
    }
    Ok(schema)
}

fn print_resources(graph: &Graph) {
    for gate in &graph.rollout.propagate_when {
        println!("\nINSTANCES move to a new revision when {}", gate.source());
    }
    println!("\nRESOURCES, in the order of creation:");
    let ids = |said: &str, positions: &BTreeSet<usize>| {
        let ids: Vec<&str> = positions
            .iter()
            .map(|at| graph.nodes[*at].id.as_str())
            .collect();
        if ids.is_empty() {
            String::new()
        } else {
            format!(", {said} {}", ids.join(", "))
        }
    };
    for position in &graph.order {
        let node = &graph.nodes[*position];
        let after = ids("after", &node.dependencies);
        let later = ids("filled in from", &node.soft_dependencies);
        println!("  {}\t<{}>{after}{later}", node.id, node.resource.kind);
        for note in node.handling.notes() {
            println!("      {note}");
        }
    }
}

fn print_fields(schema: &Value, depth: usize, recursive: bool) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let indent = "  ".repeat(depth);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let needed = if required.contains(&name.as_str()) {
            " -required-"
        } else {
            ""
        };
        println!(
            "{indent}{name}\t<{}>{needed}{}",
            type_of(field),
            limits(field)
        );
        let text = description(field);
        if !text.is_empty() {
            println!("{indent}    {text}");
        }
        let fields = inner(field);
        if recursive && fields["properties"].is_object() {
            print_fields(fields, depth + 1, recursive);
        }
    }
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// What a list is of, or a map, or the schema itself.
fn inner(schema: &Value) -> &Value {
    let mut schema = schema;
    loop {
        schema = match (&schema["items"], &schema["additionalProperties"]) {
            (items @ Value::Object(_), _) => items,
            (_, values @ Value::Object(_)) => values,
            _ => return schema,
        };
    }
}

fn type_of(schema: &Value) -> String {
    if schema["items"].is_object() {
        return format!("[]{}", type_of(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("map[string]{}", type_of(&schema["additionalProperties"]));
    }
    match schema["type"].as_str() {
        Some("object") => "Object".to_owned(),
        Some(name) => name.to_owned(),
        None if schema["x-kubernetes-int-or-string"] == true => "IntOrString".to_owned(),
        None => "any".to_owned(),
    }
}

/// Defaults and bounds.
fn limits(schema: &Value) -> String {
    let names = [
        "default",
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
    ];
    let said = names
        .iter()
        .filter(|name| !schema[**name].is_null())
        .map(|name| format!(" {name}={}", schema[*name]));
    said.collect()
}
