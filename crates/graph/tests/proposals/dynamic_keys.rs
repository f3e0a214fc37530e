//! Expressions in the keys of templates (KREP-020).

use graph::Feature;
use graph::runtime::Step;
use serde_json::{Value, json};

use crate::support::{Author, config_map, deployment, objects, observe, pass, step};

fn author() -> Author {
    let schema =
        json!({"region": "string", "note": "string", "probe": "string", "names": "[]string"});
    Author::of(Feature::DynamicTemplateKeys, schema)
}

fn one(data: Value) -> Value {
    json!([{"id": "one", "template": config_map("one", data)}])
}

fn made(resources: Value, spec: Value) -> Value {
    let graph = author().graph(resources);
    objects(step(&pass(&graph, spec), "one")).remove(0)
}

fn failed(resources: Value, spec: Value) -> String {
    let graph = author().graph(resources);
    match step(&pass(&graph, spec), "one") {
        Step::Fail(message) => message,
        other => panic!("{other:?}"),
    }
}

/// A container whose probe is of a kind that the instance chooses.
fn probing(id: &str) -> Value {
    let probe = json!({"${schema.spec.probe}": {"port": 80}});
    let container = json!([{"name": "main", "image": "nginx", "livenessProbe": probe}]);
    json!([{"id": id, "template": deployment("one", container)}])
}

#[test]
fn a_key_with_an_expression_is_refused_while_its_gate_is_off() {
    author().refused_without_gate(
        one(json!({"${schema.spec.region}": "x"})),
        "resource \"one\": path \"data[\\\"${schema.spec.region}\\\"]\": an expression in a key requires the DynamicTemplateKeys \
         feature gate to be enabled",
    );
}

#[test]
fn keys_become_what_their_expressions_say() {
    let found = made(
        one(
            json!({"${schema.spec.region}": "${schema.spec.region}!", "at-${schema.spec.region}.yaml": "x", "plain": "y"}),
        ),
        json!({"region": "eu"}),
    );
    assert_eq!(
        found["data"],
        json!({"eu": "eu!", "at-eu.yaml": "x", "plain": "y"})
    );
}

#[test]
fn the_field_of_a_structure_can_be_chosen() {
    let found = made(probing("one"), json!({"probe": "tcpSocket"}));
    let container = &found["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["livenessProbe"],
        json!({"tcpSocket": {"port": 80}})
    );
    let message = failed(probing("one"), json!({"probe": "tcpSoket"}));
    assert_eq!(
        message,
        "resource \"one\": template: expression \"${schema.spec.probe}\" failed: the key at path \
         \"spec.template.spec.containers[0].livenessProbe[\"${schema.spec.probe}\"]\" is \"tcpSoket\", which is no field there \
         (did you mean \"tcpSocket\"?); there are exec, failureThreshold, grpc, httpGet, initialDelaySeconds, periodSeconds, \
         successThreshold, tcpSocket, terminationGracePeriodSeconds, timeoutSeconds"
    );
}

#[test]
fn keys_nest() {
    let nested = json!([{"id": "one", "template": {
        "apiVersion": "kro.run/v1alpha1", "kind": "ResourceGraphDefinition", "metadata": {"name": "one"},
        "spec": {"schema": {"apiVersion": "v1", "kind": "Made", "spec": {
            "${schema.spec.region}": {"${schema.spec.note}": "string", "b": "${schema.spec.note}"}}}},
    }}]);
    let crd = graph::manifests::resource_graph_definition_crd();
    let mut kinds = graph::OfflineKinds::new();
    kinds.add_crd(&crd);
    let spec = graph::read_spec(&author().spec(&nested)).unwrap();
    let options = graph::BuildOptions {
        features: graph::Features::all(),
        ..graph::BuildOptions::default()
    };
    let graph = graph::build(&spec, &kinds, &options).unwrap();
    let pass = pass(&graph, json!({"region": "eu", "note": "n"}));
    let found = objects(step(&pass, "one")).remove(0);
    assert_eq!(
        found["spec"]["schema"]["spec"],
        json!({"eu": {"n": "string", "b": "n"}})
    );
}

#[test]
fn an_empty_optional_is_no_entry() {
    let data = json!({"${schema.spec.?note}": "x", "plain": "y"});
    let found = made(one(data.clone()), json!({}));
    assert_eq!(found["data"], json!({"plain": "y"}));
    let found = made(one(data), json!({"note": "n"}));
    assert_eq!(found["data"], json!({"n": "x", "plain": "y"}));
}

#[test]
fn two_keys_of_one_name_are_an_error_that_names_both() {
    let message = failed(
        one(json!({"${schema.spec.region}": "x", "${schema.spec.note}": "y"})),
        json!({"region": "eu", "note": "eu"}),
    );
    assert_eq!(
        message,
        "resource \"one\": template: expression \"${schema.spec.note}\" failed: the key at path \"data[\"${schema.spec.note}\"]\" is \
         \"eu\", and so is the key \"${schema.spec.region}\" beside it"
    );
    let message = failed(
        one(json!({"${schema.spec.region}": "x", "eu": "y"})),
        json!({"region": "eu"}),
    );
    assert!(
        message.ends_with("is \"eu\", and so is the key \"eu\" beside it"),
        "{message}"
    );
}

#[test]
fn labels_of_our_own_cannot_be_set() {
    let mut resources = one(json!({}));
    resources[0]["template"]["metadata"]["labels"] = json!({"${schema.spec.region}": "x"});
    let found = made(resources.clone(), json!({"region": "example.com/region"}));
    assert_eq!(
        found["metadata"]["labels"],
        json!({"example.com/region": "x"})
    );
    let message = failed(resources, json!({"region": "kro.run/owned"}));
    assert!(
        message.ends_with(
            "is \"kro.run/owned\"; keys with prefix \"kro.run/\" are reserved for internal use"
        ),
        "{message}"
    );
}

#[test]
fn keys_are_strings_and_their_values_fit() {
    let check = |data: Value, expect: &str| author().refused(one(data), expect);
    check(
        json!({"${schema.spec.names}": "x"}),
        "resource \"one\": path \"data[\\\"${schema.spec.names}\\\"]\": expression \"schema.spec.names\": a key must be a string, but the \
         expression returns \"list(string)\"",
    );
    check(
        json!({"${schema.spec.region}": "${schema.spec.names}"}),
        "type mismatch in resource \"one\" at path \"data[\"${schema.spec.region}\"]\": expression \"schema.spec.names\" returns type \
         \"list(string)\" but expected \"string\"",
    );
    check(
        json!({"${schema.spec.region}": 1}),
        "resource \"one\": path \"data[\\\"${schema.spec.region}\\\"]\": expected string type for path data[\"${schema.spec.region}\"], \
         got integer",
    );
    check(
        json!({"${region}": "x"}),
        "resource \"one\": path \"data.${region}\": expression \"region\": references unknown identifiers: [region]",
    );
    check(
        json!({"${omit()}": "x"}),
        "resource \"one\": path \"data.${omit()}\": expression \"omit()\": omit() can only be used in resource template expressions",
    );
}

#[test]
fn what_keys_read_is_waited_for() {
    let graph = author().graph(json!([
        {"id": "one", "template": config_map("one", json!({"${two.data.key}": "x"}))},
        {"id": "two", "template": config_map("two", json!({"key": "k"}))},
    ]));
    assert_eq!(graph.topological_order(), ["two", "one"]);
    let mut pass = pass(&graph, json!({}));
    observe(&mut pass, "two", json!({"data": {}}));
    assert!(matches!(step(&pass, "one"), Step::Pending(_)));
    observe(&mut pass, "two", json!({"data": {"key": "k"}}));
    assert_eq!(objects(step(&pass, "one"))[0]["data"], json!({"k": "x"}));
}

#[test]
fn each_object_of_a_collection_has_keys_of_its_own() {
    let graph = author().graph(json!([
        {"id": "all", "forEach": [{"name": "${schema.spec.names}"}], "template": config_map("${name}", json!({"${name}.txt": "${name}"}))},
    ]));
    let pass = pass(&graph, json!({"names": ["a", "b"]}));
    let data: Vec<Value> = objects(step(&pass, "all"))
        .iter()
        .map(|object| object["data"].clone())
        .collect();
    assert_eq!(data, [json!({"a.txt": "a"}), json!({"b.txt": "b"})]);
}
