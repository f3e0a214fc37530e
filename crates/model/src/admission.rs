//! Admission's interface: what a handler is asked, and what it answers.
//!
//! A [`Handler`] judges writes. The API server calls one in process; the same handler can stand behind an
//! HTTPS endpoint that speaks `AdmissionReview` ([`answer_review`]), where it is attached to a cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a handler is asked: the `request` of an AdmissionReview, as the API server sends it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AdmissionRequest {
    /// Names this question.
    pub uid: String,
    /// The kind of the object.
    pub kind: Value,
    /// The resource the object is of.
    pub resource: Value,
    /// The subresource, empty for none.
    pub sub_resource: String,
    /// The object's name, empty where it is to be generated.
    pub name: String,
    /// Its namespace, empty for none.
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who writes.
    pub user_info: Value,
    /// The object; `null` where it is deleted.
    pub object: Value,
    /// The object before; `null` where it is made.
    pub old_object: Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options of the write.
    pub options: Value,
}

/// What a handler answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AdmissionResponse {
    /// Whether the write may go on.
    pub allowed: bool,
    /// Why not: a `Status`.
    pub status: Option<Value>,
    /// JSON patch operations that change the object; only mutating handlers may give any.
    pub patch: Vec<Value>,
    /// What the client is to be warned of.
    pub warnings: Vec<String>,
    /// What is noted for the audit log.
    pub audit_annotations: BTreeMap<String, String>,
}

impl AdmissionResponse {
    /// The write may go on.
    pub fn allowed() -> Self {
        Self {
            allowed: true,
            ..Self::default()
        }
    }

    /// The write may not go on.
    pub fn denied(code: u16, message: impl Into<String>) -> Self {
        Self {
            status: Some(json!({"code": code, "message": message.into()})),
            ..Self::default()
        }
    }

    /// The write may go on with a changed object.
    pub fn patched(patch: Vec<Value>) -> Self {
        Self {
            allowed: true,
            patch,
            ..Self::default()
        }
    }
}

/// The future of an answer.
pub type Answer<'a> = Pin<Box<dyn Future<Output = AdmissionResponse> + Send + 'a>>;

/// Judges writes, and may change them.
pub trait Handler: Send + Sync {
    /// Answers one question.
    fn review<'a>(&'a self, request: &'a AdmissionRequest) -> Answer<'a>;
}

/// Answers an AdmissionReview, version `v1`, by a handler: what an HTTPS endpoint has to do with a body.
/// Fails with the reason where the body is no such review.
pub async fn answer_review(handler: &dyn Handler, review: &Value) -> Result<Value, String> {
    let found = (review["apiVersion"].as_str(), review["kind"].as_str());
    if found != (Some("admission.k8s.io/v1"), Some("AdmissionReview")) {
        return Err("expected an AdmissionReview of admission.k8s.io/v1".to_owned());
    }
    let request: AdmissionRequest =
        serde_json::from_value(review["request"].clone()).map_err(|error| error.to_string())?;
    let answer = handler.review(&request).await;
    let mut response = json!({"uid": request.uid, "allowed": answer.allowed});
    if let Some(status) = answer.status {
        response["status"] = status;
    }
    if !answer.patch.is_empty() {
        let text = Value::Array(answer.patch).to_string();
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64(text.as_bytes()));
    }
    if !answer.warnings.is_empty() {
        response["warnings"] = json!(answer.warnings);
    }
    if !answer.audit_annotations.is_empty() {
        response["auditAnnotations"] = json!(answer.audit_annotations);
    }
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    }))
}

/// Standard base64; the only place in this crate that needs it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                let six = (number >> (18 - 6 * place)) & 63;
                text.push(char::from(LETTERS[six as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoPods;

    impl Handler for NoPods {
        fn review<'a>(&'a self, request: &'a AdmissionRequest) -> Answer<'a> {
            Box::pin(async move {
                if request.kind["kind"] == "Pod" {
                    AdmissionResponse::denied(403, "no pods here")
                } else {
                    AdmissionResponse::patched(vec![json!({"op": "remove", "path": "/a"})])
                }
            })
        }
    }

    fn check(kind: &str, expect: Value) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "kind": {"kind": kind}},
        });
        let mut future = std::pin::pin!(answer_review(&NoPods, &review));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(answer) = future.as_mut().poll(&mut context) else {
            panic!("nothing to wait for");
        };
        assert_eq!(answer.expect("a review")["response"], expect);
    }

    #[test]
    fn reviews_are_answered_by_handlers() {
        check(
            "Pod",
            json!({"uid": "u", "allowed": false, "status": {"code": 403, "message": "no pods here"}}),
        );
        check(
            "Node",
            json!({
                "uid": "u", "allowed": true, "patchType": "JSONPatch",
                "patch": "W3sib3AiOiJyZW1vdmUiLCJwYXRoIjoiL2EifV0=",
            }),
        );
    }

    #[test]
    fn base64_is_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
