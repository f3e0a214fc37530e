//! Addresses and ranges of Services as objects: `IPAddress` and `ServiceCIDR`.

use jiff::Timestamp;
use model::{names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule};
use crate::cell;
use crate::check;

/// Addresses of Services.
pub const ADDRESS: Behaviour = Behaviour {
    name: NameRule::PathSegment,
    validate_create: validate_address,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        immutable(new, old, "parentRef", &mut errors);
        errors
    },
    cells: Some(address_cells),
    selectable_fields: &["spec.parentRef.resource"],
    ..Behaviour::DEFAULT
};

/// Ranges addresses of Services come from.
pub const RANGE: Behaviour = Behaviour {
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Changes,
    validate_create: validate_range,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        immutable(new, old, "cidrs", &mut errors);
        errors
    },
    cells: Some(range_cells),
    ..Behaviour::DEFAULT
};

fn immutable(new: &Value, old: &Value, field: &str, errors: &mut Errors) {
    let get = |value| At::root(value).get("spec").get(field);
    check::immutable(&get(new), &get(old), errors);
}

fn validate_address(address: &Value) -> Errors {
    let mut errors = Vec::new();
    let name = At::root(address).at("metadata.name");
    check::check_canonical_ip(&name, &mut errors);
    let parent = At::root(address).at("spec.parentRef");
    if !parent.is_set() {
        errors.push(parent.required(""));
        return errors;
    }
    if !parent.get("group").is_empty() {
        check::subdomain(&parent.get("group"), &mut errors);
    }
    for (field, needed) in [("resource", true), ("name", true), ("namespace", false)] {
        let text = parent.get(field);
        if !text.is_empty() {
            check::messages(&text, names::path_segment(text.text()), &mut errors);
        } else if needed {
            errors.push(text.required(""));
        }
    }
    errors
}

fn validate_range(range: &Value) -> Errors {
    let mut errors = Vec::new();
    let networks = At::root(range).at("spec.cidrs");
    if networks.is_empty() {
        errors.push(networks.required("at least one CIDR required"));
        return errors;
    }
    if networks.len() > 2 {
        let why = "may only hold up to 2 values";
        errors.push(networks.invalid(why));
        return errors;
    }
    for network in networks.items() {
        check::check_canonical_cidr(&network, &mut errors);
    }
    if networks.len() == 2 {
        let family = |text: &str| text.contains(':');
        if family(networks.index(0).text()) == family(networks.index(1).text()) {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
            errors.push(networks.invalid(why));
        }
    }
    errors
}

fn address_cells(address: &Value, _: Timestamp) -> Vec<Value> {
    let parent = |name: &str| object::text(address, &["spec", "parentRef", name]);
    let mut kind = parent("resource").to_owned();
    if !parent("group").is_empty() {
        kind = format!("{kind}.{}", parent("group"));
    }
    let parts = [kind.as_str(), parent("namespace"), parent("name")];
    let text: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    vec![json!(object::name(address)), cell::or_none(&text.join("/"))]
}

fn range_cells(range: &Value, now: Timestamp) -> Vec<Value> {
    let networks: Vec<&str> = object::list(range, &["spec", "cidrs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        json!(object::name(range)),
        json!(networks.join(",")),
        cell::age_of(range, now),
    ]
}
