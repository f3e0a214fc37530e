//! The leader is lost in the middle of a sync: its line to the server is cut at some request, another instance takes the
//! Lease and carries on, and what the first one still has to say when its line is mended is not heard. Bounds hold all along.

mod common;

use std::sync::Arc;

use common::expect::{at_most_per_node, at_most_work, settled, within};
use common::kubelet::Act;
use common::leaders::Leaders;
use common::objects::{
    DAEMON_SETS, DEPLOYMENTS, JOBS, STATEFUL_SETS, condition, daemon_set, deployment, image,
    image_of, is_ready, job, number, stateful_set,
};
use common::recorder::{World, available_at_least};
use common::{Harness, Setup, each_seed};
use controller::{Object, Resource};
use serde_json::json;

/// A cluster with two instances of some controllers; the one called `one` leads.
async fn start(setup: Setup) -> (Harness, Leaders) {
    let h = Harness::without_controllers(setup).await;
    let mut leaders = Leaders::new();
    leaders.start(&h, "one");
    leaders.leads("one").await;
    leaders.start(&h, "two");
    (h, leaders)
}

/// Changes the image, and the leader in the middle of the update, which ends with `count` Pods.
async fn update(
    seed: u64,
    (h, leaders): (Harness, Leaders),
    resource: Resource,
    name: &str,
    count: usize,
) {
    h.patch(&resource, name, &image("v2")).await;
    leaders.change_in_the_middle(seed, "one", "two", 40).await;
    h.until("all are new", settled("v2", count)).await;
    // The next one is carried out by the other instance alone.
    h.patch(&resource, name, &image("v3")).await;
    h.until("all are newest", settled("v3", count)).await;
    h.calm();
    h.at_rest().await;
    leaders.check();
    h.recorder
        .with(|world| assert_eq!(orphans(world), Vec::<String>::new()));
}

/// Pods that nobody controls, or somebody who is not there.
fn orphans(world: &World) -> Vec<String> {
    let plurals = ["replicasets", "statefulsets", "daemonsets", "jobs"];
    let is_orphan = |pod: &&Arc<Object>| {
        let owner = pod.controller_of();
        owner.is_none_or(|owner| {
            let mut owners = plurals.iter().flat_map(|plural| world.all(plural));
            !owners.any(|object| object.uid() == owner.uid)
        })
    };
    let found = world.pods().filter(is_orphan);
    found.map(|pod| pod.name().to_owned()).collect()
}

#[test]
fn a_rollout_goes_on() {
    each_seed(3, |seed| async move {
        let controllers = &["deployment", "replicaset", "garbagecollector"];
        let (h, leaders) = start(Setup::faulty(seed, controllers)).await;
        h.create(&DEPLOYMENTS(), &deployment(8, 2, 1)).await;
        h.until("all Pods are ready", settled("v1", 8)).await;
        h.always(within(7, 10));
        update(seed, (h, leaders), DEPLOYMENTS(), "web", 8).await;
    });
}

#[test]
fn a_stateful_set_goes_on_in_order() {
    each_seed(3, |seed| async move {
        let controllers = &["statefulset", "garbagecollector"];
        let (h, leaders) = start(Setup::faulty(seed, controllers)).await;
        let set = stateful_set(&json!({"replicas": 4}));
        h.create(&STATEFUL_SETS(), &set).await;
        h.until("all Pods are ready", settled("v1", 4)).await;
        h.always(available_at_least(3));
        h.always(|world| {
            let age = |pod: &Arc<Object>| image_of(pod).to_owned();
            let images: Vec<String> = world.pods().map(age).collect();
            // From the top down: no Pod is newer than one above it.
            if images.is_sorted() {
                Ok(())
            } else {
                Err(format!("{images:?}"))
            }
        });
        update(seed, (h, leaders), STATEFUL_SETS(), "web", 4).await;
    });
}

#[test]
fn a_daemon_set_goes_on_node_by_node() {
    each_seed(3, |seed| async move {
        let controllers = &["daemonset", "garbagecollector"];
        let (h, leaders) = start(Setup::faulty(seed, controllers).nodes(6)).await;
        h.always(at_most_per_node(1));
        let set = daemon_set(&json!({"maxUnavailable": 2}));
        h.create(&DAEMON_SETS(), &set).await;
        h.until("all Pods are ready", settled("v1", 6)).await;
        h.always(available_at_least(4));
        update(seed, (h, leaders), DAEMON_SETS(), "agent", 6).await;
    });
}

#[test]
fn a_job_counts_every_index_once() {
    each_seed(3, |seed| async move {
        let (h, leaders) = start(Setup::faulty(seed, &["job", "garbagecollector"])).await;
        h.always(at_most_work(3));
        h.pods_become(|_| Act::Succeed);
        let more = json!({"completions": 24, "parallelism": 3, "completionMode": "Indexed"});
        h.create(&JOBS(), &job("work", &more)).await;
        h.until("one is counted", |w| {
            w.get("jobs", "work")
                .is_some_and(|job| number(job, "/status/succeeded") > 0)
        })
        .await;
        leaders.change_in_the_middle(seed, "one", "two", 40).await;
        h.calm();
        h.until("it is complete", |w| {
            let job = w.get("jobs", "work");
            job.is_some_and(|job| condition(job, "Complete").is_some_and(|c| c["status"] == "True"))
        })
        .await;
        let job = h.get(&JOBS(), "work").await;
        assert_eq!(job.status()["completedIndexes"], "0-23");
        assert_eq!(number(&job, "/status/succeeded"), 24);
        assert_eq!(number(&job, "/status/failed"), 0);
        h.until("no Pod waits to be counted", |w| {
            w.pods().count() == 24 && w.pods().all(|pod| pod.finalizers().next().is_none())
        })
        .await;
        h.at_rest().await;
        leaders.check();
        h.recorder.with(|w| {
            assert_eq!(orphans(w), Vec::<String>::new());
            assert!(!w.pods().any(|pod| is_ready(pod)));
        });
    });
}
