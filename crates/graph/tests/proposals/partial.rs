//! Branches that are not taken are not waited for (KREP-018).

use graph::Feature;
use graph::runtime::{NodeState, Pass, Step};
use graph::{BuildOptions, OfflineKinds};
use serde_json::{Value, json};

use crate::support::{Author, config_map, objects, observe, pass, step};

fn author() -> Author {
    let schema = json!({"cache": "boolean", "mode": "string | default=a", "names": "[]string"});
    Author::of(Feature::PartialDependencies, schema)
}

fn one_of_two(expression: &str) -> Value {
    json!([
        {"id": "cache", "includeWhen": ["${schema.spec.cache}"], "template": config_map("cache", json!({"at": "c"}))},
        {"id": "db", "includeWhen": ["${!schema.spec.cache}"], "template": config_map("db", json!({"at": "d"}))},
        {"id": "app", "template": config_map("app", json!({"at": expression}))},
    ])
}

fn skip(pass: &mut Pass<'_>, id: &str) {
    let node = pass.graph().position(id).unwrap();
    assert_eq!(pass.step(node), Step::Skip);
    pass.set_state(node, NodeState::Skipped);
}

fn blocked_by(id: &str) -> Step {
    Step::Blocked(format!("waiting for dependency \"{id}\" to be ready"))
}

#[test]
fn a_resource_takes_the_branch_whose_resource_is_included() {
    let graph = author().graph(one_of_two(
        "${schema.spec.cache ? cache.data.at : db.data.at}",
    ));
    for (cache, other, there, expect) in [(true, "db", "cache", "c"), (false, "cache", "db", "d")] {
        let mut pass = pass(&graph, json!({"cache": cache}));
        skip(&mut pass, other);
        assert_eq!(step(&pass, "app"), blocked_by(there));
        let object = objects(step(&pass, there)).remove(0);
        observe(&mut pass, there, object);
        assert_eq!(objects(step(&pass, "app"))[0]["data"]["at"], expect);
    }
}

#[test]
fn without_the_gate_every_branch_counts() {
    let author = author();
    let spec = author.spec(&one_of_two(
        "${schema.spec.cache ? cache.data.at : db.data.at}",
    ));
    let spec = graph::read_spec(&spec).unwrap();
    let graph = graph::build(&spec, &OfflineKinds::new(), &BuildOptions::default()).unwrap();
    let mut pass = pass(&graph, json!({"cache": true}));
    skip(&mut pass, "db");
    assert_eq!(step(&pass, "app"), Step::Skip);
}

#[test]
fn a_taken_branch_that_is_left_out_takes_the_resource_along() {
    let graph = author().graph(one_of_two(
        "${schema.spec.mode == 'a' ? cache.data.at : db.data.at}",
    ));
    let mut pass = pass(&graph, json!({"cache": false, "mode": "a"}));
    skip(&mut pass, "cache");
    assert_eq!(step(&pass, "app"), Step::Skip);
}

#[test]
fn branches_nest_and_decide_one_by_one() {
    let graph = author().graph(json!([
        {"id": "one", "template": config_map("one", json!({"at": "1", "go": "x"}))},
        {"id": "two", "template": config_map("two", json!({"at": "2"}))},
        {"id": "three", "template": config_map("three", json!({"at": "3"}))},
        {"id": "app", "template": config_map("app",
            json!({"at": "${one.data.go == 'on' ? one.data.at : schema.spec.mode == 'b' ? two.data.at : three.data.at}"}))},
    ]));
    let mut pass = pass(&graph, json!({"mode": "b"}));
    assert_eq!(
        step(&pass, "app"),
        blocked_by("one"),
        "the condition is always read"
    );
    observe(&mut pass, "one", json!({"data": {"go": "off"}}));
    assert_eq!(step(&pass, "app"), blocked_by("two"));
    observe(&mut pass, "two", json!({"data": {"at": "2"}}));
    assert_eq!(objects(step(&pass, "app"))[0]["data"]["at"], "2");
}

#[test]
fn what_stands_behind_and_and_or_is_read_if_it_decides() {
    let app = |expression: &str| {
        json!([
            {"id": "cache", "template": config_map("cache", json!({"at": "c"}))},
            {"id": "app", "template": config_map("app", json!({"at": expression}))},
        ])
    };
    let graph = author().graph(app("${string(schema.spec.cache && cache.data.at == 'c')}"));
    let on = pass(&graph, json!({"cache": true}));
    assert_eq!(step(&on, "app"), blocked_by("cache"));
    let off = pass(&graph, json!({"cache": false}));
    assert_eq!(objects(step(&off, "app"))[0]["data"]["at"], "false");
    let graph = author().graph(app("${string(schema.spec.cache || cache.data.at == 'c')}"));
    let on = pass(&graph, json!({"cache": true}));
    assert_eq!(objects(step(&on, "app"))[0]["data"]["at"], "true");
}

#[test]
fn a_resource_read_anywhere_outside_of_branches_is_needed() {
    let graph = author().graph(json!([
        {"id": "cache", "template": config_map("cache", json!({"at": "c"}))},
        {"id": "app", "template": config_map("app",
            json!({"at": "${schema.spec.cache ? cache.data.at : 'no'}", "name": "${cache.metadata.name}"}))},
    ]));
    let pass = pass(&graph, json!({"cache": false}));
    assert_eq!(step(&pass, "app"), blocked_by("cache"));
}

#[test]
fn include_when_and_for_each_have_branches_too() {
    let graph = author().graph(json!([
        {"id": "cache", "template": config_map("cache", json!({"list": "x,y"}))},
        {"id": "app", "includeWhen": ["${schema.spec.cache ? cache.data.list != '' : true}"], "template": config_map("app", json!({}))},
        {"id": "all", "forEach": [{"name": "${schema.spec.cache ? cache.data.list.split(',') : schema.spec.names}"}],
         "template": config_map("${name}", json!({}))},
    ]));
    let on = pass(&graph, json!({"cache": true, "names": []}));
    assert_eq!(
        (step(&on, "app"), step(&on, "all")),
        (blocked_by("cache"), blocked_by("cache"))
    );
    let off = pass(&graph, json!({"cache": false, "names": ["a"]}));
    assert_eq!(objects(step(&off, "app")).len(), 1);
    assert_eq!(objects(step(&off, "all"))[0]["metadata"]["name"], "a");
}

#[test]
fn a_field_that_needs_what_is_left_out_decides_in_any_order() {
    let field = "${schema.spec.mode == 'a' ? cache.data.at : 'x'}";
    let other = "${schema.spec.mode == 'a' ? db.data.at : 'x'}";
    for data in [
        json!({"a": field, "b": other}),
        json!({"a": other, "b": field}),
    ] {
        let mut resources = one_of_two("x");
        resources[2]["template"]["data"] = data;
        let graph = author().graph(resources);
        let mut pass = pass(&graph, json!({"cache": false, "mode": "a"}));
        skip(&mut pass, "cache");
        assert_eq!(step(&pass, "app"), Step::Skip);
    }
}

#[test]
fn cycles_through_branches_stay_refused() {
    author().refused(
        json!([
            {"id": "one", "template": config_map("one", json!({"a": "${schema.spec.cache ? two.data.a : 'x'}"}))},
            {"id": "two", "template": config_map("two", json!({"a": "${schema.spec.cache ? 'x' : one.data.a}"}))},
        ]),
        "graph contains a cycle: one -> two -> one",
    );
}
