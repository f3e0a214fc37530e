//! What graphs can do, one by one.

use std::time::Duration;

use controller::{DeleteOptions, Object, ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

use crate::world::{World, apps, config, config_map, config_maps, it, rgds};

/// An App with this schema, status and these resources.
fn app(spec: Value, status: Value, resources: Value) -> Value {
    json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": "app"},
        "spec": {
            "schema": {"apiVersion": "v1", "kind": "App", "spec": spec, "status": status},
            "resources": resources,
        },
    })
}

fn condition(object: &Object, type_: &str) -> Value {
    controller::condition::find(object.status(), type_)
        .cloned()
        .unwrap_or_default()
}

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
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
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
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
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
    world
        .api
        .delete(
            &config_maps(),
            &config("from-cluster"),
            &DeleteOptions::default(),
        )
        .await
        .unwrap();
    world
        .wait(&config_maps(), &config("from-cluster"), |_| true)
        .await;
    world
        .api
        .delete(&cluster_apps, &key, &DeleteOptions::default())
        .await
        .unwrap();
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
    world
        .api
        .delete(&outers, &top, &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&outers, &top).await;
    assert!(world.get(&apps(), &it()).await.is_none());
    assert!(world.get(&config_maps(), &config("it-map")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_never_share_an_object() {
    let world = World::start().await;
    let rgd = app(
        json!({"text": "string"}),
        json!({}),
        json!([{"id": "it", "template": config_map("same", json!({"text": "${schema.spec.text}"}))}]),
    );
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
    world.app(json!({"text": "first"})).await;
    world.wait_active().await;
    world
        .create(
            &apps(),
            json!({"apiVersion": "kro.run/v1", "kind": "App",
            "metadata": {"name": "other", "namespace": "default"}, "spec": {"text": "second"}}),
        )
        .await;
    let other = ObjectKey::new("default", "other");
    let failed = world
        .wait(&apps(), &other, |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("resource belongs to a different ApplySet: applyset-"),
        "{message}"
    );
    assert_eq!(
        world
            .get(&config_maps(), &config("same"))
            .await
            .unwrap()
            .value()["data"]["text"],
        "first"
    );
    world
        .api
        .delete(&apps(), &other, &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&apps(), &other).await;
    assert!(world.get(&config_maps(), &config("same")).await.is_some());
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
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
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
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
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
    world
        .api
        .delete(&config_maps(), &first, &DeleteOptions::default())
        .await
        .unwrap();
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
        .create(
            &rgds(),
            app(
                json!({}),
                json!({}),
                json!([{"id": "it", "template": template}]),
            ),
        )
        .await;
    world.wait_rgd_active("app").await;
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
async fn a_removed_resource_is_pruned_while_another_waits() {
    let world = World::start().await;
    let waiting = json!({"id": "waiting", "readyWhen": ["${has(waiting.data.up)}"], "template": config_map("waiting", json!({"a": "b"}))});
    let gone = json!({"id": "gone", "template": config_map("gone", json!({}))});
    world
        .create(&rgds(), app(json!({}), json!({}), json!([waiting, gone])))
        .await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    world.wait(&config_maps(), &config("gone"), |_| true).await;
    world
        .change(
            &rgds(),
            &ObjectKey::cluster("app"),
            json!({"spec": {"resources": [waiting]}}),
        )
        .await;
    world.wait_gone(&config_maps(), &config("gone")).await;
    assert_eq!(
        world.get(&apps(), &it()).await.unwrap().status()["state"],
        "IN_PROGRESS"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_inventory_blocks_deletion_and_says_so() {
    let world = World::start().await;
    world
        .create(
            &rgds(),
            app(
                json!({}),
                json!({}),
                json!([{"id": "it", "template": config_map("it", json!({}))}]),
            ),
        )
        .await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    world.wait_active().await;
    // A normal run would repair it.
    let suspend = json!({"metadata": {"annotations": {"kro.run/reconcile": "suspended"}}});
    world.change(&apps(), &it(), suspend).await;
    let is_suspended =
        |app: &Object| condition(app, "ResourcesReady")["reason"] == "ReconciliationSuspended";
    world.wait(&apps(), &it(), is_suspended).await;
    let damage = json!({"metadata": {"annotations": {"applyset.kubernetes.io/contains-group-kinds": "Secret"}}});
    world.change(&apps(), &it(), damage).await;
    world
        .api
        .delete(&apps(), &it(), &DeleteOptions::default())
        .await
        .unwrap();
    let blocked = world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("deletion blocked"))
        })
        .await;
    assert!(
        condition(&blocked, "ResourcesReady")["message"]
            .to_string()
            .contains("does not match")
    );
    assert!(world.get(&config_maps(), &config("it")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_definition_is_not_touched() {
    let world = World::start().await;
    let rgd = app(json!({}), json!({}), json!([]));
    world.create(&rgds(), rgd.clone()).await;
    world.wait_rgd_active("app").await;
    let mut second = rgd;
    second["metadata"]["name"] = "second".into();
    world.create(&rgds(), second).await;
    let key = ObjectKey::cluster("second");
    let failed = world
        .wait(&rgds(), &key, |rgd| {
            condition(rgd, "KindReady")["status"] == "False"
        })
        .await;
    let message = condition(&failed, "KindReady")["message"].to_string();
    assert!(
        message.contains("already owned by another ResourceGraphDefinition app"),
        "{message}"
    );
    world
        .api
        .delete(&rgds(), &key, &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&rgds(), &key).await;
    // The owner still serves its kind; a graph without resources is active at once.
    world.app(json!({})).await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_heal_themselves() {
    let world = World::start().await;
    world
        .create(&rgds(), app(json!({"a": "string"}), json!({}), json!([])))
        .await;
    world.wait_rgd_active("app").await;
    let crds = Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    );
    let key = ObjectKey::cluster("apps.kro.run");
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let edit = json!([{"op": "add", "path": format!("{path}/b"), "value": {"type": "string"}}]);
    world
        .api
        .json_patch(&crds, &key, Subresource::None, &edit)
        .await
        .unwrap();
    // Removing what somebody added would break their objects, so that is told rather than done.
    let failed = world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            condition(rgd, "KindReady")["status"] == "False"
        })
        .await;
    assert!(
        condition(&failed, "KindReady")["message"]
            .to_string()
            .contains("Property b was removed")
    );
    let edit = json!([{"op": "remove", "path": format!("{path}/b")}, {"op": "remove", "path": format!("{path}/a")}]);
    world
        .api
        .json_patch(&crds, &key, Subresource::None, &edit)
        .await
        .unwrap();
    world
        .wait(&crds, &key, |crd| {
            crd.pointer(&format!("{path}/a")).is_some()
        })
        .await;
    world
        .api
        .delete(&crds, &key, &DeleteOptions::default())
        .await
        .unwrap();
    world
        .wait(&crds, &key, |crd| {
            controller::condition::is_true(crd.status(), "Established")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condition_changes_become_events_when_asked_for() {
    let options = graph::Options {
        condition_events: true,
        ..graph::Options::default()
    };
    let world = World::with(options).await;
    world
        .create(&rgds(), app(json!({}), json!({}), json!([])))
        .await;
    world.wait_rgd_active("app").await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_is_as_good_through_https() {
    let mut world = World::start().await;
    world.stop_controllers().await;
    let endpoint = world.cluster.listen().await;
    let kubeconfig: kube::config::Kubeconfig = serde_json::from_value(endpoint.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    world
        .start_controllers_with(client, graph::Options::default())
        .await;
    world.create(&rgds(), crate::world::chain()).await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    world.wait_active().await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "bye"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["text"] == "bye!")
        .await;
    world
        .api
        .delete(&apps(), &it(), &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_mind_leaves_nothing_behind() {
    let world = World::start().await;
    world.create(&rgds(), crate::world::chain()).await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    for round in 0..10 {
        world
            .change(
                &apps(),
                &it(),
                json!({"spec": {"extra": true, "text": format!("{round}")}}),
            )
            .await;
        // At a different moment of the run every time.
        tokio::time::sleep(Duration::from_millis(round)).await;
        world
            .change(&apps(), &it(), json!({"spec": {"extra": false}}))
            .await;
    }
    world
        .wait(&apps(), &it(), |app| {
            app.status()["text"] == "9!" && controller::condition::is_true(app.status(), "Ready")
        })
        .await;
    world.wait_gone(&config_maps(), &config("it-extra")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        world
            .get(&config_maps(), &config("it-extra"))
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_children_keeps_its_inventory() {
    let world = World::start().await;
    world
        .create(&rgds(), app(json!({"a": "string"}), json!({}), json!([])))
        .await;
    world.wait_rgd_active("app").await;
    world.app(json!({"a": "x"})).await;
    world.wait_active().await;
    let strip = json!({"metadata": {"labels": {"kro.run/owned": null}}, "spec": {"a": "y"}});
    world.change(&apps(), &it(), strip).await;
    world
        .wait(&apps(), &it(), |app| {
            app.label("kro.run/owned") == Some("true")
                && app.annotation("applyset.kubernetes.io/tooling").is_some()
                && app.label("applyset.kubernetes.io/id").is_some()
        })
        .await;
    world
        .api
        .delete(&apps(), &it(), &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&apps(), &it()).await;
}
