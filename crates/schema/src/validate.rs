//! Validating values against structural schemas, in the words and the order of the API server.

mod embedded;

use std::collections::HashSet;

use model::{FieldError, FieldPath};
use serde_json::{Map, Number, Value};

use crate::node::{Additional, Keywords, ListType, Node, Schema, ValueType};
use crate::structural::not_supported;
use crate::{MAX_DEPTH, formats};
use embedded::check_embedded;

pub use embedded::{check_resource, embedded};

/// Checks a custom resource: types and restrictions, embedded resources, uniqueness in lists.
/// CEL rules are not evaluated here.
pub fn validate(schema: &Schema, object: &Value) -> Vec<FieldError> {
    all(schema, object, None, &FieldPath::root())
}

/// The same for an update: a value that equals its old self is not judged again, so that tightened
/// schemas do not block unrelated changes.
pub fn validate_update(schema: &Schema, object: &Value, old: &Value) -> Vec<FieldError> {
    all(schema, object, Some(old), &FieldPath::root())
}

/// Checks a part of an object that stands at `path`; texts name fields relative to the part.
pub fn validate_at(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &FieldPath,
) -> Vec<FieldError> {
    all(schema, value, old, path)
}

fn all(schema: &Schema, value: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Validator { prefix: path }
        .value(schema, value, old, "", 0)
        .errors;
    check_embedded(schema, value, path, 0, true, &mut errors);
    check_lists(schema, value, path, 0, &mut errors);
    errors
}

/// Errors, and how much matched: the latter tells which of several alternatives came closest.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: usize,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn add(&mut self, error: FieldError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn merge(&mut self, other: Self) {
        self.matches += other.matches;
        other.errors.into_iter().for_each(|error| self.add(error));
    }
}

struct Validator<'a> {
    prefix: &'a FieldPath,
}

impl Validator<'_> {
    fn path(&self, name: &str) -> FieldPath {
        let name = name.strip_prefix('.').unwrap_or(name);
        if name.is_empty() {
            self.prefix.clone()
        } else {
            self.prefix.child(name)
        }
    }

    fn invalid(&self, name: &str, value: impl Into<Value>, words: &str) -> FieldError {
        FieldError::invalid(&self.path(name), value, format!("{name} in body {words}"))
    }

    fn value(
        &self,
        node: &Node,
        value: &Value,
        old: Option<&Value>,
        name: &str,
        depth: usize,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if depth > MAX_DEPTH {
            outcome.add(self.invalid(name, "", "nests too deep"));
            return outcome;
        }
        // Built-in types inside (metadata) are checked when they are decoded.
        if node.go_name.is_some() || old == Some(value) {
            return outcome;
        }
        if value.is_null() {
            if node.value_type != ValueType::Any && !node.nullable {
                outcome.add(self.wrong_type(node, name, "null"));
            }
            self.enumeration(node, value, name, &mut outcome);
            return outcome;
        }
        match self.type_error(node, value, name) {
            Some(error) => outcome.add(error),
            None => outcome.matches += 1,
        }
        if let Some(keywords) = &node.keywords {
            outcome.merge(self.alternatives(keywords, value, old, name, depth));
        }
        match value {
            Value::String(text) => self.string(node, text, name, &mut outcome),
            Value::Number(number) => self.number(node, number, name, &mut outcome),
            Value::Array(items) => self.array(node, items, old, name, depth, &mut outcome),
            _ => {}
        }
        self.enumeration(node, value, name, &mut outcome);
        if let Value::Object(members) = value {
            self.object(node, members, old, name, depth, &mut outcome);
        }
        outcome.matches += 1;
        outcome
    }

    fn wrong_type(&self, node: &Node, name: &str, found: &str) -> FieldError {
        let expected = type_name(node.value_type);
        let detail = format!("{name} in body must be of type {expected}: {found:?}");
        FieldError::type_invalid(&self.path(name), found, detail)
    }

    fn type_error(&self, node: &Node, value: &Value, name: &str) -> Option<FieldError> {
        if node.value_type == ValueType::Any && node.format.is_none() {
            return None;
        }
        let found = json_type(value);
        let fits = match (node.value_type, value) {
            (ValueType::IntOrString | ValueType::String, Value::String(_))
            | (ValueType::Object, Value::Object(_))
            | (ValueType::Array, Value::Array(_))
            | (ValueType::Boolean, Value::Bool(_))
            | (ValueType::Number, Value::Number(_)) => true,
            (ValueType::IntOrString | ValueType::Integer, Value::Number(number)) => {
                is_whole(number)
            }
            _ => false,
        };
        let takes_numbers = matches!(
            node.value_type,
            ValueType::Integer | ValueType::Number | ValueType::IntOrString
        );
        if let Some(format) = &node.format {
            let is_text_or_list = value.is_string() || value.is_array();
            if !is_text_or_list && !fits {
                let of_value = if matches!(value, Value::Number(n) if n.is_f64()) {
                    "float64"
                } else if value.is_number() {
                    "int64"
                } else {
                    ""
                };
                let detail = format!("{name} in body must be of type {format}: {of_value:?}");
                return Some(FieldError::type_invalid(&self.path(name), of_value, detail));
            }
            // A string (or list) under a format of strings is left to the format.
            if !takes_numbers && is_text_or_list {
                return None;
            }
        }
        (!fits).then(|| self.wrong_type(node, name, found))
    }

    fn alternatives(
        &self,
        keywords: &Keywords,
        value: &Value,
        old: Option<&Value>,
        name: &str,
        depth: usize,
    ) -> Outcome {
        let mut outcome = Outcome {
            errors: Vec::new(),
            matches: 1,
        };
        let check = |schema: &Schema| self.value(schema, value, old, name, depth + 1);
        let plain = |detail: String| FieldError::invalid(&FieldPath::root(), "", detail);
        if !keywords.any_of.is_empty() {
            let results = keywords.any_of.iter().map(check);
            match first_valid_or_best(results) {
                (1.., result) => outcome.merge(result),
                (0, best) => {
                    outcome.add(plain(format!(
                        "{name:?} must validate at least one schema (anyOf)"
                    )));
                    outcome.merge(best);
                }
            }
        }
        if !keywords.one_of.is_empty() {
            let results: Vec<Outcome> = keywords.one_of.iter().map(check).collect();
            let valid = results.iter().filter(|result| result.is_valid()).count();
            let (_, result) = first_valid_or_best(results.into_iter());
            if valid == 1 {
                outcome.merge(result);
            } else {
                let found = match valid {
                    0 => "Found none valid".to_owned(),
                    count => format!("Found {count} valid alternatives"),
                };
                let words = "must validate one and only one schema (oneOf)";
                outcome.add(plain(format!("{name:?} {words}. {found}")));
                if valid == 0 {
                    outcome.merge(result);
                }
            }
        }
        if !keywords.all_of.is_empty() {
            let mut valid = 0;
            for result in keywords.all_of.iter().map(check) {
                valid += usize::from(result.is_valid());
                outcome.merge(result);
            }
            if valid != keywords.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                outcome.add(plain(format!(
                    "{name:?} must validate all the schemas (allOf){none}"
                )));
            }
        }
        if keywords
            .not
            .as_ref()
            .is_some_and(|not| check(not).is_valid())
        {
            outcome.add(plain(format!(
                "{name:?} must not validate the schema (not)"
            )));
        }
        outcome
    }

    fn string(&self, node: &Node, text: &str, name: &str, outcome: &mut Outcome) {
        if let Some(keywords) = &node.keywords {
            let length = || text.chars().count() as i64;
            if let Some(limit) = keywords.max_length.filter(|limit| length() > *limit) {
                outcome.add(FieldError::too_long(
                    &self.path(name),
                    usize::try_from(limit).unwrap_or(0),
                ));
            } else if let Some(limit) = keywords.min_length.filter(|limit| length() < *limit) {
                outcome.add(self.invalid(
                    name,
                    text,
                    &format!("should be at least {limit} chars long"),
                ));
            } else if let Some(pattern) = &keywords.pattern {
                let matched = pattern.regex().is_some_and(|regex| regex.is_match(text));
                if !matched {
                    outcome.add(self.invalid(
                        name,
                        text,
                        &format!("should match '{}'", pattern.text()),
                    ));
                }
            }
            outcome.matches += 1;
        }
        if let Some(format) = node
            .format
            .as_deref()
            .filter(|format| formats::is_string_format(format))
        {
            if !formats::matches(format, text) {
                let detail = format!("{name} in body must be of type {format}: {text:?}");
                outcome.add(FieldError::type_invalid(&self.path(name), text, detail));
            }
            outcome.matches += 1;
        }
    }

    fn number(&self, node: &Node, number: &Number, name: &str, outcome: &mut Outcome) {
        let value = number.as_f64().unwrap_or_default();
        let is_integer_type = node.value_type == ValueType::Integer;
        let in_range = match node.format.as_deref() {
            _ if !is_integer_type => true,
            Some("int32") => whole(number).is_some_and(|value| i32::try_from(value).is_ok()),
            _ => whole(number).is_some(),
        };
        if !in_range {
            let format = match node.format.as_deref() {
                Some(format @ ("int32" | "int64")) => format!("with format {format}"),
                _ => "(default format)".to_owned(),
            };
            let detail = format!("Checked value must be of type integer {format} in {name}");
            outcome.add(FieldError::invalid(&FieldPath::root(), "", detail));
        }
        outcome.matches += 2;
        let Some(keywords) = &node.keywords else {
            return;
        };
        // Whole values are compared with the whole part of the bounds.
        let whole_value = !number.is_f64();
        let bound = |bound: f64| if whole_value { bound.trunc() } else { bound };
        let invalid = |words: String| self.invalid(name, number.clone(), &words);
        if let Some(factor) = keywords
            .multiple_of
            .map(bound)
            .filter(|factor| *factor > 0.0)
        {
            let quotient = if factor < 1.0 {
                1.0 / factor * value
            } else {
                value / factor
            };
            if (quotient - quotient.round()).abs() > 1e-9 {
                outcome.add(invalid(format!(
                    "should be a multiple of {}",
                    go_float(factor)
                )));
            }
        }
        if let Some(limit) = keywords.minimum.map(bound) {
            let exclusive = keywords.exclusive_minimum;
            if value < limit || (exclusive && value <= limit) {
                let words = if exclusive {
                    "greater than"
                } else {
                    "greater than or equal to"
                };
                outcome.add(invalid(format!("should be {words} {}", go_float(limit))));
            }
        }
        if let Some(limit) = keywords.maximum.map(bound) {
            let exclusive = keywords.exclusive_maximum;
            if value > limit || (exclusive && value >= limit) {
                let words = if exclusive {
                    "less than"
                } else {
                    "less than or equal to"
                };
                outcome.add(invalid(format!("should be {words} {}", go_float(limit))));
            }
        }
    }

    fn array(
        &self,
        node: &Node,
        items: &[Value],
        old: Option<&Value>,
        name: &str,
        depth: usize,
        outcome: &mut Outcome,
    ) {
        if let Some(schema) = &node.items {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| old_element(node, item, old));
                let name = format!("{name}[{index}]");
                outcome.merge(self.value(schema, item, old, &name, depth + 1));
            }
        }
        outcome.matches += 1;
        let Some(keywords) = &node.keywords else {
            return;
        };
        let count = items.len() as i64;
        if let Some(limit) = keywords.min_items.filter(|limit| count < *limit) {
            outcome.add(self.invalid(name, count, &format!("should have at least {limit} items")));
        }
        if let Some(limit) = keywords.max_items.filter(|limit| count > *limit) {
            let limit = usize::try_from(limit).unwrap_or(0);
            outcome.add(FieldError::too_many(&self.path(name), items.len(), limit));
        }
        if keywords.unique_items && repeated(items).next().is_some() {
            outcome.add(self.invalid(name, "", "shouldn't contain duplicates"));
        }
    }

    fn enumeration(&self, node: &Node, value: &Value, name: &str, outcome: &mut Outcome) {
        outcome.matches += 1;
        let Some(keywords) = &node.keywords else {
            return;
        };
        if keywords.enumeration.is_empty()
            || keywords.enumeration.iter().any(|one| equal(one, value))
        {
            return;
        }
        let texts: Vec<String> = keywords.enumeration.iter().map(plain_text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        outcome.add(not_supported(&self.path(name), value.clone(), &texts));
    }

    fn object(
        &self,
        node: &Node,
        members: &Map<String, Value>,
        old: Option<&Value>,
        name: &str,
        depth: usize,
        outcome: &mut Outcome,
    ) {
        if let Some(keywords) = &node.keywords {
            let count = members.len() as i64;
            if let Some(limit) = keywords.min_properties.filter(|limit| count < *limit) {
                outcome.add(self.invalid(
                    name,
                    count,
                    &format!("should have at least {limit} properties"),
                ));
            }
            if let Some(limit) = keywords.max_properties.filter(|limit| count > *limit) {
                let limit = usize::try_from(limit).unwrap_or(0);
                outcome.add(FieldError::too_many(&self.path(name), members.len(), limit));
            }
        }
        for (key, value) in members {
            let old = old.and_then(|old| old.get(key));
            let child = format!("{name}.{key}");
            let regular = if name.is_empty() { key } else { &child };
            match (node.properties.get(key), &node.additional) {
                (Some(field), _) => {
                    let restrictions = node
                        .metadata_restrictions
                        .as_ref()
                        .filter(|_| key == "metadata");
                    let schema = restrictions.unwrap_or(&field.schema);
                    outcome.merge(self.value(schema, value, old, regular, depth + 1));
                }
                (None, Additional::Schema(schema)) => {
                    outcome.merge(self.value(schema, value, old, &child, depth + 1));
                }
                (None, Additional::Forbidden) => {
                    let detail = format!("{child} in body is a forbidden property");
                    outcome.add(FieldError::invalid(&self.path(name), key.as_str(), detail));
                }
                _ => {}
            }
        }
        for key in node
            .required
            .iter()
            .filter(|key| !members.contains_key(*key))
        {
            outcome.add(FieldError::required(
                &self.path(&format!("{name}.{key}")),
                "",
            ));
        }
        outcome.matches += 1;
    }
}

/// How many alternatives were valid (at most one is counted) and the first valid result, or else
/// the one that matched most.
fn first_valid_or_best(results: impl Iterator<Item = Outcome>) -> (usize, Outcome) {
    let mut best: Option<Outcome> = None;
    for result in results {
        if result.is_valid() {
            return (1, result);
        }
        if best
            .as_ref()
            .is_none_or(|best| result.matches > best.matches)
        {
            best = Some(result);
        }
    }
    (0, best.unwrap_or_default())
}

/// The old self of a list's element, which only keys can tell.
fn old_element<'a>(node: &Node, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if node.list_type != ListType::Map {
        return None;
    }
    let same = |other: &Value| {
        node.map_keys
            .iter()
            .all(|key| item.get(key) == other.get(key))
    };
    old.as_array()?.iter().find(|other| same(other))
}

fn check_lists(
    node: &Node,
    value: &Value,
    path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_DEPTH || node.go_name.is_some() {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(field) = node.properties.get(name) {
                    check_lists(&field.schema, member, &path.child(name), depth + 1, errors);
                } else if let Additional::Schema(schema) = &node.additional {
                    check_lists(schema, member, &path.key(name), depth + 1, errors);
                }
            }
        }
        Value::Array(items) => {
            let keys: Vec<Value>;
            let compared = match node.list_type {
                ListType::Atomic => &[][..],
                ListType::Set => items,
                ListType::Map => {
                    keys = items.iter().map(|item| keys_of(node, item)).collect();
                    &keys
                }
            };
            for (index, duplicate) in repeated(compared) {
                errors.push(FieldError::duplicate(&path.index(index), duplicate.clone()));
            }
            let Some(schema) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                check_lists(schema, item, &path.index(index), depth + 1, errors);
            }
        }
        _ => {}
    }
}

fn keys_of(node: &Node, item: &Value) -> Value {
    let members = node
        .map_keys
        .iter()
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(members.collect())
}

/// The elements that stood before, with their index.
fn repeated(items: &[Value]) -> impl Iterator<Item = (usize, &Value)> {
    let mut seen = HashSet::new();
    items
        .iter()
        .enumerate()
        .filter(move |(_, item)| !seen.insert(item.to_string()))
}

fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Any => "",
        ValueType::Object => "object",
        ValueType::Array => "array",
        ValueType::String => "string",
        ValueType::Integer => "integer",
        ValueType::Number => "number",
        ValueType::Boolean => "boolean",
        ValueType::IntOrString => "integer,string",
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        number
            .as_f64()
            .filter(|f| f.fract() == 0.0 && f.abs() < 9.3e18)
            .map(|f| f as i64)
    })
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|value| value.fract() == 0.0)
}

fn equal(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && other.is_number() && one.as_f64() == other.as_f64())
}

fn plain_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A float as Go's `%v` prints it.
fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    value.to_string()
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
