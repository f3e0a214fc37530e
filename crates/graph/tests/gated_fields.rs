//! Fields behind feature gates: refused without their gate, by name, and checked with it.

use graph::{BuildOptions, Features, OfflineKinds, build, diagram, read_spec};
use serde_json::{Value, json};

fn definition() -> Value {
    json!({
        "schema": {
            "apiVersion": "v1", "kind": "App",
            "spec": {"text": "string", "count": "integer | default=1", "pool": {"size": "integer | default=1"}},
            "status": {"text": "${first.data.text}"},
        },
        "resources": [
            {"id": "first", "template": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "first"}, "data": {"text": "${schema.spec.text}", "plain": "x"}}},
            {"id": "theirs", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}}},
            {"id": "many", "forEach": [{"name": "${['a', 'b']}"}], "template": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${name}"}}},
        ],
    })
}

/// What a build says when the value at each pointer is replaced.
fn message(changes: &[(&str, Value)], features: Features) -> String {
    let mut spec = definition();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        let parent = spec
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{pointer}"));
        parent[key] = value.clone();
    }
    let options = BuildOptions {
        features,
        ..BuildOptions::default()
    };
    let built = read_spec(&spec).and_then(|spec| build(&spec, &OfflineKinds::new(), &options));
    built.map_or_else(|error| error.to_string(), |_| "built".to_owned())
}

fn scaled() -> [(&'static str, Value); 2] {
    [
        ("/schema/spec/count", "integer | default=1 scale".into()),
        (
            "/schema/status/count",
            "${schema.spec.count} | scale".into(),
        ),
    ]
}

#[test]
fn every_field_names_its_gate() {
    let check = |changes: &[(&str, Value)], path: &str, gate: &str| {
        let refused = message(changes, Features::default());
        assert!(refused.contains(&format!("path \"{path}")), "{refused}");
        let expect = format!("requires the {gate} feature gate to be enabled");
        assert!(refused.contains(&expect), "{refused}");
        assert_eq!(message(changes, Features::all()), "built");
    };
    let gates = json!(["${schema.spec.text != ''}"]);
    check(
        &[("/resources/0/propagateWhen", gates)],
        "propagateWhen",
        "PropagationControl",
    );
    check(
        &[("/resources/0/deletionPolicy", "Orphaned".into())],
        "deletionPolicy",
        "DeletionPolicy",
    );
    check(
        &[("/resources/0/lifecycle", "${policy()}".into())],
        "lifecycle",
        "ResourceLifecycles",
    );
    check(
        &[("/resources/0/externalFields", json!(["data.plain"]))],
        "externalFields",
        "ExternalFields",
    );
    let all = json!(["${apps.all(it, it.ready())}"]);
    check(
        &[("/propagateWhen", all)],
        "propagateWhen",
        "PropagationControl",
    );
    let manual = json!({"strategy": "Manual"});
    check(
        &[("/rollout", manual)],
        "rollout.strategy",
        "RevisionPinning",
    );
    check(&scaled(), "schema.spec.count", "ScaleSubresource");
}

#[test]
fn gates_of_propagation_are_checked() {
    let check = |pointer: &str, expression: &str, expect: &str| {
        let found = message(&[(pointer, json!([expression]))], Features::all());
        assert!(found.contains(expect), "{found}");
    };
    let (one, many) = ("/resources/0/propagateWhen", "/resources/2/propagateWhen");
    check(
        one,
        "${theirs.data.open == 'yes' && first.ready()}",
        "built",
    );
    check(
        one,
        "${theris.data.open == 'yes'}",
        "path \"propagateWhen[0]\": expression \"theris.data.open == 'yes'\": references unknown identifiers: [theris] (did you mean \"theirs\"?)",
    );
    check(one, "${theirs.dta.open == 'yes'}", "undefined field 'dta'");
    check(one, "${first.metadata.name}", "must return bool");
    check(one, "${each.ready()}", "unknown identifiers: [each]");
    check(one, "${first.redy()}", "uses unknown functions: [redy]");
    check(one, "yes", "write it as ${expression}");
    check(many, "${linearlyUpdated(each, many, 2)}", "built");
    check(many, "${exponentiallyUpdated(name, many)}", "built");
    check(
        many,
        "${linearlyUpdated(each, many)}",
        "unknown functions: [linearlyUpdated]",
    );
    check(
        many,
        "${linearlyUpdated(many[0], many, 1)}",
        "must be the item itself",
    );
    check(
        "/resources/1/propagateWhen",
        "${true}",
        "propagateWhen needs a template",
    );
    // What a gate reads is a dependency, and may close a circle.
    let circle = [
        (one, json!(["${many.size() > 0}"])),
        (
            "/resources/2/template/data",
            json!({"text": "${first.data.text}"}),
        ),
    ];
    assert!(
        message(&circle, Features::all()).contains("cycle"),
        "{}",
        message(&circle, Features::all())
    );
}

#[test]
fn the_rollout_of_a_definition_is_checked() {
    let check = |changes: &[(&str, Value)], expect: &str| {
        let found = message(changes, Features::all());
        assert!(found.contains(expect), "{found}");
    };
    let gate = |expression: &str| [("/propagateWhen", json!([expression]))];
    check(&gate("${linearlyUpdated(app, apps, 2)}"), "built");
    check(
        &gate("${app.status.state == 'ACTIVE' || app.spec.count > 1}"),
        "built",
    );
    check(&gate("${app.spec.cuont > 1}"), "path \"propagateWhen[0]\"");
    check(
        &gate("${app.spec.cuont > 1}"),
        "undefined field 'cuont'; did you mean 'count'?",
    );
    check(
        &gate("${application.ready()}"),
        "undeclared reference to 'application'",
    );
    check(&gate("${app.spec.count}"), "must return bool");
    let slow = json!({"strategy": "Slow"});
    let expect = "path \"rollout.strategy\": expected Latest or Manual, got \"Slow\"";
    check(&[("/rollout", slow)], expect);
    let status = json!("${schema.spec.count}");
    let own = ("/schema/status/graphRevision", status);
    check(std::slice::from_ref(&own), "built");
    let manual = ("/rollout", json!({"strategy": "Manual"}));
    check(&[own, manual], "path \"schema.status.graphRevision\"");
}

#[test]
fn fields_to_scale_by_are_checked() {
    let check = |changes: &[(&str, Value)], expect: &str| {
        let found = message(changes, Features::all());
        assert!(found.contains(expect), "{found}");
    };
    let [spec, status] = scaled();
    check(
        std::slice::from_ref(&spec),
        "path \"schema.status\": the marker scale needs a field in spec and one in status",
    );
    check(
        std::slice::from_ref(&status),
        "path \"schema.spec\": the marker scale needs a field in spec and one in status",
    );
    check(
        &[
            ("/schema/spec/text", "string | scale".into()),
            status.clone(),
        ],
        "path \"schema.spec.text\": a field to scale by must be integer, this one is string",
    );
    check(
        &[
            spec.clone(),
            ("/schema/status/text", "${first.data.text} | scale".into()),
        ],
        "path \"schema.status.text\": a field to scale by must be integer, this one is string",
    );
    check(
        &[
            spec.clone(),
            ("/schema/spec/pool/size", "integer | scale".into()),
            status.clone(),
        ],
        "more than one field of spec",
    );
    let selector = (
        "/schema/status/selector",
        "${schema.spec.count} | scaleSelector".into(),
    );
    check(
        &[spec.clone(), status.clone(), selector],
        "must be string, this one is integer",
    );
    let nested = ("/schema/spec/pool/size", json!("integer | scale"));
    check(&[nested, status], "built");
}

#[test]
fn a_definition_without_these_fields_keeps_its_hash() {
    // Switching to a version that knows the fields must not issue revisions.
    assert_eq!(graph::hash::spec_hash(&definition()), "480918256b493372");
}

#[test]
fn diagrams_say_what_is_special_about_a_resource() {
    let mut spec = definition();
    spec["resources"][0]["deletionPolicy"] = "Orphaned".into();
    spec["resources"][0]["externalFields"] = json!(["data.plain"]);
    spec["resources"][0]["propagateWhen"] = json!(["${schema.spec.text != \"<x>\"}"]);
    let options = BuildOptions {
        features: Features::all(),
        ..BuildOptions::default()
    };
    let built = read_spec(&spec).and_then(|spec| build(&spec, &OfflineKinds::new(), &options));
    let graph = built.unwrap_or_else(|error| panic!("{error}"));
    let mermaid = diagram::mermaid(&graph);
    let label = "first<br/>ConfigMap<br/>(stays when it is not asked for any more)\
        <br/>(hands data.plain over to who writes it)<br/>(is written when schema.spec.text != '#lt;x#gt;')\"]";
    assert!(mermaid.contains(label), "{mermaid}");
    let dot = diagram::dot(&graph);
    assert!(
        dot.contains("\\n(is written when schema.spec.text != '<x>')\""),
        "{dot}"
    );
    let svg = diagram::svg(&graph);
    let title = "<g><title>stays when it is not asked for any more\nhands data.plain over to who writes it\n\
        is written when schema.spec.text != \"&lt;x&gt;\"</title>";
    assert!(svg.contains(title), "{svg}");
}
