//! What can go wrong when a controller speaks to the cluster.

use kube::core::response::Status;
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server answered with a failure `Status`.
    #[error("{operation}: {}", status.message)]
    Api {
        /// What was tried, such as `update deployments.apps default/web`.
        operation: String,
        /// What the server said.
        status: Box<Status>,
    },
    /// The request did not reach the server, or its answer did not arrive.
    #[error("{operation}: {source}")]
    Transport {
        /// What was tried.
        operation: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A document does not have the expected shape.
    #[error("decode {what}: {source}")]
    Decode {
        /// Which document.
        what: String,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// A request could not be built from its parts.
    #[error("{operation}: {message}")]
    Request {
        /// What was tried.
        operation: String,
        /// What is wrong with the request.
        message: String,
    },
    /// The cluster serves no such kind.
    #[error("no matches for kind \"{kind}\" in version \"{api_version}\"")]
    NoSuchKind {
        /// Group and version asked for; only the group when any version would do.
        api_version: String,
        /// The kind asked for.
        kind: String,
    },
    /// An optimistic write met a conflict every time it was tried.
    #[error("{operation}: still conflicting after {attempts} attempts")]
    TooManyConflicts {
        /// What was tried.
        operation: String,
        /// How often.
        attempts: u32,
    },
}

impl Error {
    pub(crate) fn from_kube(operation: impl Into<String>, error: kube::Error) -> Self {
        let operation = operation.into();
        match error {
            kube::Error::Api(status) => Self::Api { operation, status },
            source => Self::Transport {
                operation,
                source: Box::new(source),
            },
        }
    }

    /// The watch cannot go on from where it was.
    pub(crate) fn gone(resource: &crate::resource::Resource) -> Self {
        let status = Status::failure("too old resource version", "Expired").with_code(410);
        Self::Api {
            operation: format!("watch {resource}"),
            status: Box::new(status),
        }
    }

    /// The server's `Status`, if it answered with one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The server's own words without our context, or the whole text when it was not the server.
    pub fn message(&self) -> String {
        self.status()
            .map_or_else(|| self.to_string(), |status| status.message.clone())
    }

    fn is(&self, code: u16, reason: &str) -> bool {
        self.status().is_some_and(|status| {
            status.code == code && (reason.is_empty() || status.reason == reason)
        })
    }

    /// The object (or the resource) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is(404, "")
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.is(409, "AlreadyExists")
    }

    /// The object changed since it was read, or another field manager owns a field.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::TooManyConflicts { .. })
            || (self.is(409, "") && !self.is_already_exists())
    }

    /// The resource version asked for is compacted away: list again.
    pub fn is_gone(&self) -> bool {
        self.is(410, "")
    }

    /// Authorization or admission refused.
    pub fn is_forbidden(&self) -> bool {
        self.is(403, "")
    }

    /// Validation refused.
    pub fn is_invalid(&self) -> bool {
        self.is(422, "") || self.is(400, "")
    }

    /// Whether the request may have been carried out all the same: the answer is lost, or the server failed half way.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Decode { .. } => true,
            Self::Api { status, .. } => status.code >= 500 || status.code == 408,
            _ => false,
        }
    }

    /// Whether the namespace of the object is going, so that nothing can be created there.
    pub fn is_namespace_terminating(&self) -> bool {
        let details = self.status().and_then(|status| status.details.as_ref());
        details.is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        })
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::TooManyConflicts { .. } => true,
            Self::Api { status, .. } => matches!(status.code, 408 | 409 | 410 | 429 | 500..),
            _ => false,
        }
    }
}
