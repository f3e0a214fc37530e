//! From a request to the verb that answers it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use model::{Reason, Status, StatusDetails};
use serde_json::Value;

use crate::body::Body;
use crate::context::{Context, Parts};
use crate::identity::{Attributes, Decision, User, authorize};
use crate::media::{self, Endpoint, Shape};
use crate::query::Query;
use crate::route::{self, ResourcePath, Route};
use crate::server::State;
use crate::write::store_error;
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
    let accept = head.headers.get(ACCEPT).cloned();
    let outcome = async {
        let user = state
            .options
            .authentication
            .authenticate(&head.headers, certificate)?;
        seen = attributes(&route, &head.method, &query, head.uri.path());
        if authorize(state.store.as_ref(), &user, &seen) == Decision::NoOpinion {
            return Err(forbidden(&user, &seen));
        }
        match route {
            Route::Resource(path) => {
                let body = read_body(body).await?;
                resource(&state, user, path, query, &head.method, head.headers, body).await
            }
            other => other_path(&state, other, &head.method, &head.headers, &query),
        }
    }
    .await;
    let response = outcome.unwrap_or_else(|failure| {
        respond::status_as(&failure, media::encoding_of_failure(accept.as_ref()))
    });
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
        .header(http::header::USER_AGENT, "kube-apiserver")
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

/// The verb of a request for objects, as authorization knows it.
fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match (method.as_str(), path.name.is_some()) {
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ if path.watch || (query.flag("watch") && path.name.is_none()) => "watch",
        (_, true) => "get",
        (_, false) => "list",
    }
}

fn attributes(route: &Route, method: &Method, query: &Query, path: &str) -> Attributes {
    let Route::Resource(parts) = route else {
        return Attributes {
            verb: method.as_str().to_lowercase(),
            path: path.to_owned(),
            ..Attributes::default()
        };
    };
    let itself = parts.resource == "namespaces" && parts.group.is_empty();
    let namespace = if itself {
        &parts.name
    } else {
        &parts.namespace
    };
    Attributes {
        verb: verb(method, parts, query).to_owned(),
        group: parts.group.clone(),
        resource: parts.resource.clone(),
        subresource: parts.subresource.clone().unwrap_or_default(),
        namespace: namespace.clone().unwrap_or_default(),
        name: parts.name.clone().unwrap_or_default(),
        path: path.to_owned(),
    }
}

fn forbidden(user: &User, attributes: &Attributes) -> Status {
    let Attributes {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        path,
    } = attributes;
    if resource.is_empty() {
        let why = format!("User \"{}\" cannot {verb} path \"{path}\"", user.name);
        let mut status = Status::forbidden("", "", "", &why);
        status.details = Some(Box::new(StatusDetails::default()));
        return status;
    }
    let full = if subresource.is_empty() {
        resource.clone()
    } else {
        format!("{resource}/{subresource}")
    };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{full}\" in API group \"{group}\" {place}",
        user.name
    );
    Status::forbidden(group, resource, name, &why)
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
    method: &Method,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let catalog = state.catalog.load_full();
    let encoding =
        || media::accept(headers, query, Endpoint::BuiltIn).map(|accept| accept.encoding);
    if matches!(route, Route::Group(_) | Route::Resources { .. }) && method != Method::GET {
        return Err(method_not_allowed());
    }
    Ok(match route {
        Route::Health(check) => health::check(state, &check, query),
        Route::Version => health::version(),
        Route::Metrics => state.metrics.expose(state.store.stats()),
        Route::Root => discovery::paths(&catalog),
        Route::LegacyVersions | Route::Groups => {
            let accept = media::accept(headers, query, Endpoint::Discovery)?;
            let legacy = route == Route::LegacyVersions;
            match accept.shape {
                Shape::AggregatedDiscovery(_) => discovery::aggregated(&catalog, legacy, headers),
                _ => discovery::groups(state, &catalog, legacy, accept.encoding),
            }
        }
        Route::Group(group) => discovery::group(&catalog, &group, encoding()?),
        Route::Resources { group, version } => {
            discovery::resources(&catalog, &group, &version, encoding()?)?
        }
        Route::OpenApiV2 => openapi::v2(state, &catalog, headers),
        Route::OpenApiV3Index => openapi::v3_index(state, &catalog),
        Route::OpenApiV3(path) => openapi::v3(state, &catalog, &path, headers, query),
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
    let is_watch = verb(method, &path, &query) == "watch";
    let endpoint = match (definition.custom.is_some(), is_watch) {
        (false, false) => Endpoint::BuiltIn,
        (false, true) => Endpoint::Watch,
        (true, false) => Endpoint::Custom,
        (true, true) => Endpoint::CustomWatch,
    };
    let accept = media::accept(&headers, &query, endpoint)?;
    let failures = media::encoding_of_failure(headers.get(ACCEPT));
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
    let mut response = outcome.unwrap_or_else(|failure| respond::status_as(&failure, failures));
    respond::add_warnings(&mut response, &warnings);
    Ok(response)
}

async fn serve(
    mut context: Context,
    method: &Method,
) -> (Result<Response<Body>, Status>, Vec<String>) {
    if let Some(warning) = context.definition.deprecation() {
        context.warn(warning);
    }
    let outcome = if context.path.subresource.is_some() {
        subresources::serve(&mut context, method).await
    } else {
        serve_object(&mut context, method).await
    };
    (outcome, context.warnings())
}

/// Waits until a read shows all that was acknowledged before it, unless any version will do.
async fn settle(context: &Context) -> Result<(), Status> {
    if context.query.get("resourceVersion") == Some("0") {
        return Ok(());
    }
    match context.state.store.barrier() {
        Some(settled) => settled.await.map_err(|error| store_error(&error)),
        None => Ok(()),
    }
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
    if matches!(verb, "get" | "list" | "watch") {
        settle(context).await?;
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
