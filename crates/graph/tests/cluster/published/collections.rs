//! Collections: `collection_test`, `collection_behavior_test`, `collection_watch_test`.

use controller::ObjectKey;
use serde_json::{Value, json};

use super::{namespace, served, set, wait_names, wait_status};
use crate::world::{app, condition, config, config_map, config_maps};

fn each(id: &str, list: &str, name: &str, data: Value) -> Value {
    json!({"id": id, "forEach": [{"item1": list}], "template": config_map(name, data)})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dimensions_make_every_combination() {
    let rgd = app(
        json!({"regions": "[]string", "tiers": "[]string"}),
        json!({"names": "${all.map(one, one.metadata.name)}"}),
        json!([{"id": "all", "forEach": [{"region": "${schema.spec.regions}"}, {"tier": "${schema.spec.tiers}"}],
            "template": config_map("${region}-${tier}", json!({}))}]),
    );
    let world = served(rgd, json!({"regions": ["eu", "us"], "tiers": ["a", "b"]})).await;
    let names = json!(["eu-a", "eu-b", "us-a", "us-b"]);
    wait_status(&world, "/names", &names).await;
    set(&world, json!({"tiers": []})).await;
    wait_names(&world, "all", &[]).await;
    wait_status(&world, "/state", &json!("ACTIVE")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_is_switched_on_and_off_as_a_whole() {
    let mut all = each("all", "${schema.spec.names}", "${item1}", json!({}));
    all["includeWhen"] = json!(["${schema.spec.on}"]);
    let rgd = app(
        json!({"names": "[]string", "on": "boolean"}),
        json!({}),
        json!([all]),
    );
    let world = served(rgd, json!({"names": ["a", "b"], "on": false})).await;
    world.wait_active().await;
    wait_names(&world, "all", &[]).await;
    set(&world, json!({"on": true})).await;
    wait_names(&world, "all", &["default/a", "default/b"]).await;
    set(&world, json!({"on": false})).await;
    wait_names(&world, "all", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_follow_one_another_as_they_grow_and_shrink() {
    let rgd = app(
        json!({"names": "[]string"}),
        json!({}),
        json!([
            each(
                "first",
                "${schema.spec.names}",
                "first-${item1}",
                json!({"n": "${item1}"})
            ),
            each(
                "second",
                "${first}",
                "second-${item1.data.n}",
                json!({"n": "${item1.data.n}"})
            ),
            each(
                "third",
                "${second.filter(s, s.data.n != 'skip')}",
                "third-${item1.data.n}",
                json!({})
            ),
        ]),
    );
    let world = served(rgd, json!({"names": ["a", "skip"]})).await;
    wait_names(&world, "third", &["default/third-a"]).await;
    set(&world, json!({"names": ["a", "b", "c"]})).await;
    wait_names(
        &world,
        "third",
        &["default/third-a", "default/third-b", "default/third-c"],
    )
    .await;
    set(&world, json!({"names": ["c"]})).await;
    for node in ["first", "second", "third"] {
        wait_names(&world, node, &[&format!("default/{node}-c")]).await;
    }
    set(&world, json!({"names": []})).await;
    for node in ["first", "second", "third"] {
        wait_names(&world, node, &[]).await;
    }
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_wait_until_each_item_is_ready() {
    let mut all = each("all", "${schema.spec.names}", "${item1}", json!({}));
    all["readyWhen"] = json!(["${each.data.?up.orValue('no') == 'yes'}"]);
    let rgd = app(
        json!({"names": "[]string"}),
        json!({}),
        json!([all, {"id": "after", "template": config_map("after", json!({"count": "${string(all.size())}"}))}]),
    );
    let world = served(rgd, json!({"names": ["a", "b"]})).await;
    wait_names(&world, "all", &["default/a", "default/b"]).await;
    let up = json!({"data": {"up": "yes"}});
    world.change(&config_maps(), &config("a"), up.clone()).await;
    wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    assert!(world.get(&config_maps(), &config("after")).await.is_none());
    world.change(&config_maps(), &config("b"), up).await;
    world
        .wait(&config_maps(), &config("after"), |after| {
            after.value()["data"]["count"] == "2"
        })
        .await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_not_ready_keeps_its_instance_in_progress() {
    let mut all = each(
        "all",
        "${schema.spec.names}",
        "${item1}",
        json!({"up": "no"}),
    );
    all["readyWhen"] = json!(["${each.data.up == 'yes'}"]);
    let rgd = app(json!({"names": "[]string"}), json!({}), json!([all]));
    let world = served(rgd, json!({"names": ["a"]})).await;
    let found = wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    assert_eq!(condition(&found, "Ready")["status"], "False");
    set(&world, json!({"names": []})).await;
    world.wait_active().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_waits_for_the_resource_its_list_comes_from() {
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            {"id": "source", "readyWhen": ["${source.data.?up.orValue('no') == 'yes'}"], "template": config_map("source", json!({"list": "a,b"}))},
            each("all", "${source.data.list.split(',')}", "${item1}", json!({})),
        ]),
    );
    let world = served(rgd, json!({})).await;
    let source = config("source");
    world.wait(&config_maps(), &source, |_| true).await;
    wait_names(&world, "all", &[]).await;
    world
        .change(&config_maps(), &source, json!({"data": {"up": "yes"}}))
        .await;
    wait_names(&world, "all", &["default/a", "default/b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_in_several_namespaces_are_corrected_and_deleted_in_each() {
    let mut all = each(
        "all",
        "${schema.spec.spaces}",
        "item",
        json!({"text": "right"}),
    );
    all["template"]["metadata"]["namespace"] = json!("${item1}");
    let rgd = app(json!({"spaces": "[]string"}), json!({}), json!([all]));
    let world = super::defined(rgd).await;
    namespace(&world, "one").await;
    namespace(&world, "two").await;
    world.app(json!({"spaces": ["one", "two"]})).await;
    wait_names(&world, "all", &["one/item", "two/item"]).await;
    world.wait_active().await;
    // In an order in which no correction helps the next one along.
    for space in ["two", "one", "two"] {
        let key = ObjectKey::new(space, "item");
        world
            .change(&config_maps(), &key, json!({"data": {"text": "wrong"}}))
            .await;
        world
            .wait(&config_maps(), &key, |item| {
                item.value()["data"]["text"] == "right"
            })
            .await;
        world.delete(&config_maps(), &key).await;
        world.wait(&config_maps(), &key, |_| true).await;
    }
    world.delete_app().await;
    wait_names(&world, "all", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_too_large_is_told_and_nothing_of_it_is_made() {
    let all = each(
        "all",
        "${lists.range(schema.spec.count)}",
        "item-${string(item1)}",
        json!({}),
    );
    let rgd = app(json!({"count": "integer"}), json!({}), json!([all]));
    let world = served(rgd, json!({"count": 1001})).await;
    let failed = wait_status(&world, "/state", &json!("ERROR")).await;
    let message = condition(&failed, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("collection size 1001 exceeds maximum 1000"),
        "{message}"
    );
    wait_names(&world, "all", &[]).await;
    set(&world, json!({"count": 2})).await;
    wait_names(&world, "all", &["default/item-0", "default/item-1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_any_item_is_noticed_and_foreign_objects_are_not() {
    let rgd = app(
        json!({"names": "[]string"}),
        json!({"seen": "${all.map(one, one.?data.?seen.orValue('-'))}"}),
        json!([each("all", "${schema.spec.names}", "${item1}", json!({}))]),
    );
    let world = served(rgd, json!({"names": ["a", "b", "c"]})).await;
    world.wait_active().await;
    let change = json!({"data": {"seen": "x"}});
    world.change(&config_maps(), &config("b"), change).await;
    wait_status(&world, "/seen", &json!(["-", "x", "-"])).await;
    set(&world, json!({"names": ["a"]})).await;
    world.wait_gone(&config_maps(), &config("c")).await;
    let mut foreign = config_map("c", json!({"seen": "foreign"}));
    foreign["metadata"]["namespace"] = "default".into();
    world.create(&config_maps(), foreign).await;
    let change = json!({"data": {"seen": "y"}});
    world.change(&config_maps(), &config("a"), change).await;
    wait_status(&world, "/seen", &json!(["y"])).await;
    assert!(world.get(&config_maps(), &config("c")).await.is_some());
}
