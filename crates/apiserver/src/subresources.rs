//! Subresources: `status`, `scale`, `binding`, `eviction`, `finalize` and the rest.

mod binding;
mod eviction;
mod reviews;
mod scale;

pub use reviews::review;
pub use scale::Scale;

use http::{Method, Response};
use model::{Reason, Status, object};
use serde_json::Value;
use store::ListOptions;

use crate::body::Body;
use crate::context::Context;
use crate::dispatch::method_not_allowed;
use crate::identity::request_token;
use crate::{envelope, simulated, verbs};

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
        // The only way to change `spec.finalizers` of a Namespace.
        ("finalize", _) => verbs::update(context).await,
        ("token", _) => request_token(context).await,
        ("log", "get") => simulated::log(context),
        ("exec" | "attach", _) => simulated::exec(context),
        ("proxy", _) if definition.gvr.resource == "services" && !has_endpoints(context) => {
            let why = format!("no endpoints available for service \"{}\"", context.name());
            Err(Status::new(Reason::ServiceUnavailable, why))
        }
        _ => Err(not_served(
            &format!("{}/{name}", definition.gvr.resource),
            "its nodes are virtual, they simulate containers and run none",
        )),
    }
}

/// Whether a Service has an endpoint that is ready.
fn has_endpoints(context: &Context) -> bool {
    let prefix = envelope::key_prefix(
        "discovery.k8s.io",
        "endpointslices",
        Some(context.namespace()),
    );
    let Ok(listing) = context.state.store.list(&prefix, &ListOptions::default()) else {
        return false;
    };
    listing.entries.iter().any(|entry| {
        let Ok(slice) = envelope::decode(entry) else {
            return false;
        };
        let service =
            object::labels(&slice).and_then(|labels| labels.get("kubernetes.io/service-name"));
        let endpoints = object::list(&slice, &["endpoints"]);
        service.and_then(Value::as_str) == Some(context.name())
            && endpoints.iter().any(|endpoint| {
                object::at(endpoint, &["conditions", "ready"]) != Some(&Value::Bool(false))
            })
    })
}

/// 501 with what to do instead.
fn not_served(what: &str, instead: &str) -> Status {
    Status::new(
        Reason::NotImplemented,
        format!("{what} cannot be had from this server: {instead}"),
    )
}
