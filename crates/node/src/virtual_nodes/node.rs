//! The Node objects of virtual nodes, and what they say of themselves. Pure.

use std::time::Duration;

use controller::{Object, condition};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::behaviour::PREFIX;
use super::{LABEL, SERVER, SILENCED};

/// What a virtual node offers where nothing else is said. Generous: nothing runs there, so nothing is
/// used up.
const CPUS: &str = "1000";
const MEMORY: &str = "4000Gi";
const PODS: &str = "4000";

/// What nodes are made from: a Node as it would be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What names begin with, before a number.
    pub name: String,
    /// How many, where they are numbered; none is one node of just that name.
    pub count: Option<u32>,
    /// Zones the nodes are spread over.
    zones: Vec<String>,
    node: Value,
}

/// What is wrong with a file of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {name:?}: {why}")]
pub struct TemplateError {
    name: String,
    why: &'static str,
}

/// The most nodes one template makes.
const COUNT_MAX: u32 = 10_000;

impl Template {
    /// Numbered nodes with nothing special about them.
    pub fn plain(count: u32) -> Self {
        Self {
            name: "virtual".to_owned(),
            count: Some(count),
            zones: Vec::new(),
            node: json!({}),
        }
    }

    /// Reads a Node. The annotation `virtual.corvus.dev/count` makes it several, `…/zones` spreads
    /// them.
    pub fn of(node: &Value) -> Result<Self, TemplateError> {
        let name = object::name(node).to_owned();
        let wrong = |why: &'static str| {
            Err(TemplateError {
                name: name.clone(),
                why,
            })
        };
        if object::text(node, &["kind"]) != "Node" || object::text(node, &["apiVersion"]) != "v1" {
            return wrong("want objects of kind Node, apiVersion v1");
        }
        if name.is_empty() {
            return wrong("metadata.name is missing");
        }
        let annotation = |name: &str| object::annotation(node, &format!("{PREFIX}{name}"));
        let count = match annotation("count").map(str::parse::<u32>) {
            None => None,
            Some(Ok(count)) if count <= COUNT_MAX => Some(count),
            Some(_) => return wrong("virtual.corvus.dev/count must be a number up to 10000"),
        };
        let zones = annotation("zones").unwrap_or_default();
        Ok(Self {
            count,
            zones: zones
                .split(',')
                .map(|zone| zone.trim().to_owned())
                .filter(|zone| !zone.is_empty())
                .collect(),
            node: node.clone(),
            name,
        })
    }

    /// A new Node for a server; `number` counts the nodes of the template.
    pub fn object(&self, name: &str, number: usize, server: &str) -> Value {
        let mut node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    LABEL: "true",
                    SERVER: server,
                    "type": "virtual",
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                },
                "annotations": {
                    "node.corvus.dev/description":
                        "A virtual node: Pods are simulated here, no container runs.",
                },
            },
            "spec": {"providerID": format!("corvus-virtual://{name}")},
        });
        if !self.zones.is_empty() {
            let zone = &self.zones[number % self.zones.len()];
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
        }
        for field in ["labels", "annotations"] {
            let given = object::at(&self.node, &["metadata", field]).and_then(Value::as_object);
            for (key, value) in given.into_iter().flatten() {
                node["metadata"][field][key] = value.clone();
            }
        }
        for (key, value) in self
            .node
            .get("spec")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            node["spec"][key] = value.clone();
        }
        let given = object::at(&self.node, &["status"]).filter(|own| own.is_object());
        node["status"] = given.cloned().unwrap_or_else(|| json!({}));
        node
    }
}

/// Whether a node is to be as if it were cut off.
pub fn is_out(node: &Object) -> bool {
    node.annotation(&format!("{PREFIX}outage")) == Some("true")
}

/// Since when nobody has heard of a node that is not to be cut off, as the node life cycle controller says.
pub fn silent_since(node: &Object) -> Option<Timestamp> {
    let ready = condition::find(node.status(), "Ready")?;
    let is_told = is_out(node) || node.annotation(SILENCED).is_some();
    if object::text(ready, &["status"]) != "Unknown" || is_told {
        return None;
    }
    object::text(ready, &["lastTransitionTime"]).parse().ok()
}

/// The status a virtual node has, with what it has said before.
pub fn status(node: &Object, address: &str, now: &str) -> Value {
    let mut status = node.status().clone();
    if !status.is_object() {
        status = json!({});
    }
    let mut capacity = json!({
        "cpu": CPUS, "memory": MEMORY, "pods": PODS, "ephemeral-storage": "4000Gi",
    });
    for (name, amount) in status
        .get("capacity")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        capacity[name] = amount.clone();
    }
    let mut allocatable = capacity.clone();
    for (name, amount) in status
        .get("allocatable")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        allocatable[name] = amount.clone();
    }
    status["capacity"] = capacity;
    status["allocatable"] = allocatable;
    status["addresses"] = json!([
        {"type": "Hostname", "address": node.name()},
        {"type": "InternalIP", "address": address},
    ]);
    status["nodeInfo"] = json!({
        "architecture": "amd64",
        "bootID": "",
        "containerRuntimeVersion": "virtual://0",
        "kernelVersion": "virtual",
        "kubeProxyVersion": "",
        "kubeletVersion": "v1.36.2-virtual",
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": "virtual (simulated by Corvus)",
        "systemUUID": "",
    });
    for (kind, usual, reason, message) in CONDITIONS {
        set_condition(node, &mut status, kind, usual, reason, message, now);
    }
    status
}

const CONDITIONS: [(&str, &str, &str, &str); 4] = [
    (
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ),
    (
        "DiskPressure",
        "False",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    ),
    (
        "PIDPressure",
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ),
    (
        "Ready",
        "True",
        "KubeletReady",
        "the virtual node takes Pods",
    ),
];

fn set_condition(
    node: &Object,
    status: &mut Value,
    kind: &str,
    usual: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    let asked = node.annotation(&format!("{PREFIX}condition.{kind}"));
    let (state, reason, message) = match asked {
        Some(asked @ ("True" | "False")) if asked != usual => {
            (asked, "Simulated", "simulated by an annotation of the node")
        }
        _ => (usual, reason, message),
    };
    let old = condition::find(status, kind);
    let since = match old.filter(|old| object::text(old, &["status"]) == state) {
        Some(old) => object::text(old, &["lastTransitionTime"]).to_owned(),
        None => now.to_owned(),
    };
    let new = json!({
        "type": kind,
        "status": state,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": since,
    });
    let conditions = object::child_list(status, "conditions");
    match conditions
        .iter_mut()
        .find(|own| object::text(own, &["type"]) == kind)
    {
        Some(own) => *own = new,
        None => conditions.push(new),
    }
}

/// Whether two statuses say the same, but for when it was last said.
pub fn same(a: &Value, b: &Value) -> bool {
    let timeless = |status: &Value| {
        let mut status = status.clone();
        for condition in object::child_list(&mut status, "conditions") {
            if let Some(map) = condition.as_object_mut() {
                map.remove("lastHeartbeatTime");
            }
        }
        status
    };
    timeless(a) == timeless(b)
}

/// A lease that says that a node lives.
pub fn lease(node: &Object, duration: Duration, now: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": node.name(),
            "namespace": "kube-node-lease",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": node.name(), "uid": node.uid()}],
        },
        "spec": {
            "holderIdentity": node.name(),
            "leaseDurationSeconds": duration.as_secs(),
            "renewTime": now,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_made_from_templates() {
        let given = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "gpu", "labels": {"gpu": "yes"}, "annotations": {
                "virtual.corvus.dev/count": "3", "virtual.corvus.dev/zones": "a, b"}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {"capacity": {"cpu": "8", "example.com/gpu": "2"}},
        });
        let template = Template::of(&given).expect("makes sense");
        assert_eq!(template.count, Some(3));
        let node = template.object("gpu-1", 1, "s");
        assert_eq!(node["metadata"]["labels"]["gpu"], "yes");
        assert_eq!(
            node["metadata"]["labels"]["topology.kubernetes.io/zone"],
            "b"
        );
        assert_eq!(
            node["metadata"]["labels"]["kubernetes.io/hostname"],
            "gpu-1"
        );
        assert_eq!(node["spec"]["taints"][0]["key"], "gpu");
        let status = status(&Object::new(node), "10.0.0.1", "now");
        assert_eq!(status["allocatable"]["cpu"], "8");
        assert_eq!(status["allocatable"]["example.com/gpu"], "2");
        assert_eq!(status["capacity"]["pods"], PODS);
        assert_eq!(
            condition::find(&status, "Ready").map(|own| &own["status"]),
            Some(&json!("True"))
        );
    }

    #[test]
    fn annotations_change_conditions() {
        let node = Object::new(json!({"metadata": {"name": "n", "annotations": {
            "virtual.corvus.dev/condition.DiskPressure": "True"}}}));
        let first = status(&node, "10.0.0.1", "early");
        let found = condition::find(&first, "DiskPressure").expect("a condition");
        assert_eq!(
            (&found["status"], &found["reason"]),
            (&json!("True"), &json!("Simulated"))
        );
        let later = status(
            &Object::new(json!({"metadata": {"name": "n"}, "status": first})),
            "10.0.0.1",
            "late",
        );
        let found = condition::find(&later, "DiskPressure").expect("a condition");
        assert_eq!(found["lastTransitionTime"], "late");
        let found = condition::find(&later, "Ready").expect("a condition");
        assert_eq!(found["lastTransitionTime"], "early");
        assert!(!same(&first, &later));
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |node: Value, expect: &str| {
            let error = Template::of(&node).expect_err("makes no sense").to_string();
            assert_eq!(error, expect);
        };
        check(
            json!({"kind": "Pod"}),
            "node \"\": want objects of kind Node, apiVersion v1",
        );
        let many = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n",
            "annotations": {"virtual.corvus.dev/count": "-1"}}});
        check(
            many,
            "node \"n\": virtual.corvus.dev/count must be a number up to 10000",
        );
    }
}
