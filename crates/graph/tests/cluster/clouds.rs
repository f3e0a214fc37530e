//! Graphs of things in clouds, with CustomResourceDefinitions in the manner of the clouds' controllers. The test plays those
//! controllers: it answers with statuses, one object after the other.
//!
//! Each file of `tests/data/clouds` holds the definitions, the instance, and the answers with what must hold before each.

use controller::{ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

use crate::world::{World, crds, rgds};

fn place(of: &Value) -> (Resource, ObjectKey) {
    let text = |field: &str| of[field].as_str().unwrap().to_owned();
    let kind = text("kind");
    let plural = match kind.as_str() {
        // Their plurals are not made by the rules.
        "VPC" => "vpcs".to_owned(),
        _ => graph::plural(&kind),
    };
    let resource = Resource::namespaced(&text("apiVersion"), &plural, &kind);
    (resource, ObjectKey::new("default", text("name")))
}

/// Whether everything that is expected is there.
fn holds(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(key, value)| holds(value, found.get(key).unwrap_or(&Value::Null))),
        _ => expected == found,
    }
}

async fn play(file: &str) {
    let path = format!("{}/tests/data/clouds/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let world = World::start().await;
    let (mut instance, mut script) = (None, Value::Null);
    for document in documents {
        match document["kind"].as_str().unwrap() {
            "CustomResourceDefinition" => world.create(&crds(), document).await,
            "ResourceGraphDefinition" => {
                let name = document["metadata"]["name"].as_str().unwrap().to_owned();
                world.create(&rgds(), document).await;
                world.wait_rgd_active(&name).await;
            }
            "Answers" => script = document,
            _ => {
                let metadata = &document["metadata"];
                let of = json!({"apiVersion": document["apiVersion"], "kind": document["kind"], "name": metadata["name"]});
                let (resource, key) = place(&of);
                world.create(&resource, document).await;
                instance = Some((resource, key));
            }
        }
    }
    let (resource, key) = instance.unwrap();
    let answers = script["answers"].as_array().unwrap();
    for answer in answers {
        give(&world, answer).await;
    }
    let expect = &script["expect"];
    world
        .wait(&resource, &key, |found| {
            found.status()["state"] == "ACTIVE" && holds(expect, found.status())
        })
        .await;
    world.delete(&resource, &key).await;
    world.wait_gone(&resource, &key).await;
    for answer in answers {
        let (resource, key) = place(&answer["of"]);
        assert!(
            world.get(&resource, &key).await.is_none(),
            "{key} is still there"
        );
    }
}

/// Waits for an object and answers it.
async fn give(world: &World, answer: &Value) {
    let (resource, key) = place(&answer["of"]);
    world
        .wait(&resource, &key, |found| {
            answer["spec"].is_null() || holds(&answer["spec"], found.spec())
        })
        .await;
    if !answer["absent"].is_null() {
        let (resource, key) = place(&answer["absent"]);
        let found = world.get(&resource, &key).await;
        assert!(found.is_none(), "{key} was made too early");
    }
    let status = json!({"status": answer["status"]});
    world
        .api
        .merge_patch(&resource, &key, Subresource::Status, &status)
        .await
        .unwrap();
    if !answer["makes"].is_null() {
        let mut made = answer["makes"].clone();
        made["metadata"]["namespace"] = "default".into();
        world
            .create(&Resource::namespaced("v1", "secrets", "Secret"), made)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_on_aws_goes_from_the_vpc_to_its_subnets() {
    play("ack.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_on_google_cloud_and_who_may_read_it() {
    play("kcc.yaml").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_on_azure_and_the_secret_its_controller_makes() {
    play("aso.yaml").await;
}
