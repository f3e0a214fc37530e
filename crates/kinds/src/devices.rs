//! The group `resource.k8s.io`: devices, their classes, and claims of them.
//!
//! CEL expressions that select devices are checked by the API server, which has the language.

use std::collections::HashSet;

use jiff::Timestamp;
use model::{FieldError, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::cell;
use crate::check;
use crate::core::pod::volumes::driver_name;
use crate::edit::{each, fill_zero, with};

const ONE_OF: &str = "exactly one of `exactly` or `firstAvailable` is required";

/// Classes of devices.
pub const CLASS: Behaviour = Behaviour {
    generation: true,
    delete_returns_object: true,
    validate_create: check_class,
    validate_update: |class, _| check_class(class),
    cells: Some(|class, now| vec![json!(object::name(class)), cell::age_of(class, now)]),
    ..Behaviour::DEFAULT
};

/// Claims of devices.
pub const CLAIM: Behaviour = Behaviour {
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    delete_returns_object: true,
    default: |claim| with(claim, "spec", default_spec),
    validate_create: |claim| check_spec(&At::root(claim).get("spec")),
    validate_update: |claim, old| immutable_spec(claim, old),
    cells: Some(claim_cells),
    ..Behaviour::DEFAULT
};

/// Templates of claims.
pub const CLAIM_TEMPLATE: Behaviour = Behaviour {
    delete_returns_object: true,
    default: |template| {
        with(template, "spec", |outer| with(outer, "spec", default_spec));
    },
    validate_create: |template| check_spec(&At::root(template).at("spec.spec")),
    validate_update: |template, old| immutable_spec(template, old),
    cells: Some(|template, now| vec![json!(object::name(template)), cell::age_of(template, now)]),
    ..Behaviour::DEFAULT
};

/// What devices there are.
pub const SLICE: Behaviour = Behaviour {
    generation: true,
    delete_returns_object: true,
    validate_create: check_slice,
    validate_update: |slice, old| {
        let mut errors = check_slice(slice);
        for path in ["spec.driver", "spec.pool.name", "spec.nodeName"] {
            check::immutable(
                &At::root(slice).at(path),
                &At::root(old).at(path),
                &mut errors,
            );
        }
        errors
    },
    cells: Some(slice_cells),
    selectable_fields: &["spec.nodeName", "spec.driver"],
    ..Behaviour::DEFAULT
};

/// Most selectors of one request or class, and the longest, as upstream.
const SELECTORS_MAX: usize = 32;
const SELECTOR_BYTES_MAX: usize = 10 << 10;

fn default_spec(spec: &mut Value) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            with(request, "exactly", default_request);
            each(request, "firstAvailable", default_request);
        });
    });
}

fn default_request(request: &mut Value) {
    fill_zero(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        fill_zero(request, "count", 1);
    }
    each(request, "tolerations", |toleration| {
        fill_zero(toleration, "operator", "Equal");
    });
}

fn check_spec(spec: &At<'_>) -> Errors {
    let mut errors = Vec::new();
    let devices = spec.get("devices");
    let mut names: HashSet<String> = HashSet::new();
    for request in devices.get("requests").items() {
        let name = request.get("name");
        if check::required(&name, &mut errors) {
            check::dns_label(&name, &mut errors);
        }
        if !names.insert(name.text().to_owned()) {
            errors.push(FieldError::duplicate(request.path(), name.text()));
        }
        check_request(&request, &mut names, &mut errors);
    }
    for list in ["constraints", "config"] {
        for entry in devices.get(list).items() {
            for name in entry.get("requests").items() {
                if !names.contains(name.text()) {
                    let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
                    errors.push(name.invalid(why));
                }
            }
        }
    }
    errors
}

fn check_request(at: &At<'_>, names: &mut HashSet<String>, errors: &mut Errors) {
    let (one, several) = (at.get("exactly"), at.get("firstAvailable"));
    match (one.is_set(), !several.is_empty()) {
        (false, false) => errors.push(at.required(ONE_OF)),
        (true, true) => {
            let why = format!("{ONE_OF}, but multiple fields are set");
            errors.push(FieldError::invalid(at.path(), Value::Null, why));
        }
        (true, false) => check_devices(&one, errors),
        (false, true) => {
            for sub in several.items() {
                let name = sub.get("name");
                if check::required(&name, errors) {
                    check::dns_label(&name, errors);
                }
                let full = format!("{}/{}", at.get("name").text(), name.text());
                if !names.insert(full) {
                    errors.push(FieldError::duplicate(sub.path(), name.text()));
                }
                check_devices(&sub, errors);
            }
        }
    }
}

fn check_class(class: &Value) -> Errors {
    let mut errors = Vec::new();
    check_selectors(&At::root(class).at("spec.selectors"), &mut errors);
    errors
}

/// Expressions that select devices.
fn check_selectors(at: &At<'_>, errors: &mut Errors) {
    if at.len() > SELECTORS_MAX {
        errors.push(FieldError::too_many(at.path(), at.len(), SELECTORS_MAX));
    }
    for selector in at.items() {
        let cel = selector.get("cel");
        if !cel.is_set() {
            errors.push(cel.required(""));
            continue;
        }
        let expression = cel.get("expression");
        if expression.text().len() > SELECTOR_BYTES_MAX {
            errors.push(FieldError::too_long(expression.path(), SELECTOR_BYTES_MAX));
        } else if let Err(why) = cel_kube::check_device_selector(expression.text()) {
            errors.push(expression.invalid_text(why));
        }
    }
}

fn check_devices(at: &At<'_>, errors: &mut Errors) {
    let class = at.get("deviceClassName");
    if check::required(&class, errors) {
        check::subdomain(&class, errors);
    }
    check_selectors(&at.get("selectors"), errors);
    let (mode, count) = (at.get("allocationMode"), at.get("count"));
    match mode.text() {
        "All" => {
            if count.count() != 0 {
                errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
            }
        }
        "ExactCount" => {
            if count.count() <= 0 {
                errors.push(count.invalid_count(check::NOT_POSITIVE));
            }
        }
        _ => errors.push(mode.not_supported(&["All", "ExactCount"])),
    }
}

fn immutable_spec(claim: &Value, old: &Value) -> Errors {
    let (spec, before) = (At::root(claim).get("spec"), At::root(old).get("spec"));
    if spec.value() == before.value() {
        return Vec::new();
    }
    let devices = spec.get("devices");
    let (empty, null) = (json!([]), Value::Null);
    let list = |name: &str, missing: &Value| {
        let list = devices.get(name);
        if list.is_set() {
            list.value().clone()
        } else {
            missing.clone()
        }
    };
    let printed = format!(
        "{{\"Devices\":{{\"Requests\":{},\"Constraints\":{},\"Config\":{}}}}}",
        list("requests", &empty),
        list("constraints", &null),
        list("config", &null)
    );
    vec![spec.invalid(check::IMMUTABLE).printed_as(printed)]
}

fn check_slice(slice: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(slice).get("spec");
    driver_name(&spec.get("driver"), &mut errors);
    let pool = spec.get("pool");
    check::required(&pool.get("name"), &mut errors);
    let slices = pool.get("resourceSliceCount");
    if slices.count() <= 0 {
        errors.push(slices.invalid_count(check::NOT_POSITIVE));
    }
    check::nonnegative(&pool.get("generation"), &mut errors);
    let mut seen = HashSet::new();
    for device in spec.get("devices").items() {
        let name = device.get("name");
        if check::required(&name, &mut errors) {
            check::dns_label(&name, &mut errors);
        }
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(device.path(), name.text()));
        }
    }
    errors
}

fn claim_cells(claim: &Value, now: Timestamp) -> Vec<Value> {
    let mut states = Vec::new();
    if object::is_deleting(claim) {
        states.push("deleted");
    }
    if object::at(claim, &["status", "allocation"]).is_none() {
        if states.is_empty() {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        if !object::list(claim, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    }
    vec![
        json!(object::name(claim)),
        json!(states.join(",")),
        cell::age_of(claim, now),
    ]
}

fn slice_cells(slice: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |path: &[&str]| object::text(slice, path);
    vec![
        json!(object::name(slice)),
        cell::or_unset(spec(&["spec", "nodeName"])),
        json!(spec(&["spec", "driver"])),
        json!(spec(&["spec", "pool", "name"])),
        cell::age_of(slice, now),
    ]
}
