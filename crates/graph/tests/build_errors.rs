//! Mistakes, and what their authors are told.

use graph::{BuildOptions, OfflineKinds, build, read_spec};
use serde_json::{Value, json};

/// A definition with a Deployment and a ConfigMap; `change` breaks it.
fn definition(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "schema": {
            "apiVersion": "v1alpha1",
            "kind": "App",
            "spec": {"name": "string", "replicas": "integer | default=1"},
            "status": {"ready": "${deployment.status.readyReplicas}"},
        },
        "resources": [
            {"id": "deployment", "template": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "${schema.spec.name}"},
                "spec": {
                    "replicas": "${schema.spec.replicas}",
                    "selector": {"matchLabels": {"app": "${schema.spec.name}"}},
                    "template": {
                        "metadata": {"labels": {"app": "${schema.spec.name}"}},
                        "spec": {"containers": [{"name": "main", "image": "nginx"}]},
                    },
                },
            }},
            {"id": "config", "template": {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "${deployment.metadata.name}-config"},
                "data": {"replicas": "${string(schema.spec.replicas)}"},
            }},
        ],
    });
    change(&mut spec);
    spec
}

fn message(change: impl FnOnce(&mut Value)) -> String {
    let result = read_spec(&definition(change))
        .and_then(|spec| build(&spec, &OfflineKinds::new(), &BuildOptions::default()));
    match result {
        Ok(_) => "built".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn check(pointer: &str, value: Value, expect: &str) {
    let found = message(|spec| {
        if let Some(place) = spec.pointer_mut(pointer) {
            *place = value;
        } else {
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            spec.pointer_mut(parent).unwrap_or(&mut Value::Null)[key] = value;
        }
    });
    assert_eq!(found, expect);
}

#[test]
fn the_definition_is_fine_as_it_is() {
    assert_eq!(message(|_| {}), "built");
}

#[test]
fn a_misspelt_field_of_a_template() {
    check(
        "/resources/0/template/spec/replica",
        json!(1),
        "resource \"deployment\": path \"spec.replica\": schema not found for field replica (did you mean \"replicas\"?)",
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    check(
        "/resources/0/template/spec/replicas",
        json!("three"),
        "resource \"deployment\": path \"spec.replicas\": expected integer type for path spec.replicas, got string",
    );
    check(
        "/resources/1/template/data",
        json!(["a"]),
        "resource \"config\": path \"data\": expected object type for path data, got array",
    );
}

#[test]
fn a_misspelt_field_in_an_expression() {
    check(
        "/resources/1/template/data/replicas",
        json!("${string(schema.spec.replica)}"),
        "resource \"config\": path \"data.replicas\": expression \"string(schema.spec.replica)\": \
         ERROR: <input>:1:19: undefined field 'replica'; did you mean 'replicas'?\n \
         | string(schema.spec.replica)\n \
         | ..................^",
    );
}

#[test]
fn an_expression_that_cannot_be_parsed() {
    let found = message(|spec| {
        spec["resources"][1]["template"]["data"]["x"] = json!("${schema.spec.name +}");
    });
    assert!(
        found.starts_with(
            "resource \"config\": path \"data.x\": expression \"schema.spec.name +\": ERROR: <input>:1:"
        ),
        "{found}"
    );
    assert!(found.contains(" | schema.spec.name +\n"), "{found}");
}

#[test]
fn a_resource_that_does_not_exist() {
    check(
        "/resources/1/template/metadata/name",
        json!("${deploymnt.metadata.name}"),
        "resource \"config\": path \"metadata.name\": expression \"deploymnt.metadata.name\": \
         references unknown identifiers: [deploymnt] (did you mean \"deployment\"?)",
    );
}

#[test]
fn an_unknown_function() {
    check(
        "/resources/1/template/data/replicas",
        json!("${strin(schema.spec.replicas)}"),
        "resource \"config\": path \"data.replicas\": expression \"strin(schema.spec.replicas)\": \
         uses unknown functions: [strin]",
    );
}

#[test]
fn a_cycle() {
    check(
        "/resources/0/template/metadata/labels",
        json!({"config": "${config.metadata.name}"}),
        "graph contains a cycle: deployment -> config -> deployment",
    );
}

#[test]
fn a_resource_that_refers_to_itself() {
    check(
        "/resources/0/template/metadata/labels",
        json!({"own": "${deployment.metadata.name}"}),
        "resource \"deployment\": self references are not allowed",
    );
}

#[test]
fn an_unknown_type_in_the_schema() {
    check(
        "/schema/spec/name",
        json!("strng"),
        "path \"schema.spec.name\": unknown type: strng (did you mean \"string\"?)",
    );
}

#[test]
fn an_unknown_kind() {
    check(
        "/resources/0/template/kind",
        json!("Deploymnt"),
        "resource \"deployment\": path \"kind\": schema not found: no matches for kind \"Deploymnt\" in version \
         \"apps/v1\" (did you mean \"Deployment\"?)",
    );
}

#[test]
fn an_expression_of_the_wrong_type() {
    check(
        "/resources/0/template/spec/replicas",
        json!("${schema.spec.name}"),
        "type mismatch in resource \"deployment\" at path \"spec.replicas\": expression \"schema.spec.name\" returns \
         type \"string\" but expected \"int\"",
    );
    check(
        "/resources/1/template/data/replicas",
        json!("${schema.spec.replicas}"),
        "type mismatch in resource \"config\" at path \"data.replicas\": expression \"schema.spec.replicas\" returns \
         type \"int\" but expected \"string\"",
    );
    check(
        "/resources/1/template/data/replicas",
        json!("n=${schema.spec.replicas}"),
        "type mismatch in resource \"config\" at path \"data.replicas\": expression \"schema.spec.replicas\" returns \
         type \"int\" but expected \"string\", because there is text around it (write string(schema.spec.replicas))",
    );
}

#[test]
fn conditions_that_are_none() {
    check(
        "/resources/0/readyWhen",
        json!(["${deployment.status.readyReplicas}"]),
        "resource \"deployment\": path \"readyWhen[0]\": readyWhen expression \"deployment.status.readyReplicas\" in \
         resource \"deployment\" must return bool or optional_type(bool), but returns \"int\"",
    );
    check(
        "/resources/0/readyWhen",
        json!(["${schema.spec.name == 'x'}"]),
        "resource \"deployment\": path \"readyWhen[0]\": expression \"schema.spec.name == 'x'\": references unknown \
         identifiers: [schema] (readyWhen sees only \"deployment\")",
    );
    check(
        "/resources/0/includeWhen",
        json!(["yes ${schema.spec.name == 'x'}"]),
        "resource \"deployment\": path \"includeWhen[0]\": only standalone expressions are allowed (write it as \
         ${expression}, without anything around it), got \"yes ${schema.spec.name == 'x'}\"",
    );
}

#[test]
fn names() {
    check(
        "/resources/0/id",
        json!("Deployment"),
        "naming convention violation: id Deployment is not a valid KRO resource id: must be lower camelCase",
    );
    check(
        "/resources/0/id",
        json!("schema"),
        "naming convention violation: id schema is a reserved keyword in KRO",
    );
    check(
        "/resources/0/id",
        json!("config"),
        "naming convention violation: found duplicate resource IDs config",
    );
    check(
        "/schema/kind",
        json!("app"),
        "path \"schema.kind\": naming convention violation: kind 'app' is not a valid KRO kind name: must be UpperCamelCase",
    );
}

#[test]
fn templates_that_are_no_objects() {
    check(
        "/resources/0/template/metadata",
        json!(null),
        "resource \"deployment\": path \"metadata\": resource deployment is not a valid Kubernetes object: metadata field not found",
    );
    check(
        "/resources/0/template/kind",
        json!("${schema.spec.name}"),
        "resource \"deployment\": path \"kind\": resource deployment is not a valid Kubernetes object: kind must be \
         written out, expressions are not allowed, got \"${schema.spec.name}\"",
    );
    check(
        "/resources/0/externalRef",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}),
        "resource \"deployment\": cannot use externalRef with template",
    );
    check(
        "/resources/0/template/metadata/labels",
        json!({"kro.run/x": "y"}),
        "resource \"deployment\": path \"metadata.labels\": invalid label for resource \"deployment\". labels with \
         prefix \"kro.run/\" are reserved for internal use, got \"kro.run/x\"",
    );
}

#[test]
fn collections() {
    check(
        "/resources/1/forEach",
        json!([{"item2": "${['a']}"}]),
        "resource \"config\": path \"metadata.name\": all forEach dimensions must be used to produce a unique resource \
         identity, missing: [item2]",
    );
    check(
        "/resources/1/forEach",
        json!([{"each": "${['a']}"}]),
        "resource \"config\": path \"forEach\": forEach iterator name \"each\" is a reserved keyword",
    );
    let found = message(|spec| {
        spec["resources"][1]["forEach"] = json!([{"one": "${schema.spec.name}"}]);
        spec["resources"][1]["template"]["metadata"]["name"] = json!("${one}");
    });
    assert_eq!(
        found,
        "resource \"config\": path \"forEach.one\": expression \"schema.spec.name\": forEach iterator \
         \"one\" must return a list, got \"string\""
    );
}

#[test]
fn status_fields() {
    check(
        "/schema/status/fixed",
        json!("text"),
        "path \"schema.status\": status fields without expressions are not supported: [fixed]",
    );
    check(
        "/schema/status/other",
        json!("${[1, 2]}"),
        "path \"schema.status.other\": expression \"[1, 2]\": instance status field must refer to a resource or schema: other",
    );
    check(
        "/schema/status/conditions",
        json!("${deployment}"),
        "path \"schema.status.conditions\": status.conditions must be a list, got string",
    );
}

#[test]
fn omit_needs_its_gate() {
    check(
        "/resources/1/template/data/replicas",
        json!("${omit()}"),
        "resource \"config\": path \"data.replicas\": expression \"omit()\": omit() requires the CELOmitFunction feature gate to be enabled",
    );
}
