//! Operation: `graphrevision_isolated_test`, `reconcile_error_metrics_test`, suspension, conflicts, deletion of kinds.

use controller::{ListOptions, ObjectKey};
use graph::Options;
use serde_json::{Value, json};

use super::{defined, namespace, redefine, served, set, wait_status};
use crate::world::{
    World, app, apps, condition, config, config_map, config_maps, crds, it, revisions, rgds,
};

fn one_map(text: &str) -> Value {
    json!([{"id": "map", "template": config_map("map", json!({"text": text}))}])
}

async fn numbers(world: &World) -> Vec<i64> {
    let list = world.api.list(&revisions(), &ListOptions::default()).await;
    let mut numbers: Vec<i64> = list
        .unwrap()
        .items
        .iter()
        .map(|revision| {
            revision
                .pointer("/spec/revision")
                .unwrap()
                .as_i64()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_grow_under_churn_and_restarts_add_none() {
    let options = || Options {
        max_graph_revisions: 3,
        ..Options::default()
    };
    let mut world = World::with(options()).await;
    world.define(app(json!({}), json!({}), one_map("0"))).await;
    world.app(json!({})).await;
    for round in 1..6 {
        redefine(&world, json!({"resources": one_map(&round.to_string())})).await;
        if round % 2 == 0 {
            world.stop_controllers().await;
            world.start_controllers(options()).await;
        }
    }
    world
        .wait(&config_maps(), &config("map"), |map| {
            map.value()["data"]["text"] == "5"
        })
        .await;
    let rgd = world.wait_rgd_active("app").await;
    let last = rgd.status()["lastIssuedRevision"].as_i64().unwrap();
    testkit::eventually("old revisions go", || async {
        let kept = numbers(&world).await;
        let rising = kept.windows(2).all(|pair| pair[0] < pair[1]);
        (kept.len() <= 3 && rising && kept.last() == Some(&last)).then_some(())
    })
    .await;
    for _ in 0..2 {
        world.stop_controllers().await;
        world.start_controllers(options()).await;
        let rgd = world.wait_rgd_active("app").await;
        assert_eq!(rgd.status()["lastIssuedRevision"], last);
    }
    // The same content again is a revision of its own.
    redefine(&world, json!({"resources": one_map("4")})).await;
    world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            rgd.status()["lastIssuedRevision"] == last + 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_resources_for_one_object_are_a_conflict_that_names_both() {
    let rgd = app(
        json!({"second": "string"}),
        json!({}),
        json!([
            {"id": "one", "template": config_map("same", json!({"a": "1"}))},
            {"id": "two", "template": config_map("${schema.spec.second}", json!({"a": "2"}))},
        ]),
    );
    let world = served(rgd, json!({"second": "same"})).await;
    let failed = wait_status(&world, "/state", &json!("ERROR")).await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains(
            "found resources with conflicts: resourceID: one conflicts with resourceID: two"
        ),
        "{message}"
    );
    set(&world, json!({"second": "other"})).await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_of_a_cluster_scoped_instance_needs_a_namespace_when_it_is_made() {
    let mut template = config_map("map", json!({}));
    template["metadata"]["namespace"] = json!("${schema.spec.space}");
    let mut rgd = app(
        json!({"space": "string"}),
        json!({}),
        json!([{"id": "map", "template": template}]),
    );
    rgd["spec"]["schema"]["scope"] = "Cluster".into();
    let world = defined(rgd).await;
    namespace(&world, "space").await;
    let own = controller::Resource::cluster("kro.run/v1", "apps", "App");
    let object = json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it"}, "spec": {"space": ""}});
    world.create(&own, object).await;
    let key = ObjectKey::cluster("it");
    let failed = world
        .wait(&own, &key, |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("metadata.namespace"), "{message}");
    world
        .change(&own, &key, json!({"spec": {"space": "space"}}))
        .await;
    world
        .wait(&config_maps(), &ObjectKey::new("space", "map"), |_| true)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_word_in_any_case_pauses_an_instance_which_can_still_be_deleted() {
    let rgd = app(
        json!({"text": "string"}),
        json!({}),
        json!([{"id": "map", "template": config_map("map", json!({"text": "${schema.spec.text}"}))}]),
    );
    let world = served(rgd, json!({"text": "a"})).await;
    world.wait_active().await;
    for (word, text) in [("Disabled", "b"), ("SUSPENDED", "c")] {
        let pause = |word: Value| json!({"metadata": {"annotations": {"kro.run/reconcile": word}}});
        world.change(&apps(), &it(), pause(json!(word))).await;
        let paused = world
            .wait(&apps(), &it(), |app| {
                condition(app, "ResourcesReady")["reason"] == "ReconciliationSuspended"
            })
            .await;
        assert_eq!(condition(&paused, "Ready")["status"], "False");
        set(&world, json!({"text": text})).await;
        world
            .wait(&apps(), &it(), |app| {
                let seen = &condition(app, "ResourcesReady")["observedGeneration"];
                *seen == app.generation()
            })
            .await;
        let map = world.get(&config_maps(), &config("map")).await.unwrap();
        assert_ne!(map.value()["data"]["text"], text);
        if text == "b" {
            world.change(&apps(), &it(), pause(Value::Null)).await;
            world
                .wait(&config_maps(), &config("map"), |map| {
                    map.value()["data"]["text"] == "b"
                })
                .await;
            world.wait_active().await;
        }
    }
    world.delete_app().await;
    assert!(world.get(&config_maps(), &config("map")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kind_goes_with_its_definition_where_that_is_allowed() {
    let options = Options {
        allow_crd_deletion: true,
        ..Options::default()
    };
    let world = World::with(options).await;
    world.define(app(json!({}), json!({}), one_map("a"))).await;
    world.app(json!({})).await;
    world.wait_active().await;
    world.delete(&rgds(), &ObjectKey::cluster("app")).await;
    world.wait_gone(&rgds(), &ObjectKey::cluster("app")).await;
    world
        .wait_gone(&crds(), &ObjectKey::cluster("apps.kro.run"))
        .await;
    world.wait_gone(&config_maps(), &config("map")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_of_others_is_not_taken_over() {
    let world = World::start().await;
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "apps.kro.run"},
        "spec": {"group": "kro.run", "scope": "Namespaced", "names": {"kind": "App", "plural": "apps"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    world.create(&crds(), crd).await;
    world
        .create(&rgds(), app(json!({}), json!({}), json!([])))
        .await;
    let key = ObjectKey::cluster("app");
    let failed = world
        .wait(&rgds(), &key, |rgd| {
            condition(rgd, "KindReady")["status"] == "False"
        })
        .await;
    let message = condition(&failed, "KindReady")["message"].to_string();
    assert!(message.contains("not owned by KRO"), "{message}");
    assert_eq!(condition(&failed, "GraphAccepted")["status"], "True");
    // One that older tools marked is.
    let mark = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "kro"}}});
    let name = ObjectKey::cluster("apps.kro.run");
    world.change(&crds(), &name, mark).await;
    world.wait_rgd_active("app").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_applied_is_no_failed_reconcile() {
    let options = Options {
        retry_interval: std::time::Duration::from_millis(20),
        ..Options::default()
    };
    let metrics = options.metrics.clone();
    let world = World::with(options).await;
    let mut template = config_map("map", json!({}));
    template["metadata"]["namespace"] = "nowhere".into();
    let resources = json!([{"id": "map", "template": template}]);
    world.define(app(json!({}), json!({}), resources)).await;
    world.app(json!({})).await;
    let failed = wait_status(&world, "/state", &json!("ERROR")).await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(message.contains("nowhere"), "{message}");
    let count = |name: &str| -> f64 {
        let text = metrics.encode();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    // A pass is counted when it is over, a moment after the status it wrote can be read.
    testkit::eventually("two passes are counted", || async {
        (count("instance_reconcile_total") >= 2.0).then_some(())
    })
    .await;
    assert!(
        count("instance_reconcile_errors_total").abs() < 0.5,
        "{}",
        metrics.encode()
    );
    namespace(&world, "nowhere").await;
    world.wait_active().await;
}
