//! Jobs and what makes and removes them, under faults: no Pod made twice, none counted twice or lost, rest at the end.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::expect::{INDEX, at_most_work};
use common::kubelet::Act;
use common::objects::{CRON_JOBS, JOBS, PODS, condition, is_active, job, number};
use common::recorder::World;
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{DeleteOptions, Object};
use parking_lot::Mutex;
use serde_json::json;

/// What a cron job needs; the garbage collector ends foreground deletions.
const CRON: &[&str] = &["job", "cronjob", "ttlafterfinished", "garbagecollector"];

fn has(world: &World, name: &str, kind: &str) -> bool {
    let job = world.get("jobs", name);
    job.is_some_and(|job| condition(job, kind).is_some_and(|c| c["status"] == "True"))
}

/// Counts never go back and never pass what has ended.
fn counts_are_true(world: &World) -> Result<(), String> {
    for job in world.all("jobs") {
        let (succeeded, made) = (
            number(job, "/status/succeeded"),
            world.created.get("pods").copied().unwrap_or(0),
        );
        // Between resources there is no order: a Pod may be shown after the Job that counts it.
        let completions = number(job, "/spec/completions");
        if succeeded > completions {
            return Err(format!(
                "{succeeded} of {completions} succeeded, {made} made"
            ));
        }
    }
    Ok(())
}

#[test]
fn a_job_completes_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job"])).await;
        h.always(at_most_work(3));
        h.always(counts_are_true);
        h.kubelet.set(Arc::new(|_| Act::Succeed));
        let more = json!({"completions": 9, "parallelism": 3});
        h.create(&JOBS(), &job("work", &more)).await;
        h.until("some are done", |w| {
            w.get("jobs", "work")
                .is_some_and(|job| number(job, "/status/succeeded") >= 2)
        })
        .await;
        h.restart().await;
        h.until("more are done", |w| {
            w.get("jobs", "work")
                .is_some_and(|job| number(job, "/status/succeeded") >= 5)
        })
        .await;
        h.restart().await;
        h.calm();
        h.until("it is complete", |w| has(w, "work", "Complete"))
            .await;
        let job = h.get(&JOBS(), "work").await;
        assert_eq!(number(&job, "/status/succeeded"), 9);
        assert_eq!(number(&job, "/status/failed"), 0);
        assert_eq!(job.status()["uncountedTerminatedPods"], json!({}));
        h.until("no Pod waits to be counted", |w| {
            w.pods().count() == 9 && w.pods().all(|pod| pod.finalizers().next().is_none())
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn every_index_succeeds_once_whatever_goes_wrong() {
    each_seed(4, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job"])).await;
        h.always(at_most_work(4));
        // Index 2 fails once, index 5 always.
        let failures: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        h.kubelet.set(Arc::new(move |pod: &Object| {
            let index = pod.annotation(INDEX).unwrap_or_default().to_owned();
            let first = failures
                .lock()
                .entry(index.clone())
                .or_insert_with(|| pod.uid().to_owned())
                .clone();
            match index.as_str() {
                "2" if first == pod.uid() => Act::Fail,
                "5" => Act::Fail,
                _ => Act::Succeed,
            }
        }));
        let more = json!({
            "completions": 8, "parallelism": 4, "completionMode": "Indexed",
            "backoffLimitPerIndex": 0, "maxFailedIndexes": 4,
        });
        h.create(&JOBS(), &job("work", &more)).await;
        h.until("some are done", |w| {
            w.get("jobs", "work")
                .is_some_and(|job| number(job, "/status/succeeded") >= 3)
        })
        .await;
        h.restart().await;
        h.calm();
        h.until("it has failed", |w| has(w, "work", "Failed")).await;
        let job = h.get(&JOBS(), "work").await;
        assert_eq!(job.status()["completedIndexes"], "0,1,3,4,6,7");
        assert_eq!(job.status()["failedIndexes"], "2,5");
        assert_eq!(number(&job, "/status/failed"), 2);
        assert_eq!(
            condition(&job, "Failed").expect("it failed")["reason"],
            "FailedIndexes"
        );
        h.at_rest().await;
    });
}

#[test]
fn a_suspended_job_gives_its_pods_back() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job"])).await;
        h.always(at_most_work(3));
        let more = json!({"completions": 3, "parallelism": 3});
        h.create(&JOBS(), &job("work", &more)).await;
        h.until("three run", |w| {
            w.pods().filter(|pod| is_active(pod)).count() == 3
        })
        .await;
        h.patch(&JOBS(), "work", &json!({"spec": {"suspend": true}}))
            .await;
        h.until("none runs", |w| {
            w.pods().count() == 0 && has(w, "work", "Suspended")
        })
        .await;
        let job = h.get(&JOBS(), "work").await;
        assert_eq!(number(&job, "/status/failed"), 0);
        assert!(job.status().get("startTime").is_none());
        h.kubelet.set(Arc::new(|_| Act::Succeed));
        h.patch(&JOBS(), "work", &json!({"spec": {"suspend": false}}))
            .await;
        h.calm();
        h.until("it is complete", |w| has(w, "work", "Complete"))
            .await;
        h.at_rest().await;
    });
}

#[test]
fn a_deleted_job_keeps_no_pod_waiting() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job", "garbagecollector"])).await;
        let more = json!({"completions": 4, "parallelism": 4});
        h.create(&JOBS(), &job("work", &more)).await;
        h.until("four run", |w| {
            w.pods().filter(|pod| is_active(pod)).count() == 4
        })
        .await;
        h.restart().await;
        let background = DeleteOptions {
            propagation_policy: Some("Background"),
            ..DeleteOptions::default()
        };
        h.delete_with(&JOBS(), "work", &background).await;
        h.calm();
        h.until("nothing is left", |w| {
            w.pods().count() == 0 && w.get("jobs", "work").is_none()
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_pod_that_ends_the_job_ends_all_others() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job"])).await;
        let more = json!({
            "completions": 3, "parallelism": 3, "completionMode": "Indexed",
            "podFailurePolicy": {"rules": [{
                "action": "FailJob",
                "onPodConditions": [{"type": "Ready", "status": "False"}],
            }]},
        });
        h.kubelet
            .set(Arc::new(|pod: &Object| match pod.annotation(INDEX) {
                Some("1") => Act::Fail,
                _ => Act::Ready,
            }));
        h.create(&JOBS(), &job("work", &more)).await;
        h.calm();
        h.until("it has failed", |w| has(w, "work", "Failed")).await;
        let job = h.get(&JOBS(), "work").await;
        let failed = condition(&job, "Failed").expect("it failed");
        assert_eq!(failed["reason"], "PodFailurePolicy");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Pod default/work-1-"), "{message}");
        assert!(
            message.ends_with("has condition Ready matching FailJob rule at index 0"),
            "{message}"
        );
        assert_eq!(number(&job, "/status/active"), 0);
        h.until("all are gone", |w| w.pods().all(|pod| !is_active(pod)))
            .await;
        h.at_rest().await;
    });
}

#[test]
fn a_pod_without_an_owner_is_taken_in() {
    each_seed(1, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["job"])).await;
        h.calm();
        let mut wanted = job(
            "work",
            &json!({"manualSelector": true, "selector": {"matchLabels": {"app": "work"}}}),
        );
        wanted["spec"]["template"]["metadata"] = json!({"labels": {"app": "work"}});
        let mut orphan = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "orphan", "namespace": NAMESPACE, "labels": {"app": "work"}},
        });
        orphan["spec"] = wanted["spec"]["template"]["spec"].clone();
        h.create(&PODS(), &orphan).await;
        h.create(&JOBS(), &wanted).await;
        h.until("it is the Job's", |w| {
            w.get("pods", "orphan").is_some_and(|pod| {
                pod.controller_of()
                    .is_some_and(|owner| owner.name == "work")
                    && pod.has_finalizer("batch.kubernetes.io/job-tracking")
            })
        })
        .await;
        h.at_rest().await;
        h.recorder.with(|w| assert_eq!(w.pods().count(), 1));
    });
}

#[test]
fn a_cron_job_makes_one_job_a_start_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CRON)).await;
        h.kubelet.set(Arc::new(|_| Act::Succeed));
        let mut template = job("x", &json!({"ttlSecondsAfterFinished": 0}));
        template = json!({"spec": template["spec"]});
        // Made up for at once: it was due while nobody looked.
        let wanted = json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "often", "namespace": NAMESPACE},
            "spec": {"schedule": "@every 1s", "concurrencyPolicy": "Forbid", "jobTemplate": template},
        });
        // One may run of which nobody knows yet: the answer to its creation was lost.
        let runs = |job: &Object| {
            let ended = |kind| condition(job, kind).is_some_and(|c| c["status"] == "True");
            !ended("Complete") && !ended("Failed")
        };
        h.always(
            move |w| match w.all("jobs").filter(|job| runs(job)).count() {
                0..=2 => Ok(()),
                many => Err(format!("{many} Jobs at once")),
            },
        );
        h.create(&CRON_JOBS(), &wanted).await;
        h.until("a Job was made, ended and went", |w| {
            w.deleted.get("jobs").copied().unwrap_or(0) >= 1
        })
        .await;
        h.restart().await;
        h.patch(&CRON_JOBS(), "often", &json!({"spec": {"suspend": true}}))
            .await;
        h.calm();
        h.until("nothing is active", |w| {
            w.all("jobs").count() == 0
                && w.get("cronjobs", "often").is_some_and(|often| {
                    often.pointer("/status/active").is_none()
                        && often.pointer("/status/lastScheduleTime").is_some()
                })
        })
        .await;
        h.at_rest().await;
    });
}
