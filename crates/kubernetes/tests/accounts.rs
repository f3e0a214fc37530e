//! Service accounts and their tokens under faults: every namespace has its account, tokens go with their account, and those nobody
//! uses are marked and deleted.

mod common;

use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{ListOptions, Object, ObjectKey, Resource, Subresource};
use serde_json::{Value, json};
use testkit::eventually;

const CONTROLLERS: &[&str] = &[
    "serviceaccount",
    "legacy-serviceaccount-token-cleaner-controller",
];
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

fn accounts() -> Resource {
    Resource::namespaced("v1", "serviceaccounts", "ServiceAccount")
}

fn secrets() -> Resource {
    Resource::namespaced("v1", "secrets", "Secret")
}

fn account(name: &str, tokens: &[&str]) -> Value {
    let tokens: Vec<Value> = tokens.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE}, "secrets": tokens,
    })
}

fn token(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "annotations": {"kubernetes.io/service-account.name": account},
        },
    })
}

async fn secret(h: &Harness, name: &str) -> Option<Object> {
    let key = ObjectKey::new(NAMESPACE, name);
    h.api.get_opt(&secrets(), &key).await.expect("an answer")
}

#[test]
fn every_namespace_keeps_its_account_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let namespaces = Resource::cluster("v1", "namespaces", "Namespace");
        for number in 0..8 {
            let name = format!("n-{number}");
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            h.create(&namespaces, &namespace).await;
            if number == 4 {
                h.restart().await;
            }
        }
        let all = || async {
            let list = h
                .api
                .list(&accounts(), &ListOptions::default())
                .await
                .ok()?;
            let own = |number: usize| {
                let namespace = format!("n-{number}");
                let is = |account: &&Object| account.namespace() == Some(&*namespace);
                list.items.iter().filter(is).count()
            };
            (0..8).all(|number| own(number) == 1).then_some(())
        };
        eventually("all have one", all).await;
        let key = ObjectKey::new("n-3", "default");
        let deleted = h.api.delete(&accounts(), &key, &Default::default()).await;
        assert!(deleted.expect("an answer"));
        eventually("it is made again", all).await;
        h.calm();
        h.at_rest().await;
    });
}

#[test]
fn tokens_nobody_uses_go_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        // Their use has been noted for years.
        let tracking = ObjectKey::new(
            "kube-system",
            "kube-apiserver-legacy-service-account-token-tracking",
        );
        let config_maps = Resource::namespaced("v1", "configmaps", "ConfigMap");
        let since = json!({"data": {"since": "2020-01-01"}});
        let patched = h
            .api
            .merge_patch(&config_maps, &tracking, Subresource::None, &since)
            .await;
        patched.expect("it is there");
        h.create(&accounts(), &account("robot", &["old", "used", "mounted"]))
            .await;
        h.create(&accounts(), &account("gone", &["orphan"])).await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": NAMESPACE},
            "spec": {
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "t", "secret": {"secretName": "mounted"}}],
            },
        });
        h.create(&common::objects::PODS(), &pod).await;
        let mut used = token("used", "robot");
        used["metadata"]["labels"] = json!({LAST_USED: "2999-01-01"});
        h.create(&secrets(), &used).await;
        // Nobody but its user has made this one, so it is none of the cluster's business.
        h.create(&secrets(), &token("manual", "robot")).await;
        h.create(&secrets(), &token("mounted", "robot")).await;
        h.create(&secrets(), &token("old", "robot")).await;
        h.create(&secrets(), &token("orphan", "gone")).await;
        if seed % 2 == 0 {
            h.restart().await;
        }
        let invalid = |name: &'static str| {
            let h = &h;
            async move {
                secret(h, name)
                    .await?
                    .label(INVALID_SINCE)
                    .map(str::to_owned)
            }
        };
        eventually("the old one is marked", || invalid("old")).await;
        eventually("the other one, too", || invalid("orphan")).await;
        h.delete(&accounts(), "gone").await;
        eventually("a token goes with its account", || async {
            secret(&h, "orphan").await.is_none().then_some(())
        })
        .await;
        let past = json!({"metadata": {"labels": {INVALID_SINCE: "2021-01-01"}}});
        h.patch(&secrets(), "old", &past).await;
        eventually("what was marked long ago is deleted", || async {
            secret(&h, "old").await.is_none().then_some(())
        })
        .await;
        h.calm();
        h.at_rest().await;
        for name in ["used", "manual", "mounted"] {
            assert!(secret(&h, name).await.is_some(), "{name} is there");
            assert_eq!(invalid(name).await, None, "{name}");
        }
    });
}
