//! Stateful sets that may have several Pods down, under faults. A binary of its own: the feature is on for the whole process.

mod common;

use common::objects::{STATEFUL_SETS, image, image_of, is_active, is_ready, number, workload};
use common::{Harness, Setup, each_seed};
use serde_json::json;

#[test]
fn an_update_takes_no_more_pods_down_than_it_may() {
    kinds::features::switch(&["MaxUnavailableStatefulSet=true".to_owned()]).expect("a feature");
    for policy in ["OrderedReady", "Parallel"] {
        each_seed(3, |seed| async move {
            let controllers = &["statefulset", "garbagecollector"];
            let h = Harness::start(Setup::faulty(seed, controllers)).await;
            let rolling = json!({"partition": 1, "maxUnavailable": 2});
            let spec = json!({
                "replicas": 6, "serviceName": "web", "podManagementPolicy": policy,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            });
            let set = workload("StatefulSet", "web", &spec);
            h.create(&STATEFUL_SETS(), &set).await;
            // By the controller, and by whoever watches over it.
            h.until("it is seen that all are available", |w| {
                let set = w.get("statefulsets", "web");
                set.is_some_and(|set| number(set, "/status/availableReplicas") == 6)
                    && w.pods().filter(|pod| is_ready(pod)).count() == 6
            })
            .await;
            h.always(|world| {
                let well = world
                    .pods()
                    .filter(|pod| is_active(pod) && is_ready(pod))
                    .count();
                if well < 4 {
                    Err(format!("{well} Pods available"))
                } else {
                    Ok(())
                }
            });
            h.patch(&STATEFUL_SETS(), "web", &image("v2")).await;
            h.until("some are new", |w| {
                w.pods().any(|pod| image_of(pod) == "v2")
            })
            .await;
            h.restart().await;
            h.until("all above the partition are new", |w| {
                let new = |pod: &controller::Object| is_ready(pod) && image_of(pod) == "v2";
                w.pods().count() == 6 && w.pods().filter(|pod| new(pod)).count() == 5
            })
            .await;
            h.calm();
            h.at_rest().await;
            let first = h.get(&common::objects::PODS(), "web-0").await;
            assert_eq!(image_of(&first), "v1");
        });
    }
}
