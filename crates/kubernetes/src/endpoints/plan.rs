//! The Endpoints a Service should have. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::Object;
use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

use crate::endpoint_slice::endpoint::{
    addresses_of, counts, families, hostname, is_headless, publishes_unready, reference,
    target_port,
};
use crate::endpoint_slice::trigger;
use crate::pod;

/// More addresses than this are left out, as upstream.
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether Endpoints are this controller's.
pub fn is_managed(endpoints: &Object) -> bool {
    endpoints.label(MANAGED_BY) == Some(MANAGER)
}

/// The Endpoints to write; none where those there are as they should be.
pub fn plan(
    service: &Object,
    pods: &[Arc<Object>],
    present: Option<&Object>,
    trigger: Option<Timestamp>,
) -> Option<Value> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let labels = labels(service);
    let has_note = |endpoints: &Object| endpoints.annotation(OVER_CAPACITY).is_some();
    if let Some(present) = present {
        let same = object::list(present.value(), &["subsets"]) == subsets.as_slice()
            && object::labels(present.value()) == Some(&labels)
            && has_note(present) == truncated;
        if same {
            return None;
        }
    }
    let mut wanted = match present {
        Some(present) => present.value().clone(),
        None => json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": service.name(), "namespace": service.namespace()},
        }),
    };
    wanted["metadata"]["labels"] = Value::Object(labels);
    wanted["subsets"] = json!(subsets);
    trigger::tell(&mut wanted, trigger);
    if truncated {
        wanted["metadata"]["annotations"][OVER_CAPACITY] = json!("truncated");
    } else if let Some(annotations) = wanted
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(OVER_CAPACITY);
    }
    Some(wanted)
}

fn labels(service: &Object) -> Map<String, Value> {
    let mut labels: Map<String, Value> = service
        .labels()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    labels.insert(MANAGED_BY.to_owned(), json!(MANAGER));
    labels
}

/// Addresses by what they are of, each with whether it is ready.
type Addresses = BTreeMap<String, (Value, bool)>;

/// Addresses by the ports they offer: one subset for all that offer the same.
fn subsets(service: &Object, pods: &[Arc<Object>]) -> Vec<Value> {
    let publish = publishes_unready(service);
    let ports = object::list(service.value(), &["spec", "ports"]);
    // Each port with the addresses that offer it, and whether they are ready.
    let mut by_port: BTreeMap<String, (Option<Value>, Addresses)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| counts(pod, publish)) {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let ready = publish || pod::is_ready(pod);
        let mut offered: Vec<Option<Value>> = ports
            .iter()
            .filter_map(|port| Some(Some(endpoint_port(port, target_port(port, pod)?))))
            .collect();
        if ports.is_empty() && is_headless(service) {
            offered.push(None);
        }
        let identity = format!(
            "{} {}",
            object::text(&address, &["ip"]),
            object::text(&address, &["targetRef", "uid"])
        );
        for port in offered {
            let key = port.as_ref().map(ToString::to_string).unwrap_or_default();
            let entry = by_port
                .entry(key)
                .or_insert_with(|| (port, BTreeMap::new()));
            entry.1.insert(identity.clone(), (address.clone(), ready));
        }
    }
    // Ports that the same addresses offer belong together.
    let mut by_addresses: BTreeMap<String, (Vec<Value>, Addresses)> = BTreeMap::new();
    for (port, addresses) in by_port.into_values() {
        let key: Vec<String> = addresses
            .iter()
            .map(|(identity, (_, ready))| format!("{identity} {ready}"))
            .collect();
        let entry = by_addresses
            .entry(key.join(","))
            .or_insert_with(|| (Vec::new(), addresses));
        entry.0.extend(port);
    }
    by_addresses
        .into_values()
        .map(|(mut ports, addresses)| {
            ports.sort_by_key(|port| {
                let text = |name: &str| object::text(port, &[name]).to_owned();
                (
                    text("name"),
                    object::number(port, &["port"]),
                    text("protocol"),
                )
            });
            let of = |wanted: bool| -> Vec<Value> {
                let fits = addresses.values().filter(|(_, ready)| *ready == wanted);
                fits.map(|(address, _)| address.clone()).collect()
            };
            let mut subset = json!({});
            for (name, list) in [("addresses", of(true)), ("notReadyAddresses", of(false))] {
                if !list.is_empty() {
                    subset[name] = json!(list);
                }
            }
            if !ports.is_empty() {
                subset["ports"] = json!(ports);
            }
            subset
        })
        .collect()
}

fn address(service: &Object, pod: &Object) -> Option<Value> {
    let family = families(service).into_iter().next()?;
    let ip = addresses_of(pod, family).into_iter().next()?;
    let mut address = json!({"ip": ip, "targetRef": reference(pod)});
    let node = object::text(pod.value(), &["spec", "nodeName"]);
    if !node.is_empty() {
        address["nodeName"] = json!(node);
    }
    if let Some(hostname) = hostname(pod, service) {
        address["hostname"] = json!(hostname);
    }
    Some(address)
}

fn endpoint_port(port: &Value, number: i64) -> Value {
    let protocol = match object::text(port, &["protocol"]) {
        "" => "TCP",
        protocol => protocol,
    };
    let mut made = json!({"port": number, "protocol": protocol});
    let name = object::text(port, &["name"]);
    if !name.is_empty() {
        made["name"] = json!(name);
    }
    if let Some(protocol) = port.get("appProtocol").filter(|value| !value.is_null()) {
        made["appProtocol"] = protocol.clone();
    }
    made
}

/// Leaves out what is too much: addresses that are not ready first, from each subset in proportion.
fn truncate(mut subsets: Vec<Value>) -> (Vec<Value>, bool) {
    let count = |subset: &Value, name: &str| object::list(subset, &[name]).len();
    let sum = |name: &str| -> usize { subsets.iter().map(|s| count(s, name)).sum() };
    let (ready, unready) = (sum("addresses"), sum("notReadyAddresses"));
    if ready + unready <= ADDRESSES_MAX {
        return (subsets, false);
    }
    let cuts_ready = ready > ADDRESSES_MAX;
    let (name, room, all) = if cuts_ready {
        ("addresses", ADDRESSES_MAX, ready)
    } else {
        ("notReadyAddresses", ADDRESSES_MAX - ready, unready)
    };
    let mut left = room;
    for subset in &mut subsets {
        let share = (count(subset, name) * room).div_ceil(all).min(left);
        let Some(fields) = subset.as_object_mut() else {
            continue;
        };
        if cuts_ready {
            fields.remove("notReadyAddresses");
        }
        if let Some(list) = fields.get_mut(name).and_then(Value::as_array_mut) {
            list.truncate(share);
            left -= list.len();
            if list.is_empty() {
                fields.remove(name);
            }
        }
    }
    (subsets, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ports: Value) -> Object {
        Object::new(json!({
            "metadata": {"name": "web", "namespace": "n", "labels": {"l": "1"}},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": ports},
        }))
    }

    fn pod(number: usize, status: &str) -> Arc<Object> {
        let name = format!("p{number:04}");
        let ip = format!("10.1.{}.{}", number / 200, number % 200);
        Arc::new(Object::new(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"nodeName": "node"},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": status}]},
        })))
    }

    #[test]
    fn pods_are_addresses_of_one_subset() {
        let service = service(
            json!([{"name": "b", "port": 80}, {"name": "a", "port": 81, "targetPort": 8081}]),
        );
        let made =
            plan(&service, &[pod(1, "True"), pod(2, "False")], None, None).expect("it is new");
        let address = |number: usize| {
            let name = format!("p{number:04}");
            json!({
                "ip": format!("10.1.0.{number}"), "nodeName": "node",
                "targetRef": {"kind": "Pod", "namespace": "n", "name": name, "uid": name},
            })
        };
        assert_eq!(
            made["subsets"],
            json!([{
                "addresses": [address(1)],
                "notReadyAddresses": [address(2)],
                "ports": [
                    {"name": "a", "port": 8081, "protocol": "TCP"}, {"name": "b", "port": 80, "protocol": "TCP"},
                ],
            }])
        );
        assert_eq!(
            made["metadata"]["labels"],
            json!({"l": "1", MANAGED_BY: MANAGER})
        );
        let present = Object::new(made);
        assert_eq!(
            plan(
                &service,
                &[pod(1, "True"), pod(2, "False")],
                Some(&present),
                None
            ),
            None
        );
        let empty = plan(&service, &[], Some(&present), None).expect("it changes");
        assert_eq!(empty["subsets"], json!([]));
    }

    #[test]
    fn too_many_addresses_are_cut() {
        let service = service(json!([{"port": 80}]));
        let pods: Vec<_> = (0..1100)
            .map(|number| pod(number, if number < 900 { "True" } else { "False" }))
            .collect();
        let made = plan(&service, &pods, None, None).expect("it is new");
        let count = |name: &str| object::list(&made["subsets"][0], &[name]).len();
        assert_eq!((count("addresses"), count("notReadyAddresses")), (900, 100));
        assert_eq!(made["metadata"]["annotations"][OVER_CAPACITY], "truncated");
        let present = Object::new(made);
        assert_eq!(plan(&service, &pods, Some(&present), None), None);
    }
}
