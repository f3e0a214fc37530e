//! External references: `externalref_test`, `externalref_watch_test`, `externalref_deletion_test`.

use controller::{ObjectKey, Resource};
use serde_json::{Value, json};

use super::{defined, namespace, served, set, wait_status};
use crate::world::{World, app, apps, config, config_map, config_maps, crds, it, rgds};

fn external(id: &str, metadata: Value) -> Value {
    json!({"id": id, "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}})
}

async fn labelled(world: &World, namespace: &str, name: &str, team: &str) {
    let mut object = config_map(name, json!({"team": team}));
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["labels"] = json!({"team": team});
    world.create(&config_maps(), object).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_selector_takes_all_and_no_namespace_means_every_one() {
    let rgd = app(
        json!({}),
        json!({"here": "${here.map(m, m.metadata.name).sort()}", "all": "${all.filter(m, 'team' in m.metadata.?labels.orValue({})).map(m, m.metadata.name).sort()}"}),
        json!([
            external("here", json!({"namespace": "one", "selector": {}})),
            external("all", json!({"selector": {}})),
        ]),
    );
    let world = defined(rgd).await;
    namespace(&world, "one").await;
    namespace(&world, "two").await;
    labelled(&world, "one", "a", "x").await;
    labelled(&world, "two", "b", "y").await;
    world.app(json!({})).await;
    wait_status(&world, "/here", &json!(["a"])).await;
    wait_status(&world, "/all", &json!(["a", "b"])).await;
    labelled(&world, "two", "c", "z").await;
    wait_status(&world, "/all", &json!(["a", "b", "c"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_are_made_of_expressions_and_followed() {
    let metadata = json!({"selector": {
        "matchLabels": {"team": "${schema.spec.team}"},
        "matchExpressions": [{"key": "skip", "operator": "NotIn", "values": ["${schema.spec.skip}"]}],
    }});
    let rgd = app(
        json!({"team": "string", "skip": "string | default=yes"}),
        json!({"names": "${all.sortBy(m, m.metadata.name).map(m, m.metadata.name)}"}),
        json!([external("all", metadata)]),
    );
    let world = served(rgd, json!({"team": "x"})).await;
    wait_status(&world, "/names", &json!([])).await;
    for (name, team) in [("b", "x"), ("a", "x"), ("c", "y")] {
        labelled(&world, "default", name, team).await;
    }
    wait_status(&world, "/names", &json!(["a", "b"])).await;
    let skip = json!({"metadata": {"labels": {"skip": "yes"}}});
    world.change(&config_maps(), &config("b"), skip).await;
    wait_status(&world, "/names", &json!(["a"])).await;
    set(&world, json!({"team": "y"})).await;
    wait_status(&world, "/names", &json!(["c"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_any_kind_can_be_referred_to() {
    let reference = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "apps.kro.run"}});
    let rgd = app(
        json!({}),
        json!({"group": "${crd.spec.group}"}),
        json!([{"id": "crd", "externalRef": reference}]),
    );
    let world = served(rgd, json!({})).await;
    wait_status(&world, "/group", &json!("kro.run")).await;
}

/// A definition whose instances read those of `app`.
fn consumer() -> Value {
    let mut rgd = app(
        json!({}),
        json!({"text": "${producer.status.text}"}),
        json!([{"id": "producer", "externalRef": {"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it"}}}]),
    );
    rgd["metadata"]["name"] = "consumer".into();
    rgd["spec"]["schema"]["kind"] = "Consumer".into();
    rgd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_when_its_consumer_goes() {
    let rgd = app(
        json!({"text": "string"}),
        json!({"text": "${map.data.text}"}),
        json!([{"id": "map", "template": config_map("map", json!({"text": "${schema.spec.text}"}))}]),
    );
    let world = served(rgd, json!({"text": "one"})).await;
    world.create(&rgds(), consumer()).await;
    world.wait_rgd_active("consumer").await;
    let consumers = Resource::namespaced("kro.run/v1", "consumers", "Consumer");
    let object = json!({"apiVersion": "kro.run/v1", "kind": "Consumer", "metadata": {"name": "it", "namespace": "default"}});
    world.create(&consumers, object).await;
    let reads =
        |text: &'static str| move |found: &controller::Object| found.status()["text"] == text;
    world.wait(&consumers, &it(), reads("one")).await;
    set(&world, json!({"text": "two"})).await;
    world.wait(&consumers, &it(), reads("two")).await;
    world.delete(&consumers, &it()).await;
    world.wait_gone(&consumers, &it()).await;
    set(&world, json!({"text": "three"})).await;
    wait_status(&world, "/text", &json!("three")).await;
    let drift = json!({"data": {"text": "drift"}});
    world.change(&config_maps(), &config("map"), drift).await;
    world
        .wait(&config_maps(), &config("map"), |map| {
            map.value()["data"]["text"] == "three"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_on_an_external_object_is_deleted_without_it_and_the_object_stays() {
    let rgd = app(
        json!({}),
        json!({}),
        json!([
            external("origin", json!({"name": "root"})),
            {"id": "first", "template": config_map("${origin.metadata.name}-first", json!({}))},
            {"id": "second", "template": config_map("${first.metadata.name}-second", json!({}))},
        ]),
    );
    let world = defined(rgd).await;
    labelled(&world, "default", "root", "x").await;
    labelled(&world, "default", "other", "x").await;
    world.app(json!({})).await;
    world.wait_active().await;
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let (first, second) = (config("root-first"), config("root-first-second"));
    world
        .change(&config_maps(), &second, hold(json!(["test.io/hold"])))
        .await;
    world.delete(&config_maps(), &config("root")).await;
    world.delete(&apps(), &it()).await;
    world
        .wait(&config_maps(), &second, controller::Object::is_terminating)
        .await;
    let waiting = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "DELETING")
        .await;
    assert!(waiting.has_finalizer("kro.run/finalizer"));
    let kept = world.get(&config_maps(), &first).await.unwrap();
    assert!(!kept.is_terminating(), "the earlier wave waits");
    world
        .change(&config_maps(), &second, hold(Value::Null))
        .await;
    world.wait_gone(&apps(), &it()).await;
    assert!(world.get(&config_maps(), &first).await.is_none());
    let other = ObjectKey::new("default", "other");
    assert!(world.get(&config_maps(), &other).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_is_made_of_expressions_and_of_any_version() {
    let world = World::start().await;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1p1beta1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open}}}}]}});
    world.create(&crds(), crd).await;
    let reference = json!({"apiVersion": "example.com/v1p1beta1", "kind": "Thing",
        "metadata": {"name": "${schema.spec.name + '-thing'}", "namespace": "${schema.spec.space}"}});
    let rgd = app(
        json!({"name": "string", "space": "string"}),
        json!({"size": "${string(thing.spec.size)}"}),
        json!([{"id": "thing", "externalRef": reference, "readyWhen": ["${thing.spec.size > 1}"]}]),
    );
    world.define(rgd).await;
    namespace(&world, "space").await;
    world.app(json!({"name": "x", "space": "space"})).await;
    let things = Resource::namespaced("example.com/v1p1beta1", "things", "Thing");
    let thing = json!({"apiVersion": "example.com/v1p1beta1", "kind": "Thing", "metadata": {"name": "x-thing", "namespace": "space"},
        "spec": {"size": 1}});
    world.create(&things, thing).await;
    wait_status(&world, "/size", &json!("1")).await;
    wait_status(&world, "/state", &json!("IN_PROGRESS")).await;
    let key = ObjectKey::new("space", "x-thing");
    world
        .change(&things, &key, json!({"spec": {"size": 2}}))
        .await;
    wait_status(&world, "/size", &json!("2")).await;
    world.wait_active().await;
}
