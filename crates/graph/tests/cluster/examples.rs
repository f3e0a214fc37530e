//! kro's examples: definition, then instance, as a user applies them.

use std::path::{Path, PathBuf};

use controller::{ObjectKey, Resource};
use serde_json::Value;

use crate::world::{World, rgds};

fn documents(path: &Path) -> Vec<Value> {
    let options =
        serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple_with_options(&text, options).unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What an example's instance reaches where nothing runs Deployments and Jobs.
fn expected(kind: &str) -> &'static str {
    match kind {
        "WebApp" | "VoteApp" | "ResultApp" | "WorkerApp" | "JobDeployment" => "IN_PROGRESS",
        _ => "ACTIVE",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_becomes_what_it_says() {
    let directory = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/kro-examples"
    ));
    if !directory.exists() {
        println!("skipped: kro's examples are not here");
        return;
    }
    // The two examples called `somethings.kro.run` define the same kind, so each directory gets its own cluster.
    for entry in std::fs::read_dir(directory).unwrap() {
        let example = entry.unwrap().path();
        // One example asks for a Service address of this range.
        let options = testkit::options();
        let options = apiserver::Options {
            service_range: "10.100.0.0/16".to_owned(),
            ..options
        };
        let world = World::on(
            testkit::Cluster::with(options).await,
            graph::Options::default(),
        )
        .await;
        // Namespaces end only with their controller.
        let (client, shutdown) = (world.cluster.client(), world.cluster.shutdown());
        let controllers = tokio::spawn(async move {
            kubernetes::run(client, &kubernetes::Options::default(), shutdown).await;
        });
        let documents: Vec<Value> = files(&example)
            .iter()
            .flat_map(|path| documents(path))
            .collect();
        let (definitions, instances): (Vec<Value>, Vec<Value>) = documents
            .into_iter()
            .partition(|document| document["kind"] == "ResourceGraphDefinition");
        for definition in &definitions {
            world.create(&rgds(), definition.clone()).await;
        }
        for definition in &definitions {
            world
                .wait_rgd_active(definition["metadata"]["name"].as_str().unwrap())
                .await;
        }
        for mut instance in instances {
            let kind = instance["kind"].as_str().unwrap().to_owned();
            if instance["metadata"]["namespace"].is_null() {
                instance["metadata"]["namespace"] = "default".into();
            }
            let resource = Resource::namespaced(
                instance["apiVersion"].as_str().unwrap(),
                &graph::plural(&kind),
                &kind,
            );
            world.create(&resource, instance.clone()).await;
            let text = |pointer: &str| instance.pointer(pointer).and_then(Value::as_str).unwrap();
            let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
            let reached = world
                .wait(&resource, &key, |object| {
                    object.status()["state"] == expected(&kind)
                })
                .await;
            let name = example.file_name().unwrap().to_string_lossy().into_owned();
            println!(
                "{name}: {kind} {}: {}",
                reached.name(),
                reached.status()["state"]
            );
            world.delete(&resource, &key).await;
            world.wait_gone(&resource, &key).await;
        }
        controllers.abort();
    }
}
