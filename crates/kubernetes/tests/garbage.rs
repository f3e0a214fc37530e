//! The garbage collector under faults: what has no owner left goes, in the order that was asked for; nothing else does.

mod common;

use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{DeleteOptions, Object, Resource};
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &["garbagecollector"];

fn config_maps() -> Resource {
    Resource::namespaced("v1", "configmaps", "ConfigMap")
}

fn secrets() -> Resource {
    Resource::namespaced("v1", "secrets", "Secret")
}

fn owner(object: &Object, blocks: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": object.kind(), "name": object.name(), "uid": object.uid(),
        "blockOwnerDeletion": blocks,
    })
}

fn map(name: &str, owners: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": owners},
    })
}

async fn delete(h: &Harness, name: &str, policy: &'static str) {
    let options = DeleteOptions {
        propagation_policy: Some(policy),
        ..DeleteOptions::default()
    };
    h.delete_with(&config_maps(), name, &options).await;
}

async fn names(h: &Harness) -> Vec<String> {
    let list = h.api.list(&config_maps(), &Default::default()).await;
    let mut names: Vec<String> = list
        .expect("a list")
        .items
        .iter()
        // The server has some of its own.
        .filter(|object| object.namespace() != Some("kube-system"))
        .map(|object| object.name().to_owned())
        .collect();
    names.sort();
    names
}

async fn until_left(h: &Harness, expect: &[&str]) {
    testkit::eventually(&format!("only {expect:?} are left"), || async {
        (names(h).await == expect).then_some(())
    })
    .await;
}

#[test]
fn dependents_go_with_their_last_owner() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let a = h.create(&config_maps(), &map("a", &[])).await;
        let b = h.create(&config_maps(), &map("b", &[])).await;
        let of_a = h
            .create(&config_maps(), &map("of-a", &[owner(&a, true)]))
            .await;
        let both = map("of-both", &[owner(&a, false), owner(&b, false)]);
        h.create(&config_maps(), &both).await;
        h.create(&config_maps(), &map("of-of-a", &[owner(&of_a, true)]))
            .await;
        delete(&h, "a", "Background").await;
        until_left(&h, &["b", "of-both"]).await;
        testkit::eventually("the reference is gone", || async {
            let left = h.get(&config_maps(), "of-both").await.owner_references();
            (left.len() == 1 && left[0].name == "b").then_some(())
        })
        .await;
        h.restart().await;
        delete(&h, "b", "Background").await;
        h.calm();
        until_left(&h, &[]).await;
        h.at_rest().await;
    });
}

#[test]
fn an_owner_in_the_foreground_goes_last() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let top = h.create(&config_maps(), &map("top", &[])).await;
        let middle = h
            .create(&config_maps(), &map("middle", &[owner(&top, true)]))
            .await;
        let mut held = map("bottom", &[owner(&middle, true)]);
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        h.create(&config_maps(), &held).await;
        h.create(&config_maps(), &map("loose", &[owner(&top, false)]))
            .await;
        delete(&h, "top", "Foreground").await;
        testkit::eventually("the bottom is going", || async {
            h.get(&config_maps(), "bottom")
                .await
                .is_terminating()
                .then_some(())
        })
        .await;
        h.restart().await;
        let left = names(&h).await;
        assert!(
            left.contains(&"top".to_owned()) && left.contains(&"middle".to_owned()),
            "{left:?}"
        );
        h.patch(
            &config_maps(),
            "bottom",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await;
        h.calm();
        until_left(&h, &[]).await;
        h.at_rest().await;
    });
}

#[test]
fn orphans_stay() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let a = h.create(&config_maps(), &map("a", &[])).await;
        for name in ["x", "y", "z"] {
            h.create(&config_maps(), &map(name, &[owner(&a, true)]))
                .await;
        }
        delete(&h, "a", "Orphan").await;
        h.restart().await;
        h.calm();
        until_left(&h, &["x", "y", "z"]).await;
        for name in ["x", "y", "z"] {
            let left = h.get(&config_maps(), name).await;
            assert!(left.owner_references().is_empty(), "{name}");
        }
        h.at_rest().await;
    });
}

#[test]
fn owners_in_a_circle_go_all_the_same() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let a = h.create(&config_maps(), &map("a", &[])).await;
        let b = h
            .create(&config_maps(), &map("b", &[owner(&a, true)]))
            .await;
        let c = h
            .create(&config_maps(), &map("c", &[owner(&b, true)]))
            .await;
        let closed = json!({"metadata": {"ownerReferences": [owner(&c, true)]}});
        h.patch(&config_maps(), "a", &closed).await;
        delete(&h, "b", "Foreground").await;
        h.calm();
        until_left(&h, &[]).await;
        h.at_rest().await;
    });
}

#[test]
fn an_owner_elsewhere_is_told_and_an_unknown_one_is_left_alone() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(CONTROLLERS)).await;
        let elsewhere = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "far", "namespace": "kube-system"},
        });
        let far = h.create(&secrets(), &elsewhere).await;
        let unknown = json!({
            "apiVersion": "example.com/v1", "kind": "Nothing", "name": "x", "uid": "no-such-uid",
        });
        h.create(&config_maps(), &map("of-unknown", &[unknown]))
            .await;
        h.create(&config_maps(), &map("of-far", &[owner(&far, false)]))
            .await;
        until_left(&h, &["of-unknown"]).await;
        let uid = far.uid().to_owned();
        let text = format!(
            "ownerRef [v1/Secret, namespace: default, name: far, uid: {uid}] does not exist in namespace \"default\""
        );
        h.until("it is told", move |w| {
            w.all("events").any(|event| {
                event.value()["reason"] == "OwnerRefInvalidNamespace"
                    && event.value()["message"] == text.as_str()
            })
        })
        .await;
        h.at_rest().await;
        assert_eq!(names(&h).await, ["of-unknown"]);
    });
}
