//! `metrics.k8s.io`: what nodes and Pods use, computed when asked for, never stored.
//!
//! A container uses what its annotations `virtual.corvus.dev/cpu` and `…/memory` say, else what it
//! requests, else next to nothing. A node uses what its Pods do.

use std::collections::BTreeMap;

use http::Response;
use model::resources::Scope;
use model::{GroupVersionKind, GroupVersionResource, Quantity, Status, object};
use schema::Schema;
use serde_json::{Value, json};
use store::ListOptions;

use super::annotation;
use crate::body::Body;
use crate::catalog::Definition;
use crate::context::{Context, timestamp};
use crate::dispatch::method_not_allowed;
use crate::{envelope, respond};

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// Over how long upstream's measurements are averaged.
const WINDOW: &str = "15s";
/// What a container uses that says nothing: thousandths of a CPU, bytes.
const IDLE: Use = Use {
    cpu: 1,
    memory: 16 << 20,
};

/// What is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    cpu: i64,
    memory: i64,
}

impl Use {
    fn add(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
    }

    fn value(self) -> Value {
        json!({"cpu": format!("{}m", self.cpu), "memory": format!("{}Ki", self.memory >> 10)})
    }
}

/// What the server serves where there are virtual nodes.
pub fn definitions() -> Vec<Definition> {
    let define = |resource: &str, kind: &str, scope: Scope| {
        let kind = GroupVersionKind::new(GROUP, VERSION, kind);
        Definition {
            gvr: GroupVersionResource::new(GROUP, VERSION, resource),
            list_kind: format!("{}List", kind.kind),
            singular: String::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: vec!["get".to_owned(), "list".to_owned()],
            subresources: Vec::new(),
            schema: Schema::any(),
            storage: (GROUP.to_owned(), resource.to_owned()),
            storage_version: kind.api_version(),
            custom: None,
            kind,
        }
    };
    vec![
        define("nodes", "NodeMetrics", Scope::Cluster),
        define("pods", "PodMetrics", Scope::Namespaced),
    ]
}

/// Answers a request for measurements.
pub fn serve(context: &Context, verb: &str) -> Result<Response<Body>, Status> {
    let now = timestamp((context.state.options.clock)());
    let selector = context.query.label_selector()?;
    let of_nodes = context.definition.gvr.resource == "nodes";
    let mut found: Vec<Value> = if of_nodes {
        let pods = stored(context, "pods", None)?;
        let used = used_by_node(&pods);
        stored(context, "nodes", None)?
            .iter()
            .filter(|node| is_simulated(node))
            .map(|node| of_node(node, used.get(object::name(node)), &now))
            .collect()
    } else {
        let namespace = context.path.namespace.as_deref();
        let pods = stored(context, "pods", namespace)?;
        pods.iter().filter_map(|pod| of_pod(pod, &now)).collect()
    };
    let encoding = context.accept.encoding;
    if verb == "get" {
        found.retain(|one| object::name(one) == context.name());
        let one = found.pop().ok_or_else(|| context.not_found())?;
        return Ok(respond::value(200, &one, encoding));
    }
    if verb != "list" {
        return Err(method_not_allowed());
    }
    found.retain(|one| selector.matches(object::labels(one)));
    let list = json!({
        "kind": context.definition.list_kind,
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {},
        "items": found,
    });
    Ok(respond::value(200, &list, encoding))
}

/// Stored objects of the core group.
fn stored(
    context: &Context,
    resource: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let prefix = envelope::key_prefix("", resource, namespace);
    let options = ListOptions::default();
    let listing = context.state.store.list(&prefix, &options);
    let listing = listing.map_err(|error| crate::write::store_error(&error))?;
    listing
        .entries
        .iter()
        .map(|entry| envelope::decode(entry))
        .collect()
}

fn is_simulated(node: &Value) -> bool {
    object::label(node, "node.corvus.dev/virtual") == Some("true")
}

fn is_running(pod: &Value) -> bool {
    object::text(pod, &["status", "phase"]) == "Running"
}

/// What one container uses.
fn of_container(pod: &Value, container: &Value) -> Use {
    let name = object::text(container, &["name"]);
    let quantity = |resource: &str| -> Option<Quantity> {
        let requested = || object::text(container, &["resources", "requests", resource]);
        annotation(pod, resource, name)
            .unwrap_or_else(requested)
            .parse()
            .ok()
    };
    Use {
        cpu: quantity("cpu").map_or(IDLE.cpu, |cpu| cpu.milli_value()),
        memory: quantity("memory").map_or(IDLE.memory, |memory| memory.value()),
    }
}

fn running_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecar = |one: &&Value| object::text(one, &["restartPolicy"]) == "Always";
    object::list(pod, &["spec", "initContainers"])
        .iter()
        .filter(sidecar)
        .chain(object::list(pod, &["spec", "containers"]))
}

fn of_pod(pod: &Value, now: &str) -> Option<Value> {
    if !is_running(pod) {
        return None;
    }
    let containers: Vec<Value> = running_containers(pod)
        .map(|container| {
            json!({
                "name": object::text(container, &["name"]),
                "usage": of_container(pod, container).value(),
            })
        })
        .collect();
    let mut metadata = json!({
        "name": object::name(pod),
        "namespace": object::namespace(pod),
        "creationTimestamp": now,
    });
    if let Some(labels) = object::labels(pod) {
        metadata["labels"] = json!(labels);
    }
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata,
        "timestamp": now,
        "window": WINDOW,
        "containers": containers,
    }))
}

fn used_by_node(pods: &[Value]) -> BTreeMap<&str, Use> {
    let mut used: BTreeMap<&str, Use> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_running(pod)) {
        let own = used
            .entry(object::text(pod, &["spec", "nodeName"]))
            .or_default();
        for container in running_containers(pod) {
            own.add(of_container(pod, container));
        }
    }
    used
}

fn of_node(node: &Value, used: Option<&Use>, now: &str) -> Value {
    let mut metadata = json!({"name": object::name(node), "creationTimestamp": now});
    if let Some(labels) = object::labels(node) {
        metadata["labels"] = json!(labels);
    }
    json!({
        "kind": "NodeMetrics",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata,
        "timestamp": now,
        "window": WINDOW,
        "usage": used.copied().unwrap_or_default().value(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_use_what_they_say_or_ask_for() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "d", "annotations": {
                "virtual.corvus.dev/cpu.busy": "1500m"}},
            "spec": {"nodeName": "n", "containers": [
                {"name": "busy", "resources": {"requests": {"cpu": "1", "memory": "64Mi"}}},
                {"name": "idle"}]},
            "status": {"phase": "Running"},
        });
        let metrics = of_pod(&pod, "now").expect("runs");
        let usage = |at: usize| &metrics["containers"][at]["usage"];
        assert_eq!(*usage(0), json!({"cpu": "1500m", "memory": "65536Ki"}));
        assert_eq!(*usage(1), json!({"cpu": "1m", "memory": "16384Ki"}));
        let pods = [pod];
        let used = used_by_node(&pods);
        let node = of_node(&json!({"metadata": {"name": "n"}}), used.get("n"), "now");
        assert_eq!(node["usage"], json!({"cpu": "1501m", "memory": "81920Ki"}));
        assert_eq!(
            of_pod(&json!({"status": {"phase": "Pending"}}), "now"),
            None
        );
    }
}
