//! Any call may fail, and the controllers may stop at any moment: it all comes right in the end.

use std::time::Duration;

use controller::{FaultPlan, Faults, ListOptions};
use graph::Options;
use serde_json::json;

use crate::world::{World, apps, chain, config, config_maps, impatient, it, rgds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_converges_when_the_faults_stop() {
    for seed in testkit::seeds(3) {
        let mut world = World::with(impatient(Options::default())).await;
        world.stop_controllers().await;
        let faults = Faults::new(FaultPlan::evenly(seed.number, 0.05));
        world.create(&rgds(), chain()).await;
        for _ in 0..3 {
            world
                .start_controllers_under(&faults, impatient(Options::default()))
                .await;
            tokio::time::sleep(Duration::from_millis(150)).await;
            if world.get(&apps(), &it()).await.is_none() {
                let object = json!({"apiVersion": "kro.run/v1", "kind": "App",
                    "metadata": {"name": "it", "namespace": "default"}, "spec": {"extra": true}});
                let _ = world.api.create(&apps(), &object).await;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
            world.stop_controllers().await;
        }
        let every_child_is_a_member = || async {
            let list = world
                .api
                .list(&config_maps(), &ListOptions::default())
                .await
                .unwrap();
            list.items
                .iter()
                .filter(|item| item.name().starts_with("it-"))
                .all(|item| {
                    item.label("applyset.kubernetes.io/part-of").is_some()
                        && item.label("kro.run/instance-id").is_some()
                })
        };
        assert!(every_child_is_a_member().await, "{seed}");
        world
            .start_controllers_under(&faults, impatient(Options::default()))
            .await;
        faults.stop();
        world.wait_rgd_active("app").await;
        if world.get(&apps(), &it()).await.is_none() {
            world.app(json!({"extra": true})).await;
        }
        world.wait_active().await;
        for name in ["it-first", "it-first-second", "it-extra"] {
            assert!(
                world.get(&config_maps(), &config(name)).await.is_some(),
                "{seed}: {name}"
            );
        }
        world.delete_app().await;
        assert!(
            world
                .get(&config_maps(), &config("it-first"))
                .await
                .is_none(),
            "{seed}"
        );
    }
}
