//! `status.managedResources`.

use std::time::Duration;

use controller::{DeleteOptions, FaultPlan, Faults};
use graph::{Feature, Options};
use serde_json::{Value, json};

use crate::world::{World, app, apps, config, config_map, config_maps, impatient, it, with};

fn options() -> Options {
    with(&[Feature::ManagedResources])
}

fn resources() -> Value {
    json!([
        {"id": "first", "readyWhen": ["${has(first.data.up)}"], "template": config_map("first", json!({"a": "b"}))},
        {"id": "many", "forEach": [{"name": "${schema.spec.names}"}],
         "template": config_map("${first.metadata.name}-${name}", json!({}))},
        {"id": "none", "includeWhen": ["${false}"], "template": config_map("none", json!({}))},
        {"id": "theirs", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "first"}}},
    ])
}

fn list(app: &controller::Object) -> Vec<String> {
    let entries = app.status()["managedResources"].as_array();
    let text = |entry: &Value| {
        let names = entry["resources"].as_array();
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(|name| name["name"].as_str())
            .collect();
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        format!(
            "{} {} {} {}",
            text("nodeID"),
            text("kind"),
            text("state"),
            names.join(",")
        )
    };
    entries.into_iter().flatten().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_lists_what_an_instance_is_made_of() {
    let world = World::with(options()).await;
    let spec = json!({"names": "[]string"});
    world.define(app(spec, json!({}), resources())).await;
    world.app(json!({"names": ["a", "b"]})).await;
    let waiting = [
        "first ConfigMap WAITING_FOR_READINESS first",
        "none ConfigMap SKIPPED ",
        "many ConfigMap IN_PROGRESS ",
    ];
    let sorted = |app: &controller::Object| {
        let mut list = list(app);
        list.sort();
        list
    };
    let mut expect = waiting.map(str::to_owned);
    expect.sort();
    let app = world
        .wait(&apps(), &it(), |app| sorted(app) == expect)
        .await;
    let first = app.status()["managedResources"]
        .as_array()
        .and_then(|list| list.iter().find(|entry| entry["nodeID"] == "first"))
        .cloned()
        .unwrap();
    assert_eq!(first["apiVersion"], "v1");
    assert_eq!(first["nodeType"], "Resource");
    assert_eq!(first["graphRevision"], 1);
    assert_eq!(
        first["reason"],
        "waiting for readyWhen of \"first\": has(first.data.up)"
    );
    assert_eq!(
        first["resources"],
        json!([{"name": "first", "namespace": "default"}])
    );
    world
        .change(
            &config_maps(),
            &config("first"),
            json!({"data": {"up": "yes"}}),
        )
        .await;
    let active = world.wait_active().await;
    assert!(list(&active).contains(&"many ConfigMap SYNCED first-a,first-b".to_owned()));
    // Nothing changes, nothing is written.
    world.quiet().await;
    world.log.clear();
    world
        .change(
            &config_maps(),
            &config("first"),
            json!({"metadata": {"labels": {"x": "y"}}}),
        )
        .await;
    testkit::eventually("the instance was looked at", || async {
        let requests = world.log.requests();
        let looked = requests.iter().any(|(_, path)| path.ends_with("/apps/it"));
        looked.then_some(())
    })
    .await;
    world.quiet().await;
    // A resource that waits again keeps the names of those after it.
    world
        .change(
            &config_maps(),
            &config("first"),
            json!({"data": {"up": null}}),
        )
        .await;
    world
        .wait(&apps(), &it(), |app| {
            list(app).contains(&"many ConfigMap IN_PROGRESS first-a,first-b".to_owned())
        })
        .await;
    world.quiet().await;
    let writes = world.log.writes();
    let of_statuses = writes.iter().filter(|(_, path)| path.ends_with("/status"));
    assert_eq!(of_statuses.count(), 1, "the new state only: {writes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_lists_what_is_left_and_what_holds_it() {
    let world = World::with(options()).await;
    let resources = json!([
        {"id": "first", "template": config_map("first", json!({}))},
        {"id": "second", "template": config_map("${first.metadata.name}-second", json!({}))},
    ]);
    world.define(app(json!({}), json!({}), resources)).await;
    world.app(json!({})).await;
    world.wait_active().await;
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let second = config("first-second");
    world
        .change(&config_maps(), &second, hold(json!(["example.com/hold"])))
        .await;
    let options = DeleteOptions::default();
    world.api.delete(&apps(), &it(), &options).await.unwrap();
    let reason = "waiting for finalizers of ConfigMap default/first-second: example.com/hold";
    let deleting = world
        .wait(&apps(), &it(), |app| {
            app.status()["managedResources"][1]["reason"] == reason
        })
        .await;
    assert_eq!(
        list(&deleting),
        [
            "first ConfigMap DELETING first",
            "second ConfigMap DELETING first-second"
        ]
    );
    world
        .change(&config_maps(), &second, hold(json!(null)))
        .await;
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_the_gate_breaks_nothing() {
    let mut world = World::with(options()).await;
    let resources = json!([{"id": "first", "template": config_map("first", json!({}))}]);
    let definition = app(json!({}), json!({}), resources);
    world.define(definition).await;
    world.app(json!({})).await;
    assert_eq!(
        list(&world.wait_active().await),
        ["first ConfigMap SYNCED first"]
    );
    world.stop_controllers().await;
    world.start_controllers(Options::default()).await;
    world
        .wait(&apps(), &it(), |app| {
            app.status()["managedResources"].is_null()
        })
        .await;
    world.wait_rgd_active("app").await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_right_once_faults_have_stopped() {
    for seed in testkit::seeds(2) {
        let mut world = World::with(impatient(options())).await;
        let mut resources = resources();
        resources[0]["readyWhen"] = json!([]);
        let spec = json!({"names": "[]string"});
        world.define(app(spec, json!({}), resources)).await;
        world.app(json!({"names": ["a"]})).await;
        world.wait_active().await;
        world.stop_controllers().await;
        let plan =
            FaultPlan::evenly(seed.number, 0.05).with_stale_caches(0.2, Duration::from_millis(20));
        let faults = Faults::new(plan);
        world.log.clear();
        world
            .start_controllers_under(&faults, impatient(options()))
            .await;
        for names in [json!(["a", "b"]), json!(["c"]), json!(["c", "d", "e"])] {
            let change = json!({"spec": {"names": names}});
            world.change(&apps(), &it(), change).await;
            world
                .wait(&apps(), &it(), |app| {
                    let many = &app.status()["managedResources"][1]["resources"];
                    let listed = many.as_array().map(Vec::len);
                    listed == names.as_array().map(Vec::len) && app.status()["state"] == "ACTIVE"
                })
                .await;
        }
        faults.stop();
        let expect = "many ConfigMap SYNCED first-c,first-d,first-e".to_owned();
        world
            .wait(&apps(), &it(), |app| list(app).contains(&expect))
            .await;
        let writes = world.log.writes().len();
        assert!(writes < 150, "{seed}: {writes} writes");
        world.stop_controllers().await;
    }
}
