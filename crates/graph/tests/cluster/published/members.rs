//! Membership: `applyset_test`, `annotation_label_test`, `resource_ownership_test`, `instance_conflict_test`,
//! `cascading_deletion_test`.

use controller::{Object, ObjectKey, Resource};
use serde_json::{Value, json};

use super::{defined, namespace, served, set, wait_names};
use crate::world::{World, app, apps, config, config_map, config_maps, it, rgds};

fn secrets() -> Resource {
    Resource::namespaced("v1", "secrets", "Secret")
}

async fn wait_kinds(world: &World, kinds: &str) -> Object {
    let key = "applyset.kubernetes.io/contains-group-kinds";
    world
        .wait(&apps(), &it(), |app| app.annotation(key) == Some(kinds))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inventory_grows_before_and_shrinks_after_what_it_lists() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret", "namespace": "other"}});
    let rgd = app(
        json!({"more": "boolean"}),
        json!({}),
        json!([
            {"id": "map", "template": config_map("map", json!({}))},
            {"id": "secret", "includeWhen": ["${schema.spec.more}"], "template": secret},
        ]),
    );
    let world = defined(rgd).await;
    namespace(&world, "other").await;
    world.app(json!({"more": false})).await;
    wait_kinds(&world, "ConfigMap").await;
    set(&world, json!({"more": true})).await;
    let grown = wait_kinds(&world, "ConfigMap,Secret").await;
    let namespaces = "applyset.kubernetes.io/additional-namespaces";
    assert_eq!(grown.annotation(namespaces), Some("other"));
    let key = ObjectKey::new("other", "secret");
    world.wait(&secrets(), &key, |_| true).await;
    set(&world, json!({"more": false})).await;
    world.wait_gone(&secrets(), &key).await;
    let shrunk = wait_kinds(&world, "ConfigMap").await;
    assert_eq!(shrunk.annotation(namespaces), Some(""));
    assert_eq!(
        shrunk.annotation("applyset.kubernetes.io/tooling"),
        Some("kro/devel")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_and_instance_carry_their_labels_and_those_of_users_stay() {
    let mut template = config_map("map", json!({}));
    template["metadata"]["labels"] = json!({"example.com/mine": "m"});
    let collection = json!({"id": "all", "forEach": [{"name": "${['a', 'b']}"}], "template": config_map("${name}", json!({}))});
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "map", "template": template}, collection]),
    );
    let world = defined(rgd).await;
    let object = json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it", "namespace": "default",
        "labels": {"example.com/user": "u"}, "annotations": {"example.com/note": "n"}}});
    world.create(&apps(), object).await;
    let instance = world.wait_active().await;
    let rgd = world
        .get(&rgds(), &ObjectKey::cluster("app"))
        .await
        .unwrap();
    let own = [
        ("example.com/user", Some("u")),
        ("kro.run/owned", Some("true")),
        ("kro.run/kro-version", Some("devel")),
        ("kro.run/resource-graph-definition-name", Some("app")),
        ("kro.run/resource-graph-definition-id", Some(rgd.uid())),
        ("app.kubernetes.io/managed-by", None),
    ];
    for (label, value) in own {
        assert_eq!(instance.label(label), value, "{label}");
    }
    assert_eq!(instance.annotation("example.com/note"), Some("n"));
    let map = world.get(&config_maps(), &config("map")).await.unwrap();
    let of_child = [
        ("example.com/mine", Some("m")),
        ("app.kubernetes.io/managed-by", Some("kro")),
        ("kro.run/instance-id", Some(instance.uid())),
        ("kro.run/instance-name", Some("it")),
        ("kro.run/instance-namespace", Some("default")),
        ("kro.run/instance-group", Some("kro.run")),
        ("kro.run/instance-version", Some("v1")),
        ("kro.run/instance-kind", Some("App")),
        ("kro.run/node-id", Some("map")),
        ("kro.run/collection-index", None),
        ("kro.run/resource-graph-definition-name", None),
        ("kro.run/resource-graph-definition-id", None),
    ];
    for (label, value) in of_child {
        assert_eq!(map.label(label), value, "{label}");
    }
    assert!(map.value()["metadata"]["ownerReferences"].is_null());
    let b = world.get(&config_maps(), &config("b")).await.unwrap();
    assert_eq!(b.label("kro.run/collection-index"), Some("1"));
    assert_eq!(b.label("kro.run/collection-size"), Some("2"));
    let managers = b.value()["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        managers
            .iter()
            .any(|entry| entry["manager"] == "kro.run/applyset" && entry["operation"] == "Apply")
    );
}

/// An App and a Service of the same shape, each in a definition of its own.
fn other(kind: &str, node: &str) -> Value {
    let mut rgd = app(
        json!({}),
        json!({}),
        json!([{"id": node, "template": config_map(&format!("${{schema.metadata.name}}-{node}"), json!({"of": kind}))}]),
    );
    rgd["metadata"]["name"] = kind.to_lowercase().into();
    rgd["spec"]["schema"]["kind"] = kind.into();
    rgd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_one_name_and_two_kinds_do_not_meet() {
    let world = defined(other("App", "same")).await;
    world.create(&rgds(), other("Tool", "tool")).await;
    world.wait_rgd_active("tool").await;
    let tools = Resource::namespaced("kro.run/v1", "tools", "Tool");
    world.app(json!({})).await;
    let tool = json!({"apiVersion": "kro.run/v1", "kind": "Tool", "metadata": {"name": "it", "namespace": "default"}});
    world.create(&tools, tool).await;
    world.wait_active().await;
    world
        .wait(&tools, &it(), |tool| tool.status()["state"] == "ACTIVE")
        .await;
    world.delete(&tools, &it()).await;
    world.wait_gone(&tools, &it()).await;
    assert!(
        world
            .get(&config_maps(), &config("it-tool"))
            .await
            .is_none()
    );
    let kept = world.get(&config_maps(), &config("it-same")).await.unwrap();
    assert!(!kept.is_terminating());
    // A change of the one's child wakes the one.
    let change = json!({"data": {"of": "nobody"}});
    world
        .change(&config_maps(), &config("it-same"), change)
        .await;
    world
        .wait(&config_maps(), &config("it-same"), |map| {
            map.value()["data"]["of"] == "App"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_of_one_instance_prunes_nothing_of_another() {
    let rgd = app(
        json!({"names": "[]string"}),
        json!({}),
        json!([{"id": "all", "forEach": [{"name": "${schema.spec.names}"}],
            "template": config_map("${schema.metadata.name}-${name}", json!({}))}]),
    );
    let world = served(rgd, json!({"names": ["a", "b"]})).await;
    let second = json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "second", "namespace": "default"},
        "spec": {"names": ["a", "b"]}});
    world.create(&apps(), second).await;
    wait_names(
        &world,
        "all",
        &[
            "default/it-a",
            "default/it-b",
            "default/second-a",
            "default/second-b",
        ],
    )
    .await;
    set(&world, json!({"names": []})).await;
    wait_names(&world, "all", &["default/second-a", "default/second-b"]).await;
    world.delete_app().await;
    wait_names(&world, "all", &["default/second-a", "default/second-b"]).await;
}
