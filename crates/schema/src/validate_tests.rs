//! Cases of validation: schema, value, messages.

use serde_json::json;

use super::*;

fn check(schema: Value, value: Value, expect: &[&str]) {
    let schema = json!({"type": "object", "properties": {"a": schema}});
    let schema = Schema::from_structural(&schema).expect("structural");
    let errors: Vec<String> = validate(&schema, &json!({"a": value}))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors, expect);
}

#[test]
fn types() {
    check(
        json!({"type": "string"}),
        json!(5),
        &[r#"a: Invalid value: "integer": a in body must be of type string: "integer""#],
    );
    check(
        json!({"type": "integer"}),
        json!(1.5),
        &[
            r#"a: Invalid value: "number": a in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in a"#,
        ],
    );
    check(json!({"type": "integer"}), json!(2.0), &[]);
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(3_000_000_000_i64),
        &[
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a"#,
        ],
    );
    check(
        json!({"type": "array", "items": {"type": "string"}}),
        json!(["x", 1]),
        &[r#"a[1]: Invalid value: "integer": a[1] in body must be of type string: "integer""#],
    );
    check(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &[r#"a: Invalid value: "boolean": a in body must be of type integer,string: "boolean""#],
    );
}

#[test]
fn bounds() {
    check(
        json!({"type": "integer", "minimum": 1}),
        json!(0),
        &["a: Invalid value: 0: a in body should be greater than or equal to 1"],
    );
    check(
        json!({"type": "number", "maximum": 5, "exclusiveMaximum": true}),
        json!(5),
        &["a: Invalid value: 5: a in body should be less than 5"],
    );
    check(
        json!({"type": "integer", "multipleOf": 3}),
        json!(4),
        &["a: Invalid value: 4: a in body should be a multiple of 3"],
    );
    check(
        json!({"type": "string", "minLength": 2}),
        json!("a"),
        &[r#"a: Invalid value: "a": a in body should be at least 2 chars long"#],
    );
    check(
        json!({"type": "string", "maxLength": 4}),
        json!("abcde"),
        &["a: Too long: may not be more than 4 bytes"],
    );
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &[r#"a: Invalid value: "b": a in body should match '^a+$'"#],
    );
    check(
        json!({"type": "integer", "enum": [1, 2]}),
        json!(3),
        &[r#"a: Unsupported value: 3: supported values: "1", "2""#],
    );
    let list = json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}});
    check(
        list.clone(),
        json!([]),
        &["a: Invalid value: 0: a in body should have at least 1 items"],
    );
    check(
        list,
        json!([1, 2, 3]),
        &["a: Too many: 3: must have at most 2 items"],
    );
}

#[test]
fn objects_and_lists() {
    let required =
        json!({"type": "object", "required": ["x", "y"], "properties": {"x": {"type": "string"}}});
    check(
        required,
        json!({}),
        &["a.x: Required value", "a.y: Required value"],
    );
    let set =
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    check(set, json!(["a", "a"]), &[r#"a[1]: Duplicate value: "a""#]);
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}});
    check(
        map,
        json!([{"k": "a", "v": 1}, {"k": "a"}]),
        &[r#"a[1]: Duplicate value: {"k":"a"}"#],
    );
    let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    check(
        embedded,
        json!({"apiVersion": "v1"}),
        &["a.kind: Required value"],
    );
}

#[test]
fn formats_and_alternatives() {
    check(
        json!({"type": "string", "format": "uuid"}),
        json!("x"),
        &[r#"a: Invalid value: "x": a in body must be of type uuid: "x""#],
    );
    check(
        json!({"type": "string", "format": "nonsense"}),
        json!("x"),
        &[],
    );
    check(
        json!({"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 5}]}),
        json!(0),
        &[
            "a: Invalid value: 0: a in body should be greater than or equal to 1",
            r#"<nil>: Invalid value: "": "a" must validate all the schemas (allOf)"#,
        ],
    );
    check(
        json!({"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 1}]}),
        json!(5),
        &[
            r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#,
            "a: Invalid value: 5: a in body should be greater than or equal to 10",
        ],
    );
    check(
        json!({"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 5}]}),
        json!(6),
        &[
            r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    check(
        json!({"type": "integer", "not": {"minimum": 5}}),
        json!(7),
        &[r#"<nil>: Invalid value: "": "a" must not validate the schema (not)"#],
    );
}

#[test]
fn an_unchanged_value_is_not_judged_again() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "minLength": 5}, "b": {"type": "string", "minLength": 5}}});
    let schema = Schema::from_structural(&schema).expect("structural");
    let old = json!({"a": "x", "b": "y"});
    assert_eq!(validate_update(&schema, &old, &old), []);
    let errors = validate_update(&schema, &json!({"a": "x", "b": "z"}), &old);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path.as_str(), "b");
}

#[test]
fn texts_of_a_part_are_relative_to_it() {
    let schema = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    let schema = Schema::from_structural(&schema).expect("structural");
    let errors = validate_at(
        &schema,
        &json!({"replicas": "x"}),
        None,
        &FieldPath::new("status"),
    );
    assert_eq!(
        errors[0].to_string(),
        r#"status.replicas: Invalid value: "string": replicas in body must be of type integer: "string""#
    );
}

#[test]
fn floats_print_as_go_prints_them() {
    let check = |value: f64, expect: &str| assert_eq!(go_float(value), expect);
    check(5.0, "5");
    check(0.5, "0.5");
    check(1e21, "1e+21");
    check(0.00001, "1e-05");
}
