//! Pods as endpoints of a Service, and the ports they are reached at. Pure.

use std::net::IpAddr;

use controller::Object;
use model::object;
use serde_json::{Value, json};

use crate::pod;

const ZONE: &str = "topology.kubernetes.io/zone";

/// A family of addresses, as slices name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl Family {
    /// As slices name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn of(address: &str) -> Option<Self> {
        match address.parse().ok()? {
            IpAddr::V4(_) => Some(Self::V4),
            IpAddr::V6(_) => Some(Self::V6),
        }
    }
}

/// The families of a Service's endpoints.
pub fn families(service: &Object) -> Vec<Family> {
    let named: Vec<Family> = object::list(service.value(), &["spec", "ipFamilies"])
        .iter()
        .filter_map(|family| match family.as_str() {
            Some("IPv4") => Some(Family::V4),
            Some("IPv6") => Some(Family::V6),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    match object::text(service.value(), &["spec", "clusterIP"]) {
        "" | "None" => vec![Family::V4, Family::V6],
        address => vec![Family::of(address).unwrap_or(Family::V4)],
    }
}

/// Whether a Service publishes Pods that are not ready.
pub fn publishes_unready(service: &Object) -> bool {
    service.get(&["spec", "publishNotReadyAddresses"]) == Some(&Value::Bool(true))
}

/// Whether a Service has no address of its own.
pub fn is_headless(service: &Object) -> bool {
    matches!(
        object::text(service.value(), &["spec", "clusterIP"]),
        "" | "None"
    )
}

/// Whether a Pod is an endpoint at all.
pub fn counts(pod: &Object, with_leaving: bool) -> bool {
    let ended = matches!(pod::phase(pod), "Succeeded" | "Failed");
    !ended && !addresses(pod).is_empty() && (with_leaving || !pod.is_terminating())
}

fn addresses(pod: &Object) -> Vec<&str> {
    let listed: Vec<&str> = object::list(pod.value(), &["status", "podIPs"])
        .iter()
        .map(|address| object::text(address, &["ip"]))
        .collect();
    let single = object::text(pod.value(), &["status", "podIP"]);
    if listed.is_empty() && !single.is_empty() {
        return vec![single];
    }
    listed
}

/// A Pod's addresses of a family.
pub fn addresses_of(pod: &Object, family: Family) -> Vec<String> {
    let all = addresses(pod).into_iter();
    all.filter(|address| Family::of(address) == Some(family))
        .map(str::to_owned)
        .collect()
}

/// The host name a Pod has within its Service.
pub fn hostname<'a>(pod: &'a Object, service: &Object) -> Option<&'a str> {
    let hostname = object::text(pod.value(), &["spec", "hostname"]);
    let within = object::text(pod.value(), &["spec", "subdomain"]) == service.name();
    (within && !hostname.is_empty()).then_some(hostname)
}

/// A reference to a Pod.
pub fn reference(pod: &Object) -> Value {
    json!({"kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid()})
}

/// A Pod as an endpoint of a slice; none where it has no address of the family.
pub fn endpoint(
    service: &Object,
    pod: &Object,
    node: Option<&Object>,
    family: Family,
) -> Option<Value> {
    let addresses = addresses_of(pod, family);
    if addresses.is_empty() {
        return None;
    }
    let serving = pod::is_ready(pod);
    let terminating = pod.is_terminating();
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": {
            "ready": publishes_unready(service) || (serving && !terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": reference(pod),
    });
    let node_name = object::text(pod.value(), &["spec", "nodeName"]);
    if !node_name.is_empty() {
        endpoint["nodeName"] = json!(node_name);
    }
    if let Some(zone) = node
        .and_then(|node| node.label(ZONE))
        .filter(|z| !z.is_empty())
    {
        endpoint["zone"] = json!(zone);
    }
    if let Some(hostname) = hostname(pod, service) {
        endpoint["hostname"] = json!(hostname);
    }
    Some(endpoint)
}

/// The ports a Pod is reached at.
pub fn ports(service: &Object, pod: &Object) -> Vec<Value> {
    let ports = object::list(service.value(), &["spec", "ports"]).iter();
    ports
        .filter_map(|port| {
            let protocol = protocol(port);
            let mut resolved = json!({
                "name": object::text(port, &["name"]),
                "port": target_port(port, pod)?,
                "protocol": protocol,
            });
            if let Some(protocol) = port.get("appProtocol").filter(|value| !value.is_null()) {
                resolved["appProtocol"] = protocol.clone();
            }
            Some(resolved)
        })
        .collect()
}

fn protocol(port: &Value) -> &str {
    match object::text(port, &["protocol"]) {
        "" => "TCP",
        protocol => protocol,
    }
}

/// The number behind a port of a Service; a name is looked up in the Pod.
pub fn target_port(port: &Value, pod: &Object) -> Option<i64> {
    match port.get("targetPort") {
        Some(Value::String(name)) => {
            let sidecars = object::list(pod.value(), &["spec", "initContainers"])
                .iter()
                .filter(|init| object::text(init, &["restartPolicy"]) == "Always");
            object::list(pod.value(), &["spec", "containers"])
                .iter()
                .chain(sidecars)
                .flat_map(|container| object::list(container, &["ports"]))
                .find(|own| object::text(own, &["name"]) == name && protocol(own) == protocol(port))
                .and_then(|own| object::number(own, &["containerPort"]))
        }
        Some(Value::Number(number)) if number.as_i64() != Some(0) => number.as_i64(),
        _ => object::number(port, &["port"]),
    }
}
