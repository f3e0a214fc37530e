//! What graphs can do, one by one.

use graph::{Feature, Features};
use std::time::Duration;

use controller::{ObjectKey, Resource};
use serde_json::{Value, json};

use crate::world::{World, app, apps, condition, config, config_map, config_maps, it, rgds};

async fn names_of(world: &World, selector: &str) -> Vec<String> {
    let options = controller::ListOptions {
        label_selector: Some(selector.to_owned()),
        ..Default::default()
    };
    let list = world.api.list(&config_maps(), &options).await.unwrap();
    let mut names: Vec<String> = list
        .items
        .iter()
        .map(|item| item.name().to_owned())
        .collect();
    names.sort();
    names
}

async fn wait_names(world: &World, selector: &str, expect: &[&str]) {
    let started = tokio::time::Instant::now();
    while names_of(world, selector).await != expect {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{:?}",
            names_of(world, selector).await
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_grows_and_shrinks_with_its_list() {
    let world = World::start().await;
    let rgd = app(
        json!({"names": "[]string"}),
        json!({"names": "${all.map(item, item.metadata.name)}"}),
        json!([
            {"id": "all", "forEach": [{"name": "${schema.spec.names}"}],
             "template": config_map("item-${name}", json!({"n": "${name}"}))},
            {"id": "sum", "template": config_map("sum", json!({"all": "${all.map(item, item.data.n).join(',')}"}))},
        ]),
    );
    world.define(rgd).await;
    world.app(json!({"names": ["b", "a"]})).await;
    let active = world.wait_active().await;
    assert_eq!(active.status()["names"], json!(["item-b", "item-a"]));
    let item = world.get(&config_maps(), &config("item-a")).await.unwrap();
    assert_eq!(
        (
            item.label("kro.run/collection-index"),
            item.label("kro.run/collection-size")
        ),
        (Some("1"), Some("2"))
    );
    world
        .change(&apps(), &it(), json!({"spec": {"names": ["a", "c"]}}))
        .await;
    wait_names(&world, "kro.run/node-id=all", &["item-a", "item-c"]).await;
    world
        .wait(&config_maps(), &config("sum"), |sum| {
            sum.value()["data"]["all"] == "a,c"
        })
        .await;
    world
        .change(&apps(), &it(), json!({"spec": {"names": []}}))
        .await;
    wait_names(&world, "kro.run/node-id=all", &[]).await;
    world
        .wait(&config_maps(), &config("sum"), |sum| {
            sum.value()["data"]["all"] == ""
        })
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_collections_follow_their_selector() {
    let world = World::start().await;
    let rgd = app(
        json!({"team": "string"}),
        json!({"count": "${members.size()}"}),
        json!([{"id": "members", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"selector": {"matchLabels": {"team": "${schema.spec.team}"}}}}}]),
    );
    world.define(rgd).await;
    world.app(json!({"team": "x"})).await;
    world.wait_active().await;
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name, json!({}));
        object["metadata"]["namespace"] = "default".into();
        object["metadata"]["labels"]["team"] = team.into();
        world.create(&config_maps(), object).await;
    }
    world
        .wait(&apps(), &it(), |app| app.status()["count"] == 2)
        .await;
    // Leaving the selection counts as well.
    world
        .change(
            &config_maps(),
            &config("c"),
            json!({"metadata": {"labels": {"team": "y"}}}),
        )
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["count"] == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_scoped_instance_has_children_in_namespaces() {
    let world = World::start().await;
    let mut rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "it", "template": config_map("from-cluster", json!({}))}]),
    );
    rgd["spec"]["schema"]["scope"] = "Cluster".into();
    world.create(&rgds(), rgd.clone()).await;
    let failed = world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            condition(rgd, "GraphAccepted")["status"] == "False"
        })
        .await;
    let message = condition(&failed, "GraphAccepted")["message"].to_string();
    assert!(
        message.contains("must set metadata.namespace when the instance CRD is cluster-scoped"),
        "{message}"
    );
    rgd["spec"]["resources"][0]["template"]["metadata"]["namespace"] = "default".into();
    let patch = json!({"spec": {"resources": rgd["spec"]["resources"]}});
    world
        .change(&rgds(), &ObjectKey::cluster("app"), patch)
        .await;
    world.wait_rgd_active("app").await;
    let cluster_apps = Resource::cluster("kro.run/v1", "apps", "App");
    world
        .create(
            &cluster_apps,
            json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it"}}),
        )
        .await;
    let key = ObjectKey::cluster("it");
    let active = world
        .wait(&cluster_apps, &key, |app| app.status()["state"] == "ACTIVE")
        .await;
    assert_eq!(
        active.annotation("applyset.kubernetes.io/additional-namespaces"),
        Some("default")
    );
    assert!(
        world
            .get(&config_maps(), &config("from-cluster"))
            .await
            .is_some()
    );
    world.delete(&config_maps(), &config("from-cluster")).await;
    world
        .wait(&config_maps(), &config("from-cluster"), |_| true)
        .await;
    world.delete(&cluster_apps, &key).await;
    world.wait_gone(&cluster_apps, &key).await;
    assert!(
        world
            .get(&config_maps(), &config("from-cluster"))
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_make_instances() {
    let world = World::start().await;
    // The outer graph comes first and waits for the inner kind to exist.
    let mut outer = app(
        json!({"text": "string"}),
        json!({"inner": "${inner.status.text}"}),
        json!([{"id": "inner", "readyWhen": ["${inner.status.state == 'ACTIVE'}"], "template": {
            "apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it"},
            "spec": {"text": "${schema.spec.text}"}}}]),
    );
    outer["metadata"]["name"] = "outer".into();
    outer["spec"]["schema"]["kind"] = "Outer".into();
    world.create(&rgds(), outer).await;
    let key = ObjectKey::cluster("outer");
    let waiting = world
        .wait(&rgds(), &key, |rgd| {
            condition(rgd, "GraphAccepted")["status"] == "False"
        })
        .await;
    let message = condition(&waiting, "GraphAccepted")["message"].to_string();
    assert!(message.contains("no matches for kind"), "{message}");
    let inner = app(
        json!({"text": "string"}),
        json!({"text": "${map.data.text}"}),
        json!([{"id": "map", "template": config_map("${schema.metadata.name}-map", json!({"text": "${schema.spec.text}"}))}]),
    );
    world.create(&rgds(), inner).await;
    world.wait_rgd_active("outer").await;
    let outers = Resource::namespaced("kro.run/v1", "outers", "Outer");
    world
        .create(
            &outers,
            json!({"apiVersion": "kro.run/v1", "kind": "Outer",
            "metadata": {"name": "top", "namespace": "default"}, "spec": {"text": "deep"}}),
        )
        .await;
    let top = ObjectKey::new("default", "top");
    world
        .wait(&outers, &top, |outer| {
            outer.status()["inner"] == "deep" && outer.status()["state"] == "ACTIVE"
        })
        .await;
    world.delete(&outers, &top).await;
    world.wait_gone(&outers, &top).await;
    assert!(world.get(&apps(), &it()).await.is_none());
    assert!(world.get(&config_maps(), &config("it-map")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authors_define_their_own_conditions() {
    let world = World::start().await;
    let conditions = json!([
        "${runtime.newCondition({type: 'TextReady', status: has(map.data.up) ? 'True' : 'False', reason: 'Text'})}",
        "${runtime.newCondition({type: 'Ready', status: runtime.condition(schema, 'ResourcesReady').status, message: 'all in all'})}",
    ]);
    let rgd = app(
        json!({}),
        json!({"conditions": conditions}),
        json!([{"id": "map", "template": config_map("map", json!({"text": "x"}))}]),
    );
    world.define(rgd).await;
    world.app(json!({})).await;
    let active = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ACTIVE")
        .await;
    let shown: Vec<String> = active.status()["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            format!(
                "{}={}",
                c["type"].as_str().unwrap(),
                c["status"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(shown, ["TextReady=False", "Ready=True"]);
    assert_eq!(condition(&active, "Ready")["message"], "all in all");
    assert_eq!(condition(&active, "TextReady").get("message"), None);
    world
        .change(
            &config_maps(),
            &config("map"),
            json!({"data": {"up": "yes"}}),
        )
        .await;
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "TextReady")["status"] == "True"
        })
        .await;
    // Without the block kro's own come back.
    world
        .change(
            &rgds(),
            &ObjectKey::cluster("app"),
            json!({"spec": {"schema": {"status": {"conditions": null}}}}),
        )
        .await;
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["status"] == "True"
        })
        .await;
    assert_eq!(
        condition(&world.get(&apps(), &it()).await.unwrap(), "TextReady"),
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminating_child_is_waited_for() {
    let world = World::start().await;
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("first", json!({"a": "b"}))},
            {"id": "second", "template": config_map("${first.metadata.name}-second", json!({}))},
        ]),
    );
    world.define(rgd).await;
    world.app(json!({})).await;
    world.wait_active().await;
    let first = config("first");
    world
        .change(
            &config_maps(),
            &first,
            json!({"metadata": {"finalizers": ["test.io/hold"]}}),
        )
        .await;
    world.delete(&config_maps(), &first).await;
    let waiting = world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["reason"] == "ResourceDeleting"
        })
        .await;
    let message = condition(&waiting, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("resource \\\"default/first\\\""),
        "{message}"
    );
    world
        .change(
            &config_maps(),
            &first,
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    world.wait_active().await;
    assert!(
        !world
            .get(&config_maps(), &first)
            .await
            .unwrap()
            .is_terminating()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_does_not_exist_is_told_and_recovered_from() {
    let options = graph::Options {
        retry_interval: Duration::from_millis(50),
        ..graph::Options::default()
    };
    let world = World::with(options).await;
    let mut template = config_map("it", json!({}));
    template["metadata"]["namespace"] = "nowhere".into();
    world
        .define(app(
            json!({}),
            json!({}),
            json!([{"id": "it", "template": template}]),
        ))
        .await;
    world.app(json!({})).await;
    let failed = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("nowhere"), "{message}");
    let namespaces = Resource::cluster("v1", "namespaces", "Namespace");
    world
        .create(
            &namespaces,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nowhere"}}),
        )
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condition_changes_become_events_when_asked_for() {
    let mut options = graph::Options::default();
    options.build.features = Features::default().with(Feature::InstanceConditionEvents);
    let world = World::with(options).await;
    world.define(app(json!({}), json!({}), json!([]))).await;
    world.app(json!({})).await;
    world.wait_active().await;
    let events = Resource::namespaced("v1", "events", "Event");
    let started = tokio::time::Instant::now();
    loop {
        let list = world
            .api
            .list(&events, &controller::ListOptions::default())
            .await
            .unwrap();
        let ready = list
            .items
            .iter()
            .find(|event| event.value()["reason"] == "Ready");
        if let Some(event) = ready {
            assert_eq!(event.value()["message"], "none -> True: Ready");
            assert_eq!(
                event.value()["source"]["component"],
                "kro/apps.kro.run-controller"
            );
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "no event");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
