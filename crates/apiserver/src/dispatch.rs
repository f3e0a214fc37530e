//! From a request to the verb that answers it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use model::{Reason, Status, StatusDetails};
use serde_json::Value;

use crate::body::Body;
use crate::context::{Context, Parts};
use crate::identity::{Attributes, User, impersonate, verb, wanted_user};
use crate::media::{self, Shape};
use crate::query::Query;
use crate::route::{self, ResourcePath, Route};
use crate::server::State;
use crate::{bootstrap, discovery, health, openapi, respond, subresources, verbs};

/// Largest request body, as upstream's default.
const BODY_BYTES_MAX: usize = 3 << 20;

/// Answers one request.
pub async fn handle<B>(
    state: Arc<State>,
    request: Request<B>,
    certificate: Option<&User>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::fmt::Display,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let route = route::parse(head.uri.path());
    let query = Query::parse(head.uri.query());
    let mut seen = Attributes::default();
    let outcome = async {
        let user = state.options.authentication.authenticate(
            state.store.as_ref(),
            (state.options.clock)(),
            &head.headers,
            certificate,
        )?;
        seen = Attributes::of(&route, &head.method, &query, head.uri.path());
        let user = match wanted_user(&head.headers)? {
            Some(wanted) => impersonate(&state.authorizer, &user, &wanted, &seen)?,
            None => user,
        };
        let decision = state.authorizer.authorize(&user, &seen);
        if !decision.is_allowed() {
            return Err(seen.forbidden(&user, decision.reason()));
        }
        match route {
            Route::Resource(path) => {
                let body = read_body(body).await?;
                resource(&state, user, path, query, &head.method, head.headers, body).await
            }
            other => other_path(&state, other, &head.headers, &query),
        }
    }
    .await;
    let response = outcome.unwrap_or_else(|failure| respond::status(&failure));
    state
        .metrics
        .request(&seen, response.status().as_u16(), started.elapsed());
    response
}

/// A request of the server to itself; gives the code and the answer.
pub async fn internal(state: &Arc<State>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let content_type = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::USER_AGENT, "corvus-apiserver")
        .body(Full::new(Bytes::from(text)));
    let Ok(request) = request else {
        return (400, Value::Null);
    };
    let response = Box::pin(handle(state.clone(), request, Some(&bootstrap::itself()))).await;
    let code = response.status().as_u16();
    let bytes = match response.into_body().collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Status::bad_request(format!("reading the request's body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > BODY_BYTES_MAX {
                return Err(Status::new(
                    Reason::RequestEntityTooLarge,
                    format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
                ));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// 405, as upstream words it.
pub fn method_not_allowed() -> Status {
    let mut status = Status::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    );
    status.details = Some(Box::new(StatusDetails::default()));
    status
}

fn other_path(
    state: &Arc<State>,
    route: Route,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let catalog = state.catalog.load_full();
    Ok(match route {
        Route::Health(check) => health::check(state, &check, query),
        Route::Version => health::version(),
        Route::Metrics => state.metrics.expose(state.store.stats()),
        Route::Root => discovery::paths(&catalog),
        Route::LegacyVersions | Route::Groups => {
            let accept = media::accept(headers)?;
            let legacy = route == Route::LegacyVersions;
            match accept.shape {
                Shape::AggregatedDiscovery(_) => discovery::aggregated(&catalog, legacy, headers),
                _ => discovery::groups(state, &catalog, legacy, accept.encoding),
            }
        }
        Route::Group(group) => discovery::group(&catalog, &group, media::accept(headers)?.encoding),
        Route::Resources { group, version } => {
            discovery::resources(&catalog, &group, &version, media::accept(headers)?.encoding)
        }
        Route::OpenApiV2 => openapi::v2(state, &catalog, headers),
        Route::OpenApiV3Index => openapi::v3_index(state, &catalog),
        Route::OpenApiV3(path) => openapi::v3(state, &catalog, &path, headers),
        Route::IssuerConfiguration => health::issuer_configuration(state, headers),
        Route::IssuerKeys => health::issuer_keys(state, headers)?,
        Route::Resource(_) | Route::Unknown => respond::text(404, "404 page not found\n"),
    })
}

async fn resource(
    state: &Arc<State>,
    user: User,
    path: ResourcePath,
    query: Query,
    method: &Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, Status> {
    let catalog = state.catalog.load_full();
    let Some(definition) = catalog.get(&path.group, &path.version, &path.resource) else {
        if catalog.serves(&path.group, &path.version) {
            return Err(Status::unknown_path());
        }
        return Ok(respond::text(404, "404 page not found\n"));
    };
    let definition = definition.clone();
    // A path with a namespace for what has none, or an item without one for what has.
    if definition.namespaced() == path.namespace.is_none()
        && (path.namespace.is_some() || path.name.is_some())
    {
        return Err(Status::unknown_path());
    }
    let accept = media::accept(&headers)?;
    let context = Context::new(Parts {
        state: state.clone(),
        catalog,
        definition,
        user,
        path,
        query,
        headers,
        accept,
        body,
    });
    let (outcome, warnings) = serve(context, method).await;
    let mut response = outcome.unwrap_or_else(|failure| respond::status(&failure));
    respond::add_warnings(&mut response, &warnings);
    Ok(response)
}

async fn serve(
    mut context: Context,
    method: &Method,
) -> (Result<Response<Body>, Status>, Vec<String>) {
    let outcome = if context.path.subresource.is_some() {
        subresources::serve(&mut context, method).await
    } else {
        serve_object(&mut context, method).await
    };
    (outcome, context.warnings())
}

async fn serve_object(context: &mut Context, method: &Method) -> Result<Response<Body>, Status> {
    let known = matches!(method.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE");
    let verb = verb(method, &context.path, &context.query);
    let fits = match verb {
        "create" => context.path.name.is_none(),
        "update" | "patch" => context.path.name.is_some(),
        _ => true,
    };
    // What lives in a namespace is made and deleted as a collection only within one.
    let placed = !context.definition.namespaced()
        || context.path.namespace.is_some()
        || matches!(verb, "list" | "watch");
    if context.path.name.is_some()
        && !["get", "update", "patch", "delete"]
            .iter()
            .any(|v| context.definition.serves(v))
    {
        return Err(Status::unknown_path());
    }
    if !known || !fits || !placed || !context.definition.serves(verb) {
        return Err(method_not_allowed());
    }
    match verb {
        "get" => verbs::get(context),
        "list" => verbs::list(context),
        "watch" => verbs::watch(context),
        "create" => verbs::create(context).await,
        "update" => verbs::update(context).await,
        "patch" => verbs::patch(context).await,
        "delete" => verbs::delete(context).await,
        _ => verbs::delete_collection(context).await,
    }
}
