//! The examples of this repository that show features behind gates: definition, then instance, as a user applies them.

use std::path::Path;

use controller::{ObjectKey, Resource};
use graph::{BuildOptions, Features, Options};
use serde_json::Value;

use crate::world::{World, rgds};

fn document(example: &str, file: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let path = folder.join(example).join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap()
}

/// Applies an example on a cluster with Kubernetes' controllers; returns the world once its instance is active.
async fn play(example: &str) -> World {
    let options = Options {
        build: BuildOptions {
            features: Features::all(),
            ..BuildOptions::default()
        },
        ..Options::default()
    };
    let world = World::with(options).await;
    let (client, shutdown) = (world.cluster.client(), world.cluster.shutdown());
    tokio::spawn(async move {
        kubernetes::run(client, &kubernetes::Options::default(), shutdown).await;
    });
    let definition = document(example, "rgd.yaml");
    let mut instance = document(example, "instance.yaml");
    instance["metadata"]["namespace"] = "default".into();
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    world.create(&rgds(), definition).await;
    world.wait_rgd_active(&name).await;
    let (resource, key) = place(&instance);
    world.create(&resource, instance).await;
    world
        .wait(&resource, &key, |object| {
            object.status()["state"] == "ACTIVE"
        })
        .await;
    world
}

fn place(object: &Value) -> (Resource, ObjectKey) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let resource = Resource::namespaced(&api_version, &graph::plural(&kind), &kind);
    (
        resource,
        ObjectKey::new("default", text(&object["metadata"]["name"])),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lifecycles() {
    let world = play("lifecycles").await;
    let claims = Resource::namespaced("v1", "persistentvolumeclaims", "PersistentVolumeClaim");
    let claim = ObjectKey::new("default", "books-data");
    let claim = world.get(&claims, &claim).await.unwrap();
    let policy = claim.annotation(graph::keys::DELETION_POLICY);
    assert_eq!(policy, Some("Orphaned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managed_resources() {
    let world = play("managed-resources").await;
    let shelves = Resource::namespaced("kro.run/v1alpha1", "shelves", "Shelf");
    let shelf = world
        .get(&shelves, &ObjectKey::new("default", "poems"))
        .await
        .unwrap();
    let names = &shelf.status()["managedResources"][1]["resources"];
    assert_eq!(names[0]["name"], "poems-board-winter");
    assert_eq!(names[1]["name"], "poems-board-spring");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollout() {
    let world = play("rollout").await;
    let branches = Resource::namespaced("kro.run/v1alpha1", "branches", "Branch");
    let key = ObjectKey::new("default", "berlin");
    let branch = world.get(&branches, &key).await.unwrap();
    assert_eq!(branch.status()["graphRevision"], 1);
    let mut resources = document("rollout", "rgd.yaml")["spec"]["resources"].take();
    resources[0]["template"]["data"]["motd"] = "Hello".into();
    let change = serde_json::json!({"spec": {"resources": resources}});
    let definition = ObjectKey::cluster("branch.kro.run");
    world.change(&rgds(), &definition, change).await;
    world
        .wait(&branches, &key, |branch| {
            branch.status()["graphRevision"] == 2 && branch.status()["state"] == "ACTIVE"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale() {
    let world = play("scale").await;
    let path = "/apis/kro.run/v1alpha1/namespaces/default/fronts/shop/scale";
    let scale = world.api.get_path(path).await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_fields() {
    let world = play("external-fields").await;
    let deployments = Resource::namespaced("apps/v1", "deployments", "Deployment");
    world
        .wait(&deployments, &ObjectKey::new("default", "web"), |app| {
            app.spec()["replicas"] == 3
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propagation() {
    let world = play("propagation").await;
    let fleets = Resource::namespaced("kro.run/v1alpha1", "fleets", "Fleet");
    let key = ObjectKey::new("default", "shop");
    let fleet = world.get(&fleets, &key).await.unwrap();
    assert!(controller::condition::is_true(
        fleet.status(),
        "ResourcesPropagated"
    ));
    let change = serde_json::json!({"spec": {"version": "2.0"}});
    world.change(&fleets, &key, change).await;
    world
        .wait(&fleets, &key, |fleet| {
            fleet.status()["versions"] == serde_json::json!(vec!["2.0"; 5])
                && fleet.status()["state"] == "ACTIVE"
        })
        .await;
}
