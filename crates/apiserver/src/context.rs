//! What a verb knows of the request it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;
use model::{FieldError, FieldPath, Status};
use parking_lot::Mutex;

use crate::catalog::{Catalog, Definition};
use crate::identity::User;
use crate::media::Accept;
use crate::query::Query;
use crate::route::ResourcePath;
use crate::server::State;

/// Longest field manager, as upstream.
const FIELD_MANAGER_LENGTH_MAX: usize = 128;

/// A request for objects, after it has been let in.
pub(crate) struct Context {
    pub state: Arc<State>,
    pub catalog: Arc<Catalog>,
    pub definition: Arc<Definition>,
    pub user: User,
    pub path: ResourcePath,
    pub query: Query,
    pub headers: HeaderMap,
    pub accept: Accept,
    pub body: Bytes,
    /// Whether the verb is `apply`.
    pub apply: bool,
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
}

/// How strictly unknown and duplicate fields are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is warned.
    Warn,
    /// They are refused.
    Strict,
}

/// The parts a [`Context`] is made of.
pub(crate) struct Parts {
    pub state: Arc<State>,
    pub catalog: Arc<Catalog>,
    pub definition: Arc<Definition>,
    pub user: User,
    pub path: ResourcePath,
    pub query: Query,
    pub headers: HeaderMap,
    pub accept: Accept,
    pub body: Bytes,
}

impl Context {
    pub fn new(parts: Parts) -> Self {
        Self {
            state: parts.state,
            catalog: parts.catalog,
            definition: parts.definition,
            user: parts.user,
            path: parts.path,
            query: parts.query,
            headers: parts.headers,
            accept: parts.accept,
            body: parts.body,
            apply: false,
            warnings: Mutex::default(),
            annotations: Mutex::default(),
        }
    }

    /// The namespace of the path; empty for cluster-scoped resources.
    pub fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }

    /// The name in the path.
    pub fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    /// The subresource in the path, empty for the object itself.
    pub fn subresource(&self) -> &str {
        self.path.subresource.as_deref().unwrap_or_default()
    }

    /// Now, to the second, as timestamps in objects are.
    pub fn now(&self) -> String {
        timestamp((self.state.options.clock)())
    }

    /// Tells the client something in a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Notes something for the audit log; what was noted first under a key stays.
    pub fn annotate(&self, key: &str, value: &str) {
        let mut annotations = self.annotations.lock();
        annotations
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    }

    /// What is noted for the audit log.
    #[allow(dead_code, reason = "the audit log reads it")]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }

    /// What the client is to be warned of.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// 404 for the object of the path.
    pub fn not_found(&self) -> Status {
        Status::not_found(
            &self.definition.gvr.group,
            &self.definition.gvr.resource,
            self.name(),
        )
    }

    /// 409 for the object of the path.
    pub fn conflict(&self, why: &str) -> Status {
        let gvr = &self.definition.gvr;
        Status::conflict(&gvr.group, &gvr.resource, self.name(), why)
    }

    /// 422 for an object.
    pub fn invalid(&self, name: &str, errors: &[FieldError]) -> Status {
        let kind = &self.definition.kind;
        // As upstream, whose one internal type of Events belongs to the core.
        let group = match kind.group.as_str() {
            "events.k8s.io" => "",
            group => group,
        };
        Status::invalid(group, &kind.kind, name, errors)
    }

    /// The name under which this write owns fields: `fieldManager`, else what the client calls
    /// itself.
    pub fn field_manager(&self) -> Result<String, Status> {
        if let Some(manager) = self.query.get("fieldManager") {
            let path = FieldPath::new("fieldManager");
            let errors = if manager.len() > FIELD_MANAGER_LENGTH_MAX {
                vec![FieldError::too_long(&path, FIELD_MANAGER_LENGTH_MAX)]
            } else if manager.chars().any(char::is_control) {
                vec![FieldError::invalid(
                    &path,
                    manager,
                    "should only contain printable characters",
                )]
            } else {
                Vec::new()
            };
            if !errors.is_empty() {
                let kind = self.options_kind();
                return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
            }
            return Ok(manager.to_owned());
        }
        if self.apply {
            let path = FieldPath::new("fieldManager");
            let error = FieldError::required(&path, "is required for apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let agent = self
            .headers
            .get(USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        let name = if name.is_empty() { "unknown" } else { name };
        Ok(name.chars().take(FIELD_MANAGER_LENGTH_MAX).collect())
    }

    fn options_kind(&self) -> &'static str {
        match (self.apply, self.path.name.is_some()) {
            (true, _) => "PatchOptions",
            (_, true) => "UpdateOptions",
            _ => "CreateOptions",
        }
    }

    /// `fieldValidation`.
    pub fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => {
                let path = FieldPath::new("fieldValidation");
                let error =
                    FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                Err(Status::invalid(
                    "meta.k8s.io",
                    self.options_kind(),
                    "",
                    &[error],
                ))
            }
        }
    }

    /// Whether the write is only tried out.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let bad: Vec<&str> = self
            .query
            .all("dryRun")
            .filter(|v| !v.is_empty() && *v != "All")
            .collect();
        if let Some(value) = bad.first() {
            let path = FieldPath::new("dryRun");
            let error = FieldError::not_supported(&path, *value, &["All"]);
            return Err(Status::invalid(
                "meta.k8s.io",
                self.options_kind(),
                "",
                &[error],
            ));
        }
        Ok(self.query.dry_run())
    }
}

/// A time as Kubernetes writes it in objects: UTC, to the second.
pub fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
