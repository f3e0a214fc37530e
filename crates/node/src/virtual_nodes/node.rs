//! The Node object of a virtual node. Pure.

use serde_json::{Value, json};

use super::LABEL;

/// What a virtual node offers. Generous: nothing runs there, so nothing is used up.
const CPUS: &str = "1000";
const MEMORY: &str = "4000Gi";
const PODS: &str = "10000";

/// A new Node.
pub fn object(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                LABEL: "true",
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
    })
}

/// The status of a node that is ready.
pub fn status(name: &str, now: &str) -> Value {
    let resources = json!({
        "cpu": CPUS, "memory": MEMORY, "pods": PODS, "ephemeral-storage": "4000Gi",
    });
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        })
    };
    json!({
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "Simulated", "no memory is used on a virtual node"),
            condition("DiskPressure", "False", "Simulated", "no disk is used on a virtual node"),
            condition("PIDPressure", "False", "Simulated", "no process runs on a virtual node"),
            condition("Ready", "True", "Simulated", "the virtual node takes Pods"),
        ],
        "addresses": [
            {"type": "Hostname", "address": name},
            {"type": "InternalIP", "address": "127.0.0.1"},
        ],
        "nodeInfo": {
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
        },
    })
}
