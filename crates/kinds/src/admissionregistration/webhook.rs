//! Webhook configurations.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::matching;
use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{each, fill, with};

const URL_FORMAT: &str = "desired format: https://host[/path]";
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Webhooks that check.
pub const VALIDATING: Behaviour = Behaviour {
    generation: true,
    unconditional_update: false,
    default: |configuration| each(configuration, "webhooks", default_webhook),
    validate_create: |configuration| check_all(configuration, false),
    validate_update: |configuration, _| check_all(configuration, false),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// Webhooks that change.
pub const MUTATING: Behaviour = Behaviour {
    default: |configuration| {
        each(configuration, "webhooks", |webhook| {
            default_webhook(webhook);
            fill(webhook, "reinvocationPolicy", "Never");
        });
    },
    validate_create: |configuration| check_all(configuration, true),
    validate_update: |configuration, _| check_all(configuration, true),
    ..VALIDATING
};

fn default_webhook(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    fill(webhook, "matchPolicy", "Equivalent");
    fill(webhook, "namespaceSelector", json!({}));
    fill(webhook, "objectSelector", json!({}));
    fill(webhook, "timeoutSeconds", 10);
    matching::default_rules(webhook, "rules");
    with(webhook, "clientConfig", |client| {
        with(client, "service", |service| fill(service, "port", 443));
    });
}

fn check_all(configuration: &Value, mutating: bool) -> Errors {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for webhook in At::root(configuration).get("webhooks").items() {
        check_webhook(&webhook, mutating, &mut errors);
        review_versions(&webhook.get("admissionReviewVersions"), &mut errors);
        let name = webhook.get("name");
        if !name.is_empty() && !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    errors
}

fn check_webhook(at: &At<'_>, mutating: bool, errors: &mut Errors) {
    qualified(&at.get("name"), errors);
    at.get("rules")
        .items()
        .for_each(|rule| matching::check_rule(&rule, errors));
    check::optional_one_of(&at.get("failurePolicy"), &["Fail", "Ignore"], errors);
    check::optional_one_of(&at.get("matchPolicy"), &["Equivalent", "Exact"], errors);
    let effects = at.get("sideEffects");
    if effects.is_set() {
        check::one_of(&effects, &["None", "NoneOnDryRun"], errors);
    } else {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = at.get("timeoutSeconds");
    if timeout
        .number()
        .is_some_and(|seconds| !(1..=30).contains(&seconds))
    {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    check::label_selector(&at.get("namespaceSelector"), errors);
    check::label_selector(&at.get("objectSelector"), errors);
    if mutating {
        let policy = at.get("reinvocationPolicy");
        check::optional_one_of(&policy, &["IfNeeded", "Never"], errors);
    }
    client(&at.get("clientConfig"), errors);
    matching::check_conditions(&at.get("matchConditions"), false, errors);
}

/// A name of at least three parts.
fn qualified(at: &At<'_>, errors: &mut Errors) {
    if !check::required(at, errors) {
        return;
    }
    let messages = names::dns1123_subdomain(at.text());
    if messages.is_empty() && at.text().split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(at.invalid(why));
    }
    check::messages(at, messages, errors);
}

fn review_versions(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = HashSet::new();
    for version in at.items() {
        let messages = names::dns1035_label(version.text());
        let valid = messages.is_empty();
        check::messages(&version, messages, errors);
        if !seen.insert(version.text()) && valid {
            errors.push(version.duplicate());
        }
    }
    if !at.texts().any(|version| VERSIONS.contains(&version)) {
        errors.push(at.invalid("must include at least one of v1, v1beta1"));
    }
}

fn client(at: &At<'_>, errors: &mut Errors) {
    let (address, service) = (at.get("url"), at.get("service"));
    match (address.is_set(), service.is_set()) {
        (true, false) => url(&address, errors),
        (false, true) => service_reference(&service, errors),
        _ => errors.push(at.required("exactly one of url or service is required")),
    }
}

/// Everything wrong with where a webhook is: the `clientConfig` at `path`.
pub fn check_client(config: &Value, path: FieldPath) -> Vec<FieldError> {
    let mut errors = Errors::new();
    client(&At::new(config, path), &mut errors);
    errors
}

/// An address: `https`, a host, no more than a path behind it.
pub fn url(at: &At<'_>, errors: &mut Errors) {
    let mut refuse = |value: &str, why: String| {
        errors.push(FieldError::invalid(at.path(), value, why));
    };
    let (scheme, rest) = at.text().split_once("://").unwrap_or(("", at.text()));
    if scheme != "https" {
        refuse(
            scheme,
            format!("'https' is the only allowed URL scheme; {URL_FORMAT}"),
        );
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or("")
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        refuse(host, format!("host must be specified; {URL_FORMAT}"));
    }
    if !user.is_empty() {
        refuse(
            user,
            "user information is not permitted in the URL".to_owned(),
        );
    }
    if !fragment.is_empty() {
        refuse(
            fragment,
            "fragments are not permitted in the URL".to_owned(),
        );
    }
    if !query.is_empty() {
        refuse(
            query,
            "query parameters are not permitted in the URL".to_owned(),
        );
    }
}

fn service_reference(at: &At<'_>, errors: &mut Errors) {
    for field in ["name", "namespace"] {
        if at.get(field).is_empty() {
            errors.push(
                at.get(field)
                    .required(&format!("service {field} is required")),
            );
        }
    }
    let port = at.get("port");
    if !(1..=65_535).contains(&port.count()) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(port.invalid_count(why));
    }
    let path = at.get("path");
    if matches!(path.text(), "" | "/") {
        return;
    }
    if path.text() == "//" {
        errors.push(path.invalid("segment[0] may not be empty"));
        return;
    }
    if !path.text().starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    let inner = path.text().get(1..).unwrap_or_default();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, step) in inner.split('/').enumerate() {
        if step.is_empty() {
            errors.push(path.invalid(format!("segment[{index}] may not be empty")));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            errors.push(path.invalid(format!("segment[{index}]: {message}")));
        }
    }
}

fn cells(configuration: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(object::name(configuration)),
        json!(object::list(configuration, &["webhooks"]).len()),
        cell::age_of(configuration, now),
    ]
}
