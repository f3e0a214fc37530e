//! Quotas under faults: nobody gets more than there is, what is used is counted right in the end, and what goes is given back.

mod common;

use common::kubelet::Act;
use common::objects::{CLAIMS, PODS, QUOTAS, REPLICA_SETS, SERVICES, is_active, workload};
use common::recorder::World;
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::Resource;
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &[
    "resourcequota",
    "replicaset",
    "persistentvolumeclaimprotection",
];

fn config_maps() -> Resource {
    Resource::namespaced("v1", "configmaps", "ConfigMap")
}

fn quota(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    })
}

fn claim(name: &str, class: &str, storage: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": storage}},
        },
    })
}

/// A quota says that this much is used of all it limits.
fn used(name: &'static str, expect: Value) -> impl Fn(&World) -> bool {
    move |world| {
        let quota = world.get("resourcequotas", name);
        quota.is_some_and(|quota| quota.pointer("/status/used") == Some(&expect))
    }
}

fn active(world: &World) -> usize {
    world.pods().filter(|pod| is_active(pod)).count()
}

#[test]
fn quotas_hold_and_are_counted_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.always(|world| match active(world) {
            0..=5 => Ok(()),
            more => Err(format!("{more} Pods where 5 may be")),
        });
        let hard = json!({
            "pods": "5", "requests.cpu": "2", "count/replicasets.apps": "3", "configmaps": "4",
            "services": "3", "services.nodeports": "2", "persistentvolumeclaims": "3",
            "fast.storageclass.storage.k8s.io/requests.storage": "5Gi",
        });
        h.create(&QUOTAS(), &quota("all", &json!({"hard": hard})))
            .await;
        let idle = json!({"hard": {"pods": "10"}, "scopes": ["BestEffort"]});
        h.create(&QUOTAS(), &quota("idle", &idle)).await;
        h.until("limits are in force", |w| {
            ["all", "idle"].iter().all(|name| {
                let quota = w.get("resourcequotas", name);
                quota.is_some_and(|quota| quota.pointer("/status/used").is_some())
            })
        })
        .await;
        let mut web = workload("ReplicaSet", "web", &json!({"replicas": 8}));
        web["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "100m"}});
        h.create(&REPLICA_SETS(), &web).await;
        h.until("as many run as may", |w| active(w) == 5).await;
        for name in ["a", "b"] {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}});
            h.create(&config_maps(), &map).await;
            h.create(
                &CLAIMS(),
                &claim(name, if name == "a" { "fast" } else { "slow" }, "2Gi"),
            )
            .await;
        }
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        });
        h.create(&SERVICES(), &service).await;
        let refused = h.api.create(&CLAIMS(), &claim("c", "fast", "4Gi")).await;
        let text = refused.expect_err("there is not so much").to_string();
        let expect = "exceeded quota: all, requested: fast.storageclass.storage.k8s.io/requests.storage=4Gi, used: fast.storageclass.storage.k8s.io/requests.storage=2Gi, limited: fast.storageclass.storage.k8s.io/requests.storage=5Gi";
        assert!(text.contains(expect), "{text}");
        h.restart().await;
        h.until(
            "all is counted",
            used(
                "all",
                json!({
                    "pods": "5", "requests.cpu": "500m", "count/replicasets.apps": "1", "configmaps": "2",
                    "services": "2", "services.nodeports": "1", "persistentvolumeclaims": "2",
                    "fast.storageclass.storage.k8s.io/requests.storage": "2Gi",
                }),
            ),
        )
        .await;
        h.until(
            "Pods that ask for something are not idle",
            used("idle", json!({"pods": "0"})),
        )
        .await;

        // What goes is given back: deleted, ended, and what asks for less.
        h.delete(&config_maps(), "a").await;
        h.delete(&CLAIMS(), "b").await;
        h.patch(&SERVICES(), "web", &json!({"spec": {"type": "ClusterIP"}}))
            .await;
        h.patch(&REPLICA_SETS(), "web", &json!({"spec": {"replicas": 2}}))
            .await;
        h.until("two are left", |w| active(w) == 2).await;
        let expect = json!({
            "pods": "2", "requests.cpu": "200m", "count/replicasets.apps": "1", "configmaps": "1",
            "services": "2", "services.nodeports": "0", "persistentvolumeclaims": "1",
            "fast.storageclass.storage.k8s.io/requests.storage": "2Gi",
        });
        h.until("the rest is given back", used("all", expect.clone()))
            .await;
        h.pods_become(|pod| match pod.name() {
            "task" => Act::Succeed,
            _ => Act::Ready,
        });
        let mut task = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "task", "namespace": NAMESPACE},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
        });
        let refused = h.api.create(&PODS(), &task).await;
        let text = refused
            .expect_err("it does not say what it needs")
            .to_string();
        assert!(text.contains("must specify requests.cpu for: c"), "{text}");
        task["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
        h.create(&PODS(), &task).await;
        h.until("a Pod that has ended counts no more", |w| {
            let ended = w.get("pods", "task").is_some_and(|pod| !is_active(pod));
            ended && used("all", expect.clone())(w)
        })
        .await;
        h.calm();
        h.at_rest().await;
    });
}
