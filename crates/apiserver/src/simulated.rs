//! What a node agent answers on a real cluster, answered here for virtual nodes: logs, commands and
//! measurements.
//!
//! Nothing runs on a virtual node, so all are made up from the Pod: what its annotations say, else what
//! it asks for. Forwarding of ports is left out: it is refused with a sentence that says so.

mod exec;
mod logs;
mod metrics;

pub use exec::{Spoken, exec};
pub use logs::log;
pub use metrics::{GROUP, definitions, serve};

use model::object;
use serde_json::Value;

/// An annotation of virtual nodes, for one container or for all of a Pod.
fn annotation<'a>(pod: &'a Value, name: &str, container: &str) -> Option<&'a str> {
    let own = format!("virtual.corvus.dev/{name}.{container}");
    let all = || object::annotation(pod, &format!("virtual.corvus.dev/{name}"));
    object::annotation(pod, &own).or_else(all)
}

/// The status of a Pod's container, of whichever kind.
fn status_of<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .into_iter()
    .flat_map(|list| object::list(pod, &["status", list]))
    .find(|status| object::text(status, &["name"]) == container)
}

/// The containers of a Pod's spec, in the order they are listed to users.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| object::list(pod, &["spec", list]))
}
