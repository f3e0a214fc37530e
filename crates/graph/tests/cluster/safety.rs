//! What must never happen: objects lost, shared, left behind or made anew.

use std::time::Duration;

use controller::{Object, ObjectKey, Subresource};
use serde_json::json;

use crate::world::{World, app, apps, condition, config, config_map, config_maps, crds, it, rgds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_never_share_an_object() {
    let world = World::start().await;
    let rgd = app(
        json!({"text": "string"}),
        json!({}),
        json!([{"id": "it", "template": config_map("same", json!({"text": "${schema.spec.text}"}))}]),
    );
    world.define(rgd).await;
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
    world.delete(&apps(), &other).await;
    world.wait_gone(&apps(), &other).await;
    assert!(world.get(&config_maps(), &config("same")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_resource_is_pruned_while_another_waits() {
    let world = World::start().await;
    let waiting = json!({"id": "waiting", "readyWhen": ["${has(waiting.data.up)}"], "template": config_map("waiting", json!({"a": "b"}))});
    let gone = json!({"id": "gone", "template": config_map("gone", json!({}))});
    world
        .define(app(json!({}), json!({}), json!([waiting, gone])))
        .await;
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
    // The status is written at the end of the pass that pruned.
    world
        .wait(&apps(), &it(), |app| app.status()["state"] == "IN_PROGRESS")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_inventory_blocks_deletion_and_says_so() {
    let world = World::start().await;
    world
        .define(app(
            json!({}),
            json!({}),
            json!([{"id": "it", "template": config_map("it", json!({}))}]),
        ))
        .await;
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
    world.delete(&apps(), &it()).await;
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
    world.define(rgd.clone()).await;
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
    world.delete(&rgds(), &key).await;
    world.wait_gone(&rgds(), &key).await;
    // The owner still serves its kind; a graph without resources is active at once.
    world.app(json!({})).await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_heal_themselves() {
    let world = World::start().await;
    world
        .define(app(json!({"a": "string"}), json!({}), json!([])))
        .await;
    let crds = crds();
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
    let message = condition(&failed, "KindReady")["message"].to_string();
    assert!(message.contains("Property b was removed"), "{message}");
    let edit = json!([{"op": "remove", "path": format!("{path}/b")}, {"op": "remove", "path": format!("{path}/a")}]);
    world
        .api
        .json_patch(&crds, &key, Subresource::None, &edit)
        .await
        .unwrap();
    let healed = world
        .wait(&crds, &key, |crd| {
            crd.pointer(&format!("{path}/a")).is_some()
        })
        .await;
    world.delete(&crds, &key).await;
    world
        .wait(&crds, &key, |crd| {
            crd.uid() != healed.uid() && controller::condition::is_true(crd.status(), "Established")
        })
        .await;
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
    world.define(crate::world::chain()).await;
    world.app(json!({})).await;
    world.wait_active().await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "bye"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["text"] == "bye!")
        .await;
    world.delete_app().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_mind_leaves_nothing_behind() {
    let world = World::start().await;
    world.define(crate::world::chain()).await;
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
    world.quiet().await;
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
        .define(app(json!({"a": "string"}), json!({}), json!([])))
        .await;
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
    world.delete_app().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_from_kro_makes_nothing_anew() {
    let mut world = World::start().await;
    world.define(crate::world::chain()).await;
    world.app(json!({})).await;
    world.wait_active().await;
    world.stop_controllers().await;
    // What a cluster looks like that kro 0.9.3 has worked on.
    let version = json!({"metadata": {"labels": {"kro.run/kro-version": "v0.9.3"}}});
    let revisions = crate::world::revisions();
    let revision = ObjectKey::cluster("app-r00001");
    let crds = crds();
    let crd = ObjectKey::cluster("apps.kro.run");
    for (resource, key) in [
        (&revisions, &revision),
        (&crds, &crd),
        (&apps(), &it()),
        (&config_maps(), &config("it-first")),
        (&config_maps(), &config("it-first-second")),
    ] {
        world.change(resource, key, version.clone()).await;
    }
    world
        .change(
            &revisions,
            &revision,
            json!({"metadata": {"labels": {"kro.run/graph-revision-hash": "0123456789abcdef"}}}),
        )
        .await;
    let tooling =
        json!({"metadata": {"annotations": {"applyset.kubernetes.io/tooling": "kro/v0.9.3"}}});
    world.change(&apps(), &it(), tooling).await;
    let uid = |object: Option<Object>| object.unwrap().uid().to_owned();
    let before = uid(world.get(&config_maps(), &config("it-first")).await);
    let crd_before = world.get(&crds, &crd).await.unwrap();

    world.start_controllers(graph::Options::default()).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "after"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["text"] == "after!")
        .await;
    world.quiet().await;
    let rgd = world.wait_rgd_active("app").await;
    assert_eq!(rgd.status()["lastIssuedRevision"], 1);
    let list = world
        .api
        .list(&revisions, &controller::ListOptions::default())
        .await
        .unwrap();
    assert_eq!(list.items.len(), 1);
    assert_eq!(
        world.get(&crds, &crd).await.unwrap().resource_version(),
        crd_before.resource_version()
    );
    assert_eq!(
        uid(world.get(&config_maps(), &config("it-first")).await),
        before
    );
    world.delete_app().await;
    assert!(
        world
            .get(&config_maps(), &config("it-first"))
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_that_is_cut_off_leaves_the_status_alone() {
    let mut world = World::start().await;
    let names: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
    let text = json!({"text": "${schema.spec.text}"});
    let resources: Vec<serde_json::Value> = names
        .iter()
        .map(|name| json!({"id": name, "template": config_map(name, text.clone())}))
        .collect();
    let rgd = app(json!({"text": "string"}), json!({}), json!(resources));
    world.define(rgd).await;
    world.app(json!({"text": "first"})).await;
    world.wait_active().await;
    for round in 0..20_u64 {
        let text = format!("round {round}");
        world
            .change(&apps(), &it(), json!({"spec": {"text": text}}))
            .await;
        // At another moment of the pass each time.
        tokio::time::sleep(Duration::from_micros(300 * round)).await;
        world.stop_controllers().await;
        let left = world.get(&apps(), &it()).await.unwrap();
        assert_ne!(left.status()["state"], "ERROR", "{}", left.status());
        world.start_controllers(graph::Options::default()).await;
    }
    world.wait_active().await;
}
