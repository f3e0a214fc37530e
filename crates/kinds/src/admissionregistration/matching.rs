//! Which requests admission is about: rules and selectors.

use cel_kube::admission::{Compiler, Declarations, Expect};
use model::FieldError;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::check;
use crate::edit::{each, fill};

/// Most conditions of one policy or webhook, as upstream.
const CONDITIONS_MAX: usize = 64;
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// The defaults of rules: any scope.
pub fn default_rules(value: &mut Value, name: &str) {
    each(value, name, |rule| fill(rule, "scope", "*"));
}

/// The defaults of what a policy matches.
pub fn default_match(constraints: &mut Value) {
    fill(constraints, "matchPolicy", "Equivalent");
    fill(constraints, "namespaceSelector", json!({}));
    fill(constraints, "objectSelector", json!({}));
    default_rules(constraints, "resourceRules");
    default_rules(constraints, "excludeResourceRules");
}

/// What a policy matches.
pub fn check_match(at: &At<'_>, errors: &mut Errors) {
    check::optional_one_of(&at.get("matchPolicy"), &["Equivalent", "Exact"], errors);
    check::label_selector(&at.get("namespaceSelector"), errors);
    check::label_selector(&at.get("objectSelector"), errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        at.get(list)
            .items()
            .for_each(|rule| check_rule(&rule, errors));
    }
}

/// One rule: operations on resources.
pub fn check_rule(at: &At<'_>, errors: &mut Errors) {
    list(&at.get("operations"), "operations", errors);
    for operation in at.get("operations").items() {
        check::one_of(&operation, OPERATIONS, errors);
    }
    list(&at.get("apiGroups"), "API groups", errors);
    list(&at.get("apiVersions"), "API versions", errors);
    for version in at.get("apiVersions").items() {
        check::required(&version, errors);
    }
    resources(&at.get("resources"), errors);
    check::required_one_of(&at.get("scope"), &["*", "Cluster", "Namespaced"], errors);
}

/// A list that is not empty, and has nothing beside a wildcard.
fn list(at: &At<'_>, what: &str, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    if at.len() > 1 && at.texts().any(|text| text == "*") {
        errors.push(at.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

fn resources(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    let (mut with_all_parts, mut part_of_all) = (Vec::new(), Vec::new());
    for entry in at.items() {
        let text = entry.text();
        if text.is_empty() {
            errors.push(entry.required(""));
            continue;
        }
        let Some((resource, part)) = text.split_once('/') else {
            continue;
        };
        if with_all_parts.contains(&resource) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(entry.invalid(why));
        }
        if part_of_all.contains(&part) {
            let why = format!("if '*/{part}' is present, must not specify {text}");
            errors.push(entry.invalid(why));
        }
        if part == "*" {
            with_all_parts.push(resource);
        }
        if resource == "*" {
            part_of_all.push(part);
        }
    }
    if at.len() > 1 && at.texts().any(|text| text == "*/*") {
        errors.push(at.invalid("if '*/*' is present, must not specify other resources"));
    }
    let whole = at
        .texts()
        .any(|text| text != "*" && !text.is_empty() && !text.contains('/'));
    if whole && at.texts().any(|text| text == "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(at.invalid(why));
    }
}

/// Conditions in CEL that a request has to fulfil. They see `params` where the policy has a kind for them.
pub fn check_conditions(at: &At<'_>, params: bool, errors: &mut Errors) {
    if at.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(at.path(), at.len(), CONDITIONS_MAX));
    }
    let declarations = Declarations {
        params,
        authorizer: true,
        patch_types: false,
    };
    let mut seen = Vec::new();
    for condition in at.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        let source = expression.text().trim();
        if source.is_empty() {
            errors.push(expression.required(""));
        } else if let Err(why) = Compiler::new().compile(source, declarations, Expect::Bool) {
            errors.push(FieldError::invalid(expression.path(), source, why));
        }
        if check::required(&name, errors) {
            check::qualified_name(&name, errors);
            if seen.contains(&name.text()) {
                errors.push(FieldError::duplicate(name.path(), name.text()));
            }
            seen.push(name.text());
        }
    }
}
