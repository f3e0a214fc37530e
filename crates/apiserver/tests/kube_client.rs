//! An unmodified kube-rs program works, in process and over HTTPS.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use testkit::Cluster;

fn config_map(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    object.data = Some(BTreeMap::from([("key".to_owned(), "value".to_owned())]));
    object
}

/// What such a program does all day.
async fn exercise(client: Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let made = maps
        .create(&PostParams::default(), &config_map("a"))
        .await
        .expect("created");
    assert!(made.uid().is_some() && made.resource_version().is_some());
    let again = maps.create(&PostParams::default(), &config_map("a")).await;
    match again {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, &*status.reason), (409, "AlreadyExists"));
        }
        other => panic!("a name is taken once, got {other:?}"),
    }

    let since = made.resource_version().expect("checked");
    let watch = maps
        .watch(&WatchParams::default().labels("app=web"), &since)
        .await
        .expect("opens");
    let mut watch = watch.boxed();

    let patch = json!({"data": {"other": "x"}});
    let merged = maps
        .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("patched");
    assert_eq!(merged.data.as_ref().map(BTreeMap::len), Some(2));
    match watch.try_next().await.expect("an event") {
        Some(WatchEvent::Modified(object)) => assert_eq!(object.data, merged.data),
        other => panic!("the change is seen, got {other:?}"),
    }

    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "v"}});
    let params = PatchParams::apply("test");
    let applied = maps
        .patch("b", &params, &Patch::Apply(&apply))
        .await
        .expect("applied");
    let manager = applied
        .managed_fields()
        .first()
        .and_then(|entry| entry.manager.clone());
    assert_eq!(manager.as_deref(), Some("test"));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "w"}});
    let conflict = maps
        .patch("b", &PatchParams::apply("other"), &Patch::Apply(&other))
        .await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));

    let page = maps
        .list(&ListParams::default().limit(1))
        .await
        .expect("listed");
    assert_eq!(page.items.len(), 1);
    let token = page.metadata.continue_.expect("there is more");
    let rest = maps
        .list(&ListParams::default().continue_token(&token))
        .await
        .expect("listed");
    assert_eq!(rest.items.len(), 1);

    let mut stale = merged.clone();
    stale.metadata.resource_version = Some(since);
    let lost = maps.replace("a", &PostParams::default(), &stale).await;
    assert!(matches!(lost, Err(kube::Error::Api(status)) if status.code == 409));

    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert!(maps.get_opt("a").await.expect("asked").is_none());
    match watch.try_next().await.expect("an event") {
        Some(WatchEvent::Deleted(object)) => assert_eq!(object.name_any(), "a"),
        other => panic!("the end is seen, got {other:?}"),
    }

    let secrets: Api<Secret> = Api::namespaced(client.clone(), "missing");
    let nowhere = secrets
        .create(&PostParams::default(), &Secret::default())
        .await;
    assert!(nowhere.is_err(), "a namespace must exist");
    let namespaces: Api<Namespace> = Api::all(client);
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .expect("listed")
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
}

#[tokio::test]
async fn in_process() {
    let cluster = Cluster::start().await;
    exercise(cluster.client()).await;
}

#[tokio::test]
async fn over_https_with_a_kubeconfig() {
    let cluster = Cluster::start().await;
    let endpoint = cluster.listen().await;
    let kubeconfig: Kubeconfig = serde_json::from_value(endpoint.kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it is complete");
    exercise(Client::try_from(config).expect("a client")).await;
}
