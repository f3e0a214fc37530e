//! How long builds take: `cargo test --release -p graph --test compile_time -- --nocapture` measures.

use std::time::Instant;

use graph::{BuildOptions, OfflineKinds, build, read_spec};
use serde_json::{Value, json};

#[test]
fn fifty_resources_with_three_hundred_expressions() {
    let resources: Vec<Value> = (0..50)
        .map(|index| {
            json!({"id": format!("r{index}"), "template": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": format!("${{schema.spec.name}}-{index}")},
                "spec": {
                    "replicas": "${schema.spec.replicas > 3 ? 3 : schema.spec.replicas}",
                    "selector": {"matchLabels": {"app": "${schema.spec.name}"}},
                    "template": {
                        "metadata": {"labels": {"app": "${schema.spec.name}"}},
                        "spec": {"containers": [{"name": "${schema.spec.name.lowerAscii()}", "image": "${schema.spec.image}:${schema.spec.tag}"}]},
                    },
                },
            }})
        })
        .collect();
    let spec = json!({
        "schema": {"apiVersion": "v1", "kind": "App",
            "spec": {"name": "string", "image": "string", "tag": "string", "replicas": "integer"},
            "status": {"up": "${r0.status.readyReplicas}"}},
        "resources": resources,
    });
    let spec = read_spec(&spec).unwrap();
    for round in 0..3 {
        let started = Instant::now();
        let graph = build(&spec, &OfflineKinds::new(), &BuildOptions::default()).unwrap();
        assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
        println!(
            "round {round}: {} resources in {:?}",
            graph.nodes.len(),
            started.elapsed()
        );
    }
}
