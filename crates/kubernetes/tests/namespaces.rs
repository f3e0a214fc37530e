//! Namespaces under faults: what is in them goes, Pods first, and they say what they wait for.

mod common;

use common::objects::{PODS, condition};
use common::{Harness, Setup, each_seed};
use controller::{DeleteOptions, Object, ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

fn namespaces() -> Resource {
    Resource::cluster("v1", "namespaces", "Namespace")
}

fn config_maps() -> Resource {
    Resource::namespaced("v1", "configmaps", "ConfigMap")
}

fn object(kind: &str, name: &str, finalizers: &[&str], more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": "going", "finalizers": finalizers},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

async fn release(h: &Harness, resource: &Resource, name: &str) {
    let key = ObjectKey::new("going", name);
    let none = json!({"metadata": {"finalizers": null}});
    let released = h
        .api
        .merge_patch(resource, &key, Subresource::None, &none)
        .await;
    released.expect("it is there");
}

async fn until_told(h: &Harness, text: &str) -> Object {
    testkit::eventually(text, || async {
        let found = h
            .api
            .get(&namespaces(), &ObjectKey::cluster("going"))
            .await
            .ok()?;
        let told = condition(&found, "NamespaceContentRemaining")?["message"]
            .as_str()?
            .contains(text);
        told.then_some(found)
    })
    .await
}

#[test]
fn a_namespace_goes_in_order_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, &["namespace"])).await;
        let going = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
        h.create(&namespaces(), &going).await;
        let spec = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
        h.create(
            &PODS(),
            &object("Pod", "held", &["example.com/hold"], spec.clone()),
        )
        .await;
        h.create(&PODS(), &object("Pod", "free", &[], spec)).await;
        h.create(&config_maps(), &object("ConfigMap", "free", &[], json!({})))
            .await;
        h.create(
            &config_maps(),
            &object("ConfigMap", "held", &["example.com/hold"], json!({})),
        )
        .await;
        let key = ObjectKey::cluster("going");
        h.api
            .delete(&namespaces(), &key, &DeleteOptions::default())
            .await
            .expect("it goes");
        until_told(&h, "pods. has 1 resource instances").await;
        h.restart().await;
        // What Pods may need stays as long as they do.
        let free = h
            .api
            .get_opt(&config_maps(), &ObjectKey::new("going", "free"))
            .await;
        assert!(
            free.expect("an answer")
                .is_some_and(|map| !map.is_terminating())
        );
        release(&h, &PODS(), "held").await;
        // A look asks for every resource there is, so most of them meet a fault, and the pauses between
        // them grow beyond a test's patience: what is left must converge once the faults stop.
        h.calm();
        h.restart().await;
        let told = until_told(&h, "configmaps. has 1 resource instances").await;
        let finalizers = condition(&told, "NamespaceFinalizersRemaining").expect("it is told");
        assert_eq!(
            finalizers["message"],
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        );
        release(&h, &config_maps(), "held").await;
        testkit::eventually("the namespace is gone", || async {
            let found = h.api.get_opt(&namespaces(), &key).await.ok()?;
            found.is_none().then_some(())
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn waiting_costs_little() {
    each_seed(1, |_| async move {
        let h = Harness::start(Setup::calm(&["namespace"])).await;
        let going = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
        h.create(&namespaces(), &going).await;
        h.create(
            &config_maps(),
            &object("ConfigMap", "held", &["example.com/hold"], json!({})),
        )
        .await;
        let key = ObjectKey::cluster("going");
        h.api
            .delete(&namespaces(), &key, &DeleteOptions::default())
            .await
            .expect("it goes");
        until_told(&h, "configmaps. has 1 resource instances").await;
        h.requests();
        let started = std::time::Instant::now();
        let waited = std::time::Duration::from_secs(4);
        testkit::eventually("some time has passed", || async {
            (started.elapsed() > waited).then_some(())
        })
        .await;
        // Each look is one request a group and one a resource; looks come ever more rarely.
        let looks = h
            .requests()
            .iter()
            .filter(|(_, path)| path == "/apis")
            .count();
        assert!(looks <= 5, "{looks} looks in {waited:?}");
    });
}
