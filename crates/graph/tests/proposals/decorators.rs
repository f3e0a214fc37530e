//! `patch`: fields for objects that exist without us (KREP-016).

use graph::Feature;
use graph::runtime::{NodeState, Observation, Step};
use serde_json::{Value, json};

use crate::support::{Author, config_map, objects, pass, step};

fn author() -> Author {
    Author::of(
        Feature::Decorators,
        json!({"image": "string", "note": "string"}),
    )
}

fn all_deployments() -> Value {
    json!({"id": "all", "externalRef": {"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"selector": {"matchLabels": {"inject": "yes"}}}}})
}

fn sidecars(more: Value) -> Value {
    let mut resource = json!({"id": "sidecars", "forEach": [{"one": "${all}"}], "patch": {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "${one.metadata.name}", "namespace": "${one.metadata.namespace}"},
        "spec": {"template": {"spec": {"containers": [{"name": "log", "image": "${schema.spec.image}"}]}}},
    }});
    for (key, value) in more.as_object().unwrap() {
        resource[key] = value.clone();
    }
    resource
}

fn labels(patch: Value) -> Value {
    json!([{"id": "labels", "patch": patch}])
}

#[test]
fn a_patch_is_refused_while_its_gate_is_off() {
    author().refused_without_gate(
        json!([all_deployments(), sidecars(json!({}))]),
        "resource \"sidecars\": path \"patch\": the field \"patch\" requires the Decorators feature gate to be enabled",
    );
}

#[test]
fn a_patch_of_a_collection_asks_for_its_fields_only() {
    let graph = author().graph(json!([all_deployments(), sidecars(json!({}))]));
    let mut pass = pass(&graph, json!({"image": "log:1"}));
    let item = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": 3}});
    let items = json!([item("a", "one"), item("b", "two")]);
    pass.observe(
        0,
        Observation::Many {
            items: std::sync::Arc::new(items),
            complete: true,
        },
    );
    pass.settle(0);
    let wanted = objects(step(&pass, "sidecars"));
    assert_eq!(wanted.len(), 2);
    assert_eq!(
        wanted[1],
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b", "namespace": "two"},
            "spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:1"}]}}}})
    );
}

#[test]
fn the_fields_of_a_patch_are_checked_like_a_template() {
    author().refused(
        labels(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replica": 1}})),
        "resource \"labels\": path \"spec.replica\": schema not found for field replica (did you mean \"replicas\"?)",
    );
    author().refused(
        labels(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": "${schema.spec.image}"}})),
        "type mismatch in resource \"labels\" at path \"spec.replicas\": expression \"schema.spec.image\" returns type \"string\" but \
         expected \"int\"",
    );
    author().refused(
        json!([all_deployments(), {"id": "pause", "forEach": [{"one": "${all}"}], "patch": {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fixed"}, "spec": {"paused": true}}}]),
        "resource \"pause\": path \"metadata.name\": all forEach dimensions must be used to produce a unique resource identity, \
         missing: [one]",
    );
}

#[test]
fn a_patch_never_makes_an_object_ours() {
    let patch = |metadata: Value, more: Value| {
        let mut metadata = metadata;
        metadata["name"] = "a".into();
        let mut patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        for (key, value) in more.as_object().unwrap() {
            patch[key] = value.clone();
        }
        labels(patch)
    };
    author().refused(
        patch(json!({"ownerReferences": []}), json!({"data": {"a": "b"}})),
        "resource \"labels\": path \"metadata.ownerReferences\": a patch gives labels, annotations and fields below metadata, not \
         metadata.ownerReferences: the object belongs to others",
    );
    author().refused(
        patch(json!({"labels": {"kro.run/owned": "true"}}), json!({})),
        "resource \"labels\": path \"metadata.labels\": invalid label for resource \"labels\". labels with prefix \"kro.run/\" are \
         reserved for internal use, got \"kro.run/owned\"",
    );
    author().refused(
        patch(json!({}), json!({})),
        "resource \"labels\": path \"patch\": a patch must give at least one field",
    );
    author().graph(patch(json!({"labels": {"a": "b"}}), json!({})));
}

#[test]
fn a_patch_publishes_nothing_and_has_no_readiness() {
    let cluster_wide = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "b"}});
    author().refused(
        json!([{"id": "given", "patch": cluster_wide}, {"id": "two", "template": config_map("two", json!({"a": "${given.data.a}"}))}]),
        "resource \"two\": path \"data.a\": expression \"given.data.a\": references unknown identifiers: [given] (a patch publishes \
         nothing: read its object through an externalRef)",
    );
    author().refused(
        json!([{"id": "given", "readyWhen": ["${true}"], "patch": cluster_wide}]),
        "resource \"given\": path \"readyWhen\": a patch has no readyWhen: it is done when its fields are there",
    );
}

#[test]
fn a_patch_is_left_out_like_a_resource() {
    let graph = author().graph(json!([
        {"id": "given", "includeWhen": ["${schema.spec.note != ''}"], "patch":
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "${schema.spec.note}"}}},
    ]));
    let left_out = pass(&graph, json!({"note": ""}));
    assert_eq!(step(&left_out, "given"), Step::Skip);
    let wanted = objects(step(&pass(&graph, json!({"note": "n"})), "given"));
    assert_eq!(wanted[0]["metadata"]["namespace"], "ns");
}

#[test]
fn a_rendered_patch_shows_its_fields() {
    let graph = author().graph(json!([{"id": "given", "patch":
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "b"}}}]));
    let instance = crate::support::instance(json!({}));
    let options = graph::runtime::PassOptions::default();
    let rendered = graph::render::render(&graph, instance.value(), &[], options);
    assert_eq!(rendered.nodes[0].state, NodeState::Synced);
    assert_eq!(rendered.nodes[0].objects[0]["data"], json!({"a": "b"}));
    assert!(graph::diagram::dot(&graph).contains("shape=component"));
}
