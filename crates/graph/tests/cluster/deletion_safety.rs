//! Definitions that wait for their instances, and instances that say what they wait for (gate `DeletionSafety`).

use std::time::Duration;

use controller::{DeleteOptions, FaultPlan, Faults, ObjectKey, Resource};
use graph::{BuildOptions, Feature, Features, Options, keys};
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, impatient, it, rgds,
};

fn options() -> Options {
    Options {
        build: BuildOptions {
            features: Features::default().with(Feature::DeletionSafety),
            ..BuildOptions::default()
        },
        ..Options::default()
    }
}

fn key() -> ObjectKey {
    ObjectKey::cluster("app")
}

fn crds() -> Resource {
    let version = "apiextensions.k8s.io/v1";
    Resource::cluster(
        version,
        "customresourcedefinitions",
        "CustomResourceDefinition",
    )
}

fn definition() -> Value {
    let resources = json!([{"id": "map", "template": config_map("map", json!({}))}]);
    app(json!({}), json!({}), resources)
}

/// A world with an App of one ConfigMap, and an instance.
async fn world(options: Options) -> World {
    let world = World::with(options).await;
    world.create(&rgds(), definition()).await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    world.wait_active().await;
    world
}

async fn delete(world: &World, resource: &Resource, key: &ObjectKey) {
    let options = DeleteOptions::default();
    world.api.delete(resource, key, &options).await.unwrap();
}

async fn wait_blocked(world: &World) -> Value {
    let rgd = world
        .wait(&rgds(), &key(), |rgd| {
            condition(rgd, "DeletionBlocked")["status"] == "True"
        })
        .await;
    condition(&rgd, "DeletionBlocked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_waits_for_its_instances_and_goes_with_the_last() {
    let mut world = world(options()).await;
    delete(&world, &rgds(), &key()).await;
    let blocked = wait_blocked(&world).await;
    assert_eq!(blocked["reason"], "InstancesExist");
    let message = blocked["message"].as_str().unwrap();
    assert!(
        message.starts_with("1 instance exists: default/it; delete them first"),
        "{message}"
    );
    // The instance is served as ever, also by a process that never saw the definition alive.
    world.stop_controllers().await;
    world.start_controllers(options()).await;
    delete(&world, &config_maps(), &config("map")).await;
    world.wait(&config_maps(), &config("map"), |_| true).await;
    delete(&world, &apps(), &it()).await;
    world.wait_gone(&apps(), &it()).await;
    world.wait_gone(&rgds(), &key()).await;
    // As ever the kind stays.
    let crd = ObjectKey::cluster("apps.kro.run");
    assert!(world.get(&crds(), &crd).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_says_so_leaves_its_instances_behind() {
    let world = world(options()).await;
    delete(&world, &rgds(), &key()).await;
    wait_blocked(&world).await;
    let allow = json!({"metadata": {"annotations": {keys::ALLOW_DELETE: "true"}}});
    world.change(&rgds(), &key(), allow).await;
    world.wait_gone(&rgds(), &key()).await;
    assert!(world.get(&apps(), &it()).await.is_some());
    // One that is made again takes them over.
    world.create(&rgds(), definition()).await;
    world.wait_rgd_active("app").await;
    delete(&world, &apps(), &it()).await;
    world.wait_gone(&apps(), &it()).await;
    assert!(world.get(&config_maps(), &config("map")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_gate_a_definition_goes_at_once() {
    let world = world(Options::default()).await;
    delete(&world, &rgds(), &key()).await;
    world.wait_gone(&rgds(), &key()).await;
    assert!(world.get(&apps(), &it()).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_kind_that_goes_are_served_after_a_restart() {
    let all = || Options {
        allow_crd_deletion: true,
        ..Options::default()
    };
    let mut world = world(all()).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.change(&config_maps(), &config("map"), hold).await;
    delete(&world, &rgds(), &key()).await;
    world
        .wait(&apps(), &it(), |app| app.status()["state"] == "DELETING")
        .await;
    world.stop_controllers().await;
    let free = json!({"metadata": {"finalizers": null}});
    world.change(&config_maps(), &config("map"), free).await;
    world.start_controllers(all()).await;
    world.wait_gone(&rgds(), &key()).await;
    assert!(
        world
            .get(&crds(), &ObjectKey::cluster("apps.kro.run"))
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_says_what_its_deletion_waits_for() {
    let world = world(options()).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.change(&config_maps(), &config("map"), hold).await;
    delete(&world, &apps(), &it()).await;
    let expect =
        "deleting resources: waiting for ConfigMap default/map (finalizers: example.com/hold)";
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["message"] == expect
        })
        .await;
    let free = json!({"metadata": {"finalizers": null}});
    world.change(&config_maps(), &config("map"), free).await;
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_lets_a_definition_go_before_its_instances() {
    for seed in 0..5 {
        let mut world = world(impatient(options())).await;
        world.stop_controllers().await;
        let plan = FaultPlan::evenly(seed, 0.02).with_stale_caches(0.2, Duration::from_millis(30));
        let faults = Faults::new(plan);
        world.log.clear();
        let client = world.log.wrap(faults.wrap(world.cluster.client()));
        world
            .start_controllers_with(client, impatient(options()))
            .await;
        delete(&world, &rgds(), &key()).await;
        wait_blocked(&world).await;
        delete(&world, &apps(), &it()).await;
        testkit::eventually("the definition is gone", || async {
            let is_gone = world.get(&rgds(), &key()).await.is_none();
            let instance = world.get(&apps(), &it()).await;
            assert!(!is_gone || instance.is_none(), "seed {seed}");
            if instance.is_none() {
                faults.stop();
            }
            is_gone.then_some(())
        })
        .await;
        let map = world.get(&config_maps(), &config("map")).await;
        assert!(map.is_none(), "seed {seed}");
        let writes = world.log.writes().len();
        assert!(writes < 100, "seed {seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
