//! `propagateWhen`: when the objects of a resource may be written.

use std::collections::BTreeSet;
use std::time::Duration;

use controller::{FaultPlan, Faults, ListOptions, Object, ObjectKey};
use graph::{Feature, Options};
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, impatient, it, rgds, with,
};

fn options() -> Options {
    with(&[Feature::PropagationControl])
}

fn window(open: &str) -> Value {
    let mut object = config_map("window", json!({"open": open}));
    object["metadata"]["namespace"] = "default".into();
    object
}

async fn set_window(world: &World, open: &str) {
    world
        .change(
            &config_maps(),
            &config("window"),
            json!({"data": {"open": open}}),
        )
        .await;
}

async fn text_of(world: &World, name: &str) -> Option<String> {
    let object = world.get(&config_maps(), &config(name)).await?;
    object.value()["data"]["text"].as_str().map(str::to_owned)
}

async fn wait_text(world: &World, name: &str, text: &str) {
    world
        .wait(&config_maps(), &config(name), |object| {
            object.value()["data"]["text"] == text
        })
        .await;
}

async fn wait_gated(world: &World) -> Object {
    world
        .wait(&apps(), &it(), |app| {
            let gated = condition(app, "ResourcesPropagated");
            gated["status"] == "False" && gated["observedGeneration"] == app.generation()
        })
        .await
}

/// An App whose ConfigMap `it` may be written while `window` says so, and `after`, which reads it.
fn behind_a_window() -> Value {
    let text = json!({"text": "${schema.spec.text}"});
    app(
        json!({"text": "string"}),
        json!({}),
        json!([
            {"id": "window", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "window"}}},
            {"id": "gated", "propagateWhen": ["${window.data.open == 'yes'}"], "template": config_map("gated", text)},
            {"id": "after", "template": config_map("after", json!({"text": "${gated.data.text}"}))},
        ]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_changed_or_corrected_while_a_gate_is_closed() {
    let mut world = World::with(options()).await;
    world.create(&config_maps(), window("no")).await;
    world.define(behind_a_window()).await;
    world.app(json!({"text": "one"})).await;
    let gated = wait_gated(&world).await;
    let why = "waiting for propagateWhen of \"gated\": window.data.open == 'yes'";
    let found = condition(&gated, "ResourcesPropagated");
    assert_eq!(
        (&found["reason"], &found["message"]),
        (&json!("PropagationGated"), &json!(why))
    );
    assert_eq!(gated.status()["state"], "IN_PROGRESS");
    assert_eq!(condition(&gated, "Ready")["status"], "False");
    assert_eq!(text_of(&world, "gated").await, None);
    set_window(&world, "yes").await;
    let active = world.wait_active().await;
    assert_eq!(condition(&active, "ResourcesPropagated")["status"], "True");
    assert_eq!(text_of(&world, "after").await.as_deref(), Some("one"));
    // Closed again: what is in order stays active, changes wait, and so do those that come after.
    set_window(&world, "no").await;
    let change = |text: &str| json!({"spec": {"text": text}});
    world.change(&apps(), &it(), change("two")).await;
    wait_gated(&world).await;
    assert_eq!(text_of(&world, "gated").await.as_deref(), Some("one"));
    assert_eq!(text_of(&world, "after").await.as_deref(), Some("one"));
    set_window(&world, "yes").await;
    wait_text(&world, "after", "two").await;
    world.wait_active().await;
    // A correction is a write as well.
    set_window(&world, "no").await;
    let edit = json!({"data": {"text": "edited"}});
    world.change(&config_maps(), &config("gated"), edit).await;
    wait_gated(&world).await;
    assert_eq!(text_of(&world, "gated").await.as_deref(), Some("edited"));
    // A restart changes nothing about that.
    world.stop_controllers().await;
    world.start_controllers(options()).await;
    set_window(&world, "still no").await;
    world.quiet().await;
    wait_gated(&world).await;
    assert_eq!(text_of(&world, "gated").await.as_deref(), Some("edited"));
    set_window(&world, "yes").await;
    wait_text(&world, "gated", "two").await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_order_stays_active_through_a_restart_behind_a_closed_gate() {
    let mut world = World::with(options()).await;
    world.create(&config_maps(), window("yes")).await;
    world.define(behind_a_window()).await;
    world.app(json!({"text": "one"})).await;
    world.wait_active().await;
    world.stop_controllers().await;
    set_window(&world, "no").await;
    world.start_controllers(options()).await;
    // Something that is seen only after a whole pass.
    world
        .change(
            &config_maps(),
            &config("after"),
            json!({"data": {"text": "edited"}}),
        )
        .await;
    wait_text(&world, "after", "one").await;
    let app = world.wait_active().await;
    assert_eq!(condition(&app, "ResourcesPropagated")["status"], "True");
}

/// An App with ConfigMaps `a` to `e` that are ready when somebody says so, written in steps.
fn rollout(gates: Value) -> Value {
    app(
        json!({"text": "string"}),
        json!({}),
        json!([{
            "id": "all", "forEach": [{"name": "${['a', 'b', 'c', 'd', 'e']}"}],
            "propagateWhen": gates,
            "readyWhen": ["${each.data.?seen.orValue('') == each.data.text}"],
            "template": config_map("${name}", json!({"text": "${schema.spec.text}"})),
        }]),
    )
}

/// Changes the definition, and waits until the change is served.
async fn redefine(world: &World, definition: &Value) {
    let change = json!({"spec": {"resources": definition["spec"]["resources"]}});
    let key = ObjectKey::cluster("app");
    world.change(&rgds(), &key, change).await;
    world
        .wait(&rgds(), &key, |rgd| {
            let ready = condition(rgd, "Ready");
            ready["status"] == "True" && ready["observedGeneration"] == rgd.generation()
        })
        .await;
}

/// The items with this text, and those of them that nobody has called ready.
async fn written(world: &World, text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let list = world
        .api
        .list(&config_maps(), &ListOptions::default())
        .await
        .unwrap();
    let items = list
        .items
        .iter()
        .filter(|item| item.value()["data"]["text"] == text);
    let (mut all, mut unready) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        all.insert(item.name().to_owned());
        if item.value()["data"]["seen"] != text {
            unready.insert(item.name().to_owned());
        }
    }
    (all, unready)
}

/// Calls items ready one after the other until all are; no step may be larger than `steps` says.
async fn roll(world: &World, text: &str, steps: &[usize]) {
    let mut done = 0;
    for step in steps {
        let expect = done + step;
        testkit::eventually(&format!("{expect} items are {text}"), || async {
            let (all, _) = written(world, text).await;
            assert!(all.len() <= expect, "a step is too large: {all:?}");
            (all.len() == expect).then_some(())
        })
        .await;
        let (_, unready) = written(world, text).await;
        assert_eq!(unready.len(), *step);
        for name in unready {
            world
                .change(
                    &config_maps(),
                    &config(&name),
                    json!({"data": {"seen": text}}),
                )
                .await;
        }
        done = expect;
    }
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_is_written_in_linear_or_exponential_steps() {
    let world = World::with(options()).await;
    world
        .define(rollout(json!(["${linearlyUpdated(each, all, 2)}"])))
        .await;
    world.app(json!({"text": "one"})).await;
    roll(&world, "one", &[2, 2, 1]).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "two"}}))
        .await;
    roll(&world, "two", &[2, 2, 1]).await;
    let exponential = rollout(json!(["${exponentiallyUpdated(name, all)}"]));
    redefine(&world, &exponential).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "three"}}))
        .await;
    roll(&world, "three", &[1, 1, 2, 1]).await;
    let budget = rollout(json!([
        "${all.filter(it, it.updated() && !it.ready()).size() < 3}"
    ]));
    redefine(&world, &budget).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "four"}}))
        .await;
    testkit::eventually("three items are four", || async {
        let (all, _) = written(&world, "four").await;
        assert!(all.len() <= 3);
        (all.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_that_fails_keeps_the_gate_closed_and_says_so() {
    let world = World::with(options()).await;
    world
        .define(rollout(json!(["${1 / (schema.spec.text.size() - 3) > 0}"])))
        .await;
    world.app(json!({"text": "one"})).await;
    let failed = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("propagateWhen: expression"), "{message}");
    assert!(message.contains("division by zero"), "{message}");
    assert!(written(&world, "one").await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_makes_a_step_too_large() {
    for seed in testkit::seeds(3) {
        let mut world = World::with(impatient(options())).await;
        let gates = json!(["${linearlyUpdated(each, all, 2)}"]);
        world.define(rollout(gates)).await;
        world.app(json!({"text": "one"})).await;
        roll(&world, "one", &[2, 2, 1]).await;
        world.stop_controllers().await;
        let plan =
            FaultPlan::evenly(seed.number, 0.05).with_stale_caches(0.2, Duration::from_millis(20));
        let faults = Faults::new(plan);
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        world
            .change(&apps(), &it(), json!({"spec": {"text": "two"}}))
            .await;
        roll(&world, "two", &[2, 2, 1]).await;
        faults.stop();
        let writes = world.log.writes().len();
        assert!(writes < 200, "{seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
