//! `PodTolerationRestriction`: a namespace's annotations say what its Pods tolerate by default and what
//! they may tolerate at most. Off by default.
//!
//! Left out: the plugin's configuration file, which sets both for the cluster.

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate, tolerations};

pub const PLUGIN: Plugin = Plugin {
    name: "PodTolerationRestriction",
    default: false,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

fn applies(request: &Request<'_>) -> bool {
    matches!(request.operation, Operation::Create | Operation::Update)
        && request.is_object("", "pods")
}

/// The tolerations in an annotation of the request's namespace.
fn annotated(request: &Request<'_>, key: &str) -> Result<Vec<Value>, Status> {
    let name = request.namespace();
    let namespace = request
        .find("", "namespaces", None, name)
        .ok_or_else(|| Status::not_found("", "namespaces", name))?;
    match object::annotation(&namespace, key) {
        None | Some("") => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Status::internal(format!("annotation {key}: {error}"))),
    }
}

/// The class of a Pod, which a new one does not say yet.
fn quality(pod: &Value) -> &str {
    match object::text(pod, &["status", "qosClass"]) {
        "" => kinds::pod_quality_class(pod.get("spec").unwrap_or(&Value::Null)),
        class => class,
    }
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    let mut extra = if request.operation == Operation::Create {
        annotated(request, DEFAULTS)?
    } else {
        Vec::new()
    };
    if quality(pod) != "BestEffort" {
        extra.push(json!({
            "key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule",
        }));
    }
    if !extra.is_empty() {
        let merged = tolerations::merge(object::list(pod, &["spec", "tolerations"]), &extra);
        object::child_mut(pod, "spec").insert("tolerations".to_owned(), merged.into());
    }
    validate(request, pod)
}

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    let own = object::list(pod, &["spec", "tolerations"]);
    if own.is_empty() || tolerations::allowed(own, &annotated(request, ALLOWED)?) {
        return Ok(());
    }
    let mut status = Status::internal("");
    "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
        .clone_into(&mut status.message);
    (status.reason, status.details) = (String::new(), None);
    Err(status)
}
