//! Errors of a build: always which resource, which field, which expression, where in it, and what was expected.

use std::fmt;

/// Why a graph cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// The resource concerned; `None` for the schema as a whole.
    pub resource: Option<String>,
    /// The field concerned, from the root of the template or of the resource: `spec.replicas`, `readyWhen[0]`.
    pub path: Option<String>,
    /// The expression concerned.
    pub expression: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl BuildError {
    /// An error about the whole graph.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            resource: None,
            path: None,
            expression: None,
            message: message.into(),
        }
    }

    /// An error about one resource.
    pub fn of(resource: &str, message: impl Into<String>) -> Self {
        Self {
            resource: Some(resource.to_owned()),
            ..Self::new(message)
        }
    }

    /// Says which field it is about.
    pub fn at(mut self, path: impl fmt::Display) -> Self {
        self.path = Some(path.to_string());
        self
    }

    /// Whether it may be mended by a kind that is served later.
    pub fn is_about_a_missing_kind(&self) -> bool {
        self.path.as_deref() == Some("kind")
    }

    /// Says which expression it is about.
    pub fn in_expression(mut self, source: &str) -> Self {
        self.expression = Some(source.to_owned());
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "resource {resource:?}: ")?;
        }
        if let Some(path) = self.path.as_deref().filter(|path| !path.is_empty()) {
            write!(f, "path {path:?}: ")?;
        }
        if let Some(expression) = &self.expression {
            write!(f, "expression {expression:?}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl BuildError {
    /// As an error of no resource in particular.
    pub(crate) fn of_the_whole(self) -> Self {
        Self {
            resource: None,
            ..self
        }
    }
}

impl std::error::Error for BuildError {}
