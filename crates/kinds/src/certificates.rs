//! The group `certificates.k8s.io`: requests for certificates.
//!
//! Who asks is noted by the API server, which knows; the bytes of the request are the signer's matter.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::age::age;
use crate::at::{At, Errors};
use crate::behaviour::{Behaviour, StatusRule, Subresource};
use crate::cell;
use crate::check;
use crate::edit::{each, fill, restore, set, within};

const DURATION_SECONDS_MIN: i64 = 600;
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Requests for certificates.
pub const REQUEST: Behaviour = Behaviour {
    status: StatusRule::Separate,
    prepare_update: |request, old| restore(request, old, "spec"),
    stamp: Some(stamp),
    resets: Some(resets),
    subresources: &[Subresource {
        name: "approval",
        prepare,
        validate: |_, _| Vec::new(),
    }],
    validate_create,
    cells: Some(cells),
    selectable_fields: &["spec.signerName"],
    ..Behaviour::DEFAULT
};

/// Approval touches conditions alone.
fn prepare(request: &mut Value, old: &Value) {
    restore(request, old, "spec");
    let conditions = object::list(request, &["status", "conditions"]).to_vec();
    restore(request, old, "status");
    within(request, "status", |status| {
        set(status, "conditions", conditions);
    });
}

/// What is asked for never changes, so nobody owns it.
fn resets(subresource: &str) -> Option<Value> {
    Some(match subresource {
        "" => json!({"f:spec": {}, "f:status": {}}),
        "status" => json!({"f:spec": {}, "f:status": {"f:conditions": {}}}),
        _ => json!({"f:spec": {}, "f:status": {"f:certificate": {}}}),
    })
}

/// The server notes when a condition was set.
fn stamp(request: &mut Value, old: Option<&Value>, now: &str) {
    let before = old
        .map(|old| object::list(old, &["status", "conditions"]))
        .unwrap_or_default();
    let Some(status) = request.get_mut("status") else {
        return;
    };
    each(status, "conditions", |condition| {
        let kind = object::text(condition, &["type"]);
        let known = before
            .iter()
            .find(|known| object::text(known, &["type"]) == kind);
        let same = known.filter(|known| {
            object::text(known, &["status"]) == object::text(condition, &["status"])
        });
        let since = same.map(|known| object::text(known, &["lastTransitionTime"]));
        fill(
            condition,
            "lastTransitionTime",
            since.filter(|t| !t.is_empty()).unwrap_or(now),
        );
        fill(condition, "lastUpdateTime", now);
    });
}

fn validate_create(request: &Value) -> Errors {
    let mut errors = Vec::new();
    let spec = At::root(request).get("spec");
    if spec.get("usages").is_empty() {
        errors.push(spec.get("usages").required(""));
    }
    let signer = spec.get("signerName");
    if check::required(&signer, &mut errors) {
        match signer.text().split_once('/') {
            Some((domain, path)) if !path.is_empty() => {
                let names = [(domain, 2), (path, 1)];
                for (text, parts) in names {
                    for message in model::names::dns1123_subdomain(text) {
                        errors.push(signer.invalid(message));
                    }
                    if text.split('.').count() < parts {
                        let why = "should be a domain with at least two segments separated by dots";
                        errors.push(signer.invalid(why));
                    }
                }
            }
            _ => {
                let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.push(signer.invalid(why));
            }
        }
    }
    let seconds = spec.get("expirationSeconds");
    if seconds
        .number()
        .is_some_and(|seconds| seconds < DURATION_SECONDS_MIN)
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(seconds.invalid(why));
    }
    errors
}

fn cells(request: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |name: &str| object::text(request, &["spec", name]);
    let duration = object::number(request, &["spec", "expirationSeconds"])
        .and_then(|seconds| {
            now.checked_add(jiff::SignedDuration::from_secs(seconds))
                .ok()
        })
        .map(|end| age(now, end));
    let is = |kind: &str| {
        object::list(request, &["status", "conditions"])
            .iter()
            .any(|condition| object::text(condition, &["type"]) == kind)
    };
    let [approved, denied] = DECISIONS.map(is);
    let mut state = match (denied, approved) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if is("Failed") {
        state.push_str(",Failed");
    }
    if !object::text(request, &["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    vec![
        json!(object::name(request)),
        cell::age_of(request, now),
        cell::or_none(spec("signerName")),
        json!(spec("username")),
        cell::or_none(duration.as_deref().unwrap_or_default()),
        json!(state),
    ]
}
