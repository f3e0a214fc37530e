//! Work on graphs without a cluster.

#![expect(clippy::unwrap_used, reason = "tests")]

use graph::render::render;
use graph::runtime::{NodeState, PassOptions};
use graph::{BuildOptions, Graph, OfflineKinds, build, diagram, read_spec};
use serde_json::{Value, json};

fn shop() -> Graph {
    let config_map = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let spec = json!({
        "schema": {"apiVersion": "v1", "kind": "Shop",
            "spec": {"name": "string | default=corner", "names": "[]string", "open": "boolean | default=true"},
            "status": {"address": "${door.data.address}"}},
        "resources": [
            {"id": "street", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "street"}}},
            {"id": "door", "includeWhen": ["${schema.spec.open}"], "readyWhen": ["${door.data.painted == 'yes'}"],
             "template": config_map("${schema.spec.name}", json!({"address": "${street.data.name} 1"}))},
            {"id": "shelves", "forEach": [{"name": "${schema.spec.names}"}],
             "template": config_map("${door.metadata.name}-${name}", json!({}))},
        ],
    });
    build(
        &read_spec(&spec).unwrap(),
        &OfflineKinds::new(),
        &BuildOptions::default(),
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

fn object(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns"}, "data": data})
}

#[test]
fn rendering_goes_as_far_as_what_is_observed() {
    let instance = json!({"apiVersion": "kro.run/v1", "kind": "Shop",
        "metadata": {"name": "it", "namespace": "ns"}, "spec": {"names": ["a", "b"]}});
    let graph = shop();
    let states = |observed: &[Value]| -> Vec<String> {
        let rendered = render(&graph, &instance, observed, PassOptions::default());
        rendered
            .nodes
            .iter()
            .map(|node| format!("{} {}", node.id, node.state.name()))
            .collect()
    };
    assert_eq!(
        states(&[]),
        [
            "street WAITING_FOR_READINESS",
            "door IN_PROGRESS",
            "shelves IN_PROGRESS"
        ]
    );
    let street = object("street", json!({"name": "Elm"}));
    assert_eq!(
        states(std::slice::from_ref(&street)),
        [
            "street SYNCED",
            "door WAITING_FOR_READINESS",
            "shelves IN_PROGRESS"
        ]
    );
    let painted = object("corner", json!({"painted": "yes"}));
    let rendered = render(
        &graph,
        &instance,
        &[street, painted],
        PassOptions::default(),
    );
    assert!(
        rendered
            .nodes
            .iter()
            .all(|node| node.state == NodeState::Synced),
        "{rendered:?}"
    );
    assert_eq!(rendered.status, json!({"address": "Elm 1"}));
    let names: Vec<&Value> = rendered
        .nodes
        .iter()
        .flat_map(|node| &node.objects)
        .map(|object| &object["metadata"]["name"])
        .collect();
    assert_eq!(names, ["corner", "corner-a", "corner-b"]);
}

#[test]
fn diagrams() {
    let graph = shop();
    assert_eq!(
        diagram::mermaid(&graph),
        "flowchart TD\n  schema([\"Shop\"])\n  street{{\"street<br/>ConfigMap\"}}\n  door[\"door<br/>ConfigMap\"]\n  \
         shelves[[\"shelves<br/>ConfigMap\"]]\n  schema --> street\n  street -.-> door\n  door --> shelves\n"
    );
    assert!(diagram::dot(&graph).contains("  door -> shelves;\n"));
    let drawing = diagram::svg(&graph);
    assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
    // A box each and one for the instance, one more behind the collection, an arrow per dependency, the arrow's head.
    let count = |tag: &str| drawing.matches(tag).count();
    assert_eq!((count("<rect "), count("<path ")), (5, 4));
    assert!(drawing.contains(">shelves</text>"), "{drawing}");
}

#[test]
fn boxes_of_drawings_are_as_wide_as_the_longest_name_needs() {
    let width = |kind: &str| -> usize {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let spec = json!({"schema": {"apiVersion": "v1", "kind": kind}, "resources": [{"id": "map", "template": map}]});
        let spec = read_spec(&spec).unwrap();
        let graph = build(&spec, &OfflineKinds::new(), &BuildOptions::default()).unwrap();
        let drawing = diagram::svg(&graph);
        let (_, rest) = drawing.split_once("<rect ").unwrap();
        let (_, rest) = rest.split_once("width=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    assert_eq!(width("Shop"), 180);
    assert!(width(&format!("S{}", "h".repeat(50))) > 50 * 7);
}
