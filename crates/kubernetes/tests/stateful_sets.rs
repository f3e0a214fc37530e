//! Stateful sets under faults: one of each ordinal, order, updates, claims, revisions.

mod common;

use std::collections::BTreeSet;

use common::kubelet::Act;
use common::objects::{
    self, CLAIMS, PODS, STATEFUL_SETS, image, image_of, is_active, is_ready, number, stateful_set,
};
use common::recorder::{World, available_at_least};
use common::{Harness, Setup, each_seed};
use serde_json::json;

const CONTROLLERS: &[&str] = &["statefulset", "garbagecollector"];

fn names(world: &World) -> Vec<&str> {
    world.pods().map(|pod| pod.name()).collect()
}

/// All Pods of an image, ready, and no others.
fn settled(image: &'static str, wanted: &'static [&str]) -> impl Fn(&World) -> bool {
    move |world| {
        names(world) == wanted
            && world
                .pods()
                .all(|pod| is_active(pod) && is_ready(pod) && image_of(pod) == image)
    }
}

/// No Pod is there without all below it being there; at most one is not available once all were.
fn in_order(world: &World) -> Result<(), String> {
    let ordinals: BTreeSet<i64> = world
        .pods()
        .filter_map(|pod| pod.name().rsplit_once('-')?.1.parse().ok())
        .collect();
    if ordinals.iter().copied().eq(0..ordinals.len() as i64) {
        Ok(())
    } else {
        Err(format!("ordinals {ordinals:?}"))
    }
}

#[test]
fn an_ordered_set_grows_updates_and_shrinks_in_order_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.always(in_order);
        h.create(&STATEFUL_SETS(), &stateful_set(&json!({"replicas": 3})))
            .await;
        h.until("all are ready", settled("v1", &["web-0", "web-1", "web-2"]))
            .await;
        let later = Harness::get(&h, &STATEFUL_SETS(), "web").await;
        assert_eq!(number(&later, "/spec/replicas"), 3);
        h.patch(&STATEFUL_SETS(), "web", &json!({"spec": {"replicas": 5}}))
            .await;
        h.until("one more", |w| names(w).contains(&"web-3")).await;
        h.restart().await;
        h.until("two more", |w| {
            settled("v1", &["web-0", "web-1", "web-2", "web-3", "web-4"])(w)
        })
        .await;
        h.patch(&STATEFUL_SETS(), "web", &json!({"spec": {"replicas": 2}}))
            .await;
        h.restart().await;
        h.calm();
        h.until("two are left", settled("v1", &["web-0", "web-1"]))
            .await;
        h.until("the status says so", |w| {
            w.get("statefulsets", "web").is_some_and(|s| {
                number(s, "/status/replicas") == 2 && number(s, "/status/availableReplicas") == 2
            })
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn an_update_takes_one_pod_at_a_time_from_the_top_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&STATEFUL_SETS(), &stateful_set(&json!({"replicas": 4})))
            .await;
        h.until(
            "all are ready",
            settled("v1", &["web-0", "web-1", "web-2", "web-3"]),
        )
        .await;
        h.always(available_at_least(3));
        h.always(|world| {
            // An old one above a new one that is well was passed over.
            let active: Vec<_> = world.pods().filter(|pod| is_active(pod)).collect();
            let old = active.iter().rposition(|pod| image_of(pod) == "v1");
            let new = active.iter().position(|pod| image_of(pod) == "v2");
            match (old, new) {
                (Some(old), Some(new)) if old > new => Err("not from the top".to_owned()),
                _ => Ok(()),
            }
        });
        h.patch(&STATEFUL_SETS(), "web", &image("v2")).await;
        h.until("one is new", |w| w.pods().any(|pod| image_of(pod) == "v2"))
            .await;
        h.restart().await;
        h.until(
            "all are new",
            settled("v2", &["web-0", "web-1", "web-2", "web-3"]),
        )
        .await;
        h.calm();
        h.until("the update is complete", |w| {
            w.get("statefulsets", "web").is_some_and(|set| {
                let status = set.status();
                status["currentRevision"] == status["updateRevision"]
                    && status["currentReplicas"] == 4
                    && status["updatedReplicas"] == 4
            }) && w.all("controllerrevisions").count() == 2
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_rollback_uses_the_revision_there_is_and_the_history_is_kept_short() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let spec = json!({"replicas": 1, "revisionHistoryLimit": 1});
        h.create(&STATEFUL_SETS(), &stateful_set(&spec)).await;
        for version in ["v1", "v2", "v3"] {
            h.patch(&STATEFUL_SETS(), "web", &image(version)).await;
            h.until("it is there", settled(version, &["web-0"])).await;
        }
        h.until("the first revision is gone", |w| {
            let mut numbers: Vec<i64> = w
                .all("controllerrevisions")
                .map(|r| number(r, "/revision"))
                .collect();
            numbers.sort_unstable();
            numbers == [2, 3]
        })
        .await;
        h.patch(&STATEFUL_SETS(), "web", &image("v2")).await;
        h.until("it is back", settled("v2", &["web-0"])).await;
        h.calm();
        h.until("the second revision is the fourth", |w| {
            let mut numbers: Vec<i64> = w
                .all("controllerrevisions")
                .map(|r| number(r, "/revision"))
                .collect();
            numbers.sort_unstable();
            numbers == [3, 4]
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_parallel_set_with_claims_keeps_what_its_policy_says() {
    each_seed(2, |seed| async move {
        let controllers = &[
            "statefulset",
            "garbagecollector",
            "persistentvolumeclaimprotection",
        ];
        let h = Harness::start(Setup::faulty(seed, controllers)).await;
        let spec = json!({
            "replicas": 3, "podManagementPolicy": "Parallel", "ordinals": {"start": 2},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        });
        h.create(&STATEFUL_SETS(), &stateful_set(&spec)).await;
        h.until("all are ready", settled("v1", &["web-2", "web-3", "web-4"]))
            .await;
        h.until("the claims belong to the set", |w| {
            w.all("persistentvolumeclaims").count() == 3
                && w.all("persistentvolumeclaims").all(|claim| {
                    claim
                        .controller_of()
                        .is_some_and(|owner| owner.kind == "StatefulSet")
                })
        })
        .await;
        h.patch(&STATEFUL_SETS(), "web", &json!({"spec": {"replicas": 2}}))
            .await;
        h.until("one is gone, with its claim", |w| {
            names(w) == ["web-2", "web-3"]
                && w.get("persistentvolumeclaims", "data-web-4").is_none()
        })
        .await;
        h.patch(&STATEFUL_SETS(), "web", &json!({"spec": {"replicas": 3}}))
            .await;
        h.until("it is back", settled("v1", &["web-2", "web-3", "web-4"]))
            .await;
        let pod = h.get(&PODS(), "web-4").await;
        assert_eq!(pod.label("apps.kubernetes.io/pod-index"), Some("4"));
        assert_eq!(
            pod.pointer("/spec/volumes/0/persistentVolumeClaim/claimName"),
            Some(&json!("data-web-4"))
        );
        h.calm();
        h.at_rest().await;
        h.delete(&STATEFUL_SETS(), "web").await;
        h.until("nothing is left", |w| {
            w.pods().count() == 0
                && w.all("persistentvolumeclaims").count() == 0
                && w.all("controllerrevisions").count() == 0
        })
        .await;
        let _ = CLAIMS();
    });
}

#[test]
fn failed_pods_come_back_and_broken_updates_stop() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.pods_become(|pod| match image_of(pod) {
            "bad" => Act::Unready,
            _ => Act::Ready,
        });
        h.create(&STATEFUL_SETS(), &stateful_set(&json!({"replicas": 2})))
            .await;
        h.until("all are ready", settled("v1", &["web-0", "web-1"]))
            .await;
        let first = h.get(&PODS(), "web-1").await;
        let mut failed = first.value().clone();
        failed["status"]["phase"] = json!("Failed");
        let written = h.api.update_status(&PODS(), &failed).await;
        written.expect("a status");
        let uid = first.uid().to_owned();
        h.until("another one is ready", move |w| {
            settled("v1", &["web-0", "web-1"])(w)
                && w.get("pods", "web-1").is_some_and(|p| p.uid() != uid)
        })
        .await;
        h.patch(&STATEFUL_SETS(), "web", &image("bad")).await;
        h.until("the update hangs", |w| {
            w.get("pods", "web-1").is_some_and(|p| image_of(p) == "bad")
        })
        .await;
        h.calm();
        h.at_rest().await;
        let untouched = h.get(&PODS(), "web-0").await;
        assert_eq!(image_of(&untouched), "v1");
        // A better template alone does not help: the Pod that is not ready has to be deleted by hand.
        h.patch(&STATEFUL_SETS(), "web", &image("v3")).await;
        h.at_rest().await;
        assert_eq!(image_of(&h.get(&PODS(), "web-1").await), "bad");
        h.delete(&PODS(), "web-1").await;
        h.until("all are well", settled("v3", &["web-0", "web-1"]))
            .await;
        let wrong = |w: &World| {
            w.all("events")
                .any(|e| e.value()["message"] == "Create Pod web-0 in StatefulSet web successful")
        };
        h.until("events tell", wrong).await;
        h.at_rest().await;
    });
}

#[test]
fn pods_with_the_labels_and_the_name_are_adopted() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(CONTROLLERS)).await;
        for name in ["web-0", "other-0"] {
            let mut pod = objects::template("web", "v1");
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["namespace"] = json!("default");
            h.create(&PODS(), &pod).await;
        }
        h.create(&STATEFUL_SETS(), &stateful_set(&json!({"replicas": 1})))
            .await;
        h.until("one is adopted", |w| {
            w.get("pods", "web-0")
                .is_some_and(|pod| pod.controller_of().is_some())
        })
        .await;
        h.at_rest().await;
        assert!(h.get(&PODS(), "other-0").await.controller_of().is_none());
        // A Pod that no longer fits is let go.
        h.patch(
            &PODS(),
            "web-0",
            &json!({"metadata": {"labels": {"app": "mine"}}}),
        )
        .await;
        h.until("it is let go", |w| {
            w.get("pods", "web-0")
                .is_some_and(|pod| pod.controller_of().is_none())
        })
        .await;
    });
}
