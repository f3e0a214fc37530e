//! Checking that what is applied fits the schema.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Scalar, Shape, Type};
use crate::path::PathElement;

const MAX_DEPTH: usize = schema::MAX_DEPTH;

/// Checks an object to be applied; the error lists everything wrong.
pub(crate) fn validate(kind: Type<'_>, object: &Value) -> Result<(), String> {
    let mut validator = Validator {
        path: String::new(),
        errors: Vec::new(),
    };
    validator.value(kind, object, 0);
    match validator.errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

struct Validator {
    path: String,
    errors: Vec<String>,
}

impl Validator {
    fn error(&mut self, text: impl AsRef<str>) {
        let separator = if self.path.is_empty() { "" } else { ": " };
        self.errors
            .push(format!("{}{separator}{}", self.path, text.as_ref()));
    }

    fn below(&mut self, step: &PathElement, kind: Type<'_>, value: &Value, depth: usize) {
        let length = self.path.len();
        write!(self.path, "{step}").expect("writing to a string succeeds");
        self.value(kind, value, depth + 1);
        self.path.truncate(length);
    }

    fn value(&mut self, kind: Type<'_>, value: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return self.error("nested too deep");
        }
        match (kind.shape(Some(value)), value) {
            (_, Value::Null) => {}
            (Shape::Scalar, _) => self.scalar(kind.scalar(), value),
            (Shape::Map, Value::Object(members)) => self.map(kind, members, depth),
            (Shape::Map, _) => self.error(format!("expected map, got &{{{}}}", go_plain(value))),
            (Shape::List, Value::Array(items)) => self.list(kind, items, depth),
            (Shape::List, _) => self.error(format!("expected list, got &{{{}}}", go_plain(value))),
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        match (scalar, value) {
            (Scalar::Untyped, Value::Bool(_) | Value::Number(_) | Value::String(_))
            | (Scalar::String, Value::String(_))
            | (Scalar::Numeric, Value::Number(_))
            | (Scalar::Boolean, Value::Bool(_)) => {}
            (Scalar::String, _) => {
                let found = go_syntax(value);
                self.error(format!(
                    "expected string, got &value.valueUnstructured{{Value:{found}}}"
                ));
            }
            (Scalar::Numeric, _) => {
                self.error(format!(
                    "expected numeric (int or float), got {}",
                    go_type(value)
                ));
            }
            (Scalar::Boolean, _) => {
                self.error(format!("expected boolean, got &{{{}}}", go_plain(value)));
            }
            (Scalar::Untyped, _) => {
                self.error(format!("expected any scalar, got &{{{}}}", go_plain(value)));
            }
        }
    }

    fn map(&mut self, kind: Type<'_>, members: &Map<String, Value>, depth: usize) {
        for (name, member) in members {
            let step = PathElement::Field(name.clone());
            let Some(child) = kind.member(name) else {
                let length = self.path.len();
                write!(self.path, "{step}").expect("writing to a string succeeds");
                self.error("field not declared in schema");
                self.path.truncate(length);
                return;
            };
            self.below(&step, child, member, depth);
        }
    }

    fn list(&mut self, kind: Type<'_>, items: &[Value], depth: usize) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let step = if kind.is_atomic_list() {
                PathElement::Index(index as i64)
            } else {
                match kind.step(item) {
                    Ok(step) => step,
                    Err(error) => return self.error(format!("element {index}: {error}")),
                }
            };
            if seen.contains(&step) {
                self.error(format!("duplicate entries for key {step}"));
            }
            self.below(&step, kind.element(), item, depth);
            seen.insert(step);
        }
    }
}

/// A value as Go's `%v` prints it.
pub(crate) fn go_plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(go_plain).collect::<Vec<_>>().join(" ")
            )
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", go_plain(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
