//! `NamespaceLifecycle`: nothing is made in a namespace that does not exist or is going, and the
//! namespaces every cluster has stay.

use model::{Status, StatusCause, object};
use serde_json::Value;

use super::find;
use crate::context::Context;

/// Namespaces that may not be deleted.
const PERMANENT: &[&str] = &["default", "kube-system", "kube-public"];

/// Refuses to make an object where its namespace is missing or terminating.
#[expect(clippy::unused_async, reason = "plugins look alike; others wait")]
pub async fn mutate(context: &Context) -> Result<(), Status> {
    if !context.definition.namespaced() {
        return Ok(());
    }
    let name = context.namespace();
    let Some(namespace) = find(context, "", "namespaces", None, name) else {
        return Err(Status::not_found("", "namespaces", name));
    };
    if !object::is_deleting(&namespace) {
        return Ok(());
    }
    let gvr = &context.definition.gvr;
    let why =
        format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(&gvr.group, &gvr.resource, context.name(), &why);
    status
        .details
        .get_or_insert_default()
        .causes
        .push(StatusCause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    Err(status)
}

/// Refuses to delete what every cluster has.
pub fn validate_delete(context: &Context, old: Option<&Value>) -> Result<(), Status> {
    let gvr = &context.definition.gvr;
    let name = old.map(object::name).unwrap_or_default();
    if gvr.resource == "namespaces" && gvr.group.is_empty() && PERMANENT.contains(&name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden("", "namespaces", name, why));
    }
    Ok(())
}
