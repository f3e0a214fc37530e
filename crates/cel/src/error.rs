//! What can go wrong: before evaluation ([`CompileError`], a list of [`Issue`]s) and during it
//! ([`EvalError`]).
//!
//! The words follow cel-go, because programs classify CEL errors by their text: "no such key: x",
//! "index out of bounds: 3", "no such overload". Hints are ours and stand behind the message.

use std::fmt;
use std::sync::Arc;

use crate::source::{Span, place, write_excerpt};
use crate::unknown::Attribute;

/// One problem found by the parser or the checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where it is.
    pub span: Span,
    /// What is wrong, in cel-go's words.
    pub message: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl Issue {
    /// An issue without a hint.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
        }
    }

    /// The same issue with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// The problems of an expression that does not compile.
///
/// Displays as cel-go does, one block per issue, with the hint behind the message:
///
/// ```
/// let error = cel::Env::standard().compile("'a'.startWith('b')").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "ERROR: <input>:1:14: undeclared reference to 'startWith' (in container ''); did you mean 'startsWith'?\n \
///      | 'a'.startWith('b')\n | .............^"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    /// The text that was compiled.
    pub source_text: Arc<str>,
    /// At least one issue, in the order of their places.
    pub issues: Vec<Issue>,
}

impl CompileError {
    pub(crate) fn new(source: &Arc<str>, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.span.start);
        Self {
            source_text: Arc::clone(source),
            issues,
        }
    }
}

impl CompileError {
    /// The same without hints: exactly cel-go's words, for clients that compare them.
    #[must_use]
    pub fn without_hints(mut self) -> Self {
        for issue in &mut self.issues {
            issue.hint = None;
        }
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            let at = place(&self.source_text, issue.span.start);
            let line_break = if index > 0 { "\n" } else { "" };
            write!(
                f,
                "{line_break}ERROR: <input>:{}:{}: {}",
                at.line, at.column, issue.message
            )?;
            if let Some(hint) = &issue.hint {
                write!(f, "; {hint}")?;
            }
            f.write_str("\n")?;
            write_excerpt(f, &self.source_text, issue.span.start)?;
        }
        Ok(())
    }
}

/// What kind of failure ended an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No overload of the function takes these arguments.
    NoSuchOverload,
    /// A map has no such key, or an object does not have the field set.
    NoSuchKey,
    /// The type of an object has no such field.
    NoSuchField,
    /// A variable is not bound.
    NoSuchAttribute,
    /// A list index outside the list.
    IndexOutOfBounds,
    /// Division or modulus by zero.
    DivideByZero,
    /// A result that its type cannot hold.
    Overflow,
    /// A value a function cannot work with.
    InvalidArgument,
    /// The cost limit is reached. Never absorbed by `&&` and `||`.
    CostLimit,
    /// A value would become larger than the limits allow. Never absorbed by `&&` and `||`.
    TooLarge,
    /// The deadline passed or evaluation was cancelled. Never absorbed by `&&` and `||`.
    Interrupted,
    /// The result depends on attributes declared unknown; see [`EvalError::unknowns`].
    Unknown,
    /// Whatever a library reports.
    Other,
}

impl ErrorKind {
    /// Whether the error ends evaluation at once, without `&&` and `||` looking at their other side.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::CostLimit | Self::TooLarge | Self::Interrupted)
    }
}

/// A failed evaluation. One machine word, so that results stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    message: String,
    span: Option<Span>,
    unknowns: Vec<Attribute>,
}

impl EvalError {
    /// An error of the given kind with its message.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            span: None,
            unknowns: Vec::new(),
        }))
    }

    /// An error a library reports in its own words.
    #[cold]
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Other, message)
    }

    /// An argument the function cannot work with.
    #[cold]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// "no such overload".
    #[cold]
    #[must_use]
    pub fn no_such_overload() -> Self {
        Self::new(ErrorKind::NoSuchOverload, "no such overload")
    }

    /// "no such key: `key`".
    #[cold]
    pub fn no_such_key(key: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NoSuchKey, format!("no such key: {key}"))
    }

    /// "no such field '`field`'".
    #[cold]
    pub fn no_such_field(field: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NoSuchField, format!("no such field '{field}'"))
    }

    /// "index out of bounds: `index`".
    #[cold]
    pub fn index_out_of_bounds(index: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::IndexOutOfBounds,
            format!("index out of bounds: {index}"),
        )
    }

    /// "integer overflow" and its relatives.
    #[cold]
    pub fn overflow(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Overflow, message)
    }

    /// A value beyond the size limits.
    #[cold]
    #[must_use]
    pub fn too_large(what: &str, limit: usize) -> Self {
        Self::new(
            ErrorKind::TooLarge,
            format!("{what} exceeds the limit of {limit}"),
        )
    }

    /// The result depends on these unknown attributes.
    #[cold]
    pub fn unknown(attributes: Vec<Attribute>) -> Self {
        let names: Vec<String> = attributes.iter().map(ToString::to_string).collect();
        Self(Box::new(Inner {
            kind: ErrorKind::Unknown,
            message: format!("unknown attributes: {}", names.join(", ")),
            span: None,
            unknowns: attributes,
        }))
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message, in cel-go's words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where in the source it happened, when known.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.0.span
    }

    /// The unknown attributes the result depends on; empty for every other kind of error.
    #[must_use]
    pub fn unknowns(&self) -> &[Attribute] {
        &self.0.unknowns
    }

    /// The message with the place, the source line and a caret.
    #[must_use]
    pub fn report(&self, source: &str) -> String {
        let Some(span) = self.0.span else {
            return self.0.message.clone();
        };
        let at = place(source, span.start);
        let mut out = format!(
            "ERROR: <input>:{}:{}: {}\n",
            at.line, at.column, self.0.message
        );
        // Writing to a string cannot fail.
        let _ = write_excerpt(&mut out, source, span.start);
        out
    }

    /// The innermost place wins: an error that already has one keeps it.
    #[must_use]
    pub(crate) fn at(mut self, span: Span) -> Self {
        self.0.span.get_or_insert(span);
        self
    }

    /// Of two failed operands the one that is reported: what is final first, then what is unknown,
    /// then the left error.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        match (self.kind(), other.kind()) {
            (ErrorKind::Unknown, ErrorKind::Unknown) => {
                for attribute in other.0.unknowns {
                    if !self.0.unknowns.contains(&attribute) {
                        self.0.unknowns.push(attribute);
                    }
                }
                Self::unknown(self.0.unknowns)
            }
            (left, _) if left.is_final() => self,
            (_, right) if right.is_final() || right == ErrorKind::Unknown => other,
            _ => self,
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for EvalError {}
