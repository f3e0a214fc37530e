//! Daemon sets under faults: one Pod a node, updates within their bounds, placement, failed Pods, revisions.

mod common;

use common::expect::{at_most_per_node, settled};
use common::kubelet::Act;
use common::objects::{
    DAEMON_SETS, NODES, daemon_set, image, image_of, is_active, is_ready, node, node_by_affinity,
    number, workload,
};
use common::recorder::available_at_least;
use common::{Harness, Setup, each_seed};
use serde_json::json;

const CONTROLLERS: &[&str] = &["daemonset", "garbagecollector"];

#[test]
fn every_node_gets_one_pod_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS).nodes(6)).await;
        h.always(at_most_per_node(1));
        h.create(&DAEMON_SETS(), &daemon_set(&json!({"maxUnavailable": 1})))
            .await;
        h.until("some are there", |w| w.pods().count() > 2).await;
        h.restart().await;
        h.until("all are ready", settled("v1", 6)).await;
        h.create(&NODES(), &node("late")).await;
        h.until("the new node has one", settled("v1", 7)).await;
        // A node that nobody tolerates.
        let taint = json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}});
        h.patch(&NODES(), "node-1", &taint).await;
        h.until("its Pod goes", settled("v1", 6)).await;
        h.calm();
        h.until("the status says so", |w| {
            w.get("daemonsets", "agent").is_some_and(|set| {
                number(set, "/status/desiredNumberScheduled") == 6
                    && number(set, "/status/numberAvailable") == 6
                    && number(set, "/status/numberMisscheduled") == 0
                    && number(set, "/status/updatedNumberScheduled") == 6
            })
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn an_update_keeps_its_bounds_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS).nodes(6)).await;
        h.always(at_most_per_node(1));
        h.create(&DAEMON_SETS(), &daemon_set(&json!({"maxUnavailable": 2})))
            .await;
        h.until("all are ready", settled("v1", 6)).await;
        h.always(available_at_least(4));
        h.patch(&DAEMON_SETS(), "agent", &image("v2")).await;
        h.until("some are new", |w| {
            w.pods().any(|pod| image_of(pod) == "v2")
        })
        .await;
        h.restart().await;
        h.patch(&DAEMON_SETS(), "agent", &image("v3")).await;
        h.until("all are newest", settled("v3", 6)).await;
        h.patch(&DAEMON_SETS(), "agent", &image("v1")).await;
        h.until("the first is back", settled("v1", 6)).await;
        h.calm();
        h.until("its revision is the fourth", |w| {
            let mut numbers: Vec<i64> = w
                .all("controllerrevisions")
                .map(|r| number(r, "/revision"))
                .collect();
            numbers.sort_unstable();
            numbers == [2, 3, 4]
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_surge_never_leaves_a_node_without_a_pod() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS).nodes(5)).await;
        h.always(at_most_per_node(2));
        let rolling = json!({"maxSurge": 2, "maxUnavailable": 0});
        h.create(&DAEMON_SETS(), &daemon_set(&rolling)).await;
        h.until("all are ready", settled("v1", 5)).await;
        // Old Pods the controller has not seen available are replaced beyond the bounds, as upstream does.
        h.until("it is seen", |w| {
            let set = w.get("daemonsets", "agent");
            set.is_some_and(|set| number(set, "/status/numberAvailable") == 5)
        })
        .await;
        h.always(available_at_least(5));
        h.always(|world| {
            let active = world.pods().filter(|pod| is_active(pod)).count();
            if active > 7 {
                Err(format!("{active} Pods"))
            } else {
                Ok(())
            }
        });
        h.patch(&DAEMON_SETS(), "agent", &image("v2")).await;
        h.until("some are new", |w| {
            w.pods().any(|pod| image_of(pod) == "v2")
        })
        .await;
        h.restart().await;
        h.until("all are new", settled("v2", 5)).await;
        h.calm();
        h.at_rest().await;
    });
}

#[test]
fn failed_pods_are_replaced_ever_more_slowly() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(CONTROLLERS).nodes(2)).await;
        h.pods_become(|pod| match node_by_affinity(pod).as_deref() {
            Some("node-0") => Act::Fail,
            _ => Act::Ready,
        });
        h.create(&DAEMON_SETS(), &daemon_set(&json!({"maxUnavailable": 1})))
            .await;
        h.until("it is said", |w| {
            w.all("events").any(|event| {
                let message = event.value()["message"].as_str().unwrap_or_default();
                event.value()["reason"] == "FailedDaemonPod"
                    && message.starts_with("Found failed daemon pod default/agent-")
                    && message.ends_with(" on node node-0, will try to kill it")
            })
        })
        .await;
        h.until("the second try fails", |w| {
            w.deleted.get("pods").is_some_and(|n| *n >= 2)
        })
        .await;
        h.recorder
            .with(|w| assert!(w.created["pods"] <= 5, "{:?}", w.created));
        h.pods_become(|_| Act::Ready);
        h.until("all are ready", settled("v1", 2)).await;
        h.at_rest().await;
    });
}

#[test]
fn pods_updated_by_hand_wait_for_their_deletion() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let set = workload(
            "DaemonSet",
            "agent",
            &json!({"updateStrategy": {"type": "OnDelete"}}),
        );
        h.create(&DAEMON_SETS(), &set).await;
        h.until("all are ready", settled("v1", 3)).await;
        h.patch(&DAEMON_SETS(), "agent", &image("v2")).await;
        h.until("it is seen", |w| {
            w.get("daemonsets", "agent").is_some_and(|set| {
                number(set, "/status/observedGeneration") == set.generation()
                    && number(set, "/status/updatedNumberScheduled") == 0
            })
        })
        .await;
        h.calm();
        h.at_rest().await;
        let first = h
            .recorder
            .with(|w| w.pods().next().map(|pod| pod.name().to_owned()));
        h.delete(&common::objects::PODS(), &first.expect("a Pod"))
            .await;
        h.until("one is new", |w| {
            w.pods()
                .filter(|pod| is_ready(pod) && image_of(pod) == "v2")
                .count()
                == 1
                && w.pods().count() == 3
        })
        .await;
        h.delete(&DAEMON_SETS(), "agent").await;
        h.until("nothing is left", |w| {
            w.pods().count() == 0 && w.all("controllerrevisions").count() == 0
        })
        .await;
    });
}
