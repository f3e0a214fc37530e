//! What may change of a Pod that is there: very little.

use model::{FieldError, object};
use serde_json::{Map, Value};

use super::scheduling;
use crate::at::{At, Errors};
use crate::edit::{fill, restore, set};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a changed Pod's spec against the old one.
pub fn check(new: &Value, old: &Value, errors: &mut Errors) {
    let (new_spec, old_spec) = (At::root(new).get("spec"), At::root(old).get("spec"));
    for list in ["containers", "initContainers"] {
        let containers = new_spec.get(list);
        if containers.len() != old_spec.get(list).len() {
            errors.push(containers.forbidden("pod updates may not add or remove containers"));
            return;
        }
        for container in containers.items() {
            let image = container.get("image");
            if image.is_empty() {
                errors.push(image.required(""));
            } else if image.text().trim().len() != image.text().len() {
                errors.push(image.invalid("must not have leading or trailing whitespace"));
            }
        }
    }
    if !deadline(&new_spec, &old_spec, errors) {
        return;
    }
    tolerations(&new_spec, &old_spec, errors);
    gates(&new_spec, &old_spec, errors);
    if new_spec.value() == old_spec.value() {
        return;
    }
    let mut rest = new_spec.value().clone();
    put_back(&mut rest, old_spec.value());
    if !old_spec.get("schedulingGates").is_empty() {
        gated(&new_spec, &old_spec, &mut rest, errors);
    }
    if rest != *old_spec.value() {
        let names = differing(old_spec.value(), &rest).join(", ");
        let why = format!("{MAY_CHANGE}\nfields that differ: {names}\n");
        errors.push(new_spec.forbidden(&why));
    }
}

/// The members that differ.
fn differing(old: &Value, new: &Value) -> Vec<String> {
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (old, new) = (members(old), members(new));
    let mut names: Vec<String> = old
        .keys()
        .chain(new.keys())
        .filter(|name| old.get(*name) != new.get(*name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether the rest is worth looking at.
fn deadline(new: &At<'_>, old: &At<'_>, errors: &mut Errors) -> bool {
    let (new, old) = (
        new.get("activeDeadlineSeconds"),
        old.get("activeDeadlineSeconds"),
    );
    match (new.number(), old.number()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.push(new.invalid("must be between 0 and 2147483647, inclusive"));
            return false;
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.push(new.invalid("must be less than or equal to previous value"));
            return false;
        }
        (None, Some(_)) => {
            errors.push(new.invalid("must not update from a positive integer to nil value"));
        }
        _ => {}
    }
    true
}

fn tolerations(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        crate::edit::remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let list = new.get("tolerations");
    let kept: Vec<Value> = list.list().iter().map(without_seconds).collect();
    if old
        .get("tolerations")
        .list()
        .iter()
        .any(|old| !kept.contains(&without_seconds(old)))
    {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(list.forbidden(why));
        return;
    }
    scheduling::tolerations(&list, errors);
}

fn gates(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let before: Vec<&str> = old
        .get("schedulingGates")
        .items()
        .map(|gate| gate.get("name").text())
        .collect();
    for gate in new.get("schedulingGates").items() {
        let name = gate.get("name");
        if !before.contains(&name.text()) {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            errors.push(name.forbidden(&why));
        }
    }
}

/// Puts back what may change, so that what still differs may not.
fn put_back(spec: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        let images = object::list(old, &[list]);
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for (container, old) in containers.into_iter().flatten().zip(images) {
            restore(container, old, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(spec, old, field);
    }
    let grace = |spec: &Value| object::number(spec, &["terminationGracePeriodSeconds"]);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(spec) == Some(1) {
        restore(spec, old, "terminationGracePeriodSeconds");
    }
}

/// A Pod that still waits for its gates may be told more precisely where to run.
fn gated(new: &At<'_>, old: &At<'_>, rest: &mut Value, errors: &mut Errors) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    let lost = before
        .map()
        .into_iter()
        .flatten()
        .any(|(key, value)| selector.value().get(key) != Some(value));
    if lost {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(selector.invalid(why));
    }
    restore(rest, old.value(), "nodeSelector");
    let (affinity, before) = (
        new.at("affinity.nodeAffinity"),
        old.at("affinity.nodeAffinity"),
    );
    if affinity.value() == before.value() {
        return;
    }
    node_affinity(&affinity, &before, errors);
    if before.is_set() {
        fill(rest, "affinity", Value::Object(Map::new()));
        set(
            &mut rest["affinity"],
            "nodeAffinity",
            before.value().clone(),
        );
    } else if let Some(own) = rest.get_mut("affinity") {
        crate::edit::remove(own, "nodeAffinity");
        if !old.get("affinity").is_set() {
            crate::edit::remove_if_empty(rest, "affinity");
        }
    }
}

fn node_affinity(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let path = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (terms, before) = (new.at(path), old.at(path));
    if before.is_empty() {
        return;
    }
    if terms.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(terms.invalid(why));
        return;
    }
    for (term, before) in terms.items().zip(before.items()) {
        let extended = |field: &str| term.get(field).list().starts_with(before.get(field).list());
        let fields = ["matchExpressions", "matchFields"];
        let filled = fields.iter().all(|field| before.get(field).is_empty())
            && fields.iter().any(|field| !term.get(field).is_empty());
        if filled || !fields.iter().all(|field| extended(field)) {
            errors.push(term.invalid("only additions are allowed (no mutations or deletions)"));
        }
    }
}

/// Annotations that may not change once a Pod is there.
pub fn annotations(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Map::new();
    let get = |value: &Value| object::at(value, &["metadata", "annotations"]).cloned();
    let (new, old) = (get(new), get(old));
    let map = |value: &Option<Value>| value.as_ref().and_then(Value::as_object).cloned();
    let (new, old) = (
        map(&new).unwrap_or_else(|| empty.clone()),
        map(&old).unwrap_or_else(|| empty.clone()),
    );
    let path = model::FieldPath::new("metadata.annotations");
    let mut refuse = |key: &str, verb: &str| {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            let why = format!("may not {verb} AppArmor annotations");
            errors.push(FieldError::forbidden(&path.key(key), why));
        }
        if key == "kubernetes.io/config.mirror" {
            let why = format!("may not {verb} mirror pod annotation");
            errors.push(FieldError::forbidden(&path.key(key), why));
        }
    };
    old.iter()
        .filter(|(key, value)| new.get(*key) != Some(value))
        .for_each(|(key, _)| refuse(key, "remove or update"));
    new.keys()
        .filter(|key| !old.contains_key(*key))
        .for_each(|key| refuse(key, "add"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors_of(new: &Value, old: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(new, old, &mut errors);
        errors
            .iter()
            .map(|error| {
                error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn images_may_change_and_little_else() {
        let old = json!({"spec": {"containers": [{"name": "c", "image": "a"}]}});
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("b");
        assert!(errors_of(&new, &old).is_empty());
        new["spec"]["containers"][0]["name"] = json!("d");
        assert_eq!(
            errors_of(&new, &old),
            [format!("spec: Forbidden: {MAY_CHANGE}")]
        );
        new["spec"]["containers"] = json!([]);
        assert_eq!(
            errors_of(&new, &old),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
    }
}
