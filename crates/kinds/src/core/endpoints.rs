//! Endpoints.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{each, fill_zero};

/// How many addresses a table shows.
const SHOWN_MAX: usize = 3;

/// Endpoints.
pub const BEHAVIOUR: Behaviour = Behaviour {
    create_on_update: true,
    default,
    validate_create,
    validate_update: |new, old| {
        // What older rules accepted may stay as it is.
        if new.get("subsets") == old.get("subsets") {
            return Vec::new();
        }
        validate_create(new)
    },
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(endpoints: &mut Value) {
    each(endpoints, "subsets", |subset| {
        each(subset, "ports", |port| fill_zero(port, "protocol", "TCP"));
    });
}

fn validate_create(endpoints: &Value) -> Errors {
    let mut errors = Vec::new();
    for subset in At::root(endpoints).get("subsets").items() {
        let (ready, waiting) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in ready.items().chain(waiting.items()) {
            check::check_ip(&address.get("ip"), &[], &mut errors);
            if !address.get("hostname").is_empty() {
                check::dns_label(&address.get("hostname"), &mut errors);
            }
            if address.get("nodeName").is_set() {
                check::subdomain(&address.get("nodeName"), &mut errors);
            }
            check::check_non_special_ip(&address.get("ip"), &mut errors);
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if !name.is_empty() {
                check::dns_label(&name, &mut errors);
            } else if ports.len() > 1 {
                errors.push(name.required(""));
            }
            check::port_number(&port.get("port"), &mut errors);
            let protocols = ["SCTP", "TCP", "UDP"];
            check::required_one_of(&port.get("protocol"), &protocols, &mut errors);
            if port.get("appProtocol").is_set() {
                check::qualified_name(&port.get("appProtocol"), &mut errors);
            }
        }
    }
    errors
}

fn cells(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut found = Vec::new();
    for subset in object::list(endpoints, &["subsets"]) {
        let addresses = object::list(subset, &["addresses"]);
        let ip = |address: &Value| object::text(address, &["ip"]).to_owned();
        let ports = object::list(subset, &["ports"]);
        if ports.is_empty() {
            found.extend(addresses.iter().map(ip));
        }
        for port in ports {
            let number = object::number(port, &["port"]).unwrap_or(0);
            found.extend(addresses.iter().map(|address| {
                let ip = ip(address);
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    let text = cell::first(&found, SHOWN_MAX, ",");
    vec![
        json!(object::name(endpoints)),
        cell::or_none(&text),
        cell::age_of(endpoints, now),
    ]
}
