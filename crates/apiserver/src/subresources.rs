//! Subresources: `status`, `scale`, `binding`, `eviction`, `finalize` and the rest.

mod binding;
mod eviction;
mod reviews;
mod scale;

pub use reviews::review;

use http::{Method, Response};
use model::{Reason, Status, object};
use serde_json::Value;

use crate::body::Body;
use crate::context::Context;
use crate::dispatch::method_not_allowed;
use crate::verbs;
use crate::write::{Update, update_object};

/// Answers a request for a subresource.
pub async fn serve(context: &mut Context, method: &Method) -> Result<Response<Body>, Status> {
    let name = context.subresource().to_owned();
    let definition = context.definition.clone();
    let Some(subresource) = definition.subresource(&name) else {
        // As upstream: custom resources say that there is no such object.
        return Err(match &definition.custom {
            Some(_) => context.not_found(),
            None => Status::unknown_path(),
        });
    };
    let verb = match method.as_str() {
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => return Err(method_not_allowed()),
    };
    if !subresource.verbs.iter().any(|served| served == verb) {
        return Err(method_not_allowed());
    }
    match (name.as_str(), verb) {
        ("status" | "ephemeralcontainers" | "resize" | "approval", "get") => {
            verbs::get(context).await
        }
        ("status" | "ephemeralcontainers" | "resize" | "approval", "update") => {
            verbs::update(context).await
        }
        ("status" | "ephemeralcontainers" | "resize" | "approval", "patch") => {
            verbs::patch(context).await
        }
        ("scale", "get") => scale::get(context).await,
        ("scale", "update") => scale::update(context).await,
        ("scale", _) => scale::patch(context).await,
        ("binding", _) => binding::create(context).await,
        ("eviction", _) => eviction::create(context).await,
        ("finalize", _) => finalize(context).await,
        ("token", _) => Err(not_served(
            "tokens for service accounts",
            "use a client certificate or a static bearer token",
        )),
        _ => Err(not_served(
            &format!("{}/{name}", definition.gvr.resource),
            "no node agent serves it in this cluster: its nodes are virtual",
        )),
    }
}

/// 501 with what to do instead.
fn not_served(what: &str, instead: &str) -> Status {
    Status::new(
        Reason::NotImplemented,
        format!("{what} cannot be had from this server: {instead}"),
    )
}

/// `PUT` of a Namespace's `finalize`: the only way to change `spec.finalizers`.
async fn finalize(context: &Context) -> Result<Response<Body>, Status> {
    let body = context.definition.decode(context)?;
    let finalizers = object::at(&body, &["spec", "finalizers"]).cloned();
    let version = object::resource_version(&body).to_owned();
    let update = Update {
        subresource: "finalize",
        applied: false,
        versioned: !version.is_empty(),
        replaces: false,
    };
    let change = |live: &Value| {
        let mut new = live.clone();
        let spec = object::child_mut(&mut new, "spec");
        match &finalizers {
            Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers.clone()),
            None => spec.remove("finalizers"),
        };
        if !version.is_empty() {
            object::metadata_mut(&mut new)
                .insert("resourceVersion".to_owned(), version.clone().into());
        }
        Ok(new)
    };
    match update_object(context, &update, &change).await? {
        Some(outcome) => verbs::answer(context, 200, outcome.kept).await,
        None => Err(context.not_found()),
    }
}
