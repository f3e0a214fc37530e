//! `RuntimeClass`: a Pod gets the overhead, the node selector and the tolerations of its runtime class.

use kinds::demand;
use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate, tolerations};

pub const PLUGIN: Plugin = Plugin {
    name: "RuntimeClass",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn class_of(request: &Request<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = object::at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) else {
        return Ok(None);
    };
    match request.find("node.k8s.io", "runtimeclasses", None, name) {
        Some(class) => Ok(Some(class)),
        None => {
            let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
            Err(request.refuse(pod, &why))
        }
    }
}

fn overhead(class: &Value) -> Option<&Value> {
    object::at(class, &["overhead"]).map(|overhead| &overhead["podFixed"])
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let Some(class) = class_of(request, pod)? else {
        return Ok(());
    };
    if let Some(fixed) = overhead(&class) {
        let own = demand::amounts(object::at(pod, &["spec", "overhead"]));
        if !own.is_empty() && own != demand::amounts(Some(fixed)) {
            return Err(request.refuse(pod, MISMATCH));
        }
        if !fixed.is_null() {
            object::child_mut(pod, "spec").insert("overhead".to_owned(), fixed.clone());
        }
    }
    match class.get("scheduling") {
        Some(scheduling) => place(request, pod, scheduling),
        None => Ok(()),
    }
}

/// Sends the Pod where its runtime is.
fn place(request: &Request<'_>, pod: &mut Value, scheduling: &Value) -> Result<(), Status> {
    let wanted = scheduling.get("nodeSelector").and_then(Value::as_object);
    for (key, value) in wanted.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let own = object::at(pod, &["spec", "nodeSelector", key]).and_then(Value::as_str);
        if let Some(own) = own.filter(|own| *own != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(request.refuse(pod, &why));
        }
        let spec = object::child_mut(pod, "spec");
        spec.entry("nodeSelector").or_insert_with(|| json!({}))[key] = json!(value);
    }
    let own = object::list(pod, &["spec", "tolerations"]);
    let merged = tolerations::merge(own, object::list(scheduling, &["tolerations"]));
    if !merged.is_empty() {
        object::child_mut(pod, "spec").insert("tolerations".to_owned(), merged.into());
    }
    Ok(())
}

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let class = class_of(request, pod)?;
    let own = object::at(pod, &["spec", "overhead"]);
    match class.as_ref().and_then(overhead) {
        Some(fixed) if demand::amounts(Some(fixed)) != demand::amounts(own) => {
            Err(request.refuse(pod, MISMATCH))
        }
        None if own.is_some_and(|own| !own.is_null()) => Err(request.refuse(
            pod,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
        _ => Ok(()),
    }
}
