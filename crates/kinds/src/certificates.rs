//! The group `certificates.k8s.io`: requests for certificates.
//!
//! Who asks is noted by the API server, which knows; of the bytes of the request only the frame is
//! looked at, the rest is the signer's matter.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::{FieldError, object};
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
        validate: |request, old| validate_change(request, old, Part::Approval),
    }],
    validate_create,
    validate_update: |request, old| validate_change(request, old, Part::Object),
    validate_status: |request, old| validate_change(request, old, Part::Status),
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
    if !holds(spec.get("request").text(), REQUEST_BLOCK) {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(spec.get("request").invalid(why));
    }
    let usages = spec.get("usages");
    if usages.is_empty() {
        errors.push(usages.required(""));
    }
    for usage in usages.items() {
        if !USAGES.contains(&usage.text()) {
            errors.push(usage.not_supported(&USAGES));
        }
    }
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        if !seen.insert(usage.text()) {
            errors.push(usage.duplicate());
        }
    }
    let signer = spec.get("signerName");
    if signer.text() == "kubernetes.io/legacy-unknown" {
        errors.push(signer.invalid("the legacy signerName is not allowed via this API version"));
    } else if check::required(&signer, &mut errors) {
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

const REQUEST_BLOCK: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const CERTIFICATE_BLOCK: &str = "-----BEGIN CERTIFICATE-----";

/// What a certificate may be for, sorted.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Whether bytes in base64 are PEM that begins so.
fn holds(encoded: &str, block: &str) -> bool {
    STANDARD
        .decode(encoded)
        .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(block))
}

/// What of a request is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Object,
    Status,
    Approval,
}

/// The spec never changes, so what is left to check is the status.
fn validate_change(request: &Value, old: &Value, part: Part) -> Errors {
    let conditions = At::root(request).get("status").get("conditions");
    let mut errors = validate_conditions(&conditions, old);
    let certificate = At::root(request).get("status").get("certificate");
    let before = object::text(old, &["status", "certificate"]);
    let changed = certificate.text() != before;
    if changed && !certificate.text().is_empty() && !holds(certificate.text(), CERTIFICATE_BLOCK) {
        let why = "must contain at least one CERTIFICATE PEM block";
        errors.push(
            certificate
                .invalid(why)
                .printed_as("\"<certificate data>\""),
        );
    }
    let of = |request: &Value, kind: &str| -> Vec<Value> {
        let conditions = object::list(request, &["status", "conditions"]).iter();
        conditions
            .filter(|condition| condition["type"] == kind)
            .cloned()
            .collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(request, kind).len() < of(old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(conditions.forbidden(&why));
        }
    }
    for kind in DECISIONS.iter().filter(|_| part != Part::Approval) {
        let (new, old) = (of(request, kind), of(old, kind));
        if new.len() > old.len() {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(conditions.forbidden(&why));
        } else if new.len() == old.len() && new != old {
            let why = format!("updates may not modify a condition of type {kind:?}");
            errors.push(conditions.forbidden(&why));
        }
    }
    if changed && part != Part::Status {
        errors.push(certificate.forbidden("updates may not set certificate content"));
    } else if changed && !before.is_empty() {
        errors.push(certificate.forbidden("updates may not modify existing certificate content"));
    }
    errors
}

/// Conditions make sense; what was wrong before may stay so.
fn validate_conditions(conditions: &At<'_>, old: &Value) -> Errors {
    let before = object::list(old, &["status", "conditions"]);
    let kinds = |list: &[Value]| -> Vec<String> {
        let kind = |condition: &Value| object::text(condition, &["type"]).to_owned();
        list.iter().map(kind).collect()
    };
    let before = kinds(before);
    let both_before = DECISIONS
        .iter()
        .all(|kind| before.iter().any(|known| known == kind));
    let doubled_before = before.iter().collect::<BTreeSet<_>>().len() < before.len();
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for condition in conditions.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if kind.text().is_empty() && !before.iter().any(String::is_empty) {
            errors.push(kind.required(""));
        }
        let only_true = matches!(kind.text(), "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if only_true {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if status.text().is_empty() {
            errors.push(status.required(""));
        } else if !allowed.contains(&status.text()) {
            errors.push(status.not_supported(allowed));
        }
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !both_before && !other.is_empty() && seen.contains(other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(conditions.path(), kind.text(), why));
        }
        if !seen.insert(kind.text()) && !doubled_before {
            errors.push(kind.duplicate());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: Value, old: Value, part: Part, expect: &[&str]) {
        let of = |status: Value| json!({"status": status});
        let errors = validate_change(&of(new), &of(old), part);
        let found: Vec<String> = errors.iter().map(FieldError::body).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_decision_stays() {
        let of = |kinds: &[&str]| -> Value {
            let conditions: Vec<Value> = kinds
                .iter()
                .map(|kind| json!({"type": kind, "status": "True"}))
                .collect();
            json!({"conditions": conditions})
        };
        check(of(&["Approved"]), of(&[]), Part::Approval, &[]);
        check(
            of(&["Approved"]),
            of(&[]),
            Part::Status,
            &["Forbidden: updates may not add a condition of type \"Approved\""],
        );
        check(
            of(&["Denied"]),
            of(&["Approved"]),
            Part::Approval,
            &["Forbidden: updates may not remove a condition of type \"Approved\""],
        );
        check(
            of(&["Approved", "Denied"]),
            of(&["Approved"]),
            Part::Approval,
            &["Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"],
        );
        let certificate = |text: &str| json!({"certificate": STANDARD.encode(text)});
        check(certificate(CERTIFICATE_BLOCK), json!({}), Part::Status, &[]);
        check(
            certificate("x"),
            json!({}),
            Part::Status,
            &[
                "Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        );
        check(
            certificate(CERTIFICATE_BLOCK),
            json!({}),
            Part::Object,
            &["Forbidden: updates may not set certificate content"],
        );
    }
}
