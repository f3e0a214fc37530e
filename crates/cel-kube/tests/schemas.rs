//! Types from schemas, and data that follows them.

use std::sync::Arc;

use cel::{Activation, ErrorKind, Type, Value};
use cel_kube::{declare, kro_env, no_refs};
use serde_json::json;

fn widget() -> Type {
    let schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer"},
                    "ratio": {"type": "number"},
                    "port": {"x-kubernetes-int-or-string": true},
                    "secret": {"type": "string", "format": "byte"},
                    "since": {"type": "string", "format": "date-time"},
                    "wait": {"type": "string", "format": "duration"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                             "properties": {"known": {"type": "string"}}},
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "users": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                              "items": {"type": "object", "properties": {
                                  "name": {"type": "string"}, "age": {"type": "integer"}}}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "host-name": {"type": "string"},
                    "namespace": {"type": "string"},
                    "maybe": {"type": "string", "nullable": true},
                    "nothing": {"type": "array"},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                            "x-kubernetes-preserve-unknown-fields": true},
                }
            },
            "self": {"$ref": "#/definitions/Self"}
        }
    });
    let node = Arc::new(json!({"type": "object", "properties": {
        "value": {"type": "string"}, "next": {"$ref": "#/definitions/Self"}}}));
    let resolve = |reference: &str| (reference == "#/definitions/Self").then(|| Arc::clone(&node));
    declare("Widget", &schema, &resolve).expect("the schema is fine")
}

#[test]
fn types_of_fields() {
    let env = kro_env()
        .extend()
        .variable("w", widget())
        .build()
        .expect("the name is fine");
    for (source, expect) in [
        ("w.spec.replicas", "int"),
        ("w.spec.ratio", "double"),
        ("w.spec.port", "dyn"),
        ("w.spec.secret", "bytes"),
        ("w.spec.since", "google.protobuf.Timestamp"),
        ("w.spec.wait", "google.protobuf.Duration"),
        ("w.spec.free.whatever", "dyn"),
        ("w.spec.open.known", "string"),
        ("w.spec.open.other", "dyn"),
        ("w.spec.tags", "list(string)"),
        ("w.spec.users[0]", "Widget.spec.users.@idx"),
        ("w.spec.users.map(u, u.age)", "list(int)"),
        ("w.spec.labels", "map(string, string)"),
        ("w.spec.host__dash__name", "string"),
        ("w.spec.`host-name`", "string"),
        ("w.spec.namespace", "string"),
        ("w.spec.__namespace__", "string"),
        ("w.spec.?replicas", "optional_type(int)"),
        ("w.spec.pod.metadata.name", "string"),
        ("w.spec.pod.spec.anything", "dyn"),
        ("w.self.next.next.value", "dyn"),
    ] {
        let program = env
            .compile(source)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(program.result_type().to_string(), expect, "{source}");
    }
    for (source, expect) in [
        (
            "w.spec.replica",
            "undefined field 'replica'; did you mean 'replicas'?",
        ),
        ("w.spec.nothing", "undefined field 'nothing'"),
        (
            "w.spec.replicas + 'a'",
            "found no matching overload for '_+_' applied to '(int, string)'; convert the int with string()",
        ),
    ] {
        let error = env.compile(source).expect_err(source).to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn data_follows_its_schema() {
    let ty = widget();
    let env = kro_env()
        .extend()
        .variable("w", ty.clone())
        .build()
        .expect("the name is fine");
    let data = json!({"spec": {
        "replicas": 3.0, "ratio": 2, "port": "http", "secret": "aGk=", "since": "2026-01-02T03:04:05Z", "wait": "1h",
        "tags": ["a", "b"], "users": [{"name": "x", "age": 1}, {"name": "y"}], "labels": {"a": "1"},
        "host-name": "h", "namespace": "n", "maybe": null, "open": {"extra": 5}, "nothing": null,
        "pod": {"metadata": {"name": "p"}, "spec": {"x": 1}},
    }, "self": {"value": "v", "next": {"next": {"value": 1}}}});
    let mut activation = Activation::new();
    activation.bind_typed("w", &data, &ty);
    for source in [
        "w.spec.replicas == 3 && type(w.spec.replicas) == int",
        "w.spec.ratio == 2.0 && type(w.spec.ratio) == double",
        "w.spec.secret == b'hi'",
        "w.spec.since.getMinutes() == 4",
        "w.spec.wait == duration('60m')",
        "w.spec.tags == ['b', 'a']",
        "(w.spec.tags + ['b', 'c']).size() == 3",
        "(w.spec.users + w.spec.users).size() == 2",
        "w.spec.labels.exists(k, k == 'a')",
        "w.spec.`host-name` == 'h' && w.spec.host__dash__name == 'h' && w.spec.namespace == 'n'",
        "dyn(w.spec.maybe) == null",
        "w.spec.open.extra == 5",
        "!has(w.spec.free) && has(w.spec.users[0].age) && !has(w.spec.users[1].age)",
        "w.spec.?free.orValue('none') == 'none'",
        "w.spec.pod.spec.x == 1",
    ] {
        let program = env
            .compile(source)
            .unwrap_or_else(|error| panic!("{error}"));
        let result = program.eval(&activation);
        assert_eq!(result, Ok(Value::Bool(true)), "{source}");
    }
}

#[test]
fn data_that_does_not_follow_its_schema_is_an_error() {
    let ty = widget();
    let env = kro_env()
        .extend()
        .variable("w", ty.clone())
        .build()
        .expect("the name is fine");
    let data = json!({"spec": {"replicas": "three", "secret": "***", "labels": null, "users": [{"name": "x"}]}});
    let mut activation = Activation::new();
    activation.bind_typed("w", &data, &ty);
    for (source, kind, expect) in [
        (
            "w.spec.replicas > 1",
            ErrorKind::InvalidArgument,
            "invalid data, expected int, got a string",
        ),
        ("w.spec.secret", ErrorKind::InvalidArgument, "base64"),
        ("w.spec.labels", ErrorKind::InvalidArgument, "null"),
        (
            "w.spec.users[0].age",
            ErrorKind::NoSuchKey,
            "no such key: age",
        ),
        (
            "w.spec.users[3]",
            ErrorKind::IndexOutOfBounds,
            "index out of bounds: 3",
        ),
        ("w.spec.ratio", ErrorKind::NoSuchKey, "no such key: ratio"),
    ] {
        let program = env
            .compile(source)
            .unwrap_or_else(|error| panic!("{error}"));
        let error = program.eval(&activation).expect_err(source);
        assert_eq!(error.kind(), kind, "{source}: {error}");
        assert!(error.message().contains(expect), "{source}: {error}");
    }
}

#[test]
fn faulty_schemas() {
    let check = |schema: serde_json::Value, expect: &str| {
        let error = declare("X", &schema, &no_refs)
            .expect_err(expect)
            .to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(
        json!({"type": "object", "properties": {"a": {"$ref": "#/nope"}}}),
        "X.a: the reference '#/nope' leads nowhere",
    );
    let mut deep = json!({"type": "string"});
    for _ in 0..200 {
        deep = json!({"type": "array", "items": deep});
    }
    check(deep, "nests deeper than");
}
