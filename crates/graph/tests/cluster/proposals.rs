//! What kro's users have proposed, on a cluster whose every call may fail and with controllers that may stop at any moment.

mod decorators;
mod deferred;
mod dynamic_keys;
mod partial;
mod variables;

use std::path::Path;
use std::time::Duration;

use controller::{FaultPlan, Faults, ObjectKey, Resource};
use graph::{Feature, Features, Options};
use serde_json::Value;

use crate::world::{World, apps, impatient, it, rgds, with};

/// Controllers with a feature, that do not wait long.
pub fn options(feature: Feature) -> Options {
    impatient(with(&[feature]))
}

/// Lets an App become what its definition says under faults, with controllers that are stopped twice; `check` sees it
/// when the faults are over and it is active, and again after a restart that must write nothing.
pub async fn under_faults(
    feature: Feature,
    rgd: Value,
    spec: Value,
    prepare: impl AsyncFn(&World),
    check: impl AsyncFn(&World),
) {
    for seed in testkit::seeds(2) {
        let mut world = World::with(options(feature)).await;
        world.define(rgd.clone()).await;
        prepare(&world).await;
        world.stop_controllers().await;
        let faults = Faults::new(FaultPlan::evenly(seed.number, 0.05));
        world.app(spec.clone()).await;
        for _ in 0..2 {
            world
                .start_controllers_under(&faults, options(feature))
                .await;
            tokio::time::sleep(Duration::from_millis(120)).await;
            world.stop_controllers().await;
        }
        world
            .start_controllers_under(&faults, options(feature))
            .await;
        faults.stop();
        world.wait_active().await;
        check(&world).await;
        stays_quiet(&mut world, feature).await;
        check(&world).await;
        world.delete_app().await;
    }
}

/// Restarts the controllers: an instance that is as it should be is looked at, and nothing of it is written but what the
/// server finds unchanged.
pub async fn stays_quiet(world: &mut World, feature: Feature) {
    world.quiet().await;
    let before = world.get(&apps(), &it()).await.unwrap();
    world.stop_controllers().await;
    world.log.clear();
    world.start_controllers(options(feature)).await;
    world.wait_rgd_active("app").await;
    world
        .wait(&apps(), &it(), |_| {
            let reads = world.log.requests();
            reads.iter().any(|(_, path)| path.contains("/apps/it"))
        })
        .await;
    world.quiet().await;
    let after = world.get(&apps(), &it()).await.unwrap();
    assert_eq!(
        before.resource_version(),
        after.resource_version(),
        "{} became {}",
        before.value(),
        after.value()
    );
}

/// Applies an example of the repository, and waits until its instance is active.
pub async fn example(name: &str, features: Features, prepare: impl AsyncFn(&World)) -> World {
    let mut options = Options::default();
    options.build.features = features;
    let world = World::with(options).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    let read = |file: &str| -> Value {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let (rgd, mut instance) = (read("rgd.yaml"), read("instance.yaml"));
    prepare(&world).await;
    let schema = &rgd["spec"]["schema"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    world.create(&rgds(), rgd.clone()).await;
    world.wait_rgd_active(&text(&rgd["metadata"]["name"])).await;
    let kind = text(&schema["kind"]);
    instance["metadata"]["namespace"] = "default".into();
    let resource = Resource::namespaced(
        instance["apiVersion"].as_str().unwrap(),
        &graph::plural(&kind),
        &kind,
    );
    let key = ObjectKey::new("default", text(&instance["metadata"]["name"]));
    world.create(&resource, instance).await;
    world
        .wait(&resource, &key, |found| found.status()["state"] == "ACTIVE")
        .await;
    world
}
