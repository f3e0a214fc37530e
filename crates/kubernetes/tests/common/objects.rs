//! Objects of tests, and questions about them.

use controller::{Object, Resource};
use serde_json::{Value, json};

macro_rules! resources {
    ($($name:ident => $scope:ident($version:literal, $plural:literal, $kind:literal);)*) => {
        $(#[allow(non_snake_case, missing_docs, reason = "used like a constant")]
          pub fn $name() -> Resource { Resource::$scope($version, $plural, $kind) })*
        /// What the recorder follows.
        #[allow(non_snake_case, reason = "used like a constant")]
        pub fn FOLLOWED() -> Vec<Resource> { vec![$($name()),*] }
    };
}

resources! {
    PODS => namespaced("v1", "pods", "Pod");
    NODES => cluster("v1", "nodes", "Node");
    EVENTS => namespaced("v1", "events", "Event");
    SERVICES => namespaced("v1", "services", "Service");
    CLAIMS => namespaced("v1", "persistentvolumeclaims", "PersistentVolumeClaim");
    QUOTAS => namespaced("v1", "resourcequotas", "ResourceQuota");
    REPLICATION_CONTROLLERS => namespaced("v1", "replicationcontrollers", "ReplicationController");
    DEPLOYMENTS => namespaced("apps/v1", "deployments", "Deployment");
    REPLICA_SETS => namespaced("apps/v1", "replicasets", "ReplicaSet");
    STATEFUL_SETS => namespaced("apps/v1", "statefulsets", "StatefulSet");
    DAEMON_SETS => namespaced("apps/v1", "daemonsets", "DaemonSet");
    REVISIONS => namespaced("apps/v1", "controllerrevisions", "ControllerRevision");
    JOBS => namespaced("batch/v1", "jobs", "Job");
    CRON_JOBS => namespaced("batch/v1", "cronjobs", "CronJob");
    ENDPOINTS => namespaced("v1", "endpoints", "Endpoints");
    ENDPOINT_SLICES => namespaced("discovery.k8s.io/v1", "endpointslices", "EndpointSlice");
}

/// A node.
pub fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "1000", "memory": "1000Gi", "pods": "1000"},
            "capacity": {"cpu": "1000", "memory": "1000Gi", "pods": "1000"},
        },
    })
}

/// A template of Pods with the label `app` and an image.
pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

/// An object of the group `apps` with Pods; `more` is merged into its spec.
pub fn workload(kind: &str, name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "selector": {"matchLabels": {"app": name}},
        "template": template(name, "v1"),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": super::NAMESPACE}, "spec": spec})
}

/// The Deployment `web` with a rolling update.
pub fn deployment(replicas: i64, surge: i64, unavailable: i64) -> Value {
    workload(
        "Deployment",
        "web",
        &json!({
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }),
    )
}

/// The StatefulSet `web`; `more` is merged into its spec.
pub fn stateful_set(more: &Value) -> Value {
    let mut spec = json!({"serviceName": "web"});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    workload("StatefulSet", "web", &spec)
}

/// The DaemonSet `agent` with a rolling update.
pub fn daemon_set(rolling: &Value) -> Value {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
    workload("DaemonSet", "agent", &json!({"updateStrategy": strategy}))
}

/// A Job; `more` is merged into its spec.
pub fn job(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "v1"}],
        }},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": super::NAMESPACE}, "spec": spec})
}

/// A patch that changes the image of a template.
pub fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
}

/// The image of a Pod.
pub fn image_of(pod: &Object) -> &str {
    pod.pointer("/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a Pod is ready.
pub fn is_ready(pod: &Object) -> bool {
    kubernetes::is_ready(pod)
}

/// Whether a Pod counts: it has not ended and is not going.
pub fn is_active(pod: &Object) -> bool {
    kubernetes::is_active(pod)
}

/// A number in an object, 0 where it is not.
pub fn number(object: &Object, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The condition of a type.
pub fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// The node a Pod's affinity names by its name.
pub fn node_by_affinity(pod: &Object) -> Option<String> {
    let path = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = pod.pointer(path)?.as_array()?;
    let field = terms.first()?.get("matchFields")?.get(0)?;
    Some(field.get("values")?.get(0)?.as_str()?.to_owned())
}
