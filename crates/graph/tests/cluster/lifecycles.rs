//! `deletionPolicy` and `lifecycle`: how objects come and go.

use std::time::Duration;

use controller::{DeleteOptions, FaultPlan, Faults, Object, ObjectKey};
use graph::{Feature, Options, keys};
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, impatient, it, rgds, with,
};

fn options() -> Options {
    with(&[Feature::DeletionPolicy, Feature::ResourceLifecycles])
}

fn resource(id: &str, more: Value, data: Value) -> Value {
    let mut resource = json!({"id": id, "template": config_map(id, data)});
    for (key, value) in more.as_object().into_iter().flatten() {
        resource[key] = value.clone();
    }
    resource
}

/// A world with an App of these resources, and an instance.
async fn world(spec: Value, resources: Value, instance: Value) -> World {
    let world = World::with(options()).await;
    world.define(app(spec, json!({}), resources)).await;
    world.app(instance).await;
    world
}

async fn config_map_named(world: &World, name: &str) -> Object {
    world
        .get(&config_maps(), &config(name))
        .await
        .unwrap_or_else(|| panic!("ConfigMap {name} is gone"))
}

fn marks(object: &Object) -> Vec<&str> {
    let all = object.labels().chain(object.annotations());
    all.map(|(key, _)| key)
        .filter(|key| keys::CHILD_MARKS.contains(key))
        .collect()
}

async fn wait_released(world: &World, name: &str) -> Object {
    world
        .wait(&config_maps(), &config(name), |object| {
            marks(object).is_empty()
        })
        .await
}

async fn delete_instance(world: &World) {
    world.delete_app().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphaned_object_outlives_its_instance_and_the_next_one_adopts_it() {
    let resources = json!([
        resource(
            "kept",
            json!({"deletionPolicy": "Orphaned"}),
            json!({"a": "b"})
        ),
        resource("gone", json!({"deletionPolicy": "Delete"}), json!({})),
    ]);
    let world = world(json!({}), resources, json!({})).await;
    world.wait_active().await;
    let kept = config_map_named(&world, "kept").await;
    assert_eq!(kept.annotation(keys::DELETION_POLICY), Some("Orphaned"));
    let gone = config_map_named(&world, "gone").await;
    assert_eq!(gone.annotation(keys::DELETION_POLICY), None);
    delete_instance(&world).await;
    let released = config_map_named(&world, "kept").await;
    assert_eq!(released.uid(), kept.uid());
    assert_eq!(marks(&released), Vec::<&str>::new());
    assert_eq!(released.value()["data"], json!({"a": "b"}));
    assert!(world.get(&config_maps(), &config("gone")).await.is_none());
    world.app(json!({})).await;
    world.wait_active().await;
    let adopted = config_map_named(&world, "kept").await;
    assert_eq!(adopted.uid(), kept.uid());
    assert!(adopted.label(keys::PART_OF).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphaned_object_is_released_whenever_kro_would_remove_it() {
    let kept = json!({"deletionPolicy": "Orphaned"});
    let mut many = resource("many", kept.clone(), json!({}));
    many["template"]["metadata"]["name"] = "many-${name}".into();
    many["forEach"] = json!([{"name": "${schema.spec.names}"}]);
    let mut included = resource("included", kept.clone(), json!({}));
    included["includeWhen"] = json!(["${schema.spec.on}"]);
    let leaves = resource("leaves", kept, json!({}));
    let spec = json!({"names": "[]string", "on": "boolean"});
    let instance = json!({"names": ["a", "b"], "on": true});
    let world = world(spec.clone(), json!([many, included, leaves]), instance).await;
    world.wait_active().await;
    let change = json!({"spec": {"names": ["a"], "on": false}});
    world.change(&apps(), &it(), change).await;
    wait_released(&world, "many-b").await;
    wait_released(&world, "included").await;
    let rgd = ObjectKey::cluster("app");
    let change = json!({"spec": {"resources": [many]}});
    world.change(&rgds(), &rgd, change).await;
    wait_released(&world, "leaves").await;
    world.wait_active().await;
    assert!(!marks(&config_map_named(&world, "many-a").await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_is_written_on_the_object() {
    let resources = |policy: Value| json!([resource("it", policy, json!({}))]);
    let world = world(json!({}), resources(json!({})), json!({})).await;
    world.wait_active().await;
    let rgd = ObjectKey::cluster("app");
    for (policy, annotation) in [("Orphaned", Some("Orphaned")), ("Delete", None)] {
        let change = json!({"spec": {"resources": resources(json!({"deletionPolicy": policy}))}});
        world.change(&rgds(), &rgd, change).await;
        world
            .wait(&config_maps(), &config("it"), |object| {
                object.annotation(keys::DELETION_POLICY) == annotation
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifecycle_is_computed_from_the_instance() {
    let lifecycle = "${schema.spec.prod ? policy().withRetain() : policy()}";
    let resources = json!([resource("it", json!({"lifecycle": lifecycle}), json!({}))]);
    let spec = json!({"prod": "boolean | default=false"});
    let world = world(spec, resources, json!({})).await;
    world.wait_active().await;
    world
        .change(&apps(), &it(), json!({"spec": {"prod": true}}))
        .await;
    world
        .wait(&config_maps(), &config("it"), |object| {
            object.annotation(keys::DELETION_POLICY) == Some("Orphaned")
        })
        .await;
    delete_instance(&world).await;
    assert_eq!(
        marks(&config_map_named(&world, "it").await),
        Vec::<&str>::new()
    );
}

fn foreign(name: &str) -> Value {
    let mut object = config_map(name, json!({"mine": "yes"}));
    object["metadata"]["namespace"] = "default".into();
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopt_only_takes_over_what_appears_and_never_creates() {
    let lifecycle = json!({"lifecycle": {"adoptPolicy": "adoptOnly"}});
    let resources = json!([resource("it", lifecycle, json!({"a": "b"}))]);
    let world = world(json!({}), resources, json!({})).await;
    let failed = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    let expect = "ConfigMap \\\"default/it\\\" does not exist, and adoptPolicy is adoptOnly";
    assert!(message.contains(expect), "{message}");
    assert!(world.get(&config_maps(), &config("it")).await.is_none());
    world.create(&config_maps(), foreign("it")).await;
    world.wait_active().await;
    let adopted = config_map_named(&world, "it").await;
    assert_eq!(adopted.value()["data"], json!({"a": "b", "mine": "yes"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_only_leaves_alone_what_exists() {
    let world = World::with(options()).await;
    world.create(&config_maps(), foreign("it")).await;
    let lifecycle = json!({"lifecycle": "${policy().withCreateOnly()}"});
    let resources = json!([resource("it", lifecycle, json!({"a": "b"}))]);
    world.define(app(json!({}), json!({}), resources)).await;
    world.app(json!({})).await;
    let failed = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("exists already, and adoptPolicy is createOnly"),
        "{message}"
    );
    let there = config_map_named(&world, "it").await;
    assert_eq!(there.value()["data"], json!({"mine": "yes"}));
    let options = DeleteOptions::default();
    let key = config("it");
    world
        .api
        .delete(&config_maps(), &key, &options)
        .await
        .unwrap();
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn update_never_makes_once_and_then_only_keeps_its_marks() {
    let lifecycle = json!({"lifecycle": "${policy().withUpdateNever().withRetain()}"});
    let mut made = resource(
        "made",
        lifecycle.clone(),
        json!({"text": "${schema.spec.text}"}),
    );
    let mut taken = resource("taken", lifecycle, json!({"text": "${schema.spec.text}"}));
    let spec = json!({"text": "string"});
    let world = World::with(options()).await;
    world.create(&config_maps(), foreign("taken")).await;
    let resources = json!([made, taken]);
    world.define(app(spec, json!({}), resources)).await;
    world.app(json!({"text": "one"})).await;
    world.wait_active().await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "two"}}))
        .await;
    // A mark somebody took away comes back, and the policy is kept up to date, without touching the rest.
    let unmark = json!({"metadata": {"labels": {keys::PART_OF: null}}});
    world.change(&config_maps(), &config("made"), unmark).await;
    made["lifecycle"] = json!({"updatePolicy": "never"});
    taken["lifecycle"] = json!({"updatePolicy": "never"});
    let change = json!({"spec": {"resources": [made, taken]}});
    world
        .change(&rgds(), &ObjectKey::cluster("app"), change)
        .await;
    for (name, data) in [
        ("made", json!({"text": "one"})),
        ("taken", json!({"mine": "yes"})),
    ] {
        let object = world
            .wait(&config_maps(), &config(name), |object| {
                object.label(keys::PART_OF).is_some()
                    && object.annotation(keys::DELETION_POLICY).is_none()
            })
            .await;
        assert_eq!(object.value()["data"], data, "{name}");
    }
    world.wait_active().await;
    world.quiet().await;
    world.log.clear();
    world
        .change(&apps(), &it(), json!({"spec": {"text": "three"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "Ready")["observedGeneration"] == app.generation()
                && controller::condition::is_true(app.status(), "Ready")
        })
        .await;
    let writes: Vec<_> = world.log.writes();
    let to_children = writes
        .iter()
        .filter(|(_, path)| path.contains("configmaps"));
    assert_eq!(to_children.count(), 0, "{writes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_deletes_what_is_to_be_kept() {
    for seed in testkit::seeds(4) {
        let mut world = World::with(impatient(options())).await;
        let kept = json!({"deletionPolicy": "Orphaned"});
        let resources = json!([
            resource("kept", kept.clone(), json!({})),
            resource("pruned", kept, json!({})),
            resource("gone", json!({}), json!({"after": "${kept.metadata.name}"})),
        ]);
        world
            .define(app(json!({}), json!({}), resources.clone()))
            .await;
        world.app(json!({})).await;
        world.wait_active().await;
        world.stop_controllers().await;
        let uids = [
            config_map_named(&world, "kept").await.uid().to_owned(),
            config_map_named(&world, "pruned").await.uid().to_owned(),
        ];
        let plan =
            FaultPlan::evenly(seed.number, 0.05).with_stale_caches(0.1, Duration::from_millis(30));
        let faults = Faults::new(plan);
        let change = json!({"spec": {"resources": [resources[0], resources[2]]}});
        world
            .change(&rgds(), &ObjectKey::cluster("app"), change)
            .await;
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        wait_released(&world, "pruned").await;
        delete_instance(&world).await;
        faults.stop();
        for (name, uid) in ["kept", "pruned"].iter().zip(&uids) {
            let object = wait_released(&world, name).await;
            assert_eq!(object.uid(), uid, "{seed}");
        }
        assert!(
            world.get(&config_maps(), &config("gone")).await.is_none(),
            "{seed}"
        );
        let writes = world.log.writes().len();
        assert!(writes < 200, "{seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
