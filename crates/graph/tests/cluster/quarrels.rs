//! Somebody undoes what the instance controller does, or the server refuses it: few requests, and all else goes on.

use std::future::Future;
use std::time::Duration;

use controller::{Api, DeleteOptions, Object, ObjectKey, Resource, Subresource};
use graph::Options;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::world::{World, app, apps, condition, config, config_map, config_maps, it};

/// An App of a ConfigMap somebody writes to, and one that follows it.
fn quarrel() -> Value {
    app(
        json!({"text": "string | default=hello"}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("it-first", json!({"text": "${schema.spec.text}", "fought.over": "ours"}))},
            {"id": "second", "template": config_map("it-second", json!({"text": "${first.data.text}"}))},
        ]),
    )
}

/// Does something to the first ConfigMap as soon as it is as `ours` says, for ever.
fn opponent<F>(world: &World, ours: fn(&Object) -> bool, act: fn(Api) -> F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let api = world.api.clone();
    tokio::spawn(async move {
        loop {
            let found = api.get_opt(&config_maps(), &config("it-first")).await;
            if found.ok().flatten().is_some_and(|object| ours(&object)) {
                act(api.clone()).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// What the Event about undone corrections says.
async fn told(world: &World) -> String {
    let events = Resource::namespaced("v1", "events", "Event");
    eventually("the quarrel is told", || async {
        let list = world.api.list(&events, &Default::default()).await.unwrap();
        let event = list.items.iter().find(|event| {
            event.value()["reason"] == "CorrectionUndone"
                && event.value()["involvedObject"]["name"] == "it"
        })?;
        Some(event.value()["message"].as_str().unwrap().to_owned())
    })
    .await
}

fn writes_to(world: &World, name: &str) -> usize {
    let is_of = |path: &str| {
        path.split('?')
            .next()
            .is_some_and(|path| path.ends_with(name))
    };
    let writes = world.log.writes();
    writes.iter().filter(|(_, path)| is_of(path)).count()
}

/// How many tries waits that begin with `first` and double allow within `time`, the first one at once.
fn tries(first: Duration, time: Duration) -> usize {
    let (mut at, mut wait, mut count) = (first, first, 1);
    while at <= time {
        count += 1;
        wait *= 2;
        at += wait;
    }
    count
}

const ONE_SECOND: Duration = Duration::from_secs(1);
/// The first apply, and the corrections made at once.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_somebody_sets_back_is_corrected_less_and_less() {
    let world = World::start().await;
    world.define(quarrel()).await;
    let started = Instant::now();
    let opponent = opponent(
        &world,
        |object| object.value()["data"]["fought.over"] == "ours",
        |api| async move {
            let theirs = json!({"data": {"fought.over": "theirs"}});
            let first = config("it-first");
            api.merge_patch(&config_maps(), &first, Subresource::None, &theirs)
                .await
                .unwrap();
        },
    );
    world.app(json!({})).await;
    let message = told(&world).await;
    let expect = "resource \"first\": ConfigMap \"default/it-first\": data[\"fought.over\"] is changed by \"";
    assert!(message.starts_with(expect), "{message}");
    // The rest of the instance goes on, and at once.
    world
        .change(&apps(), &it(), json!({"spec": {"text": "bye"}}))
        .await;
    let is_bye = |map: &Object| map.value()["data"]["text"] == "bye";
    world
        .wait(&config_maps(), &config("it-second"), is_bye)
        .await;
    world.wait_active().await;
    let count = writes_to(&world, "/it-first");
    let most = AT_ONCE + 1 + tries(ONE_SECOND, started.elapsed()) - 1;
    assert!(count >= AT_ONCE, "{count}");
    assert!(count <= most, "{count} writes, at most {most} expected");
    // Once the other stops, the next correction lasts.
    opponent.abort();
    let is_ours = |map: &Object| map.value()["data"]["fought.over"] == "ours";
    world
        .wait(&config_maps(), &config("it-first"), is_ours)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_somebody_deletes_is_made_less_and_less() {
    let world = World::start().await;
    world.define(quarrel()).await;
    let started = Instant::now();
    let opponent = opponent(
        &world,
        |_| true,
        |api| async move {
            let first = config("it-first");
            let deletion = DeleteOptions::default();
            api.delete(&config_maps(), &first, &deletion).await.unwrap();
        },
    );
    world.app(json!({})).await;
    let message = told(&world).await;
    assert!(
        message.contains("is deleted each time it is made"),
        "{message}"
    );
    let is_told = |app: &Object| {
        let ready = condition(app, "ResourcesReady");
        ready["message"]
            .to_string()
            .contains("is deleted each time")
    };
    world.wait(&apps(), &it(), is_told).await;
    let count = writes_to(&world, "/it-first");
    let most = AT_ONCE + tries(ONE_SECOND, started.elapsed()) - 1;
    assert!(count <= most, "{count} writes, at most {most} expected");
    opponent.abort();
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_tried_again_only_after_a_while() {
    let first_wait = Duration::from_millis(500);
    let options = Options {
        retry_interval: first_wait,
        ..Options::default()
    };
    let world = World::with(options).await;
    let rgd = app(
        json!({"name": "string"}),
        json!({}),
        json!([
            {"id": "bad", "template": config_map("${schema.spec.name}", json!({}))},
            {"id": "busy", "template": config_map("busy", json!({}))},
        ]),
    );
    world.define(rgd).await;
    let started = Instant::now();
    world.app(json!({"name": "Not_A_Name"})).await;
    let is_error = |app: &Object| app.status()["state"] == "ERROR";
    let failed = world.wait(&apps(), &it(), is_error).await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("Not_A_Name"), "{message}");
    world.wait(&config_maps(), &config("busy"), |_| true).await;
    // Each of these wakes the instance.
    for round in 0..50 {
        let runs = || {
            let is_run = |path: &str| path.ends_with("/apps/it");
            let requests = world.log.requests();
            requests.iter().filter(|(_, path)| is_run(path)).count()
        };
        let before = runs();
        let change = json!({"metadata": {"annotations": {"round": round.to_string()}}});
        world.change(&config_maps(), &config("busy"), change).await;
        let is_seen = || async { (runs() > before).then_some(()) };
        eventually("the change wakes the instance", is_seen).await;
    }
    let count = writes_to(&world, "/Not_A_Name");
    let most = tries(first_wait, started.elapsed());
    assert!(count <= most, "{count} tries, at most {most} expected");
    // What is new is tried at once.
    world
        .change(&apps(), &it(), json!({"spec": {"name": "a-name"}}))
        .await;
    world.wait_active().await;
    assert!(
        world
            .get(&config_maps(), &ObjectKey::new("default", "a-name"))
            .await
            .is_some()
    );
}
