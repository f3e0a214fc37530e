//! Access reviews: may a user do something?

use model::{
    FieldError, FieldPath, FieldSelector, LabelRequirement, LabelSelector, Operator, Status, names,
    object,
};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::identity::{Attributes, User};

const GROUP: &str = "authorization.k8s.io";

/// `SelfSubjectAccessReview`.
pub fn own(context: &Context, review: &mut Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = check_one_of(spec);
    errors.extend(check_selectors(spec));
    check(review, errors)?;
    Ok(decide(context, &context.user, &review["spec"]))
}

/// `SubjectAccessReview`.
pub fn of_anyone(context: &Context, review: &mut Value) -> Result<Value, Status> {
    check(review, check_subject(&review["spec"]))?;
    Ok(decide(context, &subject(&review["spec"]), &review["spec"]))
}

/// `LocalSubjectAccessReview`.
pub fn in_namespace(context: &Context, review: &mut Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = check_subject(spec);
    errors.extend(check_metadata(review));
    let path = FieldPath::new("spec");
    if let Some(resource) = given(spec, "resourceAttributes")
        && object::text(resource, &["namespace"]) != context.namespace()
    {
        let namespace = object::text(resource, &["namespace"]);
        let path = path.child("resourceAttributes").child("namespace");
        errors.push(FieldError::invalid(
            &path,
            namespace,
            "must match metadata.namespace",
        ));
    }
    if let Some(other) = given(spec, "nonResourceAttributes") {
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            in_go(other),
            "disallowed on this kind of request",
        ));
    }
    refuse(&errors)?;
    Ok(decide(context, &subject(spec), spec))
}

fn given<'a>(spec: &'a Value, field: &str) -> Option<&'a Value> {
    spec.get(field).filter(|value| value.is_object())
}

/// Nonresource attributes as upstream's messages show them: its own type has no names in JSON.
fn in_go(attributes: &Value) -> Value {
    json!({
        "Path": object::text(attributes, &["path"]),
        "Verb": object::text(attributes, &["verb"]),
    })
}

fn check(review: &Value, mut errors: Vec<FieldError>) -> Result<(), Status> {
    errors.extend(check_metadata(review));
    refuse(&errors)
}

fn refuse(errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, "", "", errors))
}

/// A review has no metadata; what the server tracks in it does not count.
fn check_metadata(review: &Value) -> Option<FieldError> {
    let metadata = object::metadata(review)?;
    let local = object::text(review, &["kind"]) == "LocalSubjectAccessReview";
    let bare = metadata.iter().all(|(name, value)| {
        name == "managedFields" || value.is_null() || local && name == "namespace"
    });
    if bare {
        return None;
    }
    let why = if local {
        "must be empty except for namespace"
    } else {
        "must be empty"
    };
    let path = FieldPath::new("metadata");
    Some(FieldError::invalid(&path, Value::Null, why).printed_as(printed(metadata)))
}

/// Metadata as upstream prints it: members in the order of its types.
fn printed(metadata: &Map<String, Value>) -> String {
    const ORDER: &[&str] = &[
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
    ];
    const ENTRY: &[&str] = &[
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ];
    let members = |value: &Map<String, Value>, order: &[&str]| -> Vec<String> {
        order
            .iter()
            .filter_map(|name| Some(format!("\"{name}\":{}", value.get(*name)?)))
            .collect()
    };
    let mut parts = members(metadata, ORDER);
    if let Some(entries) = metadata.get("managedFields").and_then(Value::as_array) {
        let entries: Vec<String> = entries
            .iter()
            .filter_map(Value::as_object)
            .map(|entry| format!("{{{}}}", members(entry, ENTRY).join(",")))
            .collect();
        parts.push(format!("\"managedFields\":[{}]", entries.join(",")));
    }
    format!("{{{}}}", parts.join(","))
}

fn check_one_of(spec: &Value) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    match (
        given(spec, "resourceAttributes"),
        given(spec, "nonResourceAttributes"),
    ) {
        (Some(_), Some(other)) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            in_go(other),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    errors
}

fn check_subject(spec: &Value) -> Vec<FieldError> {
    let mut errors = check_one_of(spec);
    if object::text(spec, &["user"]).is_empty() && object::list(spec, &["groups"]).is_empty() {
        errors.push(FieldError::invalid(
            &FieldPath::new("spec.user"),
            object::text(spec, &["user"]),
            "at least one of user or group must be specified",
        ));
    }
    errors.extend(check_selectors(spec));
    errors
}

fn check_selectors(spec: &Value) -> Vec<FieldError> {
    let path = FieldPath::new("spec.resourceAttributes");
    let mut errors = Vec::new();
    let Some(resource) = given(spec, "resourceAttributes") else {
        return errors;
    };
    for (field, label) in [("fieldSelector", false), ("labelSelector", true)] {
        let Some(selector) = given(resource, field) else {
            continue;
        };
        let path = path.child(field);
        let raw = object::text(selector, &["rawSelector"]);
        let requirements = object::list(selector, &["requirements"]);
        if !raw.is_empty() && !requirements.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            ));
        }
        if raw.is_empty() && requirements.is_empty() {
            errors.push(FieldError::required(
                &path.child("requirements"),
                format!(
                    "when {} is specified, requirements or rawSelector is required",
                    path.as_str()
                ),
            ));
        }
        for (index, requirement) in requirements.iter().enumerate() {
            let path = path.child("requirements").index(index);
            errors.extend(check_requirement(requirement, &path, label));
        }
    }
    errors
}

fn check_requirement(requirement: &Value, path: &FieldPath, label: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::text(requirement, &["key"]).is_empty() && !label {
        errors.push(FieldError::required(
            &path.child("key"),
            "must be specified",
        ));
    }
    let values = object::list(requirement, &["values"]);
    match object::text(requirement, &["operator"]) {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        _ => {}
    }
    if label {
        errors.extend(check_label(requirement, path));
    }
    errors
}

fn check_label(requirement: &Value, path: &FieldPath) -> Vec<FieldError> {
    let key = object::text(requirement, &["key"]);
    let mut errors: Vec<FieldError> = names::label_key(key)
        .into_iter()
        .map(|why| FieldError::invalid(&path.child("key"), key, why))
        .collect();
    for (index, value) in object::list(requirement, &["values"]).iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        let path = path.child("values").index(index);
        let wrong = names::label_value(value).into_iter();
        errors.extend(wrong.map(|why| FieldError::invalid(&path, value, why)));
    }
    errors
}

fn subject(spec: &Value) -> User {
    let texts = |values: &[Value]| -> Vec<String> {
        values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let extra = spec.get("extra").and_then(Value::as_object);
    User {
        name: object::text(spec, &["user"]).to_owned(),
        uid: object::text(spec, &["uid"]).to_owned(),
        groups: texts(object::list(spec, &["groups"])),
        extra: extra
            .into_iter()
            .flatten()
            .map(|(key, values)| {
                let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
                (key.clone(), texts(values))
            })
            .collect(),
    }
}

/// The attributes of a review; what of the selectors could not be read is told.
fn attributes(spec: &Value) -> (Attributes, Vec<String>) {
    if let Some(other) = given(spec, "nonResourceAttributes") {
        let attributes = Attributes {
            verb: object::text(other, &["verb"]).to_owned(),
            path: object::text(other, &["path"]).to_owned(),
            ..Attributes::default()
        };
        return (attributes, Vec::new());
    }
    let resource = &spec["resourceAttributes"];
    let text = |field: &str| object::text(resource, &[field]).to_owned();
    let mut errors = Vec::new();
    let mut requirements = |field: &str| {
        let selector = given(resource, field)?;
        let (requirements, unread) = requirements(selector, field == "labelSelector");
        if unread {
            errors.push(format!(
                "spec.resourceAttributes.{field} {} due to parse error",
                if requirements.is_empty() {
                    "ignored"
                } else {
                    "partially ignored"
                }
            ));
        }
        Some(requirements)
    };
    let field_selector = requirements("fieldSelector").unwrap_or_default();
    let label_selector = requirements("labelSelector").unwrap_or_default();
    let attributes = Attributes {
        verb: text("verb"),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: String::new(),
        field_selector,
        label_selector,
    };
    (attributes, errors)
}

/// The requirements of a raw selector; `None` where it cannot be read.
fn raw_requirements(raw: &str, label: bool) -> Option<Vec<LabelRequirement>> {
    if label {
        return Some(LabelSelector::parse(raw).ok()?.requirements().to_vec());
    }
    let requirements = FieldSelector::parse(raw).ok()?.requirements.into_iter();
    let of_field = requirements.map(|requirement| LabelRequirement {
        key: requirement.field,
        operator: if requirement.equal {
            Operator::In
        } else {
            Operator::NotIn
        },
        values: vec![requirement.value],
    });
    Some(of_field.collect())
}

/// The requirements of a selector that can be read, and whether there are others.
fn requirements(selector: &Value, label: bool) -> (Vec<LabelRequirement>, bool) {
    let (mut read, mut unread) = (Vec::new(), false);
    let raw = object::text(selector, &["rawSelector"]);
    if !raw.is_empty() {
        let requirements = raw_requirements(raw, label);
        return (
            requirements.clone().unwrap_or_default(),
            requirements.is_none(),
        );
    }
    for requirement in object::list(selector, &["requirements"]) {
        let values: Vec<String> = object::list(requirement, &["values"])
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        let operator = match object::text(requirement, &["operator"]) {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" if label => Operator::Exists,
            "DoesNotExist" if label => Operator::DoesNotExist,
            _ => {
                unread = true;
                continue;
            }
        };
        // A field has one value.
        if !label && values.len() != 1 {
            unread = true;
            continue;
        }
        read.push(LabelRequirement {
            key: object::text(requirement, &["key"]).to_owned(),
            operator,
            values,
        });
    }
    (read, unread)
}

fn decide(context: &Context, user: &User, spec: &Value) -> Value {
    let (wanted, errors) = attributes(spec);
    let decision = context.state.authorizer.authorize(user, &wanted);
    let mut status = json!({"allowed": decision.is_allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join("; "));
    }
    status
}
