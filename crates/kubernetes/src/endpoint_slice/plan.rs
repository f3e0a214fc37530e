//! The slices a Service should have, compared with those it has. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{Object, ObjectKey, owner};
use model::object;
use serde_json::{Value, json};

use super::SERVICE_NAME;
use crate::pod;

/// Most endpoints in one slice, as upstream.
const ENDPOINTS_MAX: usize = 100;
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// One request.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// A new slice.
    Create(Value),
    /// A slice with other content.
    Update(Value),
    /// A slice that is not needed.
    Delete(ObjectKey),
}

/// Whether a slice is this controller's.
pub fn is_managed(slice: &Object) -> bool {
    slice.label(MANAGED_BY) == Some(MANAGER)
}

/// What to change.
pub fn plan(service: &Object, pods: &[Arc<Object>], present: &[Arc<Object>]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut free: Vec<&Arc<Object>> = present.iter().collect();
    free.sort_by(|a, b| a.name().cmp(b.name()));
    let mut free = free.into_iter();
    for (ports, mut endpoints) in by_ports(service, pods) {
        endpoints.sort_by(|a, b| {
            object::text(a, &["targetRef", "name"]).cmp(object::text(b, &["targetRef", "name"]))
        });
        let chunks: Vec<&[Value]> = if endpoints.is_empty() {
            vec![&[]]
        } else {
            endpoints.chunks(ENDPOINTS_MAX).collect()
        };
        for chunk in chunks {
            let endpoints = if chunk.is_empty() {
                Value::Null
            } else {
                json!(chunk)
            };
            let ports = if ports.is_null() {
                Value::Null
            } else {
                ports.clone()
            };
            match free.next() {
                Some(slice) if is_same(slice, &ports, &endpoints) => {}
                Some(slice) => {
                    let mut new = slice.value().clone();
                    new["ports"] = ports;
                    new["endpoints"] = endpoints;
                    changes.push(Change::Update(new));
                }
                None => changes.push(Change::Create(slice(service, &ports, &endpoints))),
            }
        }
    }
    changes.extend(free.map(|slice| Change::Delete(slice.key())));
    changes
}

/// Missing, null and empty lists are the same to a reader.
fn is_same(slice: &Object, ports: &Value, endpoints: &Value) -> bool {
    let plain = |value: Option<&Value>| -> Value {
        match value {
            None | Some(Value::Null) => json!([]),
            Some(other) => other.clone(),
        }
    };
    plain(slice.get(&["ports"])) == plain(Some(ports))
        && plain(slice.get(&["endpoints"])) == plain(Some(endpoints))
}

fn slice(service: &Object, ports: &Value, endpoints: &Value) -> Value {
    let mut labels = json!({SERVICE_NAME: service.name(), MANAGED_BY: MANAGER});
    for (key, value) in service.labels() {
        labels[key] = json!(value);
    }
    if object::text(service.value(), &["spec", "clusterIP"]) == "None" {
        labels["service.kubernetes.io/headless"] = json!("");
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", service.name()),
            "namespace": service.namespace(),
            "labels": labels,
            "ownerReferences": [owner::reference(service, true)],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// Endpoints by the ports they are reached at: a named target port may differ from Pod to Pod.
fn by_ports(service: &Object, pods: &[Arc<Object>]) -> Vec<(Value, Vec<Value>)> {
    let publish = service.get(&["spec", "publishNotReadyAddresses"]) == Some(&Value::Bool(true));
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let address = object::text(pod.value(), &["status", "podIP"]);
        let ended = matches!(pod::phase(pod), "Succeeded" | "Failed");
        if address.is_empty() || ended {
            continue;
        }
        let ports = ports(service, pod);
        let entry = groups
            .entry(ports.to_string())
            .or_insert_with(|| (ports, Vec::new()));
        entry.1.push(endpoint(pod, address, publish));
    }
    if groups.is_empty() {
        return vec![(Value::Null, Vec::new())];
    }
    groups.into_values().collect()
}

fn endpoint(pod: &Object, address: &str, publish: bool) -> Value {
    let serving = pod::is_ready(pod);
    let terminating = pod.is_terminating();
    json!({
        "addresses": [address],
        "conditions": {
            "ready": publish || (serving && !terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": object::text(pod.value(), &["spec", "nodeName"]),
        "targetRef": {
            "kind": "Pod",
            "namespace": pod.namespace(),
            "name": pod.name(),
            "uid": pod.uid(),
        },
    })
}

fn ports(service: &Object, pod: &Object) -> Value {
    let ports = object::list(service.value(), &["spec", "ports"]);
    let resolved: Vec<Value> = ports
        .iter()
        .filter_map(|port| {
            let number = target_port(port, pod)?;
            let protocol = match object::text(port, &["protocol"]) {
                "" => "TCP",
                protocol => protocol,
            };
            let mut resolved = json!({
                "name": object::text(port, &["name"]),
                "port": number,
                "protocol": protocol,
            });
            if let Some(protocol) = port.get("appProtocol") {
                resolved["appProtocol"] = protocol.clone();
            }
            Some(resolved)
        })
        .collect();
    json!(resolved)
}

fn target_port(port: &Value, pod: &Object) -> Option<i64> {
    match port.get("targetPort") {
        Some(Value::String(name)) => object::list(pod.value(), &["spec", "containers"])
            .iter()
            .flat_map(|container| object::list(container, &["ports"]))
            .find(|port| object::text(port, &["name"]) == name)
            .and_then(|port| object::number(port, &["containerPort"])),
        Some(Value::Number(number)) if number.as_i64() != Some(0) => number.as_i64(),
        _ => object::number(port, &["port"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Object {
        Object::new(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }))
    }

    fn pod(name: &str) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"nodeName": "node", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1",
                       "conditions": [{"type": "Ready", "status": "True"}]},
        })))
    }

    #[test]
    fn a_service_gets_a_slice_and_keeps_it() {
        let changes = plan(&service(), &[pod("a")], &[]);
        let [Change::Create(slice)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(slice["ports"][0]["port"], 8080);
        assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
        let mut kept = slice.clone();
        kept["metadata"]["name"] = json!("web-x");
        let kept = Arc::new(Object::new(kept));
        assert_eq!(
            plan(&service(), &[pod("a")], std::slice::from_ref(&kept)),
            []
        );
        assert!(matches!(
            plan(&service(), &[], &[kept]).as_slice(),
            [Change::Update(_)]
        ));
    }

    #[test]
    fn many_endpoints_are_cut_into_slices() {
        let pods: Vec<_> = (0..250).map(|i| pod(&format!("p{i:03}"))).collect();
        assert_eq!(plan(&service(), &pods, &[]).len(), 3);
    }
}
