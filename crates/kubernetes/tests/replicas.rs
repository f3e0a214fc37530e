//! Deployments and replica sets under faults: bounds, orphans, doubles, convergence, rest.

mod common;

use common::expect::{active, settled, within};
use common::kubelet::Act;
use common::objects::{
    self, DEPLOYMENTS, PODS, REPLICA_SETS, deployment, image, image_of, is_active, number, workload,
};
use common::recorder::World;
use common::{Harness, Setup, each_seed};
use serde_json::json;

const CONTROLLERS: &[&str] = &["deployment", "replicaset", "garbagecollector"];

#[test]
fn a_rollout_keeps_its_bounds_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&DEPLOYMENTS(), &deployment(8, 2, 1)).await;
        h.until("all Pods are ready", settled("v1", 8)).await;
        h.always(within(7, 10));
        h.patch(&DEPLOYMENTS(), "web", &image("v2")).await;
        // Changed in the middle, and the controllers die in the middle.
        h.until("some are new", |w| {
            w.pods().filter(|p| image_of(p) == "v2").count() > 2
        })
        .await;
        h.restart().await;
        h.patch(&DEPLOYMENTS(), "web", &image("v3")).await;
        h.until("some are newer", |w| {
            w.pods().filter(|p| image_of(p) == "v3").count() > 2
        })
        .await;
        h.patch(&DEPLOYMENTS(), "web", &image("v1")).await;
        h.restart().await;
        h.until("the first is back", |w| {
            w.pods()
                .filter(|p| is_active(p))
                .all(|p| image_of(p) == "v1")
        })
        .await;
        h.calm();
        h.until("it is done", settled("v1", 8)).await;
        h.until("the status says so", |w| {
            w.get("deployments", "web").is_some_and(|d| {
                number(d, "/status/updatedReplicas") == 8
                    && number(d, "/status/availableReplicas") == 8
                    && number(d, "/status/unavailableReplicas") == 0
            })
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_replica_set_makes_no_pod_twice_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["replicaset"])).await;
        h.always(within(0, 20));
        h.create(
            &REPLICA_SETS(),
            &workload("ReplicaSet", "web", &json!({"replicas": 20})),
        )
        .await;
        h.until("all are there", |w| active(w) == 20).await;
        h.patch(&REPLICA_SETS(), "web", &json!({"spec": {"replicas": 5}}))
            .await;
        h.until("few are left", |w| active(w) == 5).await;
        h.always(|w| {
            if active(w) < 5 {
                Err("too few are left".to_owned())
            } else {
                Ok(())
            }
        });
        h.calm();
        h.until("all are ready", settled("v1", 5)).await;
        h.at_rest().await;
    });
}

#[test]
fn a_deployment_deleted_in_the_middle_of_a_rollout_leaves_nothing() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&DEPLOYMENTS(), &deployment(6, 2, 2)).await;
        h.until("all Pods are ready", settled("v1", 6)).await;
        h.patch(&DEPLOYMENTS(), "web", &image("v2")).await;
        h.until("some are new", |w| w.pods().any(|p| image_of(p) == "v2"))
            .await;
        h.delete(&DEPLOYMENTS(), "web").await;
        h.restart().await;
        h.calm();
        h.until("nothing is left", |w| {
            w.pods().count() == 0 && w.all("replicasets").count() == 0
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_rollout_of_pods_that_never_become_ready_stops_within_its_bounds() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.pods_become(|pod| {
            if image_of(pod) == "bad" {
                Act::Unready
            } else {
                Act::Ready
            }
        });
        h.create(&DEPLOYMENTS(), &deployment(4, 1, 1)).await;
        h.until("all Pods are ready", settled("v1", 4)).await;
        h.always(within(3, 5));
        h.patch(&DEPLOYMENTS(), "web", &image("bad")).await;
        h.until("it hangs", |w| {
            w.pods().filter(|p| image_of(p) == "bad").count() == 2
        })
        .await;
        h.calm();
        h.at_rest().await;
        h.patch(&DEPLOYMENTS(), "web", &image("v1")).await;
        h.until("it is back", settled("v1", 4)).await;
        h.at_rest().await;
    });
}

#[test]
fn an_exhausted_quota_is_said_and_tried_again_slowly() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(&["deployment", "replicaset", "resourcequota"])).await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"},
            "spec": {"hard": {"pods": "2"}}});
        h.create(&objects::QUOTAS(), &quota).await;
        h.until("the quota counts", |w| {
            w.get("resourcequotas", "few")
                .is_some_and(|q| q.pointer("/status/hard/pods").is_some())
        })
        .await;
        h.create(&DEPLOYMENTS(), &deployment(4, 1, 1)).await;
        h.until("the failure is said", |w| {
            w.get("deployments", "web")
                .and_then(|d| objects::condition(d, "ReplicaFailure").cloned())
                .is_some_and(|c| {
                    c["reason"] == "FailedCreate"
                        && c["message"].as_str().is_some_and(|m| {
                            m.contains(
                            "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2",
                        )
                        })
                })
        })
        .await;
        // Each try costs one request, and they come ever more slowly.
        let tries = |requests: Vec<(http::Method, String)>| {
            let is_try = |(method, path): &&(http::Method, String)| {
                *method == http::Method::POST && path.ends_with("/pods")
            };
            requests.iter().filter(is_try).count()
        };
        assert!(tries(h.requests()) < 20);
        h.until("an event says so, too", |w| {
            w.all("events")
                .any(|e| e.value()["reason"] == "FailedCreate")
        })
        .await;
        h.delete(&objects::QUOTAS(), "few").await;
        h.until("all are there", settled("v1", 4)).await;
        h.until("the failure is gone", |w| {
            w.get("deployments", "web")
                .is_some_and(|d| objects::condition(d, "ReplicaFailure").is_none())
        })
        .await;
        h.at_rest().await;
        let _ = PODS();
    });
}

#[test]
fn a_replication_controller_keeps_its_pods() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["replicationcontroller"])).await;
        h.always(within(0, 6));
        let set = json!({
            "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 6, "selector": {"app": "web"}, "template": objects::template("web", "v1")},
        });
        h.create(&objects::REPLICATION_CONTROLLERS(), &set).await;
        h.until("all are ready", settled("v1", 6)).await;
        let size = json!({"spec": {"replicas": 2}});
        h.patch(&objects::REPLICATION_CONTROLLERS(), "web", &size)
            .await;
        h.until("few are left", settled("v1", 2)).await;
        h.calm();
        h.until("the status says so", |w| {
            w.get("replicationcontrollers", "web").is_some_and(|set| {
                number(set, "/status/replicas") == 2
                    && number(set, "/status/availableReplicas") == 2
            })
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn sets_of_one_selector_take_no_pods_from_each_other() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["replicaset", "garbagecollector"])).await;
        for name in ["one", "two"] {
            let mut set = workload("ReplicaSet", "web", &json!({"replicas": 3}));
            set["metadata"]["name"] = json!(name);
            h.create(&REPLICA_SETS(), &set).await;
        }
        h.until("both have theirs", settled("v1", 6)).await;
        // A Pod that fits and has no owner is taken in by one of them, which is then one too many.
        let mut pod = objects::template("web", "v1");
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("stray");
        pod["metadata"]["namespace"] = json!("default");
        h.create(&PODS(), &pod).await;
        h.until("it has an owner or is gone", |w| {
            w.get("pods", "stray")
                .is_none_or(|pod| pod.controller_of().is_some())
        })
        .await;
        h.until("there are as many as wanted", settled("v1", 6))
            .await;
        // One that no longer fits is let go and replaced.
        let name = h
            .recorder
            .with(|w| w.pods().next().map(|pod| pod.name().to_owned()));
        let name = name.expect("a Pod");
        h.patch(
            &PODS(),
            &name,
            &json!({"metadata": {"labels": {"app": "mine"}}}),
        )
        .await;
        let free = name.clone();
        h.until("it is free, and another one there", move |w| {
            w.get("pods", &free)
                .is_some_and(|pod| pod.controller_of().is_none())
                && w.pods().count() == 7
        })
        .await;
        h.calm();
        h.at_rest().await;
    });
}

#[test]
fn a_rollout_scaled_in_the_middle_keeps_its_proportions() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.pods_become(|pod| {
            if image_of(pod) == "bad" {
                Act::Unready
            } else {
                Act::Ready
            }
        });
        h.create(&DEPLOYMENTS(), &deployment(10, 3, 2)).await;
        h.until("all Pods are ready", settled("v1", 10)).await;
        h.patch(&DEPLOYMENTS(), "web", &image("bad")).await;
        let sizes = |w: &World| {
            let mut sizes: Vec<i64> = w
                .all("replicasets")
                .map(|set| number(set, "/spec/replicas"))
                .collect();
            sizes.sort_unstable();
            sizes
        };
        h.until("it hangs", |w| sizes(w) == [5, 8]).await;
        h.patch(&DEPLOYMENTS(), "web", &json!({"spec": {"replicas": 20}}))
            .await;
        // 23 Pods may be: 5 of 13 become 9, 8 of 13 the rest.
        h.until("both have grown", |w| sizes(w) == [9, 14]).await;
        h.calm();
        h.at_rest().await;
        let paused = json!({"spec": {"paused": true}});
        h.patch(&DEPLOYMENTS(), "web", &paused).await;
        h.patch(&DEPLOYMENTS(), "web", &image("v3")).await;
        h.until("the pause is said", |w| {
            let found = w
                .get("deployments", "web")
                .and_then(|d| objects::condition(d, "Progressing").cloned());
            found.is_some_and(|c| c["reason"] == "DeploymentPaused")
        })
        .await;
        h.at_rest().await;
        assert_eq!(h.recorder.with(|w| w.all("replicasets").count()), 2);
        h.patch(&DEPLOYMENTS(), "web", &json!({"spec": {"paused": false}}))
            .await;
        h.until("it goes on", settled("v3", 20)).await;
        h.at_rest().await;
    });
}

#[test]
fn a_recreated_deployment_never_has_two_versions() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.kubelet.set_linger(std::time::Duration::from_millis(30));
        h.always(|w| {
            let versions: std::collections::BTreeSet<&str> =
                w.pods().map(|pod| image_of(pod)).collect();
            if versions.len() > 1 {
                Err(format!("{versions:?}"))
            } else {
                Ok(())
            }
        });
        let spec = json!({"replicas": 3, "strategy": {"type": "Recreate"}});
        h.create(&DEPLOYMENTS(), &workload("Deployment", "web", &spec))
            .await;
        h.until("all Pods are ready", settled("v1", 3)).await;
        for version in ["v2", "v1", "v3"] {
            h.patch(&DEPLOYMENTS(), "web", &image(version)).await;
            h.until("it is there", settled(version, 3)).await;
        }
        h.calm();
        // The first was used twice; its revisions are remembered.
        let history = "deployment.kubernetes.io/revision-history";
        h.until("its history is told", |w| {
            w.all("replicasets")
                .any(|set| set.annotation(history) == Some("1"))
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn the_annotation_of_old_rolls_back() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(CONTROLLERS)).await;
        h.create(&DEPLOYMENTS(), &deployment(2, 1, 0)).await;
        h.until("the first is there", settled("v1", 2)).await;
        h.patch(&DEPLOYMENTS(), "web", &image("v2")).await;
        h.until("the second is there", settled("v2", 2)).await;
        let wish = json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "0"}}});
        h.patch(&DEPLOYMENTS(), "web", &wish).await;
        h.until("the first is back", settled("v1", 2)).await;
        h.until("events tell", |w| {
            w.all("events")
                .any(|e| e.value()["message"] == "Rolled back deployment \"web\" to revision 1")
        })
        .await;
        h.until("it is the third revision", |w| {
            w.get("deployments", "web").is_some_and(|deployment| {
                deployment.annotation("deployment.kubernetes.io/revision") == Some("3")
                    && deployment
                        .annotation("deprecated.deployment.rollback.to")
                        .is_none()
            })
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_rollout_that_makes_no_progress_says_so() {
    each_seed(1, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.pods_become(|_| Act::Unready);
        let spec = json!({"replicas": 2, "progressDeadlineSeconds": 1});
        h.create(&DEPLOYMENTS(), &workload("Deployment", "web", &spec))
            .await;
        let reason = |w: &World| {
            let deployment = w.get("deployments", "web")?;
            let condition = objects::condition(deployment, "Progressing")?;
            Some(condition["reason"].as_str().unwrap_or_default().to_owned())
        };
        h.until("the deadline is over", |w| {
            reason(w).as_deref() == Some("ProgressDeadlineExceeded")
        })
        .await;
        h.calm();
        h.at_rest().await;
        h.pods_become(|_| Act::Ready);
        h.until("it is done all the same", |w| {
            reason(w).as_deref() == Some("NewReplicaSetAvailable")
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_set_made_anew_under_its_name_starts_anew() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["replicaset", "garbagecollector"])).await;
        for _ in 0..4 {
            let set = workload("ReplicaSet", "web", &json!({"replicas": 7}));
            let set = h.create(&REPLICA_SETS(), &set).await;
            h.until("some are there", |w| w.pods().count() > 2).await;
            let own = |pod: &controller::Object| {
                pod.controller_of()
                    .is_some_and(|owner| owner.uid == set.uid())
            };
            h.until("its own are there", |w| {
                w.pods().filter(|pod| own(pod)).count() > 0
            })
            .await;
            h.delete(&REPLICA_SETS(), "web").await;
        }
        h.create(
            &REPLICA_SETS(),
            &workload("ReplicaSet", "web", &json!({"replicas": 3})),
        )
        .await;
        h.calm();
        h.until("only the last one's are left", settled("v1", 3))
            .await;
        h.at_rest().await;
    });
}
