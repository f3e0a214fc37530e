//! What SimpleSchema becomes, and what its mistakes are told.

use proptest::prelude::*;

use super::*;

fn check(field: &str, expect: Value) {
    let built = build(&json!({"f": field}), &Value::Null).unwrap();
    assert_eq!(built["properties"]["f"], expect, "{field}");
}

fn fails(field: &str, expect: &str) {
    let error = build(&json!({"f": field}), &Value::Null).unwrap_err();
    assert_eq!(error.to_string(), format!("spec.f: {expect}"), "{field}");
}

#[test]
fn types() {
    check("string", json!({"type": "string"}));
    check(" float ", json!({"type": "number"}));
    check(
        "object",
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    );
    check(
        "[]integer",
        json!({"type": "array", "items": {"type": "integer"}}),
    );
    check(
        "map[string][]boolean",
        json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "boolean"}}}),
    );
    fails("", "empty type");
    fails("[]", "empty slice element type");
    fails("map[string]", "map value type is required");
    fails(
        "map[integer]string",
        "map key must be string, got \"integer\"",
    );
    fails("strng", "unknown type: strng (did you mean \"string\"?)");
    fails(
        &format!("{}string", "[]".repeat(17)),
        "type nested deeper than 16 levels",
    );
}

#[test]
fn markers() {
    check(
        "string | default=nginx",
        json!({"type": "string", "default": "nginx"}),
    );
    check(
        "string | default=\"a b\" description=\"say \\\"hi\\\"\"",
        json!({"type": "string", "default": "a b", "description": "say \"hi\""}),
    );
    check(
        "integer | minimum=1 maximum=10",
        json!({"type": "integer", "minimum": 1, "maximum": 10}),
    );
    check(
        "string | pattern=\"^\\d+$\"",
        json!({"type": "string", "pattern": "^\\d+$"}),
    );
    // RE2 knows words that others do not.
    check(
        "string | pattern=\"^\\Qa.b\\E\\z\"",
        json!({"type": "string", "pattern": "^\\Qa.b\\E\\z"}),
    );
    check(
        "string | enum=\"a, b\"",
        json!({"type": "string", "enum": ["a", "b"]}),
    );
    check(
        "integer | enum=\"1,2\"",
        json!({"type": "integer", "enum": [1, 2]}),
    );
    check(
        "[]string | default=[\"a\", \"b\"] uniqueItems=true",
        json!({"type": "array", "items": {"type": "string"}, "default": ["a", "b"], "x-kubernetes-list-type": "set"}),
    );
    check(
        "string | immutable=true validation=\"self.size() > 1\"",
        json!({"type": "string", "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "field is immutable"},
            {"rule": "self.size() > 1", "message": "validation failed"},
        ]}),
    );
    check(
        "boolean | default=T",
        json!({"type": "boolean", "default": true}),
    );
}

#[test]
fn marker_errors() {
    fails("string | ", "marker key '' without a value");
    fails("string | required", "marker key 'required' without a value");
    fails("string | default=a ", "marker key '' without a value");
    fails(
        "string | default = \"x\"",
        "marker key '\"x\"' without a value",
    );
    fails(
        "string | defualt=x",
        "invalid marker key \"defualt\": unknown marker (did you mean \"default\"?)",
    );
    fails("string | =x", "empty marker key");
    fails(
        "string | default=\"x",
        "unclosed quote in the value of marker \"default\"",
    );
    fails(
        "object | default={\"a\":1",
        "unclosed bracket in the value of marker \"default\"",
    );
    fails(
        "object | default=}",
        "unmatched bracket '}' in the value of marker \"default\"",
    );
    fails(
        "integer | default=x",
        "default value must be a valid integer, got: x",
    );
    fails(
        "integer | minLength=1",
        "minLength marker is only valid for string types, got type: integer",
    );
    fails(
        "string | minLength=x",
        "failed to parse minLength value: expected an integer, got \"x\"",
    );
    fails(
        "string | enum=\"a,,b\"",
        "empty enum values are not allowed",
    );
    fails(
        "string | required=yes",
        "failed to parse required marker value: expected true or false, got \"yes\"",
    );
    fails(
        "[]string | listMapKey=a",
        "listMapKey set while listType is unset, listType must be set to map",
    );
    fails(
        "[]string | listType=set listType=map",
        "cannot set list type map when listType is set to set",
    );
}

#[test]
fn defaults_bubble_up_unless_something_is_required() {
    let spec = json!({
        "all": {"a": "string | default=x", "deep": {"b": "integer | default=1"}},
        "some": {"a": "string | default=x", "b": "string | required=true", "c": "string | required=true"},
        "none": {"a": "string"},
    });
    let built = build(&spec, &Value::Null).unwrap();
    assert_eq!(built["default"], json!({}));
    assert_eq!(built["properties"]["all"]["default"], json!({}));
    assert_eq!(
        built["properties"]["all"]["properties"]["deep"]["default"],
        json!({})
    );
    assert_eq!(built["properties"]["some"].get("default"), None);
    assert_eq!(built["properties"]["some"]["required"], json!(["b", "c"]));
    assert_eq!(built["properties"]["none"].get("default"), None);
    assert_eq!(
        build(&Value::Null, &Value::Null).unwrap(),
        json!({"type": "object", "properties": {}})
    );
}

#[test]
fn custom_types() {
    let types = json!({
        "Port": "integer | required=true minimum=1",
        "Endpoint": {"host": "string", "port": "Port"},
        "Alias": "Port",
    });
    let spec = json!({"one": "Endpoint", "many": "[]Port", "port": "Alias", "named": "map[string]Endpoint"});
    let built = build(&spec, &types).unwrap();
    let endpoint = json!({"type": "object", "required": ["port"],
        "properties": {"host": {"type": "string"}, "port": {"type": "integer", "minimum": 1}}});
    assert_eq!(built["properties"]["one"], endpoint);
    assert_eq!(
        built["properties"]["named"]["additionalProperties"],
        endpoint
    );
    assert_eq!(built["required"], json!(["port"]));
}

#[test]
fn custom_type_errors() {
    let check = |types: Value, expect: &str| {
        assert_eq!(build(&json!({}), &types).unwrap_err().to_string(), expect);
    };
    check(
        json!({"A": "B", "B": {"x": "[]A"}}),
        "types.A: cyclic dependency in type A: A -> B -> A",
    );
    check(
        json!({"A": "A"}),
        "types.A: cyclic dependency in type A: A -> A",
    );
    check(
        json!({"A": {"x": "Bee"}, "Beer": "string"}),
        "types.A: unknown type: Bee (did you mean \"Beer\"?)",
    );
    check(json!({"A": 3}), "types.A: unexpected type: integer");
    check(json!([]), "types: expected a map of types, got array");
}

#[test]
fn copies_of_copies_have_a_limit() {
    let mut types = Map::new();
    types.insert("T0".into(), "string".into());
    for level in 1..20 {
        let below = format!("T{}", level - 1);
        types.insert(
            format!("T{level}"),
            json!({"a": below, "b": below, "c": below, "d": below}),
        );
    }
    let error = build(&json!({"f": "T19"}), &Value::Object(types)).unwrap_err();
    assert!(error.message.contains("more than 100000 nodes"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_a_schema_or_an_error(text in "\\PC{0,60}") {
        let _ = build(&json!({"f": text}), &Value::Null);
    }

    #[test]
    fn marker_soup(parts in prop::collection::vec(prop::sample::select(vec![
        "default", "required", "=", " ", "\"", "\\", "{", "}", "[", "]", "a", "1", ",", "enum", "|"]), 0..24)) {
        let _ = build(&json!({"f": format!("string | {}", parts.concat())}), &Value::Null);
    }

    #[test]
    fn a_quoted_value_survives(value in "[a-z \"\\\\]{0,20}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let built = build(&json!({"f": format!("string | description=\"{quoted}\"")}), &Value::Null).unwrap();
        prop_assert_eq!(&built["properties"]["f"]["description"], &Value::from(value));
    }
}
