//! `NamespaceLifecycle`: nothing is made in a namespace that does not exist or is going, and the
//! namespaces every cluster has stay.

use model::{Status, StatusCause, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "NamespaceLifecycle",
    default: true,
    mutate: Mutate::Now(mutate),
    validate: Validate::Never,
};

/// Namespaces that may not be deleted.
const PERMANENT: &[&str] = &["default", "kube-system", "kube-public"];

fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    if request.is("", "namespaces") {
        return permanent(request);
    }
    let name = request.namespace();
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if name.is_empty() || !writes {
        return Ok(());
    }
    let Some(namespace) = request.find("", "namespaces", None, name) else {
        return Err(Status::not_found("", "namespaces", name));
    };
    if request.operation == Operation::Create
        && object::text(&namespace, &["status", "phase"]) == "Terminating"
    {
        return Err(terminating(request, new, name));
    }
    Ok(())
}

fn permanent(request: &Request<'_>) -> Result<(), Status> {
    let name = request.old.map(object::name).unwrap_or_default();
    if request.operation == Operation::Delete && PERMANENT.contains(&name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden("", "namespaces", name, why));
    }
    Ok(())
}

fn terminating(request: &Request<'_>, new: &Value, name: &str) -> Status {
    let why =
        format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = request.refuse(new, &why);
    status
        .details
        .get_or_insert_default()
        .causes
        .push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    status
}
