//! Checks of probes and of what runs after the start and before the stop of a container.

use model::FieldError;

use crate::at::{At, Errors};
use crate::check;

/// The probes of a container.
pub fn probes(container: &At<'_>, grace_seconds: Option<i64>, errors: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let at = container.get(name);
        if !at.is_set() {
            continue;
        }
        probe(&at, grace_seconds, errors);
        if name == "readinessProbe" {
            let grace = at.get("terminationGracePeriodSeconds");
            if grace.is_set() {
                errors.push(grace.invalid("must not be set for readinessProbes"));
            }
        } else if at.get("successThreshold").count() != 1 {
            errors.push(at.get("successThreshold").invalid_count("must be 1"));
        }
    }
}

fn probe(at: &At<'_>, grace_seconds: Option<i64>, errors: &mut Errors) {
    handler(
        at,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        grace_seconds,
        errors,
    );
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        check::nonnegative(&at.get(field), errors);
    }
    let grace = at.get("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(grace.invalid("must be greater than 0"));
    }
}

/// What runs around a container's life.
pub fn lifecycle(at: &At<'_>, grace_seconds: Option<i64>, errors: &mut Errors) {
    for name in ["postStart", "preStop"] {
        let hook = at.get(name);
        if hook.is_set() {
            handler(
                &hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                grace_seconds,
                errors,
            );
        }
    }
}

fn handler(at: &At<'_>, kinds: &[&str], grace_seconds: Option<i64>, errors: &mut Errors) {
    let mut found = false;
    for kind in kinds {
        let action = at.get(kind);
        if !action.is_set() {
            continue;
        }
        if found {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" if action.get("command").is_empty() => {
                errors.push(action.get("command").required(""));
            }
            "httpGet" => http_get(&action, errors),
            "tcpSocket" => check::port(&action.get("port"), errors),
            "grpc" => check::port_number(&action.get("port"), errors),
            "sleep" => sleep(&action, grace_seconds, errors),
            _ => {}
        }
    }
    if !found {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(at: &At<'_>, errors: &mut Errors) {
    check::required(&at.get("path"), errors);
    check::port(&at.get("port"), errors);
    check::one_of(&at.get("scheme"), &["HTTP", "HTTPS"], errors);
    for header in at.get("httpHeaders").list() {
        let name = header
            .get("name")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || !name.bytes().all(allowed) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(at.get("httpHeaders").path(), name, why));
        }
    }
}

fn sleep(at: &At<'_>, grace_seconds: Option<i64>, errors: &mut Errors) {
    let seconds = at.get("seconds").count();
    if let Some(grace) = grace_seconds
        && !(0..=grace).contains(&seconds)
    {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(at.path(), seconds, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_has_one_handler() {
        let container = json!({"livenessProbe": {"successThreshold": 2, "httpGet": {"path": "/", "port": 0, "scheme": "FTP"}}});
        let mut errors = Vec::new();
        probes(&At::root(&container), None, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ]
        );
    }
}
