//! The group `apiregistration.k8s.io`: API services.

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule};
use crate::cell;
use crate::check;
use crate::edit::{fill, set, with};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;

/// API services.
pub const SERVICE: Behaviour = Behaviour {
    name: NameRule::PathSegment,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    unconditional_update: false,
    default: |service| {
        with(service, "spec", |spec| {
            with(spec, "service", |own| fill(own, "port", 443));
        });
    },
    stamp: Some(stamp),
    validate_create,
    validate_update: |service, _| validate_create(service),
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// What the server itself serves is available.
fn stamp(service: &mut Value, old: Option<&Value>, now: &str) {
    let local = object::at(service, &["spec", "service"]).is_none();
    if old.is_none() && local {
        set(
            service,
            "status",
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]}),
        );
    }
}

fn validate_create(service: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(service).get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    let name = object::name(service);
    if name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata.name"),
            name,
            why,
        ));
    }
    if !group.is_empty() {
        check::subdomain(&group, &mut errors);
    }
    check::messages(&version, names::dns1035_label(version.text()), &mut errors);
    for (field, limit) in [
        ("groupPriorityMinimum", GROUP_PRIORITY_MAX),
        ("versionPriority", VERSION_PRIORITY_MAX),
    ] {
        let priority = spec.get(field);
        if !(1..=limit).contains(&priority.count()) {
            let why = format!("must be positive and less than {limit}");
            errors.push(priority.invalid_count(why));
        }
    }
    let (own, bundle, insecure) = (
        spec.get("service"),
        spec.get("caBundle"),
        spec.get("insecureSkipTLSVerify"),
    );
    if !own.is_set() {
        if !bundle.is_empty() {
            let length = crate::core::config_map::decoded_length(bundle.text());
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(
                bundle.path(),
                format!("{length} bytes"),
                why,
            ));
        }
        if insecure.is_true() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return errors;
    }
    check::required(&own.get("namespace"), &mut errors);
    check::required(&own.get("name"), &mut errors);
    if own.get("port").is_set() {
        check::port_number(&own.get("port"), &mut errors);
    }
    if insecure.is_true() && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
    errors
}

fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let place = object::at(service, &["spec", "service"]).map_or("Local".to_owned(), |own| {
        format!(
            "{}/{}",
            object::text(own, &["namespace"]),
            object::text(own, &["name"])
        )
    });
    let available = object::list(service, &["status", "conditions"])
        .iter()
        .find(|condition| object::text(condition, &["type"]) == "Available")
        .map_or("Unknown".to_owned(), |condition| {
            let (status, reason) = (
                object::text(condition, &["status"]),
                object::text(condition, &["reason"]),
            );
            if status == "True" {
                status.to_owned()
            } else {
                format!("{status} ({reason})")
            }
        });
    vec![
        json!(object::name(service)),
        json!(place),
        json!(available),
        cell::age_of(service, now),
    ]
}
