//! Nodes under faults: taints follow conditions, Pods leave tainted nodes and nobody is left behind.

mod common;

use common::kubelet::Act;
use common::objects::{NODES, PODS, REPLICA_SETS, is_ready, workload};
use common::recorder::World;
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{Object, Subresource};
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &[
    "nodelifecycle",
    "tainteviction",
    "podgarbagecollector",
    "replicaset",
    "scheduler",
];

fn node_of(pod: &Object) -> &str {
    pod.pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn assigned(pod: &Object) -> Act {
    if node_of(pod).is_empty() {
        Act::Unassigned
    } else {
        Act::Ready
    }
}

/// So many ready Pods, none of them on a node.
fn away_from(node: &'static str, count: usize) -> impl Fn(&World) -> bool {
    move |world| {
        world.pods().count() == count
            && world
                .pods()
                .all(|pod| is_ready(pod) && node_of(pod) != node)
    }
}

fn taints(world: &World, node: &str) -> Vec<String> {
    let taints = world
        .get("nodes", node)
        .and_then(|node| node.pointer("/spec/taints").cloned());
    let text = |taint: &Value, name: &str| taint[name].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<String> = taints
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|taint| format!("{} {}", text(taint, "key"), text(taint, "effect")))
        .collect();
    found.sort();
    found
}

#[test]
fn pods_leave_tainted_nodes() {
    each_seed(4, async |seed| {
        let harness = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        harness.pods_become(assigned);
        let set = workload("ReplicaSet", "web", &json!({"replicas": 6}));
        harness.create(&REPLICA_SETS(), &set).await;
        harness
            .until("all are ready", |world| {
                world.pods().count() == 6 && world.pods().all(|pod| is_ready(pod))
            })
            .await;
        let taint = json!({"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}});
        harness.patch(&NODES(), "node-0", &taint).await;
        if seed % 2 == 0 {
            harness.restart().await;
        }
        harness
            .until("node-0 is empty", away_from("node-0", 6))
            .await;
        harness.calm();
        // A cordon keeps new ones off, and is told by a taint.
        let cordon = json!({"spec": {"unschedulable": true, "taints": null}});
        harness.patch(&NODES(), "node-1", &cordon).await;
        harness
            .until("the cordon is a taint", |world| {
                taints(world, "node-1") == ["node.kubernetes.io/unschedulable NoSchedule"]
            })
            .await;
        harness
            .patch(
                &NODES(),
                "node-1",
                &json!({"spec": {"unschedulable": null}}),
            )
            .await;
        harness
            .until("the taint is gone", |world| {
                taints(world, "node-1").is_empty()
            })
            .await;
        harness.at_rest().await;
    });
}

#[test]
fn what_nodes_say_becomes_taints() {
    each_seed(4, async |seed| {
        let harness = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        harness.pods_become(assigned);
        let say = async |status: &str| {
            let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": status,
                "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
            let key = controller::ObjectKey::cluster("node-2");
            let said = harness
                .api
                .merge_patch(&NODES(), &key, Subresource::Status, &conditions)
                .await;
            said.unwrap_or_else(|error| panic!("{error}"));
        };
        say("False").await;
        harness
            .until("it is tainted", |world| {
                taints(world, "node-2")
                    == [
                        "node.kubernetes.io/not-ready NoExecute",
                        "node.kubernetes.io/not-ready NoSchedule",
                    ]
            })
            .await;
        harness.restart().await;
        say("True").await;
        harness.calm();
        harness
            .until("it is clean", |world| taints(world, "node-2").is_empty())
            .await;
        harness.at_rest().await;
    });
}

#[test]
fn nobody_is_left_behind() {
    each_seed(3, async |seed| {
        let harness = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        // Nobody plays these Pods' kubelets: what is deleted stays, unless somebody collects it.
        harness
            .kubelet
            .set_linger(std::time::Duration::from_hours(1));
        harness.pods_become(|_| Act::Unassigned);
        let pod = |name: &str, node: Value| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"nodeName": node, "schedulerName": "nobody",
                    "containers": [{"name": "c", "image": "i"}]}})
        };
        harness
            .create(&PODS(), &pod("stuck", json!("node-0")))
            .await;
        let lost = json!({"spec": {"taints": [
            {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
        harness.patch(&NODES(), "node-0", &lost).await;
        let conditions =
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let key = controller::ObjectKey::cluster("node-0");
        let said = harness
            .api
            .merge_patch(&NODES(), &key, Subresource::Status, &conditions)
            .await;
        said.unwrap_or_else(|error| panic!("{error}"));
        harness.calm();
        harness
            .until("the stuck one is gone", |world| {
                world.get("pods", "stuck").is_none()
            })
            .await;
        harness.at_rest().await;
    });
}

/// The range a node has for its Pods.
fn range_of(node: &Object) -> Option<&str> {
    node.pointer("/spec/podCIDR").and_then(Value::as_str)
}

#[test]
fn every_node_has_a_range_of_its_own_whatever_goes_wrong() {
    each_seed(4, async |seed| {
        let harness =
            Harness::start(Setup::faulty(seed, &["node-ipam-controller"]).nodes(10)).await;
        harness.always(|world| {
            let mut owners = std::collections::BTreeMap::new();
            for node in world.all("nodes") {
                if let Some(range) = range_of(node)
                    && let Some(other) = owners.insert(range.to_owned(), node.name().to_owned())
                {
                    return Err(format!("{range} is {other}'s and {}'s", node.name()));
                }
            }
            Ok(())
        });
        let ranges = |world: &World| world.all("nodes").filter(|n| range_of(n).is_some()).count();
        harness.until("some have one", |w| ranges(w) > 3).await;
        harness.restart().await;
        harness.until("all have one", |w| ranges(w) == 10).await;
        // There are sixteen: two more nodes have to wait.
        for number in 10..18 {
            let node = common::objects::node(&format!("node-{number}"));
            harness.create(&NODES(), &node).await;
        }
        harness.until("all are given", |w| ranges(w) == 16).await;
        harness.calm();
        let told = |world: &World| {
            let texts = world
                .all("events")
                .map(|event| event.value()["message"].to_string());
            texts
                .filter(|text| text.contains("status is now: CIDRNotAvailable"))
                .count()
        };
        harness.until("it is told", |w| told(w) > 0).await;
        for number in 0..2 {
            harness.delete(&NODES(), &format!("node-{number}")).await;
        }
        harness
            .until("those are given again", |w| ranges(w) == 16)
            .await;
        harness.at_rest().await;
        harness.recorder.with(|world| {
            for range in world.all("nodes").filter_map(|node| range_of(node)) {
                assert!(
                    range.starts_with("10.244.") && range.ends_with("/24"),
                    "{range}"
                );
            }
        });
    });
}
