//! Every example of kro builds, in the order and with the API that kro gives it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use graph::{BuildOptions, Graph, OfflineKinds, build, read_spec};
use serde_json::Value;

fn examples() -> Option<PathBuf> {
    let path = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/kro-examples"
    ));
    path.exists().then(|| path.to_owned())
}

fn documents(path: &Path) -> Vec<Value> {
    let options =
        serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple_with_options(&text, options).unwrap()
}

/// The definitions of an example, those that others use first.
fn definitions(directory: &Path) -> Vec<Value> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(definitions(&path));
        } else {
            found.extend(
                documents(&path)
                    .into_iter()
                    .filter(|document| document["kind"] == "ResourceGraphDefinition"),
            );
        }
    }
    found.sort_by_key(|definition| definition["spec"]["schema"]["kind"] == "Tenant");
    found
}

#[test]
fn every_example_builds() {
    let Some(directory) = examples() else {
        println!("skipped: kro's examples are not here");
        return;
    };
    let mut kinds = OfflineKinds::new();
    let mut built = 0;
    for definition in definitions(&directory) {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let spec = read_spec(&definition["spec"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let graph = build(&spec, &kinds, &BuildOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        kinds.add_crd(&graph.crd());
        check_order(name, &graph);
        built += 1;
    }
    assert_eq!(built, 12);
}

fn check_order(name: &str, graph: &Graph) {
    let order = graph.topological_order();
    let place = |id: &str| order.iter().position(|known| *known == id).unwrap();
    for node in &graph.nodes {
        for dependency in &node.dependencies {
            assert!(
                place(&graph.nodes[*dependency].id) < place(&node.id),
                "{name}"
            );
        }
    }
    if name == "webapp.kro.run" {
        assert_eq!(order, ["deployment", "service", "ingress"]);
        let crd = graph.crd();
        let status =
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["properties"]["availableReplicas"]["type"], "integer");
        assert_eq!(status["properties"]["url"]["type"], "string");
        assert_eq!(
            status["properties"]["deploymentConditions"]["type"],
            "array"
        );
    }
}
