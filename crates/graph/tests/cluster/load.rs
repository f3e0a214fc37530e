//! Many instances: how often they write, and how long they take.
//!
//! A few by default; `CORVUS_LOAD_INSTANCES=1000 cargo test --release -p graph --test cluster load -- --nocapture` measures.

use std::time::{Duration, Instant};

use controller::{ListOptions, ObjectKey};
use serde_json::{Value, json};

use crate::world::{World, apps, config_map};

fn graph(resources: usize, is_chain: bool) -> Value {
    let resources: Vec<Value> = (0..resources)
        .map(|index| {
            let text = match index.checked_sub(1) {
                Some(before) if is_chain => format!("${{r{before}.data.text}}"),
                _ => "${schema.spec.text}".to_owned(),
            };
            let name = format!("${{schema.metadata.name}}-{index}");
            json!({"id": format!("r{index}"), "template": config_map(&name, json!({"text": text}))})
        })
        .collect();
    json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": "app"},
        "spec": {
            "schema": {"apiVersion": "v1", "kind": "App", "spec": {"text": "string"}, "status": {"text": "${r0.data.text}"}},
            "resources": resources,
        },
    })
}

async fn measure(instances: usize, resources: usize, is_chain: bool) {
    let world = World::start().await;
    world.define(graph(resources, is_chain)).await;
    world.log.clear();
    let started = Instant::now();
    for number in 0..instances {
        let object = json!({"apiVersion": "kro.run/v1", "kind": "App",
            "metadata": {"name": format!("i{number}"), "namespace": "default"}, "spec": {"text": "x"}});
        world.create(&apps(), object).await;
    }
    let created = started.elapsed();
    loop {
        let list = world
            .api
            .list(&apps(), &ListOptions::default())
            .await
            .unwrap();
        if list
            .items
            .iter()
            .filter(|item| item.status()["state"] == "ACTIVE")
            .count()
            == instances
        {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_mins(5),
            "not all became active"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let converged = started.elapsed();
    world.quiet().await;
    let (writes, all) = (world.log.writes().len(), world.log.requests().len());
    println!(
        "{instances} instances of {resources} ({}): created in {created:?}, active in {converged:?}; {writes} writes, {all} requests, {} MiB",
        if is_chain { "chain" } else { "wide" },
        resident_mebibytes(),
    );
    let per_instance = resources + 3;
    assert!(
        writes as f64 <= 1.2 * (instances * per_instance) as f64,
        "{writes} writes"
    );
    world.log.clear();
    let key = ObjectKey::new("default", "i0");
    world
        .change(&apps(), &key, json!({"spec": {"text": "y"}}))
        .await;
    world
        .wait(&apps(), &key, |app| app.status()["text"] == "y")
        .await;
    world.quiet().await;
    assert_eq!(world.log.writes().len(), resources + 1);
    println!(
        "one change: {} writes, {} requests",
        world.log.writes().len(),
        world.log.requests().len()
    );
}

fn resident_mebibytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or_default()
        / 1024
}

fn instances() -> usize {
    let wanted = std::env::var("CORVUS_LOAD_INSTANCES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_wide() {
    measure(instances(), 10, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_chain() {
    measure(instances(), 10, true).await;
}
