//! The answer of a webhook: reading it, and what a refusal says.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use model::admission::AdmissionResponse;
use model::{Status, StatusDetails, object};
use serde_json::Value;

/// A webhook's judgement.
#[derive(Debug, Default)]
pub struct Answer {
    pub allowed: bool,
    pub warnings: Vec<String>,
    pub annotations: BTreeMap<String, String>,
    /// A JSON patch, empty for none.
    pub patch: Vec<u8>,
    status: Option<Value>,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// It is no AdmissionReview at all.
    #[error("failed to call webhook: {0}")]
    Undecodable(String),
    /// It does not answer the question.
    #[error("received invalid webhook response: {0}")]
    Invalid(String),
}

impl Answer {
    /// The answer of a handler in this process.
    pub fn of(response: AdmissionResponse) -> Self {
        Self {
            allowed: response.allowed,
            warnings: response.warnings,
            annotations: response.audit_annotations,
            patch: if response.patch.is_empty() {
                Vec::new()
            } else {
                Value::Array(response.patch).to_string().into_bytes()
            },
            status: response.status,
        }
    }

    /// Reads an AdmissionReview. Version `v1beta1` was never strict about what it holds.
    pub fn parse(body: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Self, Defect> {
        let review: Value = serde_json::from_slice(body).map_err(|error| {
            Defect::Undecodable(format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        })?;
        if !review.is_object() {
            let why = "couldn't get version/kind; json parse error: the answer is no object";
            return Err(Defect::Undecodable(why.to_owned()));
        }
        let response = review.get("response").filter(|own| own.is_object());
        let invalid = |why: String| Err(Defect::Invalid(why));
        let Some(response) = response else {
            return invalid("webhook response was absent".to_owned());
        };
        let strict = version == "v1";
        if strict {
            let found = object::text(response, &["uid"]);
            if found != uid {
                return invalid(format!("expected response.uid={uid:?}, got {found:?}"));
            }
            check_kind(&review)?;
        }
        let kind = response.get("patchType").filter(|kind| !kind.is_null());
        let text = object::text(response, &["patch"]);
        if strict {
            check_patch(text, kind, mutating)?;
        }
        let patch = BASE64_STANDARD
            .decode(text)
            .map_err(|_| Defect::Undecodable("response.patch is not base64 encoded".to_owned()))?;
        let annotations = object::at(response, &["auditAnnotations"]).and_then(Value::as_object);
        let warnings = object::list(response, &["warnings"]).iter();
        Ok(Self {
            allowed: response.get("allowed") == Some(&Value::Bool(true)),
            warnings: warnings
                .filter_map(|warning| warning.as_str().map(str::to_owned))
                .collect(),
            annotations: annotations
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            patch: if mutating { patch } else { Vec::new() },
            status: response.get("status").cloned(),
        })
    }

    /// What the client is told where the write is refused.
    pub fn refusal(&self, webhook: &str) -> Status {
        let result = self.status.clone().unwrap_or_default();
        let text = |field| object::text(&result, &[field]);
        let denied = format!("admission webhook {webhook:?} denied the request");
        let (said, reason) = (text("message"), text("reason"));
        let message = match (said, reason) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (said, _) => format!("{denied}: {said}"),
        };
        let code = object::number(&result, &["code"]).unwrap_or(0);
        let details: Option<StatusDetails> = result
            .get("details")
            .and_then(|details| serde_json::from_value(details.clone()).ok());
        Status {
            code: u16::try_from(code).unwrap_or(0).clamp(400, 599),
            reason: reason.to_owned(),
            message,
            details: details.map(Box::new),
            list_continue: None,
        }
    }
}

fn check_kind(review: &Value) -> Result<(), Defect> {
    let text = |field| object::text(review, &[field]);
    let (version, kind) = (text("apiVersion"), text("kind"));
    if (version, kind) == ("admission.k8s.io/v1", "AdmissionReview") {
        return Ok(());
    }
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    Err(Defect::Invalid(format!(
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{number}, Kind={kind}"
    )))
}

/// A patch and its type go together, and only a mutating webhook gives them.
fn check_patch(patch: &str, kind: Option<&Value>, mutating: bool) -> Result<(), Defect> {
    let why = match (mutating, patch.is_empty(), kind) {
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some(kind)) if kind == "" => {
            return Err(Defect::Invalid(
                "webhook returned invalid response.patchType of \"\"".to_owned(),
            ));
        }
        (true, false, Some(kind)) if kind != "JSONPatch" => {
            return Err(Defect::Invalid(format!("unsupported patch type {kind}")));
        }
        _ => return Ok(()),
    };
    Err(Defect::Invalid(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(response: Value, mutating: bool, expect: Result<bool, &str>) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
        });
        let answer = Answer::parse(review.to_string().as_bytes(), "v1", "u", mutating);
        let found = answer
            .map(|answer| answer.allowed)
            .map_err(|e| e.to_string());
        assert_eq!(found, expect.map_err(str::to_owned));
    }

    #[test]
    fn answers_are_checked() {
        check(json!({"uid": "u", "allowed": true}), false, Ok(true));
        check(json!({"uid": "u"}), false, Ok(false));
        check(
            json!({"uid": "x", "allowed": true}),
            false,
            Err("received invalid webhook response: expected response.uid=\"u\", got \"x\""),
        );
        check(
            Value::Null,
            false,
            Err("received invalid webhook response: webhook response was absent"),
        );
        check(
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
            true,
            Err(
                "received invalid webhook response: webhook returned response.patch but not response.patchType",
            ),
        );
        check(
            json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
            false,
            Err(
                "received invalid webhook response: validating webhook may not return response.patch",
            ),
        );
        let nonsense = Answer::parse(b"<html>", "v1", "u", false).map(drop);
        assert!(
            matches!(nonsense, Err(Defect::Undecodable(_))),
            "{nonsense:?}"
        );
    }

    #[test]
    fn refusals_are_explained() {
        let refusal = |status: Value| {
            let answer = Answer {
                status: Some(status),
                ..Answer::default()
            };
            let status = answer.refusal("w");
            (status.code, status.message)
        };
        let denied = "admission webhook \"w\" denied the request";
        assert_eq!(
            refusal(json!({"code": 403, "message": "no"})),
            (403, format!("{denied}: no"))
        );
        assert_eq!(
            refusal(json!({"code": 200, "reason": "Because"})),
            (400, format!("{denied}: Because"))
        );
        assert_eq!(
            refusal(Value::Null),
            (400, format!("{denied} without explanation"))
        );
    }
}
