//! What kro publishes about its behaviour by its own tests, one by one, as far as no other test here proves it.

mod collections;
mod conditions;
mod definitions;
mod expressions;
mod externals;
mod inclusion;
mod members;
mod objects;
mod operations;

use std::time::Duration;

use controller::{ListOptions, Object, ObjectKey, Resource};
use serde_json::{Value, json};

use crate::world::{World, apps, config_maps, crds, it, rgds};

/// A cluster that serves a definition, with one instance of it.
pub async fn served(rgd: Value, spec: Value) -> World {
    let world = defined(rgd).await;
    world.app(spec).await;
    world
}

/// A cluster that serves a definition.
pub async fn defined(rgd: Value) -> World {
    let world = World::start().await;
    world.define(rgd).await;
    world
}

/// The instance, as soon as its status has this in it.
pub async fn wait_status(world: &World, pointer: &str, expect: &Value) -> Object {
    let wanted = |app: &Object| app.status().pointer(pointer) == Some(expect);
    world.wait(&apps(), &it(), wanted).await
}

/// Changes the instance's spec.
pub async fn set(world: &World, spec: Value) {
    world.change(&apps(), &it(), json!({"spec": spec})).await;
}

/// Changes the definition.
pub async fn redefine(world: &World, spec: Value) {
    let key = ObjectKey::cluster("app");
    world.change(&rgds(), &key, json!({"spec": spec})).await;
}

/// `namespace/name` of the ConfigMaps of one resource of the graph, sorted.
pub async fn names(world: &World, node: &str) -> Vec<String> {
    let options = ListOptions {
        label_selector: Some(format!("kro.run/node-id={node}")),
        ..ListOptions::default()
    };
    let list = world.api.list(&config_maps(), &options).await.unwrap();
    let mut names: Vec<String> = list
        .items
        .iter()
        .map(|item| item.key().to_string())
        .collect();
    names.sort();
    names
}

/// Waits until these are the ConfigMaps of a resource of the graph.
pub async fn wait_names(world: &World, node: &str, expect: &[&str]) {
    let started = tokio::time::Instant::now();
    loop {
        let found = names(world, node).await;
        if found == expect {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn namespaces() -> Resource {
    Resource::cluster("v1", "namespaces", "Namespace")
}

pub async fn namespace(world: &World, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    world.create(&namespaces(), object).await;
}

/// The schema of the generated definition at a pointer below `spec`.
pub async fn generated(world: &World, pointer: &str) -> Value {
    let key = ObjectKey::cluster("apps.kro.run");
    let crd = world.get(&crds(), &key).await.unwrap();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    crd.pointer(&format!("{spec}{pointer}"))
        .cloned()
        .unwrap_or_default()
}
