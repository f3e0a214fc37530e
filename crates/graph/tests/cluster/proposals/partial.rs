//! Branches on a cluster.

use graph::{Feature, Features};
use serde_json::{Value, json};

use super::{example, under_faults};
use crate::world::{World, app, apps, config, config_map, config_maps, it};

fn definition() -> Value {
    app(
        json!({"cached": "boolean"}),
        json!({"at": "${reader.data.at}"}),
        json!([
            {"id": "cache", "includeWhen": ["${schema.spec.cached}"], "template": config_map("cache", json!({"at": "c"}))},
            {"id": "database", "includeWhen": ["${!schema.spec.cached}"], "template": config_map("database", json!({"at": "d"}))},
            {"id": "reader", "template": config_map("reader", json!({"at": "${schema.spec.cached ? cache.data.at : database.data.at}"}))},
        ]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_branches_moves_the_reader_and_prunes_the_other_whatever_fails() {
    let check = async |world: &World| {
        for (cached, there, gone, at) in [
            (false, "database", "cache", "d"),
            (true, "cache", "database", "c"),
        ] {
            world
                .change(&apps(), &it(), json!({"spec": {"cached": cached}}))
                .await;
            world
                .wait(&apps(), &it(), |app| app.status()["at"] == at)
                .await;
            world.wait_gone(&config_maps(), &config(gone)).await;
            world.wait(&config_maps(), &config(there), |_| true).await;
            world.wait_active().await;
        }
    };
    let spec = json!({"cached": true});
    under_faults(
        Feature::PartialDependencies,
        definition(),
        spec,
        async |_| {},
        check,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_active() {
    let features = Features::default().with(Feature::PartialDependencies);
    let world = example("partial-dependencies", features, async |_| {}).await;
    let reader = world.get(&config_maps(), &config("shop")).await.unwrap();
    assert_eq!(reader.value()["data"]["store"], "cache.internal");
}
