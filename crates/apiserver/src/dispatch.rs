//! From a request to the verb that answers it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use model::{Reason, Status, StatusDetails};
use serde_json::Value;

use crate::audit::{self, Annotations};
use crate::body::Body;
use crate::context::{Context, Parts};
use crate::flow::{self, Admitted, TooMany};
use crate::identity::{Attributes, Certified, User, impersonate, verb, wanted_user};
use crate::media::{self, Endpoint, Shape};
use crate::query::Query;
use crate::route::{self, ResourcePath, Route};
use crate::server::State;
use crate::write::store_error;
use crate::{
    bootstrap, compress, deadline, discovery, health, openapi, respond, simulated, subresources,
    verbs,
};

/// Largest request body, as upstream's default.
const BODY_BYTES_MAX: usize = 3 << 20;
/// How much of a larger body is read to its end and thrown away: a client that is still sending when
/// the answer comes may take the broken stream for a fault of the network and never look at it.
const BODY_BYTES_DRAINED_MAX: usize = 64 << 20;

/// Answers one request.
pub async fn handle<B>(
    state: Arc<State>,
    request: Request<B>,
    certificate: Option<&Certified>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::fmt::Display,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    let route = route::parse(head.uri().path());
    let query = Query::parse(head.uri().query());
    let seen = Attributes::of(&route, head.method(), &query, head.uri().path());
    let compress = compress::limit(&route, head.headers());
    let mut trail = Trail {
        id: audit_id(head.headers()),
        record: None,
        admitted: None,
    };
    let asked = Asked {
        state: &state,
        head: &head,
        seen: &seen,
        certificate,
    };
    let running = state.metrics.begin(&seen);
    let outcome = asked.answer(route, query, body, &mut trail).await;
    drop(running);
    let mut response = outcome.unwrap_or_else(|failure| {
        let accept = head.headers().get(ACCEPT);
        respond::status_as(&failure, media::encoding_of_failure(accept))
    });
    state
        .metrics
        .request(&head, &seen, &response, started.elapsed());
    if let Some(admitted) = &trail.admitted {
        admitted.tell(&mut response);
    }
    if let Ok(id) = HeaderValue::from_str(&trail.id) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    let response = match trail.record {
        Some(record) => record.answered(response, state.options.clock.clone()),
        None => response,
    };
    match compress {
        Some(limit) => compress::apply(response, limit),
        None => response,
    }
}

/// What is kept of a request beside its answer.
struct Trail {
    id: String,
    record: Option<audit::Record>,
    /// Its place among those that run; given back when the answer is there.
    admitted: Option<Admitted>,
}

/// A request, before anything is decided.
struct Asked<'a> {
    state: &'a Arc<State>,
    head: &'a Request<()>,
    seen: &'a Attributes,
    certificate: Option<&'a Certified>,
}

impl Asked<'_> {
    async fn answer<B>(
        &self,
        route: Route,
        query: Query,
        body: B,
        trail: &mut Trail,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let (state, head, seen) = (self.state, self.head, self.seen);
        let user = self.who(trail)?;
        trail.admitted = match self.turn(&user, &query).await {
            Ok(admitted) => admitted,
            Err(TooMany) => return Ok(flow::too_many()),
        };
        let decision = state.authorizer.authorize(&user, seen);
        if let Some(record) = &mut trail.record {
            let verdict = if decision.is_allowed() {
                "allow"
            } else {
                "forbid"
            };
            record.annotate("authorization.k8s.io/decision", verdict);
            record.annotate("authorization.k8s.io/reason", decision.reason());
        }
        if !decision.is_allowed() {
            return Err(seen.forbidden(&user, decision.reason()));
        }
        let Route::Resource(path) = route else {
            return other_path(state, route, head.method(), head.headers(), &query).await;
        };
        let limit = deadline::of(&query, state.options.request_timeout)?;
        let endless = seen.verb == "watch";
        let headers = head.headers().clone();
        let work = async {
            let body = read_body(body).await?;
            if let Some(record) = &mut trail.record {
                record.request_body(&body);
            }
            resource(state, user, path, query, head.method(), headers, body).await
        };
        if endless {
            return work.await;
        }
        let outcome = tokio::time::timeout(limit, work).await;
        outcome.unwrap_or_else(|_| Err(deadline::exceeded()))
    }

    /// Who asks, and in whose name.
    fn who(&self, trail: &mut Trail) -> Result<User, Status> {
        let (state, head, seen) = (self.state, self.head, self.seen);
        let now = (state.options.clock)();
        let authenticated = state.options.authentication.authenticate(
            state.store.as_ref(),
            now,
            head.headers(),
            self.certificate,
        );
        if let Some(log) = &state.options.audit {
            let nobody = User::default();
            let user = authenticated.as_ref().unwrap_or(&nobody);
            trail.record = log.begin(&trail.id, user, seen, head, now);
        }
        let user = authenticated?;
        let Some(wanted) = wanted_user(head.headers())? else {
            return Ok(user);
        };
        let wanted = impersonate(&state.authorizer, &user, &wanted, seen)?;
        if let Some(record) = &mut trail.record {
            record.impersonates(&wanted);
        }
        Ok(wanted)
    }

    /// Waits until it is this request's turn.
    async fn turn(&self, user: &User, query: &Query) -> Result<Option<Admitted>, TooMany> {
        let (state, seen) = (self.state, self.seen);
        let listed = || {
            let catalog = state.catalog.load();
            let found = catalog.get(&seen.group, &seen.version, &seen.resource);
            let namespace = (!seen.namespace.is_empty()).then_some(seen.namespace.as_str());
            let count = found.map_or(0, |found| state.store.count(&found.prefix(namespace)));
            let limit = query.number("limit").ok().flatten();
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            count.min(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX))
        };
        state
            .flow
            .enter(state.store.as_ref(), user, seen, listed)
            .await
    }
}

const AUDIT_ID: &str = "audit-id";
/// Longest id a client may give its request, as upstream.
const AUDIT_ID_LENGTH_MAX: usize = 64;

/// The id of a request: the client's own, or a new one.
fn audit_id(headers: &HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|id| id.to_str().ok());
    match given.filter(|id| !id.is_empty()) {
        Some(id) => id.chars().take(AUDIT_ID_LENGTH_MAX).collect(),
        // The thread's own randomness: ids need no more, and a call of the system costs more.
        None => uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string(),
    }
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
    let itself = Certified::User(Arc::new(bootstrap::itself()));
    let response = Box::pin(handle(state.clone(), request, Some(&itself))).await;
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
    let (mut read, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Status::bad_request(format!("reading the request's body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            length += data.len();
            if length > BODY_BYTES_DRAINED_MAX {
                break;
            }
            if length <= BODY_BYTES_MAX {
                read.extend_from_slice(&data);
            }
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
        ));
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

async fn other_path(
    state: &Arc<State>,
    route: Route,
    method: &Method,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let read_only = matches!(
        route,
        Route::LegacyVersions | Route::Group(_) | Route::Resources { .. } | Route::Version
    );
    if read_only && *method != Method::GET {
        return Err(method_not_allowed());
    }
    let catalog = state.catalog.load_full();
    let encoding =
        || media::accept(headers, query, Endpoint::BuiltIn).map(|accept| accept.encoding);
    Ok(match route {
        Route::Health(check) => health::check(state, &check, query).await,
        Route::Version => health::version(),
        Route::Backup => backup(state),
        Route::Metrics => state.metrics.expose(state.store.as_ref(), &catalog),
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
        Route::IssuerConfiguration => health::issuer_configuration(state, headers),
        Route::IssuerKeys => health::issuer_keys(state, headers)?,
        Route::Resource(_) | Route::Unknown => respond::text(404, "404 page not found\n"),
    })
}

/// Everything as of now; entries are shared with the store until they are sent.
fn backup(state: &State) -> Response<Body> {
    let pieces = store::backup::pieces(state.store.snapshot());
    let body = Body::stream(futures::stream::iter(pieces));
    respond::with_body(200, "application/octet-stream", body)
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
        if catalog.has_built_in(&path.group) {
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
    let (outcome, context) = serve(context, method).await;
    let mut response = outcome.unwrap_or_else(|failure| respond::status_as(&failure, failures));
    // What a resource cannot do is not deprecated.
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        respond::add_warnings(&mut response, &context.warnings());
    }
    let noted = context.annotations();
    if !noted.is_empty() {
        response.extensions_mut().insert(Annotations(noted));
    }
    Ok(response)
}

async fn serve(mut context: Context, method: &Method) -> (Result<Response<Body>, Status>, Context) {
    if *method == Method::GET
        && let Err(status) = settle(&context).await
    {
        return (Err(status), context);
    }
    if let Some(warning) = context.definition.deprecation() {
        context.warn(warning);
    }
    let outcome = if context.path.subresource.is_some() {
        subresources::serve(&mut context, method).await
    } else {
        serve_object(&mut context, method).await
    };
    (outcome, context)
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
    // Where nothing is listed, there is no path across namespaces at all.
    if !placed && !context.definition.serves("list") {
        return Err(Status::unknown_path());
    }
    if !known || !fits || !placed || !context.definition.serves(verb) {
        return Err(method_not_allowed());
    }
    if context.definition.gvr.group == simulated::GROUP && context.definition.custom.is_none() {
        return simulated::serve(context, verb);
    }
    match verb {
        "get" => verbs::get(context).await,
        "list" => verbs::list(context).await,
        "watch" => verbs::watch(context),
        "create" => verbs::create(context).await,
        "update" => verbs::update(context).await,
        "patch" => verbs::patch(context).await,
        "delete" => verbs::delete(context).await,
        _ => verbs::delete_collection(context).await,
    }
}
