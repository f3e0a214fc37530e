//! Errors about one field of an object, worded as the API server words them.

use std::fmt;

use serde_json::Value;

use crate::status::StatusCause;

/// Where a field is: `spec.template.spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct FieldPath(String);

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// The field must be there.
    Required,
    /// The value is malformed or not allowed here.
    Invalid,
    /// The value is not among the supported ones.
    NotSupported,
    /// The value must be unique and is not.
    Duplicate,
    /// The field may not be set, or not to this, by policy.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list or map has more entries than allowed.
    TooMany,
    /// The list has fewer entries than required.
    TooFew,
    /// Something the field refers to does not exist.
    NotFound,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// The server itself failed while looking at the field.
    Internal,
}

/// One error about one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Where.
    pub path: FieldPath,
    /// What.
    pub kind: FieldErrorKind,
    /// The offending value, printed where the kind has a value.
    pub value: Option<Value>,
    /// How the value prints, where that differs from its JSON: upstream prints some of its own types,
    /// whose fields have other names and another order.
    pub printed: Option<String>,
    /// The rest of the sentence.
    pub detail: String,
}

impl FieldPath {
    /// The empty path.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// A path that is already written out.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The field `name` below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// Element `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// Entry `key` of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("<nil>")
        } else {
            f.write_str(&self.0)
        }
    }
}

impl FieldErrorKind {
    /// The words that open the message.
    pub fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }

    /// The `reason` of a cause in a `Status`.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

impl FieldError {
    fn new(path: &FieldPath, kind: FieldErrorKind, value: Option<Value>, detail: String) -> Self {
        Self {
            path: path.clone(),
            kind,
            value,
            printed: None,
            detail,
        }
    }

    /// The same error with its value printed as `text`.
    #[must_use]
    pub fn printed_as(mut self, text: impl Into<String>) -> Self {
        self.printed = Some(text.into());
        self
    }

    /// The same error without its value.
    #[must_use]
    pub fn without_value(mut self) -> Self {
        self.value = None;
        self
    }

    /// The same error with another end of the sentence.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The server itself failed while looking at a field.
    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Internal, None, detail.into())
    }

    /// A field that must be there is not.
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, None, detail.into())
    }

    /// A malformed value.
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(
            path,
            FieldErrorKind::Invalid,
            Some(value.into()),
            detail.into(),
        )
    }

    /// A value of the wrong JSON type.
    pub fn type_invalid(
        path: &FieldPath,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            path,
            FieldErrorKind::TypeInvalid,
            Some(value.into()),
            detail.into(),
        )
    }

    /// A value outside the supported ones, which are listed quoted and in the order given, as upstream
    /// does.
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = if names.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", names.join(", "))
        };
        Self::new(
            path,
            FieldErrorKind::NotSupported,
            Some(value.into()),
            detail,
        )
    }

    /// A value that stands twice where it must be unique.
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(
            path,
            FieldErrorKind::Duplicate,
            Some(value.into()),
            String::new(),
        )
    }

    /// Something that may not be set.
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, None, detail.into())
    }

    /// A string of more than `limit_bytes`.
    pub fn too_long(path: &FieldPath, limit_bytes: usize) -> Self {
        let detail = format!("may not be more than {limit_bytes} bytes");
        Self::new(path, FieldErrorKind::TooLong, None, detail)
    }

    /// More than `limit` entries; `actual` of them.
    pub fn too_many(path: &FieldPath, actual: usize, limit: usize) -> Self {
        let items = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {items}");
        Self::new(path, FieldErrorKind::TooMany, Some(actual.into()), detail)
    }

    /// A reference to something that does not exist.
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(
            path,
            FieldErrorKind::NotFound,
            Some(value.into()),
            String::new(),
        )
    }

    /// The message without the path, as in a cause of a `Status`.
    pub fn body(&self) -> String {
        let words = self.kind.words();
        let mut text = match (&self.value, self.kind) {
            (
                _,
                FieldErrorKind::Required
                | FieldErrorKind::Forbidden
                | FieldErrorKind::TooLong
                | FieldErrorKind::Internal,
            )
            | (None, _) => words.to_owned(),
            (Some(value), _) => {
                let shown = self.printed.clone().unwrap_or_else(|| go_value(value));
                format!("{words}: {shown}")
            }
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// As a cause of a `Status`.
    pub fn cause(&self) -> StatusCause {
        StatusCause {
            reason: self.kind.cause().to_owned(),
            message: self.body(),
            field: self.path.to_string(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as Go's `field.Error` prints it: strings quoted, structures as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("\"{text}\"")
            .chars()
            .flat_map(|c| if c == '\n' { vec!['\\', 'n'] } else { vec![c] })
            .collect(),
        other => other.to_string(),
    }
}

/// The message of a `Status` for several field errors about one object, as the API server joins
/// them: one alone, several in brackets, the same error once.
pub fn invalid_message(kind: &str, name: &str, errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let joined = match texts.as_slice() {
        [] => "<nil>".to_owned(),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    format!("{kind} \"{name}\" is invalid: {joined}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_worded_as_the_api_server_words_them() {
        let path = FieldPath::root()
            .child("spec")
            .child("containers")
            .index(0)
            .child("name");
        assert_eq!(
            FieldError::required(&path, "").to_string(),
            "spec.containers[0].name: Required value"
        );
        assert_eq!(
            FieldError::invalid(&path, -1, "must be greater than 0").to_string(),
            "spec.containers[0].name: Invalid value: -1: must be greater than 0"
        );
        assert_eq!(
            FieldError::not_supported(&FieldPath::new("type"), "x", &["A", "B"]).to_string(),
            "type: Unsupported value: \"x\": supported values: \"A\", \"B\""
        );
        assert_eq!(
            FieldError::forbidden(&FieldPath::new("spec"), "no")
                .cause()
                .message,
            "Forbidden: no"
        );
    }

    #[test]
    fn several_errors_stand_in_brackets_and_once() {
        let one = FieldError::required(&FieldPath::new("a"), "");
        let two = FieldError::required(&FieldPath::new("b"), "");
        assert_eq!(
            invalid_message("Pod", "p", &[one.clone(), two, one]),
            "Pod \"p\" is invalid: [a: Required value, b: Required value]"
        );
    }
}
