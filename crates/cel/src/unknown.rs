//! Partial evaluation: saying which attributes are not known yet.
//!
//! An [`AttributePattern`] marks a variable, or something below it, as unknown. Reading it gives an
//! unknown result instead of a value, which behaves like an error that `&&` and `||` may absorb. If
//! the whole result depends on it, evaluation ends with [`ErrorKind::Unknown`](crate::ErrorKind) and the list of
//! [`Attribute`]s that were missing.

use std::fmt;

/// One step of an attribute path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathElement {
    /// A field or a string key: `.name`, `['name']`.
    Field(String),
    /// A position in a list or an integer key: `[3]`.
    Index(i64),
    /// Some element, not known before evaluation: `[i]`.
    Any,
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) if is_plain(name) => write!(f, ".{name}"),
            Self::Field(name) => write!(f, "[{name:?}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Any => f.write_str("[*]"),
        }
    }
}

fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A variable and a path below it, as it was read: `deployment.status.replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute {
    /// The variable.
    pub variable: String,
    /// The steps below it.
    pub path: Vec<PathElement>,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        self.path.iter().try_for_each(|step| step.fmt(f))
    }
}

/// Declares a variable, or a part of it, unknown.
///
/// ```
/// use cel::{Activation, AttributePattern, Env, Type};
/// let env = Env::standard().extend().variable("pod", Type::Dyn).build()?;
/// let pod = serde_json::json!({"metadata": {"name": "web"}});
/// let mut activation = Activation::new();
/// activation.bind_json("pod", &pod);
/// activation.unknown(AttributePattern::new("pod").field("status"));
///
/// let known = env.compile("pod.metadata.name == 'web' || pod.status.ready")?;
/// assert_eq!(known.eval(&activation)?, cel::Value::Bool(true));
///
/// let unknown = env.compile("pod.status.phase == 'Running'")?.eval(&activation).unwrap_err();
/// assert_eq!(unknown.unknowns()[0].to_string(), "pod.status.phase");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributePattern {
    variable: String,
    path: Vec<PathElement>,
}

impl AttributePattern {
    /// Everything of a variable.
    pub fn new(variable: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            path: Vec::new(),
        }
    }

    /// Only what is below this field or string key.
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.path.push(PathElement::Field(name.into()));
        self
    }

    /// Only what is below this position or integer key.
    #[must_use]
    pub fn index(mut self, index: i64) -> Self {
        self.path.push(PathElement::Index(index));
        self
    }

    /// Only what is below any one element or field.
    #[must_use]
    pub fn any(mut self) -> Self {
        self.path.push(PathElement::Any);
        self
    }

    /// Whether reading `variable` with `path` touches what the pattern marks: one is a prefix of the
    /// other.
    #[must_use]
    pub fn matches(&self, variable: &str, path: &[PathElement]) -> bool {
        self.variable == variable
            && self.path.iter().zip(path).all(|(mine, theirs)| {
                mine == theirs
                    || matches!(mine, PathElement::Any)
                    || matches!(theirs, PathElement::Any)
            })
    }

    pub(crate) fn variable(&self) -> &str {
        &self.variable
    }
}
