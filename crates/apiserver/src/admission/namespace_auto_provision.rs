//! `NamespaceAutoProvision` makes a namespace that is missing, `NamespaceExists` refuses what is in one.
//! Both are off by default: `NamespaceLifecycle` does the latter too.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::Status;
use serde_json::{Value, json};

use super::{Mutate, Operation, Plugin, Request, Validate};
use crate::dispatch;

/// `NamespaceAutoProvision`.
pub const PROVISION: Plugin = Plugin {
    name: "NamespaceAutoProvision",
    default: false,
    mutate: Mutate::Later(provision),
    validate: Validate::Never,
};

/// `NamespaceExists`.
pub const EXISTS: Plugin = Plugin {
    name: "NamespaceExists",
    default: false,
    mutate: Mutate::Never,
    validate: Validate::Now(exists),
};

fn is_missing(request: &Request<'_>) -> bool {
    let name = request.namespace();
    !name.is_empty()
        && !request.is("", "namespaces")
        && request.find("", "namespaces", None, name).is_none()
}

fn provision<'a>(
    request: &'a Request<'a>,
    new: &'a mut Value,
) -> BoxFuture<'a, Result<(), Status>> {
    async move {
        if request.operation != Operation::Create || request.dry_run || !is_missing(request) {
            return Ok(());
        }
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": request.namespace()},
        });
        let path = "/api/v1/namespaces";
        let state = &request.context.state;
        let (code, answer) = dispatch::internal(state, "POST", path, &namespace).await;
        match code {
            200..300 | 409 => Ok(()),
            _ => Err(request.refuse(new, answer["message"].as_str().unwrap_or_default())),
        }
    }
    .boxed()
}

fn exists(request: &Request<'_>, _: &Value) -> Result<(), Status> {
    if is_missing(request) {
        return Err(Status::not_found("", "namespaces", request.namespace()));
    }
    Ok(())
}
