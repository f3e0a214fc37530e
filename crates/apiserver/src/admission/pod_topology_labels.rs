//! `PodTopologyLabels`: a Pod carries the zone and the region of the node it is bound to.

use model::{Status, object};
use serde_json::{Map, Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "PodTopologyLabels",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

const LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    if request.operation != Operation::Create || !request.is("", "pods") {
        return Ok(());
    }
    let node = match request.subresource {
        "" => object::text(new, &["spec", "nodeName"]),
        "binding" if object::text(new, &["target", "kind"]) == "Node" => {
            object::text(new, &["target", "name"])
        }
        _ => return Ok(()),
    };
    if node.is_empty() {
        return Ok(());
    }
    let Some(node) = request.find("", "nodes", None, node) else {
        return Ok(());
    };
    let copied: Map<String, Value> = LABELS
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), object::label(&node, key)?.into())))
        .collect();
    if copied.is_empty() {
        return Ok(());
    }
    let labels = object::metadata_mut(new)
        .entry("labels")
        .or_insert_with(|| json!({}));
    match labels.as_object_mut() {
        Some(labels) => labels.extend(copied),
        None => *labels = Value::Object(copied),
    }
    Ok(())
}
