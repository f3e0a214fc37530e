//! What is made when: `include_when_test`, `dependency_readiness_test`, `readiness_test`, `data_pending_test`.

use serde_json::json;

use super::{served, set, wait_status};
use crate::world::{app, apps, condition, config, config_map, config_maps, it};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_what_is_left_out_is_left_out_too() {
    let rgd = app(
        json!({"on": "boolean", "other": "boolean"}),
        json!({}),
        json!([
            {"id": "first", "includeWhen": ["${schema.spec.on}"], "template": config_map("first", json!({}))},
            {"id": "second", "template": config_map("${first.metadata.name}-second", json!({}))},
            {"id": "third", "template": config_map("${second.metadata.name}-third", json!({}))},
            {"id": "alone", "includeWhen": ["${schema.spec.on}", "${schema.spec.other}"], "template": config_map("alone", json!({}))},
        ]),
    );
    let world = served(rgd, json!({"on": false, "other": true})).await;
    world.wait_active().await;
    let made = ["first", "first-second", "first-second-third"];
    for name in made.iter().chain(&["alone"]) {
        assert!(world.get(&config_maps(), &config(name)).await.is_none());
    }
    set(&world, json!({"on": true, "other": false})).await;
    for name in made {
        world.wait(&config_maps(), &config(name), |_| true).await;
    }
    world.wait_active().await;
    assert!(world.get(&config_maps(), &config("alone")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_on_another_resource_follows_it_both_ways() {
    let rgd = app(
        json!({"mode": "string"}),
        json!({}),
        json!([
            {"id": "lever", "template": config_map("lever", json!({"mode": "${schema.spec.mode}"}))},
            {"id": "light", "includeWhen": ["${lever.data.mode == 'on'}"], "template": config_map("light", json!({}))},
            {"id": "shade", "template": config_map("${light.metadata.name}-shade", json!({}))},
        ]),
    );
    let world = served(rgd, json!({"mode": "off"})).await;
    world.wait_active().await;
    assert!(world.get(&config_maps(), &config("light")).await.is_none());
    set(&world, json!({"mode": "on"})).await;
    world
        .wait(&config_maps(), &config("light-shade"), |_| true)
        .await;
    set(&world, json!({"mode": "off"})).await;
    world
        .wait_gone(&config_maps(), &config("light-shade"))
        .await;
    world.wait_gone(&config_maps(), &config("light")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_on_data_that_is_missing_waits_for_it() {
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "source", "template": config_map("source", json!({"a": "b"}))},
            {"id": "target", "includeWhen": ["${source.data.answer == 'yes'}"], "template": config_map("target", json!({}))},
        ]),
    );
    let world = served(rgd, json!({})).await;
    let waiting = wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    let message = condition(&waiting, "ResourcesReady")["message"].to_string();
    assert!(message.contains("unresolved"), "{message}");
    let answer = |answer: &str| json!({"data": {"answer": answer}});
    let source = config("source");
    world.change(&config_maps(), &source, answer("no")).await;
    world.wait_active().await;
    assert!(world.get(&config_maps(), &config("target")).await.is_none());
    world.change(&config_maps(), &source, answer("yes")).await;
    world
        .wait(&config_maps(), &config("target"), |_| true)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn independent_resources_go_on_while_one_waits_for_data() {
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "source", "template": config_map("source", json!({"a": "b"}))},
            {"id": "waiting", "template": config_map("waiting", json!({"a": "${source.data.later}"}))},
            {"id": "after", "template": config_map("${waiting.metadata.name}-after", json!({}))},
            {"id": "alone", "template": config_map("alone", json!({}))},
        ]),
    );
    let world = served(rgd, json!({})).await;
    world.wait(&config_maps(), &config("alone"), |_| true).await;
    let waiting = wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    let found = condition(&waiting, "ResourcesReady");
    assert_eq!(found["reason"], "NotReady");
    let message = found["message"].to_string();
    assert!(
        message.contains("waiting for unresolved resource")
            && message.contains("source.data.later"),
        "{message}"
    );
    for name in ["waiting", "waiting-after"] {
        assert!(world.get(&config_maps(), &config(name)).await.is_none());
    }
    let later = json!({"data": {"later": "now"}});
    world.change(&config_maps(), &config("source"), later).await;
    world
        .wait(&config_maps(), &config("waiting-after"), |_| true)
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependent_waits_for_all_it_needs_and_the_instance_for_the_last() {
    let ready = |id: &str| json!([format!("${{{id}.data.?up.orValue('no') == 'yes'}}")]);
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "left", "readyWhen": ready("left"), "template": config_map("left", json!({}))},
            {"id": "right", "readyWhen": ready("right"), "template": config_map("right", json!({}))},
            {"id": "both", "readyWhen": ready("both"),
             "template": config_map("${left.metadata.name}-${right.metadata.name}", json!({}))},
        ]),
    );
    let world = served(rgd, json!({})).await;
    let up = json!({"data": {"up": "yes"}});
    for name in ["left", "right"] {
        world.wait(&config_maps(), &config(name), |_| true).await;
    }
    world
        .change(&config_maps(), &config("left"), up.clone())
        .await;
    let waits = |app: &controller::Object| {
        condition(app, "ResourcesReady")["message"]
            .as_str()
            .is_some_and(|text| {
                text.contains("\"right\"") && !text.contains("readyWhen of \"left\"")
            })
    };
    world.wait(&apps(), &it(), waits).await;
    assert!(
        world
            .get(&config_maps(), &config("left-right"))
            .await
            .is_none()
    );
    world
        .change(&config_maps(), &config("right"), up.clone())
        .await;
    world
        .wait(&config_maps(), &config("left-right"), |_| true)
        .await;
    wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    world
        .change(&config_maps(), &config("left-right"), up)
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_on_the_status_of_another_resource_prunes_what_hung_on_it() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}});
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "web", "template": deployment},
            {"id": "note", "includeWhen": ["${web.status.readyReplicas > 1}"], "template": config_map("note", json!({}))},
            {"id": "more", "template": config_map("${note.metadata.name}-more", json!({}))},
        ]),
    );
    let world = served(rgd, json!({})).await;
    let deployments = controller::Resource::namespaced("apps/v1", "deployments", "Deployment");
    world.wait(&deployments, &config("web"), |_| true).await;
    wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    let ready = async |count: i64| {
        let status = json!({"status": {"replicas": count, "readyReplicas": count}});
        let place = controller::Subresource::Status;
        let changed = world
            .api
            .merge_patch(&deployments, &config("web"), place, &status)
            .await;
        changed.unwrap();
    };
    ready(2).await;
    world
        .wait(&config_maps(), &config("note-more"), |_| true)
        .await;
    world.wait_active().await;
    ready(1).await;
    world.wait_gone(&config_maps(), &config("note-more")).await;
    world.wait_gone(&config_maps(), &config("note")).await;
    world.wait_active().await;
}
