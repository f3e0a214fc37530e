//! Lifecycles hold also for what somebody does between a look at an object and its being written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use controller::{Api, DeleteOptions, FaultPlan, Faults};
use graph::{Feature, Options, keys};
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, impatient, it, rgds, with,
};

fn options() -> Options {
    with(&[Feature::ResourceLifecycles])
}

/// An App of one ConfigMap `it` with this lifecycle, which writes the text of the instance and, if it has one, its note.
fn resources(lifecycle: &str) -> Value {
    let data = json!({"text": "${schema.spec.text}"});
    json!([{"id": "it", "lifecycle": lifecycle, "template": config_map("it", data)}])
}

fn foreign() -> Value {
    let mut object = config_map("it", json!({"mine": "yes"}));
    object["metadata"]["namespace"] = "default".into();
    object
}

/// A client with which `meddle` happens once, right before the first write to a ConfigMap.
fn meddled<F>(
    client: kube::Client,
    meddle: impl Fn(Api) -> F + Send + Sync + 'static,
) -> kube::Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let namespace = client.default_namespace().to_owned();
    let (meddle, is_done) = (Arc::new(meddle), Arc::new(AtomicBool::new(false)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, meddle, is_done) = (client.clone(), Arc::clone(&meddle), Arc::clone(&is_done));
        async move {
            let is_write = request.method() != Method::GET;
            let is_ours = is_write && request.uri().path().contains("/configmaps");
            if is_ours && !is_done.swap(true, Ordering::AcqRel) {
                meddle(Api::new(client.clone())).await;
            }
            client.send(request).await
        }
    });
    kube::Client::new(service, namespace)
}

/// A world whose controllers are interrupted once by `meddle`.
async fn world<F>(lifecycle: &str, meddle: impl Fn(Api) -> F + Send + Sync + 'static) -> World
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut world = World::with(options()).await;
    world.stop_controllers().await;
    let client = meddled(world.log.wrap(world.cluster.client()), meddle);
    world.start_controllers_with(client, options()).await;
    let spec = json!({"text": "string"});
    let rgd = app(spec, json!({}), resources(lifecycle));
    world.define(rgd).await;
    world
}

async fn make_foreign(api: Api) {
    api.create(&config_maps(), &foreign()).await.unwrap();
}

async fn take_away(api: Api) {
    let options = DeleteOptions::default();
    let was_there = api.delete(&config_maps(), &config("it"), &options).await;
    assert!(was_there.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_only_does_not_take_over_what_is_made_in_the_same_moment() {
    let world = world("${policy().withCreateOnly()}", make_foreign).await;
    world.app(json!({"text": "one"})).await;
    let failed = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("exists already, and adoptPolicy is createOnly"),
        "{message}"
    );
    let there = world.get(&config_maps(), &config("it")).await.unwrap();
    assert_eq!(there.value()["data"], json!({"mine": "yes"}));
    assert_eq!(there.label(keys::PART_OF), None);
    take_away(world.api.clone()).await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_never_leaves_what_is_made_in_the_same_moment_as_it_is() {
    let world = world("${policy().withUpdateNever()}", make_foreign).await;
    world.app(json!({"text": "one"})).await;
    world.wait_active().await;
    let there = world.get(&config_maps(), &config("it")).await.unwrap();
    assert_eq!(there.value()["data"], json!({"mine": "yes"}));
    assert!(there.label(keys::PART_OF).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopt_only_does_not_make_what_is_deleted_in_the_same_moment() {
    let world = world("${policy().withAdoptOnly()}", take_away).await;
    world.create(&config_maps(), foreign()).await;
    world.app(json!({"text": "one"})).await;
    let failed = world
        .wait(&apps(), &it(), |app| {
            let message = condition(app, "ResourcesReady")["message"].to_string();
            message.contains("does not exist, and adoptPolicy is adoptOnly")
        })
        .await;
    assert_eq!(failed.status()["state"], "ERROR");
    assert!(world.get(&config_maps(), &config("it")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_created_is_owned_as_what_was_applied() {
    for seed in 0..4 {
        let mut world = World::with(impatient(options())).await;
        let data = json!({"text": "${schema.spec.text}", "note": "x"});
        let lifecycle = "${policy().withCreateOnly()}";
        let mut resources =
            json!([{"id": "it", "lifecycle": lifecycle, "template": config_map("it", data)}]);
        let rgd = app(json!({"text": "string"}), json!({}), resources.clone());
        world.define(rgd).await;
        world.stop_controllers().await;
        // Every step of making it may fail, and is made good.
        let plan = FaultPlan::evenly(seed, 0.08).with_stale_caches(0.1, Duration::from_millis(30));
        let faults = Faults::new(plan);
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        world.app(json!({"text": "one"})).await;
        world.wait_active().await;
        let made = world.get(&config_maps(), &config("it")).await.unwrap();
        let managers = made.value()["metadata"]["managedFields"]
            .as_array()
            .unwrap();
        let managers: Vec<_> = managers
            .iter()
            .map(|entry| (&entry["manager"], &entry["operation"]))
            .collect();
        let applied = (&json!(keys::MANAGER_APPLYSET), &json!("Apply"));
        assert_eq!(managers, [applied], "seed {seed}");
        // So what leaves the template leaves the object.
        resources[0]["template"]["data"] = json!({"text": "${schema.spec.text}"});
        let change = json!({"spec": {"resources": resources}});
        let rgd = controller::ObjectKey::cluster("app");
        world.change(&rgds(), &rgd, change).await;
        let changed = world
            .wait(&config_maps(), &config("it"), |object| {
                object.value()["data"] == json!({"text": "one"})
            })
            .await;
        assert_eq!(changed.uid(), made.uid());
        faults.stop();
        let writes = world.log.writes().len();
        assert!(writes < 100, "seed {seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
