//! Cases of definitions' schemas: by hand, and those recorded from a real server.

use serde_json::json;

use super::*;

fn check(field: Value, expect: &[&str]) {
    let schema = json!({"type": "object", "properties": {"a": field}});
    let errors: Vec<String> = check_structural(&schema, "s")
        .iter()
        .map(ToString::to_string)
        .collect();
    let expect: Vec<String> = expect
        .iter()
        .map(|text| format!("s.properties[a]{text}"))
        .collect();
    assert_eq!(errors, expect);
}

#[test]
fn structure_is_demanded() {
    check(json!({"type": "string"}), &[]);
    check(
        json!({}),
        &[".type: Required value: must not be empty for specified object fields"],
    );
    check(
        json!({"type": "array"}),
        &[".items: Required value: must be specified"],
    );
    check(
        json!({"type": "text"}),
        &[
            r#".type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ],
    );
    check(
        json!({"type": "integer", "anyOf": [{"type": "integer"}]}),
        &[".anyOf[0].type: Forbidden: must be empty to be structural"],
    );
    check(
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        &[],
    );
    check(
        json!({"$ref": "#/x"}),
        &[".$ref: Forbidden: $ref is not supported"],
    );
    check(
        json!({"type": "string", "x-kubernetes-embedded-resource": true}),
        &[
            ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            r#".type: Invalid value: "string": must be object if x-kubernetes-embedded-resource is true"#,
        ],
    );
}

#[test]
fn defaults_must_be_valid() {
    check(
        json!({"type": "integer", "default": "x"}),
        &[r#".default: Invalid value: "string":  in body must be of type integer: "string""#],
    );
    check(
        json!({"type": "object", "default": {"u": 1}}),
        &[r#".default: Invalid value: {"u":1}: must not have unknown fields"#],
    );
    check(
        json!({"type": "integer", "default": 1, "minimum": 5}),
        &[".default: Invalid value: 1:  in body should be greater than or equal to 5"],
    );
}

/// The recorded answers to definitions with one wrong schema. Those that need CEL to be compiled
/// are left to the crate that compiles it.
#[test]
fn recorded_definition_errors() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/api-exchanges/crd-definition-errors.json"
    );
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: crd-definition-errors.json is not beside this checkout");
        return;
    };
    let scenario: Value = serde_json::from_str(&text).expect("recorded JSON");
    let prefix = "spec.validation.openAPIV3Schema";
    let (mut compared, mut wrong) = (0, Vec::new());
    for step in scenario["steps"].as_array().into_iter().flatten() {
        let Some(schema) = step.pointer("/body/spec/versions/0/schema/openAPIV3Schema") else {
            continue;
        };
        let causes = step
            .pointer("/expect/body/details/causes")
            .and_then(Value::as_array);
        let mut expect: Vec<String> = causes
            .into_iter()
            .flatten()
            .filter_map(|cause| {
                let field = cause["field"].as_str()?;
                field
                    .starts_with(prefix)
                    .then(|| format!("{field}: {}", cause["message"].as_str().unwrap_or("")))
            })
            .collect();
        let needs_cel = |text: &String| {
            [
                "compilation failed",
                "must evaluate to",
                "estimated",
                "oldSelf",
                "cost",
            ]
            .iter()
            .any(|word| text.contains(word))
        };
        if expect.iter().any(needs_cel) {
            continue;
        }
        let mut found: Vec<String> = check_structural(schema, prefix)
            .iter()
            .map(ToString::to_string)
            .collect();
        expect.sort();
        found.sort();
        compared += 1;
        if expect != found {
            wrong.push(format!(
                "{}:\n  expected {expect:#?}\n  found {found:#?}",
                step["id"]
            ));
        }
    }
    assert!(compared > 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
