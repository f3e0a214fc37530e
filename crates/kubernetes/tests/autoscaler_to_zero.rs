//! Autoscalers that go to zero and come back, under faults. A binary of its own: the feature is on for the whole process.

mod common;

use common::autoscaling::{autoscaler, autoscalers, serve};
use common::objects::{DEPLOYMENTS, condition, number, workload};
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{Object, Resource};
use serde_json::{Value, json};
use testkit::eventually;

const CONTROLLERS: &[&str] = &["deployment", "replicaset", "horizontalpodautoscaler"];

/// The external metric `queue`, served by custom resources.
fn queue() -> Resource {
    Resource::namespaced("external.metrics.k8s.io/v1beta1", "queue", "QueueLength")
}

async fn serve_metrics(h: &Harness) {
    serve(h, &queue()).await;
    let length = json!({
        "apiVersion": "external.metrics.k8s.io/v1beta1", "kind": "QueueLength",
        "metadata": {"name": "jobs", "namespace": NAMESPACE},
        "metricName": "queue", "timestamp": "2999-01-01T00:00:00Z", "value": "10",
    });
    h.create(&queue(), &length).await;
}

fn by_queue(least: i64) -> Value {
    let metric = json!({"type": "External", "external": {
        "metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "5"},
    }});
    let mut wanted = autoscaler(least, 5, &metric);
    wanted["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    wanted
}

async fn scaled(h: &Harness, replicas: i64) {
    h.until(&format!("{replicas} are wanted"), |w| {
        w.get("deployments", "web")
            .is_some_and(|web| number(web, "/spec/replicas") == replicas)
    })
    .await;
}

async fn told(h: &Harness, kind: &'static str, expect: &str) {
    let what = format!("{kind} says {expect}");
    eventually(&what, || async {
        let found: Object = h.get(&autoscalers(), "web").await;
        let condition = condition(&found, kind)?;
        let said = format!("{} {}", condition["status"], condition["reason"]);
        (said.replace('"', "") == expect).then_some(())
    })
    .await;
}

#[test]
fn a_target_goes_to_zero_and_comes_back_whatever_goes_wrong() {
    kinds::features::switch(&["HPAScaleToZero=true".to_owned()]).expect("a feature");
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        serve_metrics(&h).await;
        let only_resources = json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
        }}]);
        let mut refused = by_queue(0);
        refused["spec"]["metrics"] = only_resources;
        let error = h.api.create(&autoscalers(), &refused).await;
        let error = error.expect_err("no load is known of no Pods").to_string();
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        assert!(error.contains(why), "{error}");

        h.create(
            &DEPLOYMENTS(),
            &workload("Deployment", "web", &json!({"replicas": 1})),
        )
        .await;
        h.create(&autoscalers(), &by_queue(0)).await;
        scaled(&h, 2).await;
        told(&h, "ScaledToZero", "False NotScaledToZero").await;
        h.patch(&queue(), "jobs", &json!({"value": "0"})).await;
        scaled(&h, 0).await;
        told(&h, "ScaledToZero", "True ScaledToZero").await;
        h.restart().await;
        h.patch(&queue(), "jobs", &json!({"value": "15"})).await;
        scaled(&h, 3).await;
        told(&h, "ScaledToZero", "False NotScaledToZero").await;
        // What somebody else has switched off stays off.
        h.patch(&DEPLOYMENTS(), "web", &json!({"spec": {"replicas": 0}}))
            .await;
        told(&h, "ScalingActive", "False ScalingDisabled").await;
        h.calm();
        scaled(&h, 0).await;
    });
}
