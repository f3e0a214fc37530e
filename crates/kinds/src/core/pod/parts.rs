//! The parts of a Pod that are written by themselves: ephemeral containers, and the resources of containers
//! that run.

use model::{FieldPath, object};
use serde_json::{Map, Value, json};

use super::{check_pod, quality_class, update};
use crate::at::{At, Errors};
use crate::behaviour::Subresource;
use crate::edit::restore;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESIZED: [&str; 2] = ["containers", "initContainers"];

/// `pods/ephemeralcontainers`, which `kubectl debug` writes.
pub const EPHEMERAL_CONTAINERS: Subresource = Subresource {
    name: "ephemeralcontainers",
    prepare: keep_all_but_ephemeral,
    validate: check_ephemeral,
};

/// `pods/resize`.
pub const RESIZE: Subresource = Subresource {
    name: "resize",
    prepare: keep_all_but_resources,
    validate: check_resize,
};

fn keep_metadata(pod: &mut Value, old: &Value) {
    let before = old.get("metadata").cloned().unwrap_or_default();
    if let Some(metadata) = pod.get_mut("metadata") {
        for name in ["labels", "annotations", "ownerReferences", "finalizers"] {
            restore(metadata, &before, name);
        }
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            restore(metadata, &before, name);
        }
    }
}

fn keep_all_but_ephemeral(pod: &mut Value, old: &Value) {
    let wanted = pod.get("spec").cloned().unwrap_or_default();
    restore(pod, old, "spec");
    restore(pod, old, "status");
    keep_metadata(pod, old);
    if let Some(spec) = pod.get_mut("spec") {
        restore(spec, &wanted, "ephemeralContainers");
    }
}

/// Containers that were added, removed or renamed are left for the check to find.
fn keep_all_but_resources(pod: &mut Value, old: &Value) {
    let wanted = pod.get("spec").cloned().unwrap_or_default();
    let counted = |spec: &Value, list: &str| object::list(spec, &[list]).len();
    let before = old.get("spec").cloned().unwrap_or_default();
    if RESIZED
        .iter()
        .any(|list| counted(&wanted, list) != counted(&before, list))
    {
        return;
    }
    restore(pod, old, "spec");
    restore(pod, old, "status");
    keep_metadata(pod, old);
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    restore(spec, &wanted, "resources");
    for list in RESIZED {
        let (own, new) = (
            object::list(&before, &[list]),
            object::list(&wanted, &[list]),
        );
        let named = |container: &Value| object::text(container, &["name"]).to_owned();
        if own.iter().map(named).ne(new.iter().map(named)) {
            restore(spec, &wanted, list);
            continue;
        }
        for (container, new) in spec[list].as_array_mut().into_iter().flatten().zip(new) {
            restore(container, new, "resources");
            restore(container, new, "resizePolicy");
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    object::annotation(pod, MIRROR).is_some()
}

fn check_ephemeral(pod: &Value, old: &Value) -> Errors {
    let mut errors = check_pod(pod);
    update::annotations(pod, old, &mut errors);
    if is_mirror(old) {
        let whole = At::new(pod, FieldPath::new("[]"));
        return vec![whole.forbidden("static pods do not support ephemeral containers")];
    }
    let new = At::root(pod).at("spec.ephemeralContainers");
    for before in object::list(old, &["spec", "ephemeralContainers"]) {
        let name = object::text(before, &["name"]);
        let found = new.items().find(|own| own.get("name").text() == name);
        let why = match found {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(own) if own.value() != before => {
                format!("existing ephemeral containers {name:?} may not be changed\n")
            }
            Some(_) => continue,
        };
        errors.push(new.forbidden(&why));
    }
    errors
}

fn check_resize(pod: &Value, old: &Value) -> Errors {
    let root = At::root(pod);
    let whole = At::new(pod, FieldPath::new("[]"));
    let mut errors = check_pod(pod);
    if is_mirror(old) {
        return vec![whole.forbidden("static pods cannot be resized")];
    }
    if object::text(old, &["spec", "os", "name"]) == "windows" {
        return vec![whole.forbidden("windows pods cannot be resized")];
    }
    let before = At::root(old).get("spec");
    let spec = root.get("spec");
    let class = object::text(old, &["status", "qosClass"]);
    if class != quality_class(spec.value()) {
        let shown = At::new(
            old.get("status").unwrap_or(&Value::Null),
            spec.path().clone(),
        );
        let why = "Pod QOS Class may not change as a result of resizing";
        let error = shown.get("qosClass").said_at(spec.path().clone());
        errors.push(error.invalid(why));
    }
    if !node_can_resize(old) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    pod_level(&spec, &before, &mut errors);
    let ordered = errors.len();
    for list in RESIZED {
        same_containers(&spec.get(list), &before.get(list), list, &mut errors);
    }
    if errors.len() > ordered {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        for (new, was) in spec.get(list).items().zip(before.get(list).items()) {
            let (new, was) = (new.get("resources"), was.get("resources"));
            kept(&new, &was, "resource", &mut errors);
        }
    }
    only_amounts(&spec, &before, &mut errors);
    errors
}

/// What a node says of a container that runs tells whether it knows resizing.
fn node_can_resize(pod: &Value) -> bool {
    object::list(pod, &["status", "containerStatuses"])
        .iter()
        .find(|status| object::at(status, &["state", "running"]).is_some())
        .is_none_or(|status| status.get("resources").is_some())
}

fn restartable(container: &Value) -> bool {
    object::text(container, &["restartPolicy"]) == "Always"
}

fn pod_level(spec: &At<'_>, before: &At<'_>, errors: &mut Errors) {
    let (new, was) = (spec.get("resources"), before.get("resources"));
    if !was.is_set() && !new.is_set() {
        return;
    }
    if was.is_set() && !new.is_set() {
        errors.push(new.forbidden("pod-level resources cannot be removed"));
        return;
    }
    kept(&new, &was, "pod-level resource", errors);
    if without_amounts(new.value()) != without_amounts(was.value()) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

fn same_containers(new: &At<'_>, was: &At<'_>, list: &str, errors: &mut Errors) {
    if new.len() != was.len() {
        let why = format!("{list} may not be added or removed on resize");
        errors.push(new.forbidden(&why));
        return;
    }
    for (new, was) in new.items().zip(was.items()) {
        if new.get("name").text() != was.get("name").text() {
            let why = format!("{list} may not be renamed or reordered on resize");
            errors.push(new.get("name").forbidden(&why));
        }
    }
}

/// No request or limit may go.
fn kept(new: &At<'_>, was: &At<'_>, what: &str, errors: &mut Errors) {
    for list in ["requests", "limits"] {
        let now = new.get(list);
        if was
            .get(list)
            .entries()
            .any(|(name, _)| !now.get(name).is_set())
        {
            let why = format!("{what} {list} cannot be removed");
            errors.push(now.forbidden(&why));
        }
    }
}

/// Resources (of a container or a Pod) without what may be resized.
fn without_amounts(resources: &Value) -> Value {
    let mut rest = resources.as_object().cloned().unwrap_or_default();
    for list in ["requests", "limits"] {
        if let Some(amounts) = rest.get_mut(list).and_then(Value::as_object_mut) {
            amounts.retain(|name, _| name != "cpu" && name != "memory");
        }
    }
    rest.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
    Value::Object(rest)
}

fn only_amounts(spec: &At<'_>, before: &At<'_>, errors: &mut Errors) {
    let rest = |container: &Value| {
        let mut rest = container.clone();
        let resources = without_amounts(container.get("resources").unwrap_or(&Value::Null));
        rest["resources"] = resources;
        rest
    };
    let pairs = |list: &str| {
        let was = before.get(list).list();
        spec.get(list).items().zip(was).collect::<Vec<_>>()
    };
    for (new, was) in pairs("containers") {
        if rest(new.value()) != rest(was) {
            errors.push(spec.forbidden("only cpu and memory resources are mutable"));
        }
    }
    for (new, was) in pairs("initContainers") {
        if rest(new.value()) != rest(was) {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(new.forbidden(why));
        }
        let restarts = |policy: At<'_>| policy.get("restartPolicy").text() == "RestartContainer";
        if new.value() != was && !restartable(new.value()) {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            let policies = new.get("resizePolicy");
            errors.extend(
                policies
                    .items()
                    .filter(|own| restarts(own.clone()))
                    .map(|_| new.forbidden(why)),
            );
        }
    }
    if !errors.is_empty() {
        return;
    }
    let others = |spec: &At<'_>| {
        let mut spec = spec.value().clone();
        for name in ["containers", "initContainers", "resources"] {
            spec[name] = json!(null);
        }
        spec
    };
    if others(spec) != others(before) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable"));
    }
}
