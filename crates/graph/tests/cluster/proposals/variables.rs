//! Variables on a cluster.

use graph::{Feature, Features};
use serde_json::json;

use super::{example, options, under_faults};
use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, it, revisions, rgds,
};

fn definition() -> serde_json::Value {
    app(
        json!({"name": "string", "workers": "[]string"}),
        json!({"prefix": "${naming.prefix}", "key": "${info.key}"}),
        json!([
            {"id": "naming", "variable": {"prefix": "${schema.metadata.name + '-' + schema.spec.name}"}},
            {"id": "first", "template": config_map("${naming.prefix}-first", json!({"key": "k"}))},
            {"id": "info", "def": {"key": "${first.data.key}", "uid": "${first.metadata.uid}"}},
            {"id": "lines", "forEach": [{"worker": "${schema.spec.workers}"}], "variable": {"line": "${info.key}=${worker}"}},
            {"id": "last", "template": config_map("${naming.prefix}-last", json!({"lines": "${lines.map(l, l.line).join(',')}"}))},
        ]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_reach_what_reads_them_whatever_fails() {
    let spec = json!({"name": "n", "workers": ["a", "b"]});
    let check = async |world: &World| {
        let last = world.get(&config_maps(), &config("it-n-last")).await;
        assert_eq!(last.unwrap().value()["data"]["lines"], "k=a,k=b");
        let instance = world.get(&apps(), &it()).await.unwrap();
        assert_eq!(instance.status()["prefix"], "it-n");
        assert_eq!(instance.status()["key"], "k");
    };
    under_faults(Feature::Variables, definition(), spec, async |_| {}, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_value_reaches_what_reads_it() {
    let world = World::with(options(Feature::Variables)).await;
    let rgd = world.define(definition()).await;
    assert_eq!(
        rgd.status()["topologicalOrder"],
        json!(["naming", "first", "info", "lines", "last"])
    );
    world.app(json!({"name": "n", "workers": ["a"]})).await;
    world.wait_active().await;
    world.quiet().await;
    world.log.clear();
    world
        .change(&apps(), &it(), json!({"spec": {"workers": ["a", "c"]}}))
        .await;
    world
        .wait(&config_maps(), &config("it-n-last"), |last| {
            last.value()["data"]["lines"] == "k=a,k=c"
        })
        .await;
    world.quiet().await;
    let writes = world.log.writes();
    assert!(
        writes.iter().all(|(_, path)| !path.contains("it-n-first")),
        "{writes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_the_field_and_takes_one_body_only() {
    let world = World::with(graph::Options::default()).await;
    let mut two = definition();
    two["spec"]["resources"][0]["template"] = config_map("a", json!({}));
    let refused = world.api.create(&rgds(), &two).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("exactly one of template or externalRef must be provided"),
        "{refused}"
    );
    // With the gate off, the definition is kept and says which gate it needs.
    world.create(&rgds(), definition()).await;
    let rgd = world
        .wait(&rgds(), &controller::ObjectKey::cluster("app"), |rgd| {
            condition(rgd, "GraphAccepted")["status"] == "False"
        })
        .await;
    let message = condition(&rgd, "GraphAccepted")["message"].to_string();
    assert!(
        message.contains("requires the Variables feature gate to be enabled"),
        "{message}"
    );
    let list = world
        .api
        .list(&revisions(), &controller::ListOptions::default())
        .await
        .unwrap();
    assert!(list.items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_active() {
    let features = Features::default().with(Feature::Variables);
    let world = example("variables", features, async |_| {}).await;
    let web = controller::Resource::namespaced("apps/v1", "deployments", "Deployment");
    let found = world.get(&web, &config("shop-prod-web")).await.unwrap();
    let containers = &found.value()["spec"]["template"]["spec"]["containers"];
    let names: Vec<&str> = containers
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mail", "reports"]);
}
