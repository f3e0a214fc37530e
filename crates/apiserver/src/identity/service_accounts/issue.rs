//! `TokenRequest`: a token for a service account, bound to what it is for.

use http::Response;
use model::{FieldError, FieldPath, GroupVersionKind, Status, object};
use schema::Schema;
use serde_json::{Value, json};

use super::claims::{Bound, NewToken, stored};
use crate::admission::{self, Operation, Request};
use crate::body::Body;
use crate::context::{Context, timestamp};
use crate::respond;
use crate::verbs::place;
use crate::write::decode_body;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// Shortest a token lasts.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;
const EXPIRATION_SECONDS_DEFAULT: i64 = 3_600;
/// What the ServiceAccount plugin asks for in Pods. Such a token lasts a year, and its use after
/// this time is worth a warning: programs that read it only once go on working.
const PROJECTED_SECONDS: i64 = 3_607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3_600;

/// `POST` of `serviceaccounts/NAME/token`.
pub async fn request_token(context: &Context) -> Result<Response<Body>, Status> {
    let kind = GroupVersionKind::new(GROUP, "v1", KIND);
    let schema = Schema::built_in(GROUP, "v1", KIND).unwrap_or_else(Schema::any);
    let mut request = decode_body(context, &kind, &schema, false)?;
    default_expiration(&mut request);
    place(context, &mut request)?;
    track(context, &schema, &mut request)?;
    let asked = Request {
        kind: kind.clone(),
        ..Request::new(context, Operation::Create, "token", None)
    };
    admission::mutate(&asked, &mut request).await?;
    let namespace = context.namespace().to_owned();
    check_metadata(context, &request, &namespace)?;
    let account = stored(
        context.state.store.as_ref(),
        "serviceaccounts",
        Some(&namespace),
        context.name(),
    )
    .ok_or_else(|| context.not_found())?;
    let uid = object::uid(&request);
    if !uid.is_empty() && uid != object::uid(&account) {
        return Err(Status::conflict(
            GROUP,
            KIND,
            context.name(),
            &format!(
                "the UID in the token request ({uid}) does not match the UID of the service account ({})",
                object::uid(&account)
            ),
        ));
    }
    let tokens = &context.state.options.authentication.service_accounts;
    complete(&mut request, &account, &tokens.settings().audiences);
    let now = (context.state.options.clock)();
    object::metadata_mut(&mut request)
        .insert("creationTimestamp".to_owned(), timestamp(now).into());
    let expiration = check_expiration(&request)?;
    admission::validate(&asked, &request).await?;
    let bound = bind(context, &request, &namespace)?;
    let limit = tokens.settings().max_expiration_seconds;
    let expiration = match limit.filter(|limit| *limit > 0 && expiration > *limit) {
        Some(limit) => {
            context.warn(format!(
                "requested expiration of {expiration} seconds shortened to {limit} seconds"
            ));
            request["spec"]["expirationSeconds"] = json!(limit);
            limit
        }
        None => expiration,
    };
    let audiences: Vec<String> = object::list(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let own = &tokens.settings().audiences;
    let extend = bound.pod.is_some()
        && expiration == PROJECTED_SECONDS
        && audiences.iter().all(|audience| own.contains(audience));
    let new = NewToken {
        issuer: &tokens.settings().issuer,
        account: &account,
        bound: &bound,
        audiences: &audiences,
        now,
        expiration_seconds: if extend { EXTENDED_SECONDS } else { expiration },
        warn_after_seconds: extend.then_some(expiration),
        id: &uuid::Uuid::new_v4().to_string(),
    };
    let token = tokens.sign(&new.claims()).map_err(Status::internal)?;
    let ends = now + jiff::SignedDuration::from_secs(expiration);
    request["status"] = json!({"token": token, "expirationTimestamp": timestamp(ends)});
    Ok(respond::value(201, &request, context.accept.encoding))
}

fn default_expiration(request: &mut Value) {
    let spec = object::child_mut(request, "spec");
    let seconds = spec.entry("expirationSeconds").or_insert(Value::Null);
    if seconds.is_null() {
        *seconds = json!(EXPIRATION_SECONDS_DEFAULT);
    }
}

/// Fields are tracked, for whoever looks at the answer only.
fn track(context: &Context, schema: &Schema, request: &mut Value) -> Result<(), Status> {
    let (manager, now) = (context.field_manager()?, context.now());
    let write = patch::Write {
        manager: &manager,
        subresource: "token",
        now: &now,
        versions: &patch::OneVersion {
            api_version: format!("{GROUP}/v1"),
            schema: schema.clone(),
        },
        reset_fields: &patch::FieldSet::default(),
    };
    patch::track_update(&write, None, request);
    Ok(())
}

/// What the request says of its account must be what the path says.
fn check_metadata(context: &Context, request: &Value, namespace: &str) -> Result<(), Status> {
    for (field, own, expect) in [
        ("name", object::name(request), context.name()),
        ("namespace", object::namespace(request), namespace),
    ] {
        if !own.is_empty() && own != expect {
            let path = FieldPath::new(format!("metadata.{field}"));
            let why = format!("must match the service account {field} if specified");
            let error = FieldError::invalid(&path, own, why);
            return Err(Status::invalid(GROUP, KIND, context.name(), &[error]));
        }
    }
    Ok(())
}

fn complete(request: &mut Value, account: &Value, audiences: &[String]) {
    let metadata = object::metadata_mut(request);
    for (field, value) in [
        ("name", object::name(account)),
        ("namespace", object::namespace(account)),
        ("uid", object::uid(account)),
    ] {
        metadata.insert(field.to_owned(), value.into());
    }
    let spec = object::child_mut(request, "spec");
    let given = spec.get("audiences").and_then(Value::as_array);
    if given.is_none_or(Vec::is_empty) {
        spec.insert("audiences".to_owned(), json!(audiences));
    }
    spec.entry("boundObjectRef").or_insert(Value::Null);
}

fn check_expiration(request: &Value) -> Result<i64, Status> {
    let seconds = object::number(request, &["spec", "expirationSeconds"]).unwrap_or_default();
    let why = if seconds < EXPIRATION_SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > EXPIRATION_SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let path = FieldPath::new("spec.expirationSeconds");
    let error = FieldError::invalid(&path, seconds, why);
    Err(Status::invalid(GROUP, KIND, "", &[error]))
}

/// Looks up what the token is to be bound to.
fn bind(context: &Context, request: &Value, namespace: &str) -> Result<Bound, Status> {
    let mut bound = Bound::default();
    let Some(reference) =
        object::at(request, &["spec", "boundObjectRef"]).filter(|r| r.is_object())
    else {
        return Ok(bound);
    };
    let text = |field: &str| object::text(reference, &[field]);
    let (kind, name) = (text("kind"), text("name"));
    let api_version = text("apiVersion");
    let core = api_version.is_empty() || !api_version.contains('/');
    let store = context.state.store.as_ref();
    let get = |resource: &str, namespace: Option<&str>| {
        stored(store, resource, namespace, name)
            .ok_or_else(|| Status::not_found("", resource, name))
    };
    let found = match kind {
        "Pod" if core => {
            let pod = get("pods", Some(namespace))?;
            if object::text(&pod, &["spec", "serviceAccountName"]) != context.name() {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    context.name()
                )));
            }
            let node = object::text(&pod, &["spec", "nodeName"]);
            if !node.is_empty() {
                // A node that is gone is still named.
                let named = || json!({"metadata": {"name": node}});
                bound.node = Some(stored(store, "nodes", None, node).unwrap_or_else(named));
            }
            bound.pod.insert(pod)
        }
        "Secret" if core => bound.secret.insert(get("secrets", Some(namespace))?),
        "Node" if core => bound.node.insert(get("nodes", None)?),
        _ => {
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != object::uid(found) {
        return Err(Status::conflict(
            "",
            kind,
            name,
            &format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    Ok(bound)
}
