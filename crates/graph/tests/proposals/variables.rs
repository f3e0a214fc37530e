//! `variable`: values without an object (KREP-011).

use graph::Feature;
use graph::hash::spec_hash;
use graph::render::render;
use graph::runtime::{NodeState, PassOptions, Step};
use serde_json::{Value, json};

use crate::support::{
    Author, config_map, deployment, instance, learn, objects, observe, pass, step,
};

fn author() -> Author {
    let schema = json!({"name": "string", "replicas": "integer | default=2", "workers": "[]string", "on": "boolean | default=true",
        "note": "string"});
    Author::of(Feature::Variables, schema)
}

fn naming(more: Value) -> Value {
    let mut values = json!({"prefix": "${schema.metadata.name + '-' + schema.spec.name}"});
    for (key, value) in more.as_object().unwrap() {
        values[key] = value.clone();
    }
    json!({"id": "naming", "variable": values})
}

#[test]
fn a_variable_is_refused_while_its_gate_is_off() {
    author().refused_without_gate(
        json!([naming(json!({}))]),
        "resource \"naming\": path \"variable\": the field \"variable\" requires the Variables feature gate to be enabled",
    );
}

#[test]
fn values_have_the_types_of_what_they_are_made_of() {
    let values = json!({"count": "${schema.spec.replicas + 1}", "port": 80, "ratio": 0.5, "tags": ["a", "b"], "on": true,
        "nested": {"app.kubernetes.io/name": "${schema.spec.name}"}, "text": "n-${schema.spec.name}"});
    let check = |expression: &str, expect: &str| {
        let container = json!([{"name": "main", "image": expression}]);
        let message = format!(
            "type mismatch in resource \"app\" at path \"spec.template.spec.containers[0].image\": expression {expression:?} \
             returns type \"{expect}\" but expected \"string\"",
            expression = &expression[2..expression.len() - 1]
        );
        author().refused(
            json!([naming(values.clone()), {"id": "app", "template": deployment("app", container)}]),
            &message,
        );
    };
    check("${naming.count}", "int");
    check("${naming.port}", "int");
    check("${naming.ratio}", "double");
    check("${naming.tags}", "list(string)");
    check("${naming.on}", "bool");
    check("${naming.nested}", "__type_naming.nested");
    let graph = author().graph(json!([
        naming(values),
        {"id": "app", "template": deployment("${naming.nested.app__dot__kubernetes__dot__io__slash__name}",
            json!([{"name": "${naming.tags[0]}", "image": "${naming.text}", "ports": [{"containerPort": "${naming.port}"}]}]))},
    ]));
    let mut pass = pass(&graph, json!({"name": "n", "replicas": 2}));
    let value = learn(&mut pass, "naming");
    assert_eq!(value["count"], 3);
    let app = objects(step(&pass, "app")).remove(0);
    assert_eq!(app["metadata"]["name"], "n");
    let container = &app["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        *container,
        json!({"name": "a", "image": "n-n", "ports": [{"containerPort": 80}]})
    );
}

#[test]
fn an_unknown_field_of_a_variable_is_told_where_it_is_read() {
    author().refused(
        json!([naming(json!({})), {"id": "one", "template": config_map("${naming.prefixx}", json!({}))}]),
        "resource \"one\": path \"metadata.name\": expression \"naming.prefixx\": ERROR: <input>:1:7: undefined field 'prefixx'; \
         did you mean 'prefix'?\n | naming.prefixx\n | ......^",
    );
}

#[test]
fn variables_stand_in_the_graph_like_resources() {
    let graph = author().graph(json!([
        {"id": "last", "template": config_map("${info.name}-last", json!({}))},
        {"id": "info", "variable": {"name": "${first.data.key}", "prefix": "${naming.prefix}"}},
        {"id": "first", "template": config_map("${naming.prefix}-first", json!({"key": "k"}))},
        naming(json!({})),
    ]));
    assert_eq!(
        graph.topological_order(),
        ["naming", "first", "info", "last"]
    );
    let mut pass = pass(&graph, json!({"name": "n"}));
    assert_eq!(
        step(&pass, "info"),
        Step::Blocked("waiting for dependency \"first\" to be ready".into())
    );
    learn(&mut pass, "naming");
    let first = objects(step(&pass, "first")).remove(0);
    assert_eq!(first["metadata"]["name"], "it-n-first");
    observe(&mut pass, "first", json!({"data": {}}));
    let Step::Pending(reason) = step(&pass, "info") else {
        panic!()
    };
    assert_eq!(
        reason,
        "resource \"info\": variable: expression \"first.data.key\" waits for data: no such key: key"
    );
    observe(&mut pass, "first", first);
    assert_eq!(
        learn(&mut pass, "info"),
        json!({"name": "k", "prefix": "it-n"})
    );
}

#[test]
fn cycles_through_variables_are_refused() {
    author().refused(
        json!([
            {"id": "info", "variable": {"name": "${first.metadata.name}"}},
            {"id": "first", "template": config_map("${info.name}", json!({}))},
        ]),
        "graph contains a cycle: info -> first -> info",
    );
    author().refused(
        json!([{"id": "info", "variable": {"a": "${info.b}", "b": "1"}}]),
        "resource \"info\": self references are not allowed",
    );
}

#[test]
fn a_repeated_variable_is_a_list_for_one_template() {
    let graph = author().graph(json!([
        {"id": "containers", "forEach": [{"worker": "${schema.spec.workers}"}],
         "variable": {"name": "${worker}", "image": "nginx", "command": ["process", "${worker}"]}},
        {"id": "app", "template": deployment("app", json!("${containers}"))},
    ]));
    let mut pass = pass(&graph, json!({"name": "n", "workers": ["a", "b"]}));
    learn(&mut pass, "containers");
    let app = objects(step(&pass, "app")).remove(0);
    assert_eq!(
        app["spec"]["template"]["spec"]["containers"],
        json!([
            {"name": "a", "image": "nginx", "command": ["process", "a"]},
            {"name": "b", "image": "nginx", "command": ["process", "b"]},
        ])
    );
}

#[test]
fn conditions_hold_variables_back_and_leave_them_out() {
    let resources = json!([
        {"id": "flags", "includeWhen": ["${schema.spec.on}"], "readyWhen": ["${flags.name != ''}"], "variable": {"name": "${schema.spec.name}"}},
        {"id": "one", "includeWhen": ["${flags.name != 'off'}"], "template": config_map("one", json!({}))},
    ]);
    let graph = author().graph(resources);
    let mut out = pass(&graph, json!({"name": "n", "on": false}));
    assert_eq!(step(&out, "flags"), Step::Skip);
    out.set_state(0, NodeState::Skipped);
    assert_eq!(step(&out, "one"), Step::Skip);
    let mut unready = pass(&graph, json!({"name": "", "on": true}));
    learn(&mut unready, "flags");
    assert_eq!(
        *unready.state(0),
        NodeState::Waiting("waiting for readyWhen of \"flags\": flags.name != ''".into())
    );
    let mut off = pass(&graph, json!({"name": "off", "on": true}));
    learn(&mut off, "flags");
    assert_eq!(step(&off, "one"), Step::Skip);
}

#[test]
fn an_empty_optional_is_no_field() {
    let graph = author().graph(json!([
        {"id": "info", "variable": {"note": "${schema.spec.?note}", "name": "x"}},
        {"id": "one", "template": config_map("one", json!({"note": "${info.?note.orValue('none')}"}))},
    ]));
    let mut pass = pass(&graph, json!({"name": "n"}));
    assert_eq!(learn(&mut pass, "info"), json!({"name": "x"}));
    assert_eq!(
        objects(step(&pass, "one"))[0]["data"]["note"],
        json!("none")
    );
}

#[test]
fn what_no_variable_can_be_is_refused() {
    let one = |body: Value| json!([{"id": "info", "variable": body}]);
    author().refused(
        one(json!(["a"])),
        "resource \"info\": path \"variable\": a variable must be a map of values, got array",
    );
    author().refused(
        one(json!({"info": 1})),
        "resource \"info\": path \"info\": the key \"info\" is also the id of the variable, so ${info.info} would be hard to read",
    );
    author().refused(
        one(json!({"raw": "${base64.decode(schema.spec.name)}"})),
        "resource \"info\": path \"raw\": expression \"base64.decode(schema.spec.name)\": a variable cannot hold a value of type \
         \"bytes\" (write string(...) or base64.encode(...))",
    );
    author().refused(
        json!([{"id": "info", "variable": {}, "template": config_map("a", json!({}))}]),
        "resource \"info\": cannot use variable with template",
    );
}

#[test]
fn a_definition_without_variables_keeps_its_hash() {
    // Of this spec as it was before there were variables: switching must not issue a revision.
    let spec = author().spec(&json!([{"id": "one", "template": config_map("one", json!({}))}]));
    assert_eq!(spec_hash(&spec), "a45d08b86e660ddd");
}

#[test]
fn values_and_the_status_are_rendered() {
    let author = Author {
        status: json!({"prefix": "${naming.prefix}", "all": "${naming}"}),
        ..author()
    };
    let graph = author.graph(json!([naming(json!({}))]));
    let rendered = render(
        &graph,
        instance(json!({"name": "n"})).value(),
        &[],
        PassOptions::default(),
    );
    assert_eq!(rendered.nodes[0].value, Some(json!({"prefix": "it-n"})));
    assert_eq!(
        rendered.status,
        json!({"prefix": "it-n", "all": {"prefix": "it-n"}})
    );
    let crd = graph.crd();
    let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    assert_eq!(
        status["all"],
        json!({"type": "object", "properties": {"prefix": {"type": "string"}}})
    );
}

#[test]
fn values_keep_their_types_from_one_reader_to_the_next() {
    let author = Author {
        status: json!({"year": "${info.created.getFullYear()}", "password": "${string(info.whole.data.password)}"}),
        ..author()
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "p"}});
    let graph = author.graph(json!([
        {"id": "secret", "template": secret},
        {"id": "info", "variable": {"created": "${secret.metadata.creationTimestamp}", "whole": "${secret}"}},
        {"id": "one", "template": config_map("one", json!({"year": "${string(info.created.getFullYear())}"}))},
    ]));
    let mut pass = pass(&graph, json!({"name": "n"}));
    let live = json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": "cA=="},
        "metadata": {"name": "s", "creationTimestamp": "2026-02-03T04:05:06Z"}});
    observe(&mut pass, "secret", live.clone());
    let value = learn(&mut pass, "info");
    assert_eq!(
        value,
        json!({"created": "2026-02-03T04:05:06Z", "whole": live})
    );
    assert_eq!(objects(step(&pass, "one"))[0]["data"]["year"], "2026");
    assert_eq!(pass.status(), json!({"year": 2026, "password": "p"}));
}
