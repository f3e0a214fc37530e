//! Events, in both groups that serve them.

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;

const FIELD_LENGTH_MAX: usize = 128;
const MESSAGE_LENGTH_MAX: usize = 1024;
const NAMESPACE: &str = "does not match event.namespace";

/// Events.
pub const BEHAVIOUR: Behaviour = Behaviour {
    create_on_update: true,
    validate_create,
    validate_update,
    cells: Some(cells),
    selectable_fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    ..Behaviour::DEFAULT
};

fn is_core(event: &Value) -> bool {
    object::text(event, &["apiVersion"]) == "v1"
}

/// The event with the member names of the core group, which messages use for both.
fn in_core(event: &Value) -> Value {
    let mut event = event.clone();
    if !is_core(&event) {
        crate::convert::convert(&mut event, "v1");
    }
    event
}

fn validate_create(event: &Value) -> Errors {
    let core = is_core(event);
    let event = in_core(event);
    let root = At::root(&event);
    let mut errors = common(&root, core);
    if core {
        return errors;
    }
    series(&root, &mut errors);
    if root.get("eventTime").is_empty() {
        errors.push(root.get("eventTime").required(""));
    }
    let mut unset = |field: &str, is_set: bool| {
        if is_set {
            errors.push(FieldError::invalid(
                &FieldPath::new(field),
                "",
                "needs to be unset",
            ));
        }
    };
    let kind = root.get("type").text();
    let wrong_type = !matches!(kind, "Normal" | "Warning");
    let source = root.get("source");
    let has_source = !source.get("component").is_empty() || !source.get("host").is_empty();
    unset("firstTimestamp", !root.get("firstTimestamp").is_empty());
    unset("lastTimestamp", !root.get("lastTimestamp").is_empty());
    unset("count", root.get("count").count() != 0);
    unset("source", has_source);
    if wrong_type {
        let why = format!("has invalid value: {kind}");
        let error = FieldError::invalid(&FieldPath::new("type"), "", why);
        let before = errors
            .iter()
            .position(|error| error.detail == "needs to be unset");
        errors.insert(before.unwrap_or(errors.len()), error);
    }
    errors
}

/// What holds in either group.
fn common(root: &At<'_>, core: bool) -> Errors {
    let mut errors = Vec::new();
    let namespace = object::namespace(root.value());
    let involved = root.at("involvedObject.namespace");
    let fits = if involved.is_empty() {
        matches!(namespace, "" | "default")
    } else {
        involved.text() == namespace
    };
    if !fits {
        errors.push(involved.invalid_text(NAMESPACE));
    }
    if !root.get("eventTime").is_empty() {
        let said = if core {
            "reportingComponent"
        } else {
            "reportingController"
        };
        let controller = root.get("reportingComponent").said_at(FieldPath::new(said));
        check::required(&controller, &mut errors);
        check::messages(
            &controller,
            names::qualified_name(controller.text()),
            &mut errors,
        );
        for field in ["reportingInstance", "action", "reason"] {
            let at = root.get(field);
            check::required(&at, &mut errors);
            if at.text().len() > FIELD_LENGTH_MAX {
                let why = "can have at most 128 characters";
                errors.push(FieldError::invalid(at.path(), "", why));
            }
        }
        if root.get("message").text().len() > MESSAGE_LENGTH_MAX {
            let why = "can have at most 1024 characters";
            errors.push(FieldError::invalid(root.get("message").path(), "", why));
        }
    }
    for message in names::dns1123_subdomain(namespace) {
        errors.push(FieldError::invalid(
            &FieldPath::new("namespace"),
            namespace,
            message,
        ));
    }
    errors
}

fn series(root: &At<'_>, errors: &mut Errors) {
    let series = root.get("series");
    if !series.is_set() {
        return;
    }
    if series.get("count").count() < 2 {
        let path = series.get("count").path().clone();
        errors.push(FieldError::invalid(&path, "", "should be at least 2"));
    }
    if series.get("lastObservedTime").is_empty() {
        errors.push(series.get("lastObservedTime").required(""));
    }
}

fn validate_update(event: &Value, old: &Value) -> Errors {
    let core = is_core(event);
    let (event, old) = (in_core(event), in_core(old));
    let (root, before) = (At::root(&event), At::root(&old));
    let mut errors = common(&root, core);
    if core {
        return errors;
    }
    if root.get("series").value() != before.get("series").value() {
        series(&root, &mut errors);
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reportingComponent",
        "reportingInstance",
        "action",
        "related",
        "type",
        "eventTime",
    ] {
        let said = if field == "reportingComponent" {
            "reportingController"
        } else {
            field
        };
        let at = root.get(field).said_at(FieldPath::new(said));
        check::immutable(&at, &before.get(field), &mut errors);
    }
    errors
}

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let event = &in_core(event);
    let text = |name: &str| object::text(event, &[name]);
    let happened = cell::age_at(event, &["eventTime"], now);
    let or_happened = |name: &str| {
        if text(name).is_empty() {
            happened.clone()
        } else {
            cell::age_at(event, &[name], now)
        }
    };
    let first = or_happened("firstTimestamp");
    let mut last = if text("lastTimestamp").is_empty() {
        first.clone()
    } else {
        or_happened("lastTimestamp")
    };
    let mut count = object::number(event, &["count"]).unwrap_or(0).max(1);
    if let Some(series) = event.get("series") {
        last = cell::age_at(series, &["lastObservedTime"], now);
        count = object::number(series, &["count"]).unwrap_or(0);
    }
    let involved = |name: &str| object::text(event, &["involvedObject", name]);
    let mut target = involved("kind").to_lowercase();
    if !involved("name").is_empty() {
        target = format!("{target}/{}", involved("name"));
    }
    let source = |name: &str, other: &'static str| match object::text(event, &["source", name]) {
        "" => text(other),
        found => found,
    };
    let (component, host) = (
        source("component", "reportingComponent"),
        source("host", "reportingInstance"),
    );
    let source = if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    };
    vec![
        last,
        json!(text("type")),
        json!(text("reason")),
        json!(target),
        json!(involved("fieldPath")),
        json!(source),
        json!(text("message").trim()),
        first,
        json!(count),
        json!(object::name(event)),
    ]
}
