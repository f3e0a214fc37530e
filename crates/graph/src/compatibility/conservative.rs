//! What kro's usual rules do not look at (gate `ConservativeCRDComparison`): the values of maps, formats, the topology of lists,
//! validation rules, and whatever else a schema says. Of what is not known to be harmless a change breaks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Report, compare_schemas, text};

const VALIDATIONS: &str = "x-kubernetes-validations";
const KEEPS_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// What is compared elsewhere.
const COMPARED: [&str; 18] = [
    "type",
    "description",
    "default",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "properties",
    "required",
    "items",
    "enum",
    "additionalProperties",
    "nullable",
    VALIDATIONS,
    KEEPS_UNKNOWN,
];

/// Compares what two schemas of one type say besides.
pub(super) fn facets(report: &mut Report, path: &str, old: &Value, new: &Value, depth: usize) {
    values(report, path, old, new, depth);
    validations(report, path, old, new);
    for (facet, what) in [
        ("nullable", "Null"),
        (KEEPS_UNKNOWN, "Keeping of unknown fields"),
    ] {
        match (old[facet] == true, new[facet] == true) {
            (true, false) => report.breaking(path, format!("{what} is no longer allowed")),
            (false, true) => report.compatible(path, format!("{what} is allowed")),
            _ => {}
        }
    }
    match (old["enum"].is_array(), new["enum"].is_array()) {
        (false, true) => report.breaking(path, "Enum was added"),
        (true, false) => report.compatible(path, "Enum was removed"),
        _ => {}
    }
    let names = |schema: &Value| -> BTreeSet<String> {
        let fields = schema.as_object().into_iter().flatten();
        fields.map(|(name, _)| name.clone()).collect()
    };
    for facet in names(old).union(&names(new)) {
        if COMPARED.contains(&facet.as_str()) || old[facet] == new[facet] {
            continue;
        }
        let (before, after) = (text(&old[facet]), text(&new[facet]));
        if facet == "format" && new.get(facet).is_none() {
            report.compatible(path, format!("Format {before} was removed"));
        } else {
            report.breaking(path, format!("{facet} changed from {before} to {after}"));
        }
    }
}

/// The values of maps.
fn values(report: &mut Report, path: &str, old: &Value, new: &Value, depth: usize) {
    const FACET: &str = "additionalProperties";
    let (before, after) = (old.get(FACET), new.get(FACET));
    match (before, after) {
        (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) => {
            let path = format!("{path}.{FACET}");
            compare_schemas(report, &path, before, after, depth + 1);
        }
        _ if before == after => {}
        (None, Some(Value::Bool(true))) => {
            report.compatible(path, "Any further fields are allowed");
        }
        _ => report.breaking(path, "The values of a map changed their shape"),
    }
}

/// Rules in CEL, told apart by what they say.
fn validations(report: &mut Report, path: &str, old: &Value, new: &Value) {
    if old[VALIDATIONS] == new[VALIDATIONS] {
        return;
    }
    let rules = |schema: &Value| -> BTreeSet<String> {
        let rules = schema[VALIDATIONS].as_array().into_iter().flatten();
        rules.map(|rule| text(&rule["rule"])).collect()
    };
    let (before, after) = (rules(old), rules(new));
    for rule in after.difference(&before) {
        report.breaking(path, format!("Validation rule {rule} was added"));
    }
    for rule in before.difference(&after) {
        report.compatible(path, format!("Validation rule {rule} was removed"));
    }
    if before == after {
        report.compatible(path, "What validation rules say was changed");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Change, Rules, compare};
    use super::*;

    fn crd(field: &Value) -> Value {
        json!({"spec": {"versions": [{"name": "v1", "served": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"it": field}}}}]}})
    }

    /// What both sets of rules find between two schemas of a field.
    fn check(old: Value, new: Value, breaking: &[&str], compatible: &[&str]) {
        let (old, new) = (crd(&old), crd(&new));
        let texts = |changes: &[Change]| -> Vec<String> {
            let texts = changes.iter().map(|change| &change.description);
            texts.cloned().collect()
        };
        let report = compare(&old, &new, Rules::Conservative);
        assert_eq!(texts(&report.breaking), breaking);
        assert_eq!(texts(&report.compatible), compatible);
        // None of it is seen otherwise.
        assert!(!compare(&old, &new, Rules::Usual).has_changes());
    }

    #[test]
    fn what_is_not_looked_at_otherwise() {
        let with = |facet: &str, value: Value| json!({"type": "array", facet: value});
        let bare = || json!({"type": "array"});
        let list_type = "x-kubernetes-list-type";
        let added = "x-kubernetes-list-type changed from  to set";
        check(bare(), with(list_type, json!("set")), &[added], &[]);
        let removed = "x-kubernetes-list-type changed from set to ";
        check(with(list_type, json!("set")), bare(), &[removed], &[]);
        let changed = "format changed from int32 to int64";
        let (narrow, wide) = (
            with("format", json!("int32")),
            with("format", json!("int64")),
        );
        check(narrow.clone(), wide, &[changed], &[]);
        check(narrow, bare(), &[], &["Format int32 was removed"]);
        let nullable = || with("nullable", json!(true));
        check(nullable(), bare(), &["Null is no longer allowed"], &[]);
        check(bare(), nullable(), &[], &["Null is allowed"]);
        let open = || with(KEEPS_UNKNOWN, json!(true));
        let closed = "Keeping of unknown fields is no longer allowed";
        check(open(), bare(), &[closed], &[]);
        check(
            bare(),
            open(),
            &[],
            &["Keeping of unknown fields is allowed"],
        );
        let listed = || with("enum", json!(["a"]));
        check(bare(), listed(), &["Enum was added"], &[]);
        check(listed(), bare(), &[], &["Enum was removed"]);
    }

    #[test]
    fn values_of_maps_and_validation_rules() {
        let map = |values: Value| json!({"type": "object", "additionalProperties": values});
        let text = || json!({"type": "string"});
        let changed = "Type changed from string to integer";
        check(
            map(text()),
            map(json!({"type": "integer"})),
            &[changed],
            &[],
        );
        let bare = || json!({"type": "object"});
        let shape = "The values of a map changed their shape";
        check(bare(), map(text()), &[shape], &[]);
        check(map(text()), bare(), &[shape], &[]);
        let anything = "Any further fields are allowed";
        check(bare(), map(json!(true)), &[], &[anything]);
        let ruled = |rule: &str, message: &str| json!({"type": "object", VALIDATIONS: [{"rule": rule, "message": message}]});
        let (added, removed) = (
            "Validation rule b was added",
            "Validation rule a was removed",
        );
        check(ruled("a", "x"), ruled("b", "x"), &[added], &[removed]);
        let reworded = "What validation rules say was changed";
        check(ruled("a", "x"), ruled("a", "y"), &[], &[reworded]);
    }
}
