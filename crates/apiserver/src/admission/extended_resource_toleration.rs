//! `ExtendedResourceToleration`: who asks for a device tolerates the taint of the nodes that have it.
//! Off by default.

use std::collections::BTreeSet;

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "ExtendedResourceToleration",
    default: false,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is_object("", "pods") {
        return Ok(());
    }
    let mut tolerations = object::list(pod, &["spec", "tolerations"]).to_vec();
    let resources: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| object::list(pod, &["spec", kind]))
        .filter_map(|container| object::at(container, &["resources", "requests"])?.as_object())
        .flat_map(|requests| requests.keys().map(String::as_str))
        .filter(|name| is_extended(name))
        .collect();
    for name in resources {
        let toleration = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        let same = |other: &&mut Value| {
            object::text(other, &["key"]) == name
                && object::text(other, &["effect"]) == "NoSchedule"
                && object::text(other, &["operator"]) == "Exists"
        };
        match tolerations.iter_mut().find(same) {
            Some(other) => *other = toleration,
            None => tolerations.push(toleration),
        }
    }
    if !tolerations.is_empty() {
        object::child_mut(pod, "spec").insert("tolerations".to_owned(), tolerations.into());
    }
    Ok(())
}

/// Whether a resource is neither Kubernetes' own nor a quota's.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.")
}
