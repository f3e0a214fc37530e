//! `TaintNodesByCondition`: a new Node is not ready, so nothing is scheduled to it before a controller has
//! seen it.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "TaintNodesByCondition",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

const KEY: &str = "node.kubernetes.io/not-ready";

fn mutate(request: &Request<'_>, node: &mut Value) -> Result<(), Status> {
    if !request.creates("", "nodes") {
        return Ok(());
    }
    let there = object::list(node, &["spec", "taints"]).iter().any(|taint| {
        object::text(taint, &["key"]) == KEY && object::text(taint, &["effect"]) == "NoSchedule"
    });
    if there {
        return Ok(());
    }
    let taint = json!({"key": KEY, "effect": "NoSchedule"});
    let taints = object::child_mut(node, "spec")
        .entry("taints")
        .or_insert_with(|| json!([]));
    match taints.as_array_mut() {
        Some(list) => list.push(taint),
        None => *taints = json!([taint]),
    }
    Ok(())
}
