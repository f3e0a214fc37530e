//! Autoscalers and graphs: the scale subresource of instances, and fields that are handed over.

use std::time::Duration;

use controller::{FaultPlan, Faults, ObjectKey, Resource};
use graph::{Feature, Options};
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, crds, impatient, it, rgds, with,
};

fn options() -> Options {
    with(&[Feature::ScaleSubresource, Feature::ExternalFields])
}

fn deployments() -> Resource {
    Resource::namespaced("apps/v1", "deployments", "Deployment")
}

fn autoscalers() -> Resource {
    Resource::namespaced(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    )
}

fn deployment(replicas: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "${schema.metadata.name}"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "${schema.metadata.name}"}},
            "template": {
                "metadata": {"labels": {"app": "${schema.metadata.name}"}},
                "spec": {"containers": [{"name": "main", "image": "${schema.spec.image}"}]},
            },
        },
    })
}

/// More than there are, so that it has something to do before there are any metrics.
fn autoscaler(api_version: &str, kind: &str, least: i64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "it", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": "it"},
            "minReplicas": least, "maxReplicas": 10,
        },
    })
}

/// Kubernetes' own controllers, without nodes.
fn run_kubernetes(world: &World) {
    let (client, shutdown) = (world.cluster.client(), world.cluster.shutdown());
    tokio::spawn(async move {
        kubernetes::run(client, &kubernetes::Options::default(), shutdown).await;
    });
}

async fn wait_replicas(world: &World, resource: &Resource, replicas: i64) {
    world
        .wait(resource, &it(), |object| {
            object.spec()["replicas"] == replicas
        })
        .await;
}

fn scalable() -> Value {
    app(
        json!({"image": "string | default=nginx", "replicas": "integer | default=1 scale minimum=0"}),
        json!({
            "replicas": "${deployment.status.replicas} | scale",
            "selector": "${'app=' + deployment.spec.selector.matchLabels['app']} | scaleSelector",
        }),
        json!([{"id": "deployment", "template": deployment("${schema.spec.replicas}")}]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_scaled_like_any_workload() {
    let world = World::with(options()).await;
    run_kubernetes(&world);
    world.define(scalable()).await;
    world.app(json!({})).await;
    wait_replicas(&world, &deployments(), 1).await;
    world
        .wait(&apps(), &it(), |app| app.status()["replicas"] == 1)
        .await;
    let path = "/apis/kro.run/v1/namespaces/default/apps/it/scale";
    let scale = world.api.get_path(path).await.unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(
        scale["status"],
        json!({"replicas": 1, "selector": "app=it"})
    );
    // What `kubectl scale` does: once more where the status has been written in between.
    testkit::eventually("it is scaled", || async {
        let mut scale = world.api.get_path(path).await.unwrap();
        scale["spec"]["replicas"] = 3.into();
        world.api.put_path(path, &scale).await.ok()
    })
    .await;
    wait_replicas(&world, &deployments(), 3).await;
    world
        .wait(&apps(), &it(), |app| app.status()["replicas"] == 3)
        .await;
    // What an autoscaler does.
    let autoscaler = autoscaler("kro.run/v1", "App", 5);
    world.create(&autoscalers(), autoscaler).await;
    wait_replicas(&world, &apps(), 5).await;
    wait_replicas(&world, &deployments(), 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_gets_and_loses_its_scale_subresource() {
    let world = World::with(options()).await;
    let mut rgd = scalable();
    let marked = rgd["spec"]["schema"].clone();
    let unmark = |value: &mut Value| {
        let text = value.as_str().unwrap().replace(" | scaleSelector", "");
        *value = text.replace(" | scale", "").replace(" scale", "").into();
    };
    for pointer in ["/spec/replicas", "/status/replicas", "/status/selector"] {
        unmark(rgd["spec"]["schema"].pointer_mut(pointer).unwrap());
    }
    world.define(rgd.clone()).await;
    let crds = crds();
    let name = ObjectKey::cluster("apps.kro.run");
    let key = ObjectKey::cluster("app");
    let unmarked = rgd["spec"]["schema"].clone();
    world
        .change(&rgds(), &key, json!({"spec": {"schema": marked}}))
        .await;
    world
        .wait(&crds, &name, |crd| {
            crd.spec()["versions"][0]["subresources"]["scale"]
                == json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector"})
        })
        .await;
    // Whoever scales by it would be broken.
    world
        .change(&rgds(), &key, json!({"spec": {"schema": unmarked}}))
        .await;
    let refused = world
        .wait(&rgds(), &key, |rgd| {
            condition(rgd, "KindReady")["status"] == "False"
        })
        .await;
    let message = condition(&refused, "KindReady")["message"].to_string();
    assert!(
        message.contains("Scale subresource was removed"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_keeps_the_field_it_was_handed() {
    let world = World::with(options()).await;
    run_kubernetes(&world);
    let resources = json!([{
        "id": "deployment", "externalFields": ["spec.replicas"], "template": deployment("${schema.spec.least}"),
    }]);
    let spec = json!({"image": "string | default=nginx", "least": "integer | default=1"});
    world.define(app(spec, json!({}), resources)).await;
    world.app(json!({})).await;
    wait_replicas(&world, &deployments(), 1).await;
    // Nobody else has written it yet, so it follows the instance.
    world
        .change(&apps(), &it(), json!({"spec": {"least": 2}}))
        .await;
    wait_replicas(&world, &deployments(), 2).await;
    let autoscaler = autoscaler("apps/v1", "Deployment", 4);
    world.create(&autoscalers(), autoscaler).await;
    wait_replicas(&world, &deployments(), 4).await;
    let change = json!({"spec": {"least": 1, "image": "nginx:2"}});
    world.change(&apps(), &it(), change).await;
    let changed = world
        .wait(&deployments(), &it(), |deployment| {
            deployment.spec()["template"]["spec"]["containers"][0]["image"] == "nginx:2"
        })
        .await;
    assert_eq!(changed.spec()["replicas"], 4);
    world.wait_active().await;
}

/// An App of a ConfigMap whose `data.free` may be taken over.
fn handing_over() -> Value {
    let template = config_map(
        "it",
        json!({"free": "${schema.spec.text}", "ours": "${schema.spec.text}"}),
    );
    app(
        json!({"text": "string"}),
        json!({}),
        json!([{"id": "map", "externalFields": ["data.free"], "template": template}]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_handed_over_is_left_alone_and_at_no_cost() {
    let mut world = World::with(options()).await;
    world.define(handing_over()).await;
    world.app(json!({"text": "a"})).await;
    world.wait_active().await;
    let edit = |free: &str, ours: &str| json!({"data": {"free": free, "ours": ours}});
    world
        .change(&config_maps(), &config("it"), edit("theirs", "theirs"))
        .await;
    let settled = |free: &'static str, ours: &'static str| {
        move |map: &controller::Object| map.value()["data"] == json!({"free": free, "ours": ours})
    };
    world
        .wait(&config_maps(), &config("it"), settled("theirs", "a"))
        .await;
    world.wait_active().await;
    // The other goes on: nothing has to be looked up or written any more.
    world.quiet().await;
    world.log.clear();
    for free in ["1", "2", "3"] {
        world
            .change(
                &config_maps(),
                &config("it"),
                json!({"data": {"free": free}}),
            )
            .await;
    }
    world
        .change(
            &config_maps(),
            &config("it"),
            json!({"data": {"ours": "x"}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("it"), settled("3", "a"))
        .await;
    world.quiet().await;
    let writes = world.log.writes();
    assert_eq!(writes.len(), 1, "the correction only: {writes:?}");
    // Neither a restart nor a change of the instance takes it back.
    world.stop_controllers().await;
    world.start_controllers(options()).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "b"}}))
        .await;
    world
        .wait(&config_maps(), &config("it"), settled("3", "b"))
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_takes_back_what_was_handed_over() {
    for seed in testkit::seeds(4) {
        let mut world = World::with(impatient(options())).await;
        world.define(handing_over()).await;
        world.app(json!({"text": "a"})).await;
        world.wait_active().await;
        world.stop_controllers().await;
        let theirs = json!({"data": {"free": "theirs"}});
        world.change(&config_maps(), &config("it"), theirs).await;
        let plan =
            FaultPlan::evenly(seed.number, 0.1).with_stale_caches(0.3, Duration::from_millis(20));
        let faults = Faults::new(plan);
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        for text in ["b", "c", "d"] {
            world
                .change(&apps(), &it(), json!({"spec": {"text": text}}))
                .await;
            let map = world
                .wait(&config_maps(), &config("it"), |map| {
                    map.value()["data"]["ours"] == text
                })
                .await;
            assert_eq!(map.value()["data"]["free"], "theirs", "{seed}");
        }
        faults.stop();
        world.wait_active().await;
        let writes = world.log.writes().len();
        assert!(writes < 100, "{seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
