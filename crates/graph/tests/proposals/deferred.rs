//! `defer()`: fields that are filled in later (KREP-019).

use graph::Feature;
use graph::render::render;
use graph::runtime::{NodeState, PassOptions, Step};
use serde_json::{Value, json};

use crate::support::{Author, config_map, instance, objects, observe, pass, step};

fn author() -> Author {
    Author::of(
        Feature::DeferredFields,
        json!({"on": "boolean | default=true", "names": "[]string"}),
    )
}

/// Two that need each other's data.
fn pair() -> Value {
    json!([
        {"id": "left", "template": config_map("left", json!({"own": "l", "peer": "${defer(right.data.token)}"}))},
        {"id": "right", "template": config_map("right", json!({"token": "of-${left.metadata.name}", "own": "${left.data.own}"}))},
    ])
}

#[test]
fn a_deferred_field_is_refused_while_its_gate_is_off() {
    author().refused_without_gate(
        pair(),
        "resource \"left\": path \"data.peer\": expression \"defer(right.data.token)\": defer() requires the DeferredFields \
         feature gate to be enabled",
    );
}

#[test]
fn a_cycle_is_broken_by_a_field_that_comes_later() {
    author().refused(
        json!([
            {"id": "left", "template": config_map("left", json!({"peer": "${right.data.token}"}))},
            {"id": "right", "template": config_map("right", json!({"token": "${left.metadata.name}"}))},
        ]),
        "graph contains a cycle: left -> right -> left",
    );
    let graph = author().graph(pair());
    assert_eq!(graph.topological_order(), ["left", "right"]);
    let mut pass = pass(&graph, json!({}));
    let left = objects(step(&pass, "left")).remove(0);
    assert_eq!(left["data"], json!({"own": "l"}));
    observe(&mut pass, "left", left);
    assert_eq!(*pass.state(0), NodeState::Synced, "right may go on");
    assert_eq!(
        pass.awaited_field(0).unwrap(),
        "waiting for deferred field \"data.peer\" of \"left\": expression \"defer(right.data.token)\" waits for data: no such key: data"
    );
    let right = objects(step(&pass, "right")).remove(0);
    assert_eq!(right["data"], json!({"token": "of-left", "own": "l"}));
    observe(&mut pass, "right", right);
    assert_eq!(
        objects(step(&pass, "left"))[0]["data"],
        json!({"own": "l", "peer": "of-left"})
    );
    assert_eq!(pass.awaited_field(0), None);
}

#[test]
fn cycles_that_are_hard_all_along_stay_refused() {
    author().refused(
        json!([
            {"id": "one", "template": config_map("one", json!({"a": "${two.data.b}", "later": "${defer(three.data.c)}"}))},
            {"id": "two", "template": config_map("two", json!({"b": "${one.data.a}"}))},
            {"id": "three", "template": config_map("three", json!({"c": "c"}))},
        ]),
        "graph contains a cycle: one -> two -> one",
    );
}

#[test]
fn a_fallback_stands_until_the_data_is_there() {
    let graph = author().graph(json!([
        {"id": "app", "template": config_map("app", json!({"url": "${defer(db.?data.?url.orValue('none yet'))}"}))},
        {"id": "db", "template": config_map("db", json!({"host": "h"}))},
    ]));
    let mut pass = pass(&graph, json!({}));
    assert_eq!(objects(step(&pass, "app"))[0]["data"]["url"], "none yet");
    observe(&mut pass, "db", json!({"data": {"url": "u"}}));
    assert_eq!(objects(step(&pass, "app"))[0]["data"]["url"], "u");
}

#[test]
fn real_errors_are_not_hidden() {
    let graph = author().graph(json!([
        {"id": "app", "template": config_map("app", json!({"n": "${defer(string(int(db.data.n)))}"}))},
        {"id": "db", "template": config_map("db", json!({"n": "x"}))},
    ]));
    let mut pass = pass(&graph, json!({}));
    assert_eq!(
        objects(step(&pass, "app"))[0]["data"],
        json!({}),
        "the field is left out, not null"
    );
    observe(&mut pass, "db", json!({"data": {"n": "x"}}));
    let Step::Fail(message) = step(&pass, "app") else {
        panic!()
    };
    assert!(
        message.contains("expression \"defer(string(int(db.data.n)))\" failed"),
        "{message}"
    );
}

#[test]
fn a_field_of_what_is_left_out_is_not_waited_for() {
    let graph = author().graph(json!([
        {"id": "app", "template": config_map("app", json!({"url": "${defer(db.data.url)}"}))},
        {"id": "db", "includeWhen": ["${schema.spec.on}"], "template": config_map("db", json!({"url": "u"}))},
    ]));
    let mut pass = pass(&graph, json!({"on": false}));
    pass.set_state(1, NodeState::Skipped);
    let app = objects(step(&pass, "app")).remove(0);
    assert_eq!(app["data"], json!({}));
    observe(&mut pass, "app", app);
    assert_eq!(pass.awaited_field(0), None);
}

#[test]
fn each_object_of_a_collection_has_its_own_deferred_fields() {
    let graph = author().graph(json!([
        {"id": "all", "forEach": [{"name": "${schema.spec.names}"}],
         "template": config_map("${name}", json!({"token": "${defer(tokens.data[name])}"}))},
        {"id": "tokens", "template": config_map("tokens", json!({"a": "${string(size(all))}"}))},
    ]));
    let mut pass = pass(&graph, json!({"names": ["a", "b"]}));
    observe(&mut pass, "tokens", json!({"data": {"a": "1"}}));
    let made = objects(step(&pass, "all"));
    assert_eq!(
        (&made[0]["data"], &made[1]["data"]),
        (&json!({"token": "1"}), &json!({}))
    );
    let fields = pass.deferred(0);
    assert_eq!((fields[0].len(), fields[1].len()), (0, 1));
    assert!(pass.awaited_field(0).unwrap().contains("no such key: b"));
}

#[test]
fn defer_stands_only_where_it_makes_sense() {
    let check = |field: Value, more: Value, expect: &str| {
        let mut one = json!({"id": "one", "template": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": field}});
        for (key, value) in more.as_object().unwrap() {
            one[key] = value.clone();
        }
        let two = json!({"id": "two", "template": config_map("two", json!({}))});
        author().refused(
            json!([one, two]),
            &format!("resource \"one\": path {expect}"),
        );
    };
    check(
        json!({"clusterIP": "${'a' + defer(two.data.ip)}"}),
        json!({}),
        "\"spec.clusterIP\": expression \"'a' + defer(two.data.ip)\": defer() must be around the whole value of a field: \
         ${defer(expression)}",
    );
    check(
        json!({"clusterIP": "a-${defer(two.data.ip)}"}),
        json!({}),
        "\"spec.clusterIP\": expression \"defer(two.data.ip)\": defer() must be around the whole value of a field: ${defer(expression)}",
    );
    check(
        json!({"externalIPs": ["${defer(two.data.ip)}"]}),
        json!({}),
        "\"spec.externalIPs[0]\": expression \"defer(two.data.ip)\": defer() cannot be an element of a list, whose other elements \
         would move: put it around the list, or around a field of the element",
    );
    check(
        json!({"clusterIP": "${defer(two.metadata.resourceVersion)}"}),
        json!({}),
        "\"spec.clusterIP\": expression \"defer(two.metadata.resourceVersion)\": defer() cannot read two.metadata.resourceVersion, \
         which changes with every write: the field would be filled in again and again",
    );
    check(
        json!({}),
        json!({"includeWhen": ["${defer(two.data.ip) == ''}"]}),
        "\"includeWhen[0]\": expression \"defer(two.data.ip) == ''\": defer() can only be used in resource template expressions",
    );
    author().refused(
        json!([{"id": "one", "template": config_map("${defer(two.data.x)}", json!({}))}, {"id": "two", "template": config_map("two", json!({}))}]),
        "resource \"one\": path \"metadata.name\": expression \"defer(two.data.x)\": defer() cannot be used at path \"metadata.name\": \
         the object cannot be created without it",
    );
    author().refused(
        json!([{"id": "one", "template": config_map("one", json!({"a": "${defer(one.data.x)}"}))}]),
        "resource \"one\": self references are not allowed",
    );
    // What is inside is checked as everywhere.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"clusterIP": "${defer(two.data)}"}});
    author().refused(
        json!([{"id": "one", "template": service}, {"id": "two", "template": config_map("two", json!({}))}]),
        "type mismatch in resource \"one\" at path \"spec.clusterIP\": expression \"defer(two.data)\" returns type \
         \"map(string, string)\" but expected \"string\"",
    );
}

#[test]
fn a_rendered_instance_shows_both_phases() {
    let graph = author().graph(pair());
    let rendered = render(
        &graph,
        instance(json!({})).value(),
        &[],
        PassOptions::default(),
    );
    let left = &rendered.nodes[0];
    assert_eq!(
        (left.id.as_str(), &left.state),
        ("left", &NodeState::Synced)
    );
    assert_eq!(left.objects[0]["data"]["peer"], "of-left");
    assert!(graph::diagram::mermaid(&graph).contains("right -. later .-> left"));
    assert!(graph::diagram::dot(&graph).contains("right -> left [style=dotted"));
    assert!(graph::diagram::svg(&graph).contains("stroke-dasharray=\"2 4\""));
}
