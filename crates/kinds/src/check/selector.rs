//! Label selectors and node selectors.

use model::{FieldError, names};
use serde_json::Value;

use super::{label_key, labels, messages};
use crate::at::{At, Errors};

const VALUES_REQUIRED: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const VALUES_FORBIDDEN: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
const BAD_OPERATOR: &str = "not a valid selector operator";

/// A selector of labels: `matchLabels` and `matchExpressions`.
pub fn label_selector(at: &At<'_>, errors: &mut Errors) {
    labels(&at.get("matchLabels"), errors);
    for requirement in at.get("matchExpressions").items() {
        let (operator, values) = (requirement.get("operator"), requirement.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => errors.push(values.required(VALUES_REQUIRED)),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(values.forbidden(VALUES_FORBIDDEN));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid_text(BAD_OPERATOR)),
        }
        label_key(&requirement.get("key"), errors);
        for value in values.items() {
            messages(&value, names::label_value(value.text()), errors);
        }
    }
}

/// How upstream prints a selector of labels.
pub fn print_selector(selector: &Value) -> String {
    let mut members = Vec::new();
    if let Some(labels) = selector
        .get("matchLabels")
        .filter(|labels| labels.is_object())
    {
        members.push(format!("\"matchLabels\":{labels}"));
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    if let Some(expressions) = expressions.filter(|list| !list.is_empty()) {
        // The fields of a requirement print in the order of their names by themselves.
        let list: Vec<String> = expressions.iter().map(Value::to_string).collect();
        members.push(format!("\"matchExpressions\":[{}]", list.join(",")));
    }
    format!("{{{}}}", members.join(","))
}

/// A selector of nodes: a list of terms, at least one.
pub fn node_selector(at: &At<'_>, errors: &mut Errors) {
    let terms = at.get("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, true, errors);
    }
}

/// One term of a selector of nodes; `values` says whether values must be values of labels.
pub fn node_selector_term(at: &At<'_>, values: bool, errors: &mut Errors) {
    for requirement in at.get("matchExpressions").items() {
        node_requirement(&requirement, values, errors);
    }
    for requirement in at.get("matchFields").items() {
        field_requirement(&requirement, errors);
    }
}

fn node_requirement(at: &At<'_>, check_values: bool, errors: &mut Errors) {
    let (operator, values) = (at.get("operator"), at.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => errors.push(values.required(VALUES_REQUIRED)),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(values.forbidden(VALUES_FORBIDDEN));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(values.required(why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.push(operator.invalid_text(BAD_OPERATOR)),
    }
    label_key(&at.get("key"), errors);
    if check_values {
        for value in values.items() {
            messages(&value, names::label_value(value.text()), errors);
        }
    }
}

fn field_requirement(at: &At<'_>, errors: &mut Errors) {
    let (key, operator, values) = (at.get("key"), at.get("operator"), at.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.len() != 1 => {
            let why =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(values.required(why));
        }
        "In" | "NotIn" => {}
        _ => errors.push(operator.invalid_text(BAD_OPERATOR)),
    }
    if key.text() == "metadata.name" {
        for value in values.items() {
            messages(&value, names::dns1123_subdomain(value.text()), errors);
        }
    } else {
        let why = "not a valid field selector key";
        errors.push(FieldError::invalid(key.path(), key.text(), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_checked_and_printed_as_upstream() {
        let object = json!({"matchExpressions": [{"key": "a", "operator": "In"}], "matchLabels": {"b": "c"}});
        let mut errors = Vec::new();
        label_selector(&At::root(&object), &mut errors);
        assert_eq!(
            errors[0].to_string(),
            "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(
            print_selector(&object),
            r#"{"matchLabels":{"b":"c"},"matchExpressions":[{"key":"a","operator":"In"}]}"#
        );
    }
}
