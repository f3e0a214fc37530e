//! Ingresses.

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::ingress_class::typed_reference;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;
use crate::core::service::check_hostname;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SHOWN_MAX: usize = 3;

/// Ingresses.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    validate_create,
    validate_update: |ingress, _| check_spec(ingress),
    validate_status,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn validate_create(ingress: &Value) -> Errors {
    let mut errors = check_spec(ingress);
    let class = object::at(ingress, &["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (Some(old), Some(class)) = (object::annotation(ingress, CLASS_ANNOTATION), class)
        && old != class
    {
        let path = FieldPath::new("annotations").child(CLASS_ANNOTATION);
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&path, old, why));
    }
    errors
}

fn check_spec(ingress: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(ingress).get("spec");
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !backend.is_set() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(spec.path(), Value::Null, why));
    }
    if backend.is_set() {
        check_backend(&backend, &mut errors);
    }
    for rule in rules.items() {
        let name = rule.get("host");
        if !name.is_empty() {
            if check::parse_ip(name.text()).is_some() {
                errors.push(name.invalid("must be a DNS name, not an IP address"));
            }
            host(&name, &mut errors);
        }
        let http = rule.get("http");
        if http.is_set() {
            if http.get("paths").is_empty() {
                errors.push(http.get("paths").required(""));
            }
            http.get("paths")
                .items()
                .for_each(|path| check_path(&path, &mut errors));
        }
    }
    for tls in spec.get("tls").items() {
        tls.get("hosts")
            .items()
            .for_each(|name| host(&name, &mut errors));
        if !tls.get("secretName").is_empty() {
            check::subdomain(&tls.get("secretName"), &mut errors);
        }
    }
    if spec.get("ingressClassName").is_set() {
        check::subdomain(&spec.get("ingressClassName"), &mut errors);
    }
    errors
}

/// A host, which may begin with a wildcard.
fn host(at: &At<'_>, errors: &mut Errors) {
    if !at.text().contains('*') {
        check::subdomain(at, errors);
        return;
    }
    let rest = at.text().strip_prefix("*.");
    if rest.is_none_or(|rest| !names::dns1123_subdomain(rest).is_empty()) {
        errors.push(at.invalid(WILDCARD));
    }
}

fn check_path(at: &At<'_>, errors: &mut Errors) {
    let (kind, path) = (at.get("pathType"), at.get("path"));
    if !kind.is_set() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let text = path.text();
    let strict = matches!(kind.text(), "Exact" | "Prefix");
    if strict || kind.text() == "ImplementationSpecific" {
        if !text.starts_with('/') && (strict || !text.is_empty()) {
            errors.push(path.invalid_text("must be an absolute path"));
        }
    } else {
        errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"]));
    }
    if strict {
        for part in ["//", "/./", "/../", "%2f", "%2F"]
            .iter()
            .filter(|part| text.contains(**part))
        {
            errors.push(path.invalid(format!("must not contain '{part}'")));
        }
        for end in ["/..", "/."].iter().filter(|end| text.ends_with(**end)) {
            errors.push(path.invalid(format!("cannot end with '{end}'")));
        }
    }
    check_backend(&at.get("backend"), errors);
}

fn check_backend(at: &At<'_>, errors: &mut Errors) {
    let (resource, service) = (at.get("resource"), at.get("service"));
    let refuse = |why: &str| FieldError::invalid(at.path(), "", why);
    match (resource.is_set(), service.is_set()) {
        (true, true) => errors.push(refuse("cannot set both resource and service backends")),
        (true, false) => typed_reference(&resource, errors),
        (false, true) => {
            let (name, port) = (service.get("name"), service.get("port"));
            if check::required(&name, errors) {
                check::dns_label(&name, errors);
            }
            match (
                !port.get("name").is_empty(),
                port.get("number").count() != 0,
            ) {
                (true, true) => errors.push(refuse("cannot set both port name & port number")),
                (true, false) => check::port(&port.get("name"), errors),
                (false, true) => check::port_number(&port.get("number"), errors),
                (false, false) => errors.push(at.required("port name or number is required")),
            }
        }
        (false, false) => errors.push(refuse("resource or service backend is required")),
    }
}

fn validate_status(ingress: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let known = check::balancer_ips(old);
    for entry in At::root(ingress).at("status.loadBalancer.ingress").items() {
        if !entry.get("ip").is_empty() {
            check::check_ip(&entry.get("ip"), &known, &mut errors);
        }
        check_hostname(&entry.get("hostname"), &mut errors);
    }
    errors
}

fn cells(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |name: &str| object::list(ingress, &["spec", name]);
    let hosts: Vec<&str> = spec("rules")
        .iter()
        .map(|rule| object::text(rule, &["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    let shown = cell::first(&hosts, SHOWN_MAX, ",");
    let addresses: Vec<&str> = object::list(ingress, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|entry| match object::text(entry, &["ip"]) {
            "" => object::text(entry, &["hostname"]),
            ip => ip,
        })
        .filter(|text| !text.is_empty())
        .collect();
    vec![
        json!(object::name(ingress)),
        cell::or_none(object::text(ingress, &["spec", "ingressClassName"])),
        json!(if shown.is_empty() {
            "*".to_owned()
        } else {
            shown
        }),
        json!(addresses.join(",")),
        json!(if spec("tls").is_empty() {
            "80"
        } else {
            "80, 443"
        }),
        cell::age_of(ingress, now),
    ]
}
