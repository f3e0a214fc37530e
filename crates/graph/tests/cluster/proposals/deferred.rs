//! Deferred fields on a cluster.

use graph::{Feature, Features};
use serde_json::{Value, json};

use super::{example, options, under_faults};
use crate::world::{World, app, apps, condition, config, config_map, config_maps, it};

/// `first` is told what `second` got, which needs `first` to be ready.
fn definition() -> Value {
    app(
        json!({"text": "string"}),
        json!({}),
        json!([
            {"id": "first", "readyWhen": ["${first.data.?hold.orValue('no') != 'yes'}"],
             "template": config_map("first", json!({"text": "${schema.spec.text}", "token": "${defer(second.data.token)}"}))},
            {"id": "second", "template": config_map("second", json!({"token": "${first.data.text}-token"}))},
        ]),
    )
}

async fn token(world: &World) -> Value {
    let first = world.get(&config_maps(), &config("first")).await.unwrap();
    first.value()["data"]["token"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_is_filled_in_whatever_fails() {
    let check = async |world: &World| assert_eq!(token(world).await, "a-token");
    let spec = json!({"text": "a"});
    under_faults(
        Feature::DeferredFields,
        definition(),
        spec,
        async |_| {},
        check,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writes_make_an_object_of_two_phases_and_a_change_takes_as_many_as_it_must() {
    let world = World::with(options(Feature::DeferredFields)).await;
    world.define(definition()).await;
    world.log.clear();
    world.app(json!({"text": "a"})).await;
    world.wait_active().await;
    let patches = |name: &str| {
        let writes = world.log.writes();
        let path = format!("/configmaps/{name}");
        writes
            .iter()
            .filter(|(method, found)| method.as_str() == "PATCH" && found.contains(&path))
            .count()
    };
    world.quiet().await;
    assert_eq!((patches("first"), patches("second")), (2, 1));
    world.log.clear();
    world
        .change(&apps(), &it(), json!({"spec": {"text": "b"}}))
        .await;
    world
        .wait(&config_maps(), &config("first"), |first| {
            first.value()["data"] == json!({"text": "b", "token": "b-token"})
        })
        .await;
    world.quiet().await;
    assert_eq!((patches("first"), patches("second")), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_was_filled_in_stays_while_its_source_cannot_be_looked_at() {
    let world = World::with(options(Feature::DeferredFields)).await;
    world.define(definition()).await;
    world.app(json!({"text": "a"})).await;
    world.wait_active().await;
    // `second` is not reached as long as `first` is not ready.
    world
        .change(
            &config_maps(),
            &config("first"),
            json!({"data": {"hold": "yes"}}),
        )
        .await;
    let instance = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "IN_PROGRESS")
        .await;
    let message = condition(&instance, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("waiting for readyWhen of \\\"first\\\""),
        "{message}"
    );
    world
        .change(&apps(), &it(), json!({"spec": {"text": "b"}}))
        .await;
    world
        .wait(&config_maps(), &config("first"), |first| {
            first.value()["data"]["text"] == "b"
        })
        .await;
    assert_eq!(token(&world).await, "a-token");
    world
        .change(
            &config_maps(),
            &config("first"),
            json!({"data": {"hold": null}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("first"), |first| {
            first.value()["data"]["token"] == "b-token"
        })
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_says_which_field_it_waits_for() {
    let world = World::with(options(Feature::DeferredFields)).await;
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("first", json!({"a": "a", "token": "${defer(given.data.token)}"}))},
            {"id": "given", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "given"}}},
        ]),
    );
    world
        .create(&config_maps(), {
            let mut given = config_map("given", json!({}));
            given["metadata"]["namespace"] = "default".into();
            given
        })
        .await;
    world.define(rgd).await;
    world.app(json!({})).await;
    let instance = world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["message"]
                .as_str()
                .is_some_and(|message| message.contains("deferred"))
        })
        .await;
    assert_eq!(instance.status()["state"], "IN_PROGRESS");
    assert_eq!(
        condition(&instance, "ResourcesReady")["message"],
        "resource reconciliation failed: apply results contain errors: waiting for deferred field \"data.token\" of \"first\": \
         expression \"defer(given.data.token)\" waits for data: no such key: data"
    );
    world
        .change(
            &config_maps(),
            &config("given"),
            json!({"data": {"token": "t"}}),
        )
        .await;
    world.wait_active().await;
    assert_eq!(token(&world).await, "t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_or_computed_at_once_holds_nobody_up() {
    let mut options = options(Feature::DeferredFields);
    options.build.features = Features::all();
    let world = World::with(options).await;
    let rgd = app(
        json!({"on": "boolean"}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("first", json!({"a": "a", "token": "${defer(second.data.token)}", "name": "${defer(naming.name)}"}))},
            {"id": "second", "includeWhen": ["${schema.spec.on}"], "template": config_map("second", json!({"token": "t"}))},
            {"id": "naming", "variable": {"name": "n-${schema.metadata.name}"}},
        ]),
    );
    world.define(rgd).await;
    world.app(json!({"on": false})).await;
    world.wait_active().await;
    let first = world.get(&config_maps(), &config("first")).await.unwrap();
    assert_eq!(first.value()["data"], json!({"a": "a", "name": "n-it"}));
    world
        .change(&apps(), &it(), json!({"spec": {"on": true}}))
        .await;
    world
        .wait(&config_maps(), &config("first"), |first| {
            first.value()["data"]["token"] == "t"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_active() {
    let features = Features::default().with(Feature::DeferredFields);
    let world = example("deferred-fields", features, async |_| {}).await;
    let services = controller::Resource::namespaced("v1", "services", "Service");
    let service = world.get(&services, &config("shop")).await.unwrap();
    let settings = world.get(&config_maps(), &config("shop-settings")).await;
    assert_eq!(
        settings.unwrap().value()["data"]["address"],
        service.value()["spec"]["clusterIP"]
    );
}
