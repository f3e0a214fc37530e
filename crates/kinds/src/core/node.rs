//! Nodes.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use super::pod::EFFECTS;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{set, with, within};
use crate::resources;

const CIDR_FIXED: &str = "node updates may not change podCIDR except from \"\" to valid";

/// Nodes.
pub const BEHAVIOUR: Behaviour = Behaviour {
    status: StatusRule::SeparateOnceCreated,
    default,
    validate_create,
    validate_update,
    validate_status: validate_update,
    cells: Some(cells),
    selectable_fields: &["spec.unschedulable"],
    ..Behaviour::DEFAULT
};

/// `podCIDR` is the first of `podCIDRs`; what can be allocated is the capacity unless said otherwise.
fn default(node: &mut Value) {
    with(node, "spec", |spec| {
        let one = object::text(spec, &["podCIDR"]).to_owned();
        let first = object::list(spec, &["podCIDRs"])
            .first()
            .and_then(Value::as_str);
        match first.map(str::to_owned) {
            None if !one.is_empty() => set(spec, "podCIDRs", json!([one])),
            Some(first) if !one.is_empty() && one != first => set(spec, "podCIDRs", json!([one])),
            Some(first) if one.is_empty() => set(spec, "podCIDR", first),
            _ => {}
        }
    });
    within(node, "status", |status| {
        for list in ["capacity", "allocatable"] {
            with(status, list, resources::round_up);
        }
        if let Some(capacity) = status
            .get("capacity")
            .filter(|list| list.is_object())
            .cloned()
        {
            crate::edit::fill(status, "allocatable", capacity);
        }
    });
}

fn validate_create(node: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(node);
    taints(&root, &mut errors);
    amounts(&root, &mut errors);
    let networks = root.at("spec.podCIDRs");
    networks
        .items()
        .for_each(|network| check::check_cidr(&network, &[], &mut errors));
    if networks.len() > 1 {
        let families: HashSet<bool> = networks
            .texts()
            .map(|text| text.split('/').next().is_some_and(check::is_ipv6))
            .collect();
        if families.len() < 2 || networks.len() > 2 {
            let why = "may specify no more than one CIDR for each IP family";
            errors.push(networks.invalid(why));
        }
        let mut seen = HashSet::new();
        errors.extend(
            networks
                .items()
                .filter(|n| !seen.insert(n.text()))
                .map(|n| n.duplicate()),
        );
    }
    errors
}

/// As upstream: taints are said to be the metadata's.
fn taints(root: &At<'_>, errors: &mut Errors) {
    let list = root
        .at("spec.taints")
        .said_at(FieldPath::new("metadata.taints"));
    let mut seen = HashSet::new();
    for taint in list.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        check::label_key(&key, errors);
        let messages = names::label_value(value.text());
        if !messages.is_empty() {
            errors.push(value.invalid(messages.join(";")));
        }
        check::required_one_of(&effect, EFFECTS, errors);
        if !seen.insert((key.text(), effect.text())) {
            let printed = check::print_struct(&[
                ("Key", key.value()),
                ("Value", &json!(value.text())),
                ("Effect", effect.value()),
                ("TimeAdded", taint.get("timeAdded").value()),
            ]);
            let why = "taints must be unique by key and effect pair";
            errors.push(taint.duplicate().with_detail(why).printed_as(printed));
        }
    }
}

fn amounts(root: &At<'_>, errors: &mut Errors) {
    for list in ["capacity", "allocatable"] {
        let amounts = root.get("status").get(list);
        for (name, amount) in amounts.entries() {
            let said = amounts.path().child(name);
            resources::check_amount(name, &amount.said_at(said), errors);
        }
    }
}

fn validate_update(node: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let (root, before) = (At::root(node), At::root(old));
    amounts(&root, &mut errors);
    let mut seen = Vec::new();
    for address in root.at("status.addresses").items() {
        if seen.contains(&address.value()) {
            let printed = check::print_struct(&[
                ("Type", address.get("type").value()),
                ("Address", address.get("address").value()),
            ]);
            errors.push(address.duplicate().printed_as(printed));
        }
        seen.push(address.value());
    }
    let (networks, old_networks) = (root.at("spec.podCIDRs"), before.at("spec.podCIDRs"));
    if !old_networks.is_empty() {
        if networks.len() == old_networks.len() {
            let pairs = networks.list().iter().zip(old_networks.list());
            errors.extend(
                pairs
                    .filter(|(a, b)| a != b)
                    .map(|_| networks.forbidden(CIDR_FIXED)),
            );
        } else {
            errors.push(networks.forbidden(CIDR_FIXED));
        }
    }
    let (provider, old_provider) = (root.at("spec.providerID"), before.at("spec.providerID"));
    if !old_provider.is_empty() && provider.text() != old_provider.text() {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(provider.forbidden(why));
    }
    taints(&root, &mut errors);
    if root.at("spec.externalID").text() != before.at("spec.externalID").text() {
        let path = FieldPath::new("spec.externalID");
        errors.push(FieldError::forbidden(&path, "may not be updated"));
    }
    errors
}

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = object::list(node, &["status", "conditions"])
        .iter()
        .find(|condition| object::text(condition, &["type"]) == "Ready");
    let mut status = vec![
        match ready.map(|condition| object::text(condition, &["status"])) {
            Some("True") => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        },
    ];
    if object::at(node, &["spec", "unschedulable"]) == Some(&json!(true)) {
        status.push("SchedulingDisabled");
    }
    let info = |name: &str| object::text(node, &["status", "nodeInfo", name]);
    let address = |kind: &str| {
        let found = object::list(node, &["status", "addresses"])
            .iter()
            .find(|address| object::text(address, &["type"]) == kind);
        cell::or_none(
            found
                .map(|address| object::text(address, &["address"]))
                .unwrap_or_default(),
        )
    };
    let unknown = |text: &str| json!(if text.is_empty() { "<unknown>" } else { text });
    vec![
        json!(object::name(node)),
        json!(status.join(",")),
        cell::or_none(&roles(node)),
        cell::age_of(node, now),
        json!(info("kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        unknown(info("osImage")),
        unknown(info("kernelVersion")),
        unknown(info("containerRuntimeVersion")),
    ]
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object::labels(node).into_iter().flatten() {
        if let Some(role) = key
            .strip_prefix("node-role.kubernetes.io/")
            .filter(|r| !r.is_empty())
        {
            roles.insert(role.to_owned());
        } else if key == "kubernetes.io/role" {
            roles.extend(
                value
                    .as_str()
                    .filter(|role| !role.is_empty())
                    .map(str::to_owned),
            );
        }
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}
