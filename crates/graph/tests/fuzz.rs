//! No definition, however broken, and no instance makes anything panic.

use controller::Object;
use graph::render::render;
use graph::runtime::PassOptions;
use graph::{BuildOptions, Features, OfflineKinds, build, read_spec};
use proptest::prelude::*;
use serde_json::{Value, json};

fn definition() -> Value {
    json!({
        "schema": {
            "apiVersion": "v1",
            "kind": "App",
            "spec": {"name": "string | default=x", "list": "[]string", "deep": {"n": "integer | required=true"}, "own": "Own"},
            "types": {"Own": {"a": "string", "b": "map[string]integer"}},
            "status": {"text": "${one.data.a}", "conditions": ["${runtime.newCondition({type: 'A', status: 'True'})}"]},
        },
        "resources": [
            {"id": "one", "readyWhen": ["${one.data.a != ''}"], "includeWhen": ["${schema.spec.deep.n > 0}"],
             "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${schema.spec.name}-a"},
                "data": {"a": "${schema.spec.own.a}", "b": "n ${string(schema.spec.deep.n)}"}}},
            {"id": "many", "forEach": [{"item1": "${schema.spec.list}"}], "template": {"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "${item1}-${one.metadata.name}"}, "stringData": {"x": "${item1}"}}},
            {"id": "other", "externalRef": {"apiVersion": "v1", "kind": "Service", "metadata": {"selector": {"matchLabels": {"a": "${many[0].metadata.name}"}}}}},
            {"id": "naming", "variable": {"prefix": "${schema.spec.name}-p", "nested": {"a": [1, "${one.data.b}"]}}},
            {"id": "lines", "forEach": [{"item1": "${schema.spec.list}"}], "variable": {"line": "${naming.prefix}${item1}"}},
            {"id": "later", "template": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${naming.prefix}", "labels": {"${naming.prefix}": "x"}},
                "data": {"a": "${defer(last.data.a)}", "${schema.spec.name}.txt": "${schema.spec.deep.n > 1 ? one.data.a : 'no'}"}}},
            {"id": "last", "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "last"},
                "data": {"a": "${later.metadata.name}", "lines": "${lines.map(l, l.line).join(',')}"}}},
            {"id": "given", "forEach": [{"service": "${other}"}], "patch": {"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "${service.metadata.name}", "labels": {"given": "${schema.spec.name}"}}}},
        ],
    })
}

fn instance() -> Value {
    json!({"apiVersion": "kro.run/v1", "kind": "App", "metadata": {"name": "it", "namespace": "ns"},
        "spec": {"name": "n", "list": ["a", "b"], "deep": {"n": 1}, "own": {"a": "x", "b": {"k": 1}}}})
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        pointers(
            value,
            format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
            found,
        );
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| below(&index.to_string(), value)),
        _ => {}
    }
    found.push(at);
}

fn replacement() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "",
        "x",
        "${",
        "${}",
        "${x}",
        "${schema}",
        "${schema.spec}",
        "${one}",
        "${many}",
        "${many.map(m, m.metadata.name)}",
        "${other.size()}",
        "text ${schema.spec.name}",
        "string",
        "[]Own",
        "Own",
        "integer | default=1",
        "${1 / 0}",
        "${schema.spec.list[5]}",
        "${optional.none()}",
        "${omit()}",
        "${[1, 'a']}",
        "${{'a': one}}",
        "${random.seededString(3, 'x')}",
        "ConfigMap",
        "v1",
        "apps/v1",
        "a/b/c",
        "${runtime}",
        "${each}",
        "${item1}",
        "${'x'.charAt(9)}",
        "${bytes('x')}",
        "${naming}",
        "${lines}",
        "${lines[0].line}",
        "${defer(one.data.a)}",
        "${defer(last)}",
        "${schema.spec.deep.n > 1 ? one.data.a : last.data.a}",
        "${given}",
    ]);
    prop_oneof![
        texts.prop_map(|text| json!(text)),
        Just(Value::Null),
        Just(json!(3)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"a": "${schema.spec.name}"}])),
        Just(json!({"a": {"b": ["${one.data}"]}})),
        Just(json!({"${schema.spec.name}": "${one.data.a}", "${naming.prefix}": {"${x}": 1}})),
    ]
}

fn broken(document: &Value, edits: &[(prop::sample::Index, Value)]) -> Value {
    let mut document = document.clone();
    for (index, value) in edits {
        let mut places = Vec::new();
        pointers(&document, String::new(), &mut places);
        if let Some(place) = document.pointer_mut(&places[index.index(places.len())]) {
            place.clone_from(value);
        }
    }
    document
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_panics(
        in_definition in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 0..3),
        in_instance in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 0..2),
    ) {
        let spec = broken(&definition(), &in_definition);
        let options = BuildOptions { features: Features::all(), ..BuildOptions::default() };
        let graph = read_spec(&spec).and_then(|spec| build(&spec, &OfflineKinds::new(), &options));
        match graph {
            Ok(graph) => {
                let instance = broken(&instance(), &in_instance);
                let rendered = render(&graph, &instance, &[], PassOptions::default());
                prop_assert_eq!(rendered.nodes.len(), graph.nodes.len());
                let _ = Object::new(instance).key();
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn the_definition_itself_runs_through() {
    let spec = read_spec(&definition()).unwrap_or_else(|error| panic!("{error}"));
    let options = BuildOptions {
        features: Features::all(),
        ..BuildOptions::default()
    };
    let graph =
        build(&spec, &OfflineKinds::new(), &options).unwrap_or_else(|error| panic!("{error}"));
    let rendered = render(&graph, &instance(), &[], PassOptions::default());
    let states: Vec<&str> = rendered
        .nodes
        .iter()
        .map(|node| node.state.name())
        .collect();
    assert_eq!(states, ["SYNCED"; 8]);
}
