//! Keys with expressions on a cluster.

use graph::{Feature, Features};
use serde_json::json;

use super::{example, under_faults};
use crate::world::{World, app, apps, config, config_map, config_maps, it};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_key_takes_the_old_one_away_whatever_fails() {
    let rgd = app(
        json!({"region": "string"}),
        json!({}),
        json!([{"id": "one", "template": config_map("one", json!({"${schema.spec.region}": "x", "plain": "y"}))}]),
    );
    let check = async |world: &World| {
        for region in ["us", "eu"] {
            world
                .change(&apps(), &it(), json!({"spec": {"region": region}}))
                .await;
            world
                .wait(&config_maps(), &config("one"), |one| {
                    one.value()["data"] == json!({region: "x", "plain": "y"})
                })
                .await;
            world.wait_active().await;
        }
    };
    let spec = json!({"region": "eu"});
    under_faults(Feature::DynamicTemplateKeys, rgd, spec, async |_| {}, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_active() {
    let features = Features::default().with(Feature::DynamicTemplateKeys);
    let world = example("dynamic-keys", features, async |_| {}).await;
    let found = world.get(&config_maps(), &config("checkout")).await.unwrap();
    assert_eq!(found.label("example.com/team"), Some("checkout"));
    assert_eq!(
        found.value()["data"],
        json!({"checkout.properties": "region=eu"})
    );
}
