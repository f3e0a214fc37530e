//! What cannot work is told in upstream's words, and costs little: nobody asks again and again.

mod common;

use std::time::{Duration, Instant};

use common::kubelet::Act;
use common::objects::{
    CLAIMS, DAEMON_SETS, JOBS, PODS, QUOTAS, REPLICA_SETS, STATEFUL_SETS, daemon_set, job,
    stateful_set, workload,
};
use common::recorder::World;
use common::{Harness, NAMESPACE, Setup};
use controller::{Object, condition};
use http::Method;
use serde_json::{Value, json};

fn node_of(pod: &Object) -> &str {
    pod.pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn pod(name: &str, more: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// Why a Pod has no node, as its condition and an event say.
fn unschedulable(world: &World, name: &str) -> Option<String> {
    let pod = world.get("pods", name)?;
    let told = condition::find(pod.status(), "PodScheduled")?;
    let message = told["message"].as_str()?;
    let is_same = |event: &&std::sync::Arc<Object>| {
        let event = event.value();
        event["involvedObject"]["name"] == name
            && event["reason"] == "FailedScheduling"
            && event["message"] == message
    };
    let told = told["reason"] == "Unschedulable" && world.all("events").any(|e| is_same(&e));
    told.then(|| message.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_wishes_are_told_once() {
    let h = Harness::start(Setup::calm(&["scheduler"])).await;
    h.pods_become(|pod| match node_of(pod) {
        "" => Act::Unassigned,
        _ => Act::Ready,
    });
    for node in 0..3 {
        // Nobody runs here that would take the taint of a new node away.
        let untainted = json!({"spec": {"taints": null}});
        h.patch(
            &common::objects::NODES(),
            &format!("node-{node}"),
            &untainted,
        )
        .await;
    }
    let nowhere = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["none"]}]}],
    }}}});
    h.create(&PODS(), &pod("nowhere", &nowhere)).await;
    let large = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "5000"}}}]});
    h.create(&PODS(), &pod("large", &large)).await;
    let lacking =
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    h.create(&PODS(), &pod("lacking", &lacking)).await;
    let checks = [
        (
            "nowhere",
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        ),
        ("large", "0/3 nodes are available: 3 Insufficient cpu."),
        ("lacking", "persistentvolumeclaim \"data\" not found"),
    ];
    for (name, expect) in checks {
        h.until(&format!("{name} is told why"), |w| {
            unschedulable(w, name).is_some_and(|why| why.contains(expect))
        })
        .await;
    }
    h.at_rest().await;
    // What was missing comes.
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}},
    });
    h.create(&CLAIMS(), &claim).await;
    h.until("it waits for the next thing", |w| {
        unschedulable(w, "lacking")
            .is_some_and(|why| why.contains("unbound immediate PersistentVolumeClaims"))
    })
    .await;
    h.at_rest().await;
}

/// The events of failed creations of one owner.
fn failures(world: &World, kind: &str) -> Vec<String> {
    let of = |event: &&std::sync::Arc<Object>| {
        let event = event.value();
        event["involvedObject"]["kind"] == kind && event["reason"] == "FailedCreate"
    };
    let text = |event: &std::sync::Arc<Object>| event.value()["message"].to_string();
    world.all("events").filter(of).map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_refuses_is_tried_ever_more_rarely() {
    const OWNERS: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"];
    let controllers = &[
        "replicaset",
        "statefulset",
        "daemonset",
        "job",
        "resourcequota",
    ];
    let h = Harness::start(Setup::calm(controllers)).await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": NAMESPACE},
        "spec": {"hard": {"pods": "0"}}});
    h.create(&QUOTAS(), &quota).await;
    h.until("the quota counts", |w| {
        w.get("resourcequotas", "none")
            .is_some_and(|q| q.pointer("/status/hard/pods").is_some())
    })
    .await;
    let mut set = workload("ReplicaSet", "set", &json!({"replicas": 5}));
    set["metadata"]["name"] = json!("set");
    h.create(&REPLICA_SETS(), &set).await;
    h.create(&STATEFUL_SETS(), &stateful_set(&json!({"replicas": 5})))
        .await;
    h.create(&DAEMON_SETS(), &daemon_set(&json!({"maxUnavailable": 1})))
        .await;
    h.create(
        &JOBS(),
        &job("work", &json!({"parallelism": 5, "completions": 5})),
    )
    .await;
    for kind in OWNERS {
        let expect = "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0";
        h.until(&format!("{kind} says why"), |w| {
            failures(w, kind).iter().any(|text| text.contains(expect))
        })
        .await;
    }
    h.requests();
    let (started, waited) = (Instant::now(), Duration::from_secs(3));
    testkit::eventually("some time has passed", || async {
        (started.elapsed() > waited).then_some(())
    })
    .await;
    // The pauses double, from 5 ms: a dozen tries of each in the first seconds, of one Pod each, and of each node's by the
    // DaemonSet, which makes the first alone, too.
    let tries = h
        .requests()
        .into_iter()
        .filter(|(method, path)| *method == Method::POST && path.contains("/pods"))
        .count();
    assert!(tries <= 60, "{tries} tries in {:?}", started.elapsed());
    h.delete(&QUOTAS(), "none").await;
    h.pods_become(|pod| match pod.controller_of() {
        Some(owner) if owner.kind == "Job" => Act::Succeed,
        _ => Act::Ready,
    });
    h.until("all are made", |w| {
        let of = |kind: &str| {
            let own = |pod: &&std::sync::Arc<Object>| {
                pod.controller_of().is_some_and(|owner| owner.kind == kind)
            };
            w.pods().filter(own).count()
        };
        OWNERS.map(of) == [5, 5, 3, 5]
    })
    .await;
    h.at_rest().await;
}
