//! `corvus graph schema`: JSON schemas for editors.

use graph::Features;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::documents;

/// Nested deeper than any schema the server takes.
const DEPTH_MAX: usize = 128;

/// The arguments of `corvus graph schema`.
#[derive(clap::Args)]
#[command(after_help = "\
Editors that speak YAML take the file by a line such as
  # yaml-language-server: $schema=./rgd.schema.json

Examples:
  corvus graph schema > rgd.schema.json              of ResourceGraphDefinitions
  corvus graph schema rgd.yaml > site.schema.json    of the instances of one")]
pub struct Arguments {
    /// A file with one ResourceGraphDefinition, and what else it needs, whose instances are meant.
    #[arg(value_name = "RGD")]
    definition: Option<PathBuf>,
}

/// Prints a schema.
pub fn run(arguments: &Arguments, features: Features) -> anyhow::Result<ExitCode> {
    let crd = match &arguments.definition {
        None => graph::manifests::resource_graph_definition_crd(),
        Some(file) => documents::one_graph(file, features, |_| true, "")?.crd(),
    };
    println!("{:#}", of_crd(&crd));
    Ok(ExitCode::SUCCESS)
}

/// The schema of the objects of a CustomResourceDefinition's first version.
fn of_crd(crd: &Value) -> Value {
    let spec = &crd["spec"];
    let version = &spec["versions"][0];
    let name = |field: &str| spec[field].as_str().unwrap_or_default();
    let api_version = format!(
        "{}/{}",
        name("group"),
        version["name"].as_str().unwrap_or_default()
    );
    let kind = spec["names"]["kind"].clone();
    let mut schema = plain(&version["schema"]["openAPIV3Schema"], 0);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = kind.clone();
    schema["type"] = json!("object");
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = json!({"type": "string", "const": api_version});
    schema["properties"]["kind"] = json!({"type": "string", "const": kind});
    schema["properties"]["metadata"] = metadata();
    schema["required"] = json!(["apiVersion", "kind", "metadata"]);
    schema
}

fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "generateName": {"type": "string"},
            "namespace": {"type": "string"},
            "labels": texts,
            "annotations": texts,
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "ownerReferences": {"type": "array", "items": {"type": "object"}},
        },
    })
}

/// Kubernetes' dialect in plain JSON schema: its extensions become what they mean, and maps without
/// `additionalProperties` take no others, as the server warns of them.
fn plain(schema: &Value, depth: usize) -> Value {
    let Some(fields) = schema.as_object().filter(|_| depth < DEPTH_MAX) else {
        return schema.clone();
    };
    let mut made = Map::new();
    for (name, value) in fields {
        let value = match name.as_str() {
            "properties" => members(value, depth),
            "items" | "additionalProperties" | "not" => plain(value, depth + 1),
            "allOf" | "anyOf" | "oneOf" => list(value, depth),
            _ if name.starts_with("x-kubernetes-") || name == "nullable" => continue,
            _ => value.clone(),
        };
        made.insert(name.clone(), value);
    }
    let is = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    if is("x-kubernetes-int-or-string") {
        made.remove("anyOf");
        made.insert("type".to_owned(), json!(["integer", "string"]));
    } else if is("nullable")
        && let Some(kind) = made.get("type").filter(|kind| kind.is_string()).cloned()
    {
        made.insert("type".to_owned(), json!([kind, "null"]));
    }
    let is_closed = fields.contains_key("properties")
        && !fields.contains_key("additionalProperties")
        && !is("x-kubernetes-preserve-unknown-fields")
        && !is("x-kubernetes-embedded-resource");
    if is_closed {
        made.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(made)
}

fn members(properties: &Value, depth: usize) -> Value {
    let members = properties.as_object().into_iter().flatten();
    members
        .map(|(name, schema)| (name.clone(), plain(schema, depth + 1)))
        .collect()
}

fn list(schemas: &Value, depth: usize) -> Value {
    let schemas = schemas.as_array().into_iter().flatten();
    schemas.map(|schema| plain(schema, depth + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_become_what_they_mean() {
        let made = plain(
            &json!({"type": "object", "properties": {
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "note": {"type": "string", "nullable": true},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}),
            0,
        );
        assert_eq!(
            made,
            json!({"type": "object", "additionalProperties": false, "properties": {
                "port": {"type": ["integer", "string"]},
                "note": {"type": ["string", "null"]},
                "any": {"type": "object"},
            }})
        );
    }
}
