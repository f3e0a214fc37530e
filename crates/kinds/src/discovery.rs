//! The group `discovery.k8s.io`: endpoint slices.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{each, fill, remove};

const ENDPOINTS_MAX: usize = 1_000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const ZONES_MAX: usize = 8;
const SHOWN_MAX: usize = 3;

/// Endpoint slices.
pub const SLICE: Behaviour = Behaviour {
    generation: true,
    generation_counts_labels: true,
    default: |slice| {
        each(slice, "ports", |port| {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        });
    },
    prepare_create: drop_topology,
    prepare_update: |slice, old| {
        let has = |slice: &Value| {
            let endpoints = object::list(slice, &["endpoints"]);
            endpoints
                .iter()
                .any(|e| e.get("deprecatedTopology").is_some())
        };
        if !has(old) {
            drop_topology(slice);
        }
    },
    validate_create,
    validate_update: |slice, old| {
        // What older rules accepted may stay as it is.
        let changed = slice.get("endpoints") != old.get("endpoints");
        let mut errors = check_slice(slice, changed);
        let kind = |value| At::root(value).get("addressType");
        check::immutable(&kind(slice), &kind(old), &mut errors);
        errors
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// What older versions said about the place of an endpoint cannot be said anew in this one.
fn drop_topology(slice: &mut Value) {
    each(slice, "endpoints", |endpoint| {
        remove(endpoint, "deprecatedTopology");
    });
}

fn validate_create(slice: &Value) -> Errors {
    check_slice(slice, true)
}

fn check_slice(slice: &Value, with_endpoints: bool) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(slice);
    let kind = root.get("addressType");
    check::required_one_of(&kind, &["FQDN", "IPv4", "IPv6"], &mut errors);
    check_ports(&root.get("ports"), &mut errors);
    let endpoints = root.get("endpoints");
    if !with_endpoints || too_many(&endpoints, ENDPOINTS_MAX, &mut errors) {
        return errors;
    }
    for endpoint in endpoints.items() {
        check_endpoint(&endpoint, kind.text(), &mut errors);
    }
    errors
}

/// Refuses a list that is too long; whether it is.
fn too_many(at: &At<'_>, limit: usize, errors: &mut Errors) -> bool {
    let long = at.len() > limit;
    if long {
        errors.push(FieldError::too_many(at.path(), at.len(), limit));
    }
    long
}

fn check_endpoint(at: &At<'_>, kind: &str, errors: &mut Errors) {
    let addresses = at.get("addresses");
    if addresses.is_empty() {
        errors.push(addresses.required("must contain at least 1 address"));
    }
    too_many(&addresses, ADDRESSES_MAX, errors);
    for address in addresses.items() {
        if kind == "FQDN" {
            domain(&address, errors);
        } else if match kind {
            "IPv4" => check::check_ip(&address, &[], errors),
            "IPv6" => check::check_canonical_ip(&address, errors),
            _ => false,
        } {
            if check::is_ipv6(address.text()) != (kind == "IPv6") {
                let why = format!("must be an {kind} address");
                errors.push(FieldError::invalid(addresses.path(), address.text(), why));
            }
            check::check_non_special_ip(&address, errors);
        }
    }
    if at.get("nodeName").is_set() {
        check::subdomain(&at.get("nodeName"), errors);
    }
    check::labels(&at.get("deprecatedTopology"), errors);
    if at.get("hostname").is_set() {
        check::dns_label(&at.get("hostname"), errors);
    }
    for hints in ["forZones", "forNodes"] {
        let list = at.get("hints").get(hints);
        too_many(&list, ZONES_MAX, errors);
        let mut seen = HashSet::new();
        for hint in list.items() {
            let name = hint.get("name");
            if !seen.insert(name.text()) {
                errors.push(FieldError::duplicate(name.path(), name.text()));
            }
            if hints == "forZones" {
                check::messages(&name, names::label_value(name.text()), errors);
            } else {
                check::subdomain(&name, errors);
            }
        }
    }
}

/// A domain name of at least two parts.
fn domain(at: &At<'_>, errors: &mut Errors) {
    let text = at.text().strip_suffix('.').unwrap_or(at.text());
    let messages = names::dns1123_subdomain(text);
    if messages.is_empty() && !text.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(at.path(), text, why));
    }
    errors.extend(
        messages
            .into_iter()
            .map(|m| FieldError::invalid(at.path(), text, m)),
    );
}

fn check_ports(at: &At<'_>, errors: &mut Errors) {
    if too_many(at, PORTS_MAX, errors) {
        return;
    }
    let mut seen = HashSet::new();
    for port in at.items() {
        let name = port.get("name");
        if !name.is_empty() {
            check::dns_label(&name, errors);
        }
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text()));
        }
        check::required_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
        if port.get("port").is_set() {
            check::port_number(&port.get("port"), errors);
        }
        if port.get("appProtocol").is_set() {
            check::qualified_name(&port.get("appProtocol"), errors);
        }
    }
}

fn shorten(texts: &[String]) -> Value {
    if texts.is_empty() {
        return json!("<unset>");
    }
    let text = cell::first(texts, SHOWN_MAX, ",");
    json!(text)
}

fn cells(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = object::list(slice, &["ports"])
        .iter()
        .map(|port| object::number(port, &["port"]).map_or("*".to_owned(), |n| n.to_string()))
        .collect();
    let addresses: Vec<String> = object::list(slice, &["endpoints"])
        .iter()
        .flat_map(|endpoint| object::list(endpoint, &["addresses"]))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    vec![
        json!(object::name(slice)),
        json!(object::text(slice, &["addressType"])),
        shorten(&ports),
        shorten(&addresses),
        cell::age_of(slice, now),
    ]
}
