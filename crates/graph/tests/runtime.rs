//! Passes over graphs: what is asked for, what is waited for, what the status says.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use controller::Object;
use graph::runtime::{NodeState, Observation, Pass, PassOptions, Readiness, Step};
use graph::{BuildOptions, Feature, Features, Graph, OfflineKinds, build, read_spec};
use serde_json::{Value, json};

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn graph_of(schema: Value, status: Value, resources: Value) -> Graph {
    let spec = json!({"schema": {"apiVersion": "v1", "kind": "App", "spec": schema, "status": status}, "resources": resources});
    build(
        &read_spec(&spec).unwrap(),
        &OfflineKinds::new(),
        &BuildOptions::default(),
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

fn instance(spec: Value) -> Object {
    Object::new(json!({"apiVersion": "kro.run/v1", "kind": "App",
        "metadata": {"name": "it", "namespace": "ns", "uid": "u"}, "spec": spec}))
}

fn observe(pass: &mut Pass<'_>, id: &str, object: Value) {
    let node = pass.graph().position(id).unwrap();
    pass.observe(node, Observation::One(Arc::new(Object::new(object))));
    let state = match pass.readiness(node) {
        Readiness::Ready => NodeState::Synced,
        Readiness::Waiting(reason) => NodeState::Waiting(reason),
        Readiness::Failed(message) => NodeState::Error(message),
    };
    pass.set_state(node, state);
}

fn step(pass: &Pass<'_>, id: &str) -> Step {
    pass.step(pass.graph().position(id).unwrap())
}

fn objects(step: Step) -> Vec<Value> {
    match step {
        Step::Apply(objects) => objects,
        other => panic!("{other:?}"),
    }
}

#[test]
fn dependents_wait_for_readiness_and_see_what_was_observed() {
    let graph = graph_of(
        json!({"name": "string"}),
        json!({"text": "got ${second.data.value}"}),
        json!([
            {"id": "first", "readyWhen": ["${first.data.up == 'yes'}"],
             "template": config_map("${schema.spec.name}", json!({"a": "b"}))},
            {"id": "second", "template": config_map("second", json!({"value": "${first.data.up}!"}))},
        ]),
    );
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"name": "n"})),
        PassOptions::default(),
    );
    let first = objects(step(&pass, "first")).remove(0);
    assert_eq!(first["metadata"], json!({"name": "n", "namespace": "ns"}));
    assert_eq!(
        step(&pass, "second"),
        Step::Blocked("waiting for dependency \"first\" to be ready".into())
    );

    observe(&mut pass, "first", first.clone());
    let NodeState::Waiting(reason) = pass.state(0) else {
        panic!()
    };
    assert!(
        reason.starts_with("waiting for readyWhen of \"first\": first.data.up == 'yes'"),
        "{reason}"
    );
    assert_eq!(pass.status(), json!({}));

    let mut ready = first;
    ready["data"]["up"] = "yes".into();
    observe(&mut pass, "first", ready);
    let second = objects(step(&pass, "second")).remove(0);
    assert_eq!(second["data"]["value"], "yes!");
    observe(&mut pass, "second", second);
    assert_eq!(pass.status(), json!({"text": "got yes!"}));
}

#[test]
fn missing_data_is_waited_for_and_nonsense_is_an_error() {
    let graph = graph_of(
        json!({"name": "string", "list": "[]string"}),
        json!({}),
        json!([
            {"id": "first", "template": config_map("first", json!({}))},
            {"id": "second", "template": config_map("second", json!({"value": "${first.data.later}"}))},
            {"id": "third", "template": config_map("third", json!({"value": "${string(int(schema.spec.name))}"}))},
        ]),
    );
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"name": "n"})),
        PassOptions::default(),
    );
    let first = objects(step(&pass, "first")).remove(0);
    observe(&mut pass, "first", first);
    let Step::Pending(reason) = step(&pass, "second") else {
        panic!()
    };
    assert!(
        reason.contains(
            "resource \"second\": template: expression \"first.data.later\" waits for data"
        ),
        "{reason}"
    );
    let Step::Fail(message) = step(&pass, "third") else {
        panic!()
    };
    assert!(
        message.contains("string(int(schema.spec.name))"),
        "{message}"
    );
}

#[test]
fn leaving_out_is_contagious() {
    let graph = graph_of(
        json!({"on": "boolean"}),
        json!({"name": "${second.metadata.name}"}),
        json!([
            {"id": "first", "includeWhen": ["${schema.spec.on}"], "template": config_map("first", json!({}))},
            {"id": "second", "template": config_map("${first.metadata.name}-second", json!({}))},
        ]),
    );
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"on": false})),
        PassOptions::default(),
    );
    assert_eq!(step(&pass, "first"), Step::Skip);
    pass.set_state(0, NodeState::Skipped);
    assert_eq!(step(&pass, "second"), Step::Skip);
    assert_eq!(pass.status(), json!({}));
    let pass = Pass::new(&graph, &instance(json!({})), PassOptions::default());
    assert!(matches!(step(&pass, "first"), Step::Fail(_)));
}

#[test]
fn collections_expand_in_order_within_their_limit() {
    let graph = graph_of(
        json!({"names": "[]string", "sizes": "[]integer"}),
        json!({}),
        json!([{"id": "all", "forEach": [{"name": "${schema.spec.names}"}, {"size": "${schema.spec.sizes}"}],
            "readyWhen": ["${each.data.up == 'yes'}"],
            "template": config_map("${name}-${string(size)}", json!({"size": "${string(size)}"}))}]),
    );
    let names = |spec: Value, options| {
        let pass = Pass::new(&graph, &instance(spec), options);
        match step(&pass, "all") {
            Step::Apply(objects) => objects
                .iter()
                .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
                .collect(),
            Step::Fail(message) => vec![message],
            other => panic!("{other:?}"),
        }
    };
    let all = PassOptions::default();
    assert_eq!(
        names(json!({"names": ["a", "b"], "sizes": [1, 2]}), all),
        ["a-1", "a-2", "b-1", "b-2"]
    );
    assert_eq!(
        names(json!({"names": ["a", "b"], "sizes": []}), all),
        Vec::<String>::new()
    );
    assert_eq!(
        names(
            json!({"names": ["a", "b"], "sizes": [1, 2]}),
            PassOptions {
                max_collection_size: 3
            }
        ),
        ["resource \"all\": collection size 4 exceeds maximum 3"]
    );
    assert_eq!(
        names(json!({"names": ["a", "a"], "sizes": [1]}), all),
        ["resource \"all\": two items of the collection have the same identity: ConfigMap ns/a-1"]
    );
}

#[test]
fn a_collection_is_ready_when_each_item_is() {
    let graph = graph_of(
        json!({"names": "[]string"}),
        json!({}),
        json!([{"id": "all", "forEach": [{"name": "${schema.spec.names}"}], "readyWhen": ["${each.data.up == 'yes'}"],
            "template": config_map("${name}", json!({}))}]),
    );
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"names": ["a", "b"]})),
        PassOptions::default(),
    );
    let mut check = |items: Value, complete, expect: &str| {
        pass.observe(
            0,
            Observation::Many {
                items: Arc::new(items),
                complete,
            },
        );
        assert!(
            format!("{:?}", pass.readiness(0)).starts_with(expect),
            "{:?}",
            pass.readiness(0)
        );
    };
    let (up, down) = (
        config_map("a", json!({"up": "yes"})),
        config_map("b", json!({"up": "no"})),
    );
    check(json!([up, up]), true, "Ready");
    check(json!([up, down]), true, "Waiting");
    check(json!([up]), false, "Waiting");
    check(json!([]), true, "Ready");
}

#[test]
fn external_references() {
    let graph = graph_of(
        json!({"team": "string"}),
        json!({"count": "${others.size()}"}),
        json!([
            {"id": "one", "externalRef": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s-${schema.spec.team}"}}},
            {"id": "others", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": "other", "selector": {"matchLabels": {"team": "${schema.spec.team}"}}}}},
        ]),
    );
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"team": "x"})),
        PassOptions::default(),
    );
    assert_eq!(step(&pass, "one"), Step::Read("ns/s-x".parse().unwrap()));
    assert_eq!(
        step(&pass, "others"),
        Step::List {
            namespace: Some("other".into()),
            selector: "team=x".into()
        }
    );
    pass.observe(
        1,
        Observation::Many {
            items: Arc::new(json!([{}, {}])),
            complete: true,
        },
    );
    assert_eq!(pass.status(), json!({"count": 2}));
}

#[test]
fn what_the_instance_holds_is_data() {
    let graph = graph_of(
        json!({"text": "string"}),
        json!({}),
        json!([
            {"id": "it", "template": config_map("it", json!({"text": "${schema.spec.text}"}))},
        ]),
    );
    let pass = Pass::new(
        &graph,
        &instance(json!({"text": "${schema.metadata.name}"})),
        PassOptions::default(),
    );
    assert_eq!(
        objects(step(&pass, "it"))[0]["data"]["text"],
        "${schema.metadata.name}"
    );
}

#[test]
fn omitted_fields_and_elements_are_left_out() {
    let spec = json!({
        "schema": {"apiVersion": "v1", "kind": "App", "spec": {"text": "string"}},
        "resources": [{"id": "it", "template": {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "it"},
            "spec": {
                "replicas": "${schema.spec.text == '' ? omit() : 2}",
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                    {"name": "main", "image": "nginx", "args": ["${omit()}", "kept", "${omit()}"]},
                ]}},
            },
        }}],
    });
    let options = BuildOptions {
        features: Features::default().with(Feature::CelOmitFunction),
        ..BuildOptions::default()
    };
    let graph = build(&read_spec(&spec).unwrap(), &OfflineKinds::new(), &options).unwrap();
    let object = |text: &str| {
        let pass = Pass::new(
            &graph,
            &instance(json!({"text": text})),
            PassOptions::default(),
        );
        objects(step(&pass, "it")).remove(0)
    };
    assert_eq!(object("").pointer("/spec/replicas"), None);
    assert_eq!(object("x").pointer("/spec/replicas"), Some(&json!(2)));
    assert_eq!(
        object("").pointer("/spec/template/spec/containers/0/args"),
        Some(&json!(["kept"]))
    );
}

#[test]
fn kinds_with_open_schemas_take_anything() {
    let mut kinds = OfflineKinds::new();
    kinds.add_crd(&json!({"spec": {
        "group": "test.io", "scope": "Namespaced", "names": {"kind": "Bucket", "plural": "buckets"},
        "versions": [{"name": "v1api20200601", "served": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }},
                "status": {"type": "object", "properties": {"arn": {"type": "string"}}},
            },
        }}}],
    }}));
    let spec = json!({
        "schema": {"apiVersion": "v1", "kind": "App", "spec": {"size": "integer", "any": "object"},
            "status": {"arn": "${bucket.status.arn}", "labels": "${schema.metadata.?labels}"}},
        "resources": [{"id": "bucket", "template": {
            "apiVersion": "test.io/v1api20200601", "kind": "Bucket",
            "metadata": {"name": "b", "labels": {"a-b/c.d": "${schema.metadata.name}"}},
            "spec": {"size": "${schema.spec.size}", "free": {"deep": [{"x": "${schema.spec.any.y}"}], "all": "${schema.spec.any}"}},
        }}],
    });
    let graph = build(&read_spec(&spec).unwrap(), &kinds, &BuildOptions::default())
        .unwrap_or_else(|error| panic!("{error}"));
    let mut pass = Pass::new(
        &graph,
        &instance(json!({"size": 3, "any": {"y": [1, "two"]}})),
        PassOptions::default(),
    );
    let mut bucket = objects(step(&pass, "bucket")).remove(0);
    assert_eq!(
        bucket["spec"],
        json!({"size": 3, "free": {"deep": [{"x": [1, "two"]}], "all": {"y": [1, "two"]}}})
    );
    assert_eq!(bucket["metadata"]["labels"]["a-b/c.d"], "it");
    bucket["status"] = json!({"arn": "arn:1"});
    observe(&mut pass, "bucket", bucket);
    // The labels are absent, which is not the same as null.
    assert_eq!(pass.status(), json!({"arn": "arn:1"}));
    let crd = graph.crd();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    assert_eq!(schema["arn"], json!({"type": "string"}));
    assert_eq!(
        schema["labels"],
        json!({
            "x-kubernetes-preserve-unknown-fields": true,
            "description": "unknown CEL type: optional_type(map(string, string))",
        })
    );
}
