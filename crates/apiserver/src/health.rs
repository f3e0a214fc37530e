//! `/healthz`, `/livez`, `/readyz` and `/version`.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, HOST};
use http::{HeaderMap, HeaderValue, Response};
use model::{Reason, Status};
use serde_json::json;
use tokio::time::timeout;

use crate::body::Body;
use crate::media::Encoding;
use crate::query::Query;
use crate::respond;
use crate::server::State;

/// The version of Kubernetes whose API this server speaks.
pub const KUBERNETES_VERSION: &str = "1.36.2";

/// The checks behind each endpoint. A server that answers at all has its definitions loaded: it does
/// not listen before.
const CHECKS: &[&str] = &["ping", "etcd", "poststarthook/crd-informer-synced"];
/// What `/readyz` looks at besides.
const SHUTDOWN: &str = "shutdown";
/// How long the store may take to say that it takes writes.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a health check, one of its parts, or all of them with `verbose`.
pub async fn check(state: &State, path: &str, query: &Query) -> Response<Body> {
    let (endpoint, part) = path.split_once('/').unwrap_or((path, ""));
    let shutdown = (endpoint == "readyz").then_some(SHUTDOWN);
    let checks: Vec<&str> = CHECKS.iter().copied().chain(shutdown).collect();
    if !part.is_empty() {
        return if checks.contains(&part) {
            one(state, part).await
        } else {
            respond::text(404, "404 page not found\n")
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut text, mut failed) = (String::new(), false);
    for check in checks {
        if excluded.contains(&check) {
            let _ = writeln!(text, "[+]{check} excluded: ok");
        } else if let Err(reason) = pass(state, check).await {
            tracing::warn!(endpoint, check, reason, "a health check fails");
            let _ = writeln!(text, "[-]{check} failed: reason withheld");
            failed = true;
        } else {
            let _ = writeln!(text, "[+]{check} ok");
        }
    }
    if failed {
        return respond::text(500, format!("{text}{endpoint} check failed\n"));
    }
    if query.raw("verbose").is_none() {
        return respond::text(200, "ok");
    }
    respond::text(200, format!("{text}{endpoint} check passed\n"))
}

async fn one(state: &State, check: &str) -> Response<Body> {
    match pass(state, check).await {
        Ok(()) => respond::text(200, "ok"),
        Err(reason) => respond::text(500, format!("internal server error: {reason}\n")),
    }
}

/// Whether a check passes, and why not.
async fn pass(state: &State, check: &str) -> Result<(), String> {
    match check {
        "etcd" => match timeout(STORE_TIMEOUT, state.store.health()).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", STORE_TIMEOUT.as_secs())),
        },
        SHUTDOWN if state.shutdown.is_cancelled() => Err("process is shutting down".to_owned()),
        _ => Ok(()),
    }
}

/// `/version`.
pub fn version() -> Response<Body> {
    let mut numbers = KUBERNETES_VERSION.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let value = json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": "35",
        "gitVersion": format!("v{KUBERNETES_VERSION}+corvus-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    });
    respond::value(200, &value, Encoding::Json)
}

/// The architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The media type of a set of keys.
const KEY_SET: &str = "application/jwk-set+json";

/// `/.well-known/openid-configuration`: how to check tokens of service accounts.
pub fn issuer_configuration(state: &State, headers: &HeaderMap) -> Response<Body> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = match (state.options.advertise, host) {
        (Some(address), _) => address.to_string(),
        (None, host) => host.unwrap_or("kubernetes.default.svc").to_owned(),
    };
    let tokens = &state.options.authentication.service_accounts;
    cached(respond::value(
        200,
        &tokens.configuration(&host),
        Encoding::Json,
    ))
}

/// `/openid/v1/jwks`: the public keys of such tokens.
pub fn issuer_keys(state: &State, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let wanted = headers.get_all(ACCEPT).iter();
    let ranges: Vec<&str> = wanted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .collect();
    if !ranges.is_empty()
        && !ranges
            .iter()
            .any(|range| ["*/*", "", KEY_SET].contains(range))
    {
        let mut status = Status::new(
            Reason::NotAcceptable,
            format!("406: Not Acceptable\n\nAvailable representations: {KEY_SET}"),
        );
        status.details = Some(Box::default());
        return Err(status);
    }
    let keys = state.options.authentication.service_accounts.key_set();
    Ok(cached(respond::bytes(200, KEY_SET, keys.to_string())))
}

/// What everyone may keep for an hour.
fn cached(mut response: Response<Body>) -> Response<Body> {
    let value = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, value);
    response
}
