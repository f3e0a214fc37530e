//! What may change of a Pod's status.

use std::collections::HashSet;

use model::FieldError;
use serde_json::Value;

use super::update;
use crate::at::{At, Errors};
use crate::check;

/// Checks a changed status.
pub fn check(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    update::annotations(new, old, &mut errors);
    let (root, before) = (At::root(new), At::root(old));
    let (status, old_status) = (root.get("status"), before.get("status"));
    for condition in status.get("conditions").items() {
        let kind = condition.get("type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind.text()) {
            // As upstream: conditions are said to be the metadata's.
            let index = condition.path().as_str().trim_start_matches("status.");
            let path = model::FieldPath::new(format!("metadata.{index}.Type"));
            check::qualified_name(&kind.said_at(path), &mut errors);
        }
    }
    let nominated = status.get("nominatedNodeName");
    if nominated.value() != old_status.get("nominatedNodeName").value() && !nominated.is_empty() {
        check::subdomain(&nominated, &mut errors);
    }
    check::immutable(
        &status.get("qosClass"),
        &old_status.get("qosClass"),
        &mut errors,
    );
    let policy = before.at("spec.restartPolicy").text();
    let sidecars: HashSet<&str> = before
        .at("spec.initContainers")
        .items()
        .filter(|container| container.get("restartPolicy").text() == "Always")
        .map(|container| container.get("name").text())
        .collect();
    for (list, policy, exempt) in [
        ("containerStatuses", policy, HashSet::new()),
        ("initContainerStatuses", policy, sidecars),
        ("ephemeralContainerStatuses", "Never", HashSet::new()),
    ] {
        ended(
            &status.get(list),
            &old_status.get(list),
            policy,
            &exempt,
            &mut errors,
        );
    }
    addresses(
        &status.get("podIPs"),
        &old_status.get("podIPs"),
        &mut errors,
    );
    host_addresses(&status, &old_status, &mut errors);
    errors
}

/// A container that has ended for good does not run again.
fn ended(new: &At<'_>, old: &At<'_>, policy: &str, exempt: &HashSet<&str>, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    for (index, before) in old.items().enumerate() {
        let terminated = before.at("state.terminated");
        let failed = terminated.get("exitCode").count() != 0;
        let name = before.get("name").text();
        if !terminated.is_set() || (failed && policy == "OnFailure") || exempt.contains(name) {
            continue;
        }
        for status in new.items() {
            if status.get("name").text() == name && !status.at("state.terminated").is_set() {
                let path = new.path().index(index).child("state");
                let why = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
    }
}

/// At most one address of each family.
fn addresses(at: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let known: Vec<&str> = old.items().map(|entry| entry.get("ip").text()).collect();
    for address in at.items() {
        let said = address.get("ip").said_at(address.path().clone());
        check::check_ip(&said, &known, errors);
    }
    if at.len() < 2 {
        return;
    }
    let families: HashSet<bool> = at
        .items()
        .map(|address| check::is_ipv6(address.get("ip").text()))
        .collect();
    if families.len() < 2 || at.len() > 2 {
        errors.push(at.invalid("may specify no more than one IP for each IP family"));
    }
    let mut seen = HashSet::new();
    for address in at.items() {
        if !seen.insert(address.get("ip").text()) {
            errors.push(address.duplicate());
        }
    }
}

fn host_addresses(status: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let list = status.get("hostIPs");
    if list.is_empty() {
        return;
    }
    let first = list.index(0).get("ip");
    if first.text() != status.get("hostIP").text() {
        errors.push(first.invalid_text("must be equal to `hostIP`"));
    }
    addresses(&list, &old.get("hostIPs"), errors);
}
