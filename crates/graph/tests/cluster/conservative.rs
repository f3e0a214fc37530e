//! Changes of the API that are only seen with the gate `ConservativeCRDComparison`.

use controller::{Object, ObjectKey, Resource};
use graph::{BuildOptions, Feature, Features, Options, keys};
use serde_json::{Value, json};

use crate::world::{World, app, condition, rgds};

fn options() -> Options {
    Options {
        build: BuildOptions {
            features: Features::default().with(Feature::ConservativeCrdComparison),
            ..BuildOptions::default()
        },
        ..Options::default()
    }
}

async fn field(world: &World) -> Value {
    let version = "apiextensions.k8s.io/v1";
    let crds = Resource::cluster(
        version,
        "customresourcedefinitions",
        "CustomResourceDefinition",
    );
    let crd = world.get(&crds, &ObjectKey::cluster("apps.kro.run")).await;
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/it";
    crd.as_ref()
        .and_then(|crd| crd.pointer(schema))
        .cloned()
        .unwrap_or_default()
}

/// Changes the type of the only field, and waits until the definition has been looked at.
async fn change(world: &World, ty: &str, revision: i64) -> Object {
    let key = ObjectKey::cluster("app");
    let spec = json!({"spec": {"schema": {"spec": {"it": ty}}}});
    world.change(&rgds(), &key, spec).await;
    world
        .wait(&rgds(), &key, |rgd| {
            let resolved = condition(rgd, "GraphRevisionsResolved");
            rgd.status()["lastIssuedRevision"] == revision
                && resolved["status"] == "True"
                && condition(rgd, "KindReady")["observedGeneration"] == rgd.generation()
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_narrower_is_refused_and_what_is_wider_is_published_at_once() {
    let world = World::with(options()).await;
    let spec = json!({"it": "string | immutable=true"});
    world.create(&rgds(), app(spec, json!({}), json!([]))).await;
    world.wait_rgd_active("app").await;
    assert!(field(&world).await["x-kubernetes-validations"].is_array());
    // Nothing but the rule is gone.
    let rgd = change(&world, "string", 2).await;
    assert_eq!(condition(&rgd, "KindReady")["status"], "True");
    assert_eq!(field(&world).await, json!({"type": "string"}));
    let rgd = change(&world, "string | immutable=true", 3).await;
    let refused = condition(&rgd, "KindReady");
    assert_eq!(refused["status"], "False");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("breaking changes detected: Validation rule self == oldSelf was added"),
        "{message}"
    );
    assert_eq!(field(&world).await, json!({"type": "string"}));
    let allow = json!({"metadata": {"annotations": {keys::ALLOW_BREAKING_CHANGES: "true"}}});
    world
        .change(&rgds(), &ObjectKey::cluster("app"), allow)
        .await;
    world.wait_rgd_active("app").await;
    assert!(field(&world).await["x-kubernetes-validations"].is_array());
}
