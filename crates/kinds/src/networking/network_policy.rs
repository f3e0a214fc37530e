//! Network policies.

use jiff::Timestamp;
use model::{FieldError, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{each, fill, set, within};

/// Network policies.
pub const BEHAVIOUR: Behaviour = Behaviour {
    generation: true,
    default,
    validate_create,
    validate_update: |policy, old| check_policy(policy, &blocks(old)),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

fn default(policy: &mut Value) {
    within(policy, "spec", |spec| {
        for rules in ["ingress", "egress"] {
            each(spec, rules, |rule| {
                each(rule, "ports", |port| fill(port, "protocol", "TCP"));
            });
        }
        if object::list(spec, &["policyTypes"]).is_empty() {
            let egress = !object::list(spec, &["egress"]).is_empty();
            let kinds = if egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
            set(spec, "policyTypes", kinds);
        }
    });
}

fn validate_create(policy: &Value) -> Errors {
    check_policy(policy, &[])
}

/// Every range a policy names: an update may keep those written in an older form, wherever they move.
fn blocks(policy: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in object::list(policy, &["spec", rules]) {
            for peer in object::list(rule, &[peers]) {
                found.push(object::text(peer, &["ipBlock", "cidr"]));
                let except = object::list(peer, &["ipBlock", "except"]);
                found.extend(except.iter().filter_map(Value::as_str));
            }
        }
    }
    found
}

fn check_policy(policy: &Value, known: &[&str]) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(policy).get("spec");
    check::label_selector(&spec.get("podSelector"), &mut errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            rule.get("ports")
                .items()
                .for_each(|port| check_port(&port, &mut errors));
            rule.get(peers)
                .items()
                .for_each(|peer| check_peer(&peer, known, &mut errors));
        }
    }
    let kinds = spec.get("policyTypes");
    if kinds.len() > 2 {
        errors.push(kinds.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for kind in kinds.items() {
        check::one_of(&kind, &["Ingress", "Egress"], &mut errors);
    }
    errors
}

fn check_port(at: &At<'_>, errors: &mut Errors) {
    check::optional_one_of(&at.get("protocol"), &["TCP", "UDP", "SCTP"], errors);
    let (port, end) = (at.get("port"), at.get("endPort"));
    match port.value() {
        Value::String(_) => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            check::port(&port, errors);
        }
        Value::Null => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is not specified"));
            }
        }
        _ => {
            check::port_number(&port, errors);
            if end.is_set() {
                if end.count() < port.count() {
                    // As upstream: the number shown is the port's.
                    let why = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(end.path(), port.count(), why));
                }
                check::port_number(&end, errors);
            }
        }
    }
}

fn check_peer(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    let mut count = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        if at.get(selector).is_set() {
            count += 1;
            check::label_selector(&at.get(selector), errors);
        }
    }
    let block = at.get("ipBlock");
    if block.is_set() {
        count += 1;
        check_block(&block, known, errors);
    }
    if count == 0 {
        errors.push(at.required("must specify a peer"));
    } else if count > 1 && block.is_set() {
        errors.push(at.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn check_block(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    let outer = at.get("cidr");
    if outer.is_empty() {
        errors.push(outer.required(""));
        return;
    }
    check::check_cidr(&outer, known, errors);
    let Some(network) = check::parse_cidr(outer.text()) else {
        return;
    };
    for inner in at.get("except").items() {
        check::check_cidr(&inner, known, errors);
        if check::parse_cidr(inner.text()).is_some_and(|inner| !network.strictly_contains(inner)) {
            errors.push(inner.invalid("must be a strict subset of `cidr`"));
        }
    }
}

fn cells(policy: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(object::name(policy)),
        cell::selector(object::at(policy, &["spec", "podSelector"])),
        cell::age_of(policy, now),
    ]
}
