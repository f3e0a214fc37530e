//! The group `rbac.authorization.k8s.io`: roles and who has them.

use jiff::Timestamp;
use model::{FieldError, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, NameRule};
use crate::cell;
use crate::check;
use crate::edit::{each, fill_zero, within};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles in a namespace.
pub const ROLE: Behaviour = Behaviour {
    name: NameRule::PathSegment,
    create_on_update: true,
    validate_create: |role| rules(role, true),
    validate_update: |role, _| rules(role, true),
    ..Behaviour::DEFAULT
};

/// Roles in the whole cluster.
pub const CLUSTER_ROLE: Behaviour = Behaviour {
    validate_create: cluster_role,
    validate_update: |role, _| cluster_role(role),
    ..ROLE
};

/// Who has a role in a namespace.
pub const ROLE_BINDING: Behaviour = Behaviour {
    default: default_binding,
    validate_create: |binding| check_binding(binding, true),
    validate_update: |binding, old| check_update(binding, old, true),
    cells: Some(cells),
    ..ROLE
};

/// Who has a role in the whole cluster.
pub const CLUSTER_ROLE_BINDING: Behaviour = Behaviour {
    validate_create: |binding| check_binding(binding, false),
    validate_update: |binding, old| check_update(binding, old, false),
    ..ROLE_BINDING
};

fn rules(role: &Value, namespaced: bool) -> Errors {
    let mut errors = Vec::new();
    for rule in At::root(role).get("rules").items() {
        if rule.get("verbs").is_empty() {
            errors.push(
                rule.get("verbs")
                    .required("verbs must contain at least one value"),
            );
        }
        let urls = rule.get("nonResourceURLs");
        let lists = ["apiGroups", "resources", "resourceNames"];
        if !urls.is_empty() {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(urls.invalid(why));
            }
            if lists.iter().any(|list| !rule.get(list).is_empty()) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(urls.invalid(why));
            }
            continue;
        }
        for (list, what) in [("apiGroups", "api group"), ("resources", "resource")] {
            if rule.get(list).is_empty() {
                let why = format!("resource rules must supply at least one {what}");
                errors.push(rule.get(list).required(&why));
            }
        }
    }
    errors
}

fn cluster_role(role: &Value) -> Errors {
    let mut errors = rules(role, false);
    let aggregation = At::root(role).get("aggregationRule");
    if !aggregation.is_set() {
        return errors;
    }
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(selectors.required(why));
    }
    for selector in selectors.items() {
        let before = errors.len();
        check::label_selector(&selector, &mut errors);
        if errors.len() > before {
            // As upstream: what is printed is the selector that could not be made.
            let why = "invalid label selector.";
            errors.push(FieldError::invalid(selector.path(), Value::Null, why));
        }
    }
    errors
}

fn default_binding(binding: &mut Value) {
    within(binding, "roleRef", |role| {
        fill_zero(role, "apiGroup", GROUP);
    });
    each(binding, "subjects", |subject| {
        if matches!(object::text(subject, &["kind"]), "User" | "Group") {
            fill_zero(subject, "apiGroup", GROUP);
        }
    });
}

fn check_binding(binding: &Value, namespaced: bool) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(binding);
    let role = root.get("roleRef");
    check::one_of(&role.get("apiGroup"), &[GROUP], &mut errors);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    check::one_of(&role.get("kind"), kinds, &mut errors);
    if check::required(&role.get("name"), &mut errors) {
        let name = role.get("name");
        check::messages(&name, names::path_segment(name.text()), &mut errors);
    }
    for subject in root.get("subjects").items() {
        let (kind, group) = (subject.get("kind"), subject.get("apiGroup"));
        check::required(&subject.get("name"), &mut errors);
        match kind.text() {
            "ServiceAccount" => {
                if !subject.get("name").is_empty() {
                    check::subdomain(&subject.get("name"), &mut errors);
                }
                if !group.is_empty() {
                    errors.push(group.not_supported(&[""]));
                }
                if !namespaced && subject.get("namespace").is_empty() {
                    errors.push(subject.get("namespace").required(""));
                }
            }
            "User" | "Group" => check::one_of(&group, &[GROUP], &mut errors),
            _ => errors.push(kind.not_supported(&["ServiceAccount", "User", "Group"])),
        }
    }
    errors
}

fn check_update(binding: &Value, old: &Value, namespaced: bool) -> Errors {
    let mut errors = check_binding(binding, namespaced);
    let (role, before) = (
        At::root(binding).get("roleRef"),
        At::root(old).get("roleRef"),
    );
    if role.value() != before.value() {
        let printed = check::print_struct(&[
            ("APIGroup", role.get("apiGroup").value()),
            ("Kind", role.get("kind").value()),
            ("Name", role.get("name").value()),
        ]);
        errors.push(role.invalid("cannot change roleRef").printed_as(printed));
    }
    errors
}

fn cells(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = |name: &str| object::text(binding, &["roleRef", name]);
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = object::list(binding, &["subjects"])
            .iter()
            .filter(|subject| object::text(subject, &["kind"]) == kind)
            .map(|subject| {
                let name = object::text(subject, &["name"]);
                if kind == "ServiceAccount" {
                    format!("{}/{name}", object::text(subject, &["namespace"]))
                } else {
                    name.to_owned()
                }
            })
            .collect();
        json!(names.join(", "))
    };
    vec![
        json!(object::name(binding)),
        json!(format!("{}/{}", role("kind"), role("name"))),
        cell::age_of(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_about_resources_or_paths() {
        let check = |rule: Value, expect: &[&str]| {
            let errors = rules(&json!({"rules": [rule]}), true);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expect);
        };
        check(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
            &[],
        );
        check(
            json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        );
        check(
            json!({"apiGroups": [""], "resources": ["pods"]}),
            &["rules[0].verbs: Required value: verbs must contain at least one value"],
        );
    }
}
