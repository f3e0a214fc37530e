//! `Status`: what the API server answers when it has no object to answer with.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::field::{FieldError, invalid_message};

/// The machine-readable reason of a failure, with its HTTP code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Reason {
    Unknown,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    NotImplemented,
    ServiceUnavailable,
    Timeout,
    ServerTimeout,
}

impl Reason {
    /// The text in `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::NotImplemented => "NotImplemented",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::ServerTimeout => "ServerTimeout",
        }
    }

    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::Unknown | Self::InternalError | Self::ServerTimeout => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One of several causes of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// Such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The words, without the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field, such as `spec.replicas`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a `Status` is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind, or its resource where only that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A failure as the API server reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// The machine-readable reason, may be empty.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<StatusDetails>>,
    /// Where a list may go on although its token has expired: `metadata.continue`.
    pub list_continue: Option<String>,
}

impl Status {
    /// A failure with a reason's own code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason: reason.as_str().to_owned(),
            message: message.into(),
            details: None,
            list_continue: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 500, worded as upstream words errors that are nobody's fault but the server's.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut status = Self::new(
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        );
        status.details = Some(Box::new(StatusDetails {
            causes: vec![StatusCause {
                message: message.to_string(),
                ..StatusCause::default()
            }],
            ..StatusDetails::default()
        }));
        status
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = Some(Box::new(StatusDetails {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..StatusDetails::default()
        }));
        self
    }

    /// 404 for one object; `resource` is the plural.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let full = qualified(resource, group);
        Self::new(Reason::NotFound, format!("{full} \"{name}\" not found"))
            .about(group, resource, name)
    }

    /// 404 for a path that serves nothing.
    pub fn unknown_path() -> Self {
        Self::new(
            Reason::NotFound,
            "the server could not find the requested resource",
        )
        .about("", "", "")
    }

    /// 409 for a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let full = qualified(resource, group);
        Self::new(
            Reason::AlreadyExists,
            format!("{full} \"{name}\" already exists"),
        )
        .about(group, resource, name)
    }

    /// 409 for a write that lost a race.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let full = qualified(resource, group);
        Self::new(
            Reason::Conflict,
            format!("Operation cannot be fulfilled on {full} \"{name}\": {why}"),
        )
        .about(group, resource, name)
    }

    /// 403 by authorization or admission.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let full = qualified(resource, group);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{full} is forbidden: {why}"),
            _ => format!("{full} \"{name}\" is forbidden: {why}"),
        };
        Self::new(Reason::Forbidden, message).about(group, resource, name)
    }

    /// 500 without a reason: what upstream answers where an error reached the client as it was.
    pub fn bare_internal(message: impl Into<String>) -> Self {
        let mut status = Self::new(Reason::InternalError, message);
        (status.reason, status.details) = (String::new(), None);
        status
    }

    /// 422 for an object whose fields are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified_kind = qualified(kind, group);
        let mut status = Self::new(
            Reason::Invalid,
            invalid_message(&qualified_kind, name, errors),
        )
        .about(group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = errors.iter().map(FieldError::cause).collect();
        }
        status
    }

    /// Adds the object's uid.
    #[must_use]
    pub fn with_uid(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.details.get_or_insert_default().uid);
        self
    }

    /// As the JSON object a client gets.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": if self.code < 400 { "Success" } else { "Failure" },
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            value["reason"] = json!(self.reason);
        }
        if let Some(token) = &self.list_continue {
            value["metadata"] = json!({"continue": token});
        }
        if let Some(details) = &self.details {
            value["details"] = json!(details);
        }
        value
    }
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldPath;

    #[test]
    fn a_missing_object_is_named_with_its_group() {
        let status = Status::not_found("apps", "deployments", "web");
        assert_eq!(status.message, "deployments.apps \"web\" not found");
        assert_eq!(
            status.to_value()["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
    }

    #[test]
    fn an_invalid_object_lists_its_causes() {
        let error = FieldError::required(&FieldPath::new("spec"), "");
        let status = Status::invalid("apps", "Deployment", "web", &[error]);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: spec: Required value"
        );
        assert_eq!(status.code, 422);
        assert_eq!(
            status.to_value()["details"]["causes"],
            json!([{"reason": "FieldValueRequired", "message": "Required value", "field": "spec"}])
        );
    }
}
