//! What tests of autoscalers share: metrics APIs served by custom resources that the test writes, and autoscalers of the
//! Deployment `web`.

use controller::Resource;
use serde_json::{Value, json};

use super::{Harness, NAMESPACE};

/// The autoscalers.
pub fn autoscalers() -> Resource {
    Resource::namespaced(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    )
}

/// An autoscaler from `least` to `most` Pods by one metric.
pub fn autoscaler(least: i64, most: i64, metric: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": least, "maxReplicas": most, "metrics": [metric],
        },
    })
}

/// Serves a resource of a metrics API, and waits until it is there.
pub async fn serve(h: &Harness, metrics: &Resource) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", metrics.plural, metrics.group),
            "annotations": {"api-approved.kubernetes.io": "unapproved, test"},
        },
        "spec": {
            "group": &*metrics.group, "scope": "Namespaced",
            "names": {"plural": &*metrics.plural, "kind": &*metrics.kind},
            "versions": [{
                "name": &*metrics.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    let definitions = Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    );
    h.create(&definitions, &definition).await;
    testkit::eventually("metrics are served", || async {
        let list = h.api.list(metrics, &Default::default()).await;
        list.ok().map(drop)
    })
    .await;
}
