//! How instances move from one revision of their definition to the next.

use std::time::Duration;

use controller::{FaultPlan, Faults, ListOptions, Object, ObjectKey};
use graph::{Feature, Options, keys};
use serde_json::{Value, json};

use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, impatient, revisions, rgds, with,
};

fn options() -> Options {
    with(&[Feature::PropagationControl, Feature::RevisionPinning])
}

/// Instances of one ConfigMap each, which says the version and is ready once somebody says it was seen.
fn definition(version: &str, more: &Value) -> Value {
    let mut rgd = app(
        json!({"text": "string | default=x"}),
        json!({}),
        json!([{
            "id": "map", "readyWhen": ["${map.data.?seen.orValue('') == map.data.version}"],
            "template": config_map("${schema.metadata.name}", json!({"version": version, "text": "${schema.spec.text}"})),
        }]),
    );
    for (key, value) in more.as_object().into_iter().flatten() {
        rgd["spec"][key] = value.clone();
    }
    rgd
}

async fn redefine(world: &World, definition: &Value, revision: i64) {
    let key = ObjectKey::cluster("app");
    let change = json!({"spec": definition["spec"]});
    world.change(&rgds(), &key, change).await;
    world
        .wait(&rgds(), &key, |rgd| {
            rgd.status()["lastIssuedRevision"] == revision
                && condition(rgd, "Ready")["status"] == "True"
        })
        .await;
}

async fn create(world: &World, names: &[&str]) {
    for name in names {
        world
            .create(
                &apps(),
                json!({"apiVersion": "kro.run/v1", "kind": "App",
                    "metadata": {"name": name, "namespace": "default"}, "spec": {}}),
            )
            .await;
    }
}

/// The instances whose ConfigMaps say this version.
async fn at(world: &World, version: &str) -> Vec<String> {
    let list = world
        .api
        .list(&config_maps(), &ListOptions::default())
        .await
        .unwrap();
    let items = list
        .items
        .iter()
        .filter(|item| item.value()["data"]["version"] == version);
    items.map(|item| item.name().to_owned()).collect()
}

/// Calls what is at this version ready.
async fn see(world: &World, version: &str) {
    for name in at(world, version).await {
        world
            .change(
                &config_maps(),
                &config(&name),
                json!({"data": {"seen": version}}),
            )
            .await;
    }
}

async fn wait_at(world: &World, version: &str, expect: &[&str]) {
    testkit::eventually(&format!("{expect:?} are at {version}"), || async {
        let found = at(world, version).await;
        assert!(
            found.len() <= expect.len(),
            "a step is too large: {found:?}"
        );
        (found == expect).then_some(())
    })
    .await;
}

async fn wait_app(world: &World, name: &str, wanted: impl Fn(&Object) -> bool) -> Object {
    world
        .wait(&apps(), &ObjectKey::new("default", name), wanted)
        .await
}

fn linear(step: usize) -> Value {
    json!({"propagateWhen": [format!("${{linearlyUpdated(app, apps, {step})}}")]})
}

/// A world with instances `a`, `b` and `c`, all on the first revision and ready.
async fn world(options: Options, more: &Value) -> World {
    let world = World::with(options).await;
    world.define(definition("v1", more)).await;
    for name in ["a", "b", "c"] {
        create(&world, &[name]).await;
        wait_app(&world, name, |app| !app.status()["state"].is_null()).await;
    }
    wait_at(&world, "v1", &["a", "b", "c"]).await;
    see(&world, "v1").await;
    for name in ["a", "b", "c"] {
        wait_app(&world, name, |app| app.status()["state"] == "ACTIVE").await;
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_move_to_a_new_revision_one_after_the_other() {
    let mut world = world(options(), &linear(1)).await;
    redefine(&world, &definition("v2", &linear(1)), 2).await;
    wait_at(&world, "v2", &["a"]).await;
    world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            let propagated = condition(rgd, "Propagated");
            let why = "waiting for propagateWhen: linearlyUpdated(app, apps, 1)";
            propagated["status"] == "False"
                && (propagated["message"].as_str()).is_some_and(|message| message.ends_with(why))
        })
        .await;
    let held = wait_app(&world, "b", |app| app.status()["targetGraphRevision"] == 2).await;
    assert_eq!(held.status()["graphRevision"], 1);
    assert_eq!(held.status()["state"], "ACTIVE");
    // Who is held back follows its own changes, on the revision it has.
    let b = ObjectKey::new("default", "b");
    world
        .change(&apps(), &b, json!({"spec": {"text": "y"}}))
        .await;
    let map = world
        .wait(&config_maps(), &config("b"), |map| {
            map.value()["data"]["text"] == "y"
        })
        .await;
    assert_eq!(map.value()["data"]["version"], "v1");
    // One that is new starts on the newest, and a restart lets nobody through.
    create(&world, &["d"]).await;
    wait_at(&world, "v2", &["a", "d"]).await;
    world.stop_controllers().await;
    world.start_controllers(options()).await;
    see(&world, "v2").await;
    wait_at(&world, "v2", &["a", "b", "d"]).await;
    see(&world, "v2").await;
    wait_at(&world, "v2", &["a", "b", "c", "d"]).await;
    see(&world, "v2").await;
    world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            let propagated = condition(rgd, "Propagated");
            propagated["status"] == "True"
                && propagated["message"] == "all instances are at revision 2"
        })
        .await;
    let moved = wait_app(&world, "c", |app| app.status()["state"] == "ACTIVE").await;
    assert_eq!(moved.status()["graphRevision"], 2);
    assert_eq!(moved.status()["targetGraphRevision"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_instance_stays_until_it_is_let_go() {
    let mut few = options();
    few.max_graph_revisions = 1;
    let world = world(few, &json!({})).await;
    let pin = |to: Value| json!({"metadata": {"annotations": {keys::GRAPH_REVISION: to}}});
    let key = |name: &str| ObjectKey::new("default", name);
    world.change(&apps(), &key("a"), pin("1".into())).await;
    redefine(&world, &definition("v2", &json!({})), 2).await;
    redefine(&world, &definition("v3", &json!({})), 3).await;
    wait_at(&world, "v3", &["b", "c"]).await;
    // The revision in use is kept beyond the number to keep, the one between is not.
    world
        .wait_gone(&revisions(), &ObjectKey::cluster("app-r00002"))
        .await;
    assert!(
        world
            .get(&revisions(), &ObjectKey::cluster("app-r00001"))
            .await
            .is_some()
    );
    world
        .change(&apps(), &key("a"), json!({"spec": {"text": "y"}}))
        .await;
    let map = world
        .wait(&config_maps(), &config("a"), |map| {
            map.value()["data"]["text"] == "y"
        })
        .await;
    assert_eq!(map.value()["data"]["version"], "v1");
    for (to, message) in [
        ("2", "graph revision 2 of app does not exist"),
        (
            "first",
            "expected a number or \\\"latest\\\", got \\\"first\\\"",
        ),
    ] {
        world.change(&apps(), &key("b"), pin(to.into())).await;
        let failed = wait_app(&world, "b", |app| {
            condition(app, "Ready")["reason"] == "GraphRevisionUnavailable"
        })
        .await;
        testkit::eventually(message, || async {
            let failed = world.get(&apps(), &key("b")).await?;
            let found = condition(&failed, "GraphResolved")["message"].to_string();
            found.contains(message).then_some(())
        })
        .await;
        assert_eq!(failed.status()["graphRevision"], 3);
    }
    world.change(&apps(), &key("b"), pin(Value::Null)).await;
    wait_app(&world, "b", |app| {
        condition(app, "GraphResolved")["status"] == "True"
    })
    .await;
    world.change(&apps(), &key("a"), pin("latest".into())).await;
    wait_at(&world, "v3", &["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_manual_strategy_instances_move_when_told_to() {
    let manual = json!({"rollout": {"strategy": "Manual"}});
    let world = world(options(), &manual).await;
    redefine(&world, &definition("v2", &manual), 2).await;
    create(&world, &["d"]).await;
    wait_at(&world, "v2", &["d"]).await;
    world.quiet().await;
    for name in ["a", "b", "c"] {
        wait_app(&world, name, |app| app.status()["targetGraphRevision"] == 1).await;
    }
    let go = json!({"metadata": {"annotations": {keys::GRAPH_REVISION: "2"}}});
    world
        .change(&apps(), &ObjectKey::new("default", "b"), go)
        .await;
    wait_at(&world, "v2", &["b", "d"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_lets_too_many_instances_through() {
    for seed in testkit::seeds(3) {
        let mut world = world(impatient(options()), &linear(1)).await;
        world.stop_controllers().await;
        let plan =
            FaultPlan::evenly(seed.number, 0.05).with_stale_caches(0.1, Duration::from_millis(20));
        let faults = Faults::new(plan);
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        let change = json!({"spec": definition("v2", &linear(1))["spec"]});
        world
            .change(&rgds(), &ObjectKey::cluster("app"), change)
            .await;
        for step in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            wait_at(&world, "v2", step).await;
            see(&world, "v2").await;
            // In the middle of everything.
            world.stop_controllers().await;
            world
                .start_controllers_under(&faults, impatient(options()))
                .await;
        }
        faults.stop();
        for name in ["a", "b", "c"] {
            wait_app(&world, name, |app| app.status()["state"] == "ACTIVE").await;
        }
        let writes = world.log.writes().len();
        assert!(writes < 300, "{seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
