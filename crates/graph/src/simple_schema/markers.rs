//! The marker half of a field: `required=true default="a b" enum="x,y"`.
//!
//! The scanner follows kro's to the letter, because schemas in the field depend on it: blanks after `=` end the value,
//! blanks at the end are an error, single quotes mean nothing, brackets and double quotes hold blanks together.

use serde_json::{Map, Value, json};

use super::Field;
use crate::nearest::suggestion;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Required,
    Default,
    Description,
    Minimum,
    Maximum,
    MinLength,
    MaxLength,
    Pattern,
    Enum,
    MinItems,
    MaxItems,
    UniqueItems,
    ListType,
    MapKey,
    Validation,
    Immutable,
}

const KEYS: [(&str, Name); 16] = [
    ("required", Name::Required),
    ("default", Name::Default),
    ("description", Name::Description),
    ("minimum", Name::Minimum),
    ("maximum", Name::Maximum),
    ("minLength", Name::MinLength),
    ("maxLength", Name::MaxLength),
    ("pattern", Name::Pattern),
    ("enum", Name::Enum),
    ("minItems", Name::MinItems),
    ("maxItems", Name::MaxItems),
    ("uniqueItems", Name::UniqueItems),
    ("listType", Name::ListType),
    ("listMapKey", Name::MapKey),
    ("validation", Name::Validation),
    ("immutable", Name::Immutable),
];

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    key: Name,
    value: String,
}

impl Marker {
    fn new(key: &str, value: &str) -> Result<Self, String> {
        let name = key.trim();
        if name.is_empty() {
            return Err("empty marker key".to_owned());
        }
        let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == name) else {
            let hint = suggestion(name, KEYS.iter().map(|(known, _)| *known));
            return Err(format!("invalid marker key {name:?}: unknown marker{hint}"));
        };
        Ok(Self {
            key: *key,
            value: unquote(value)?,
        })
    }

    /// Splits the text into markers.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut markers = Vec::new();
        let mut scanner = Scanner::default();
        for character in text.chars() {
            if let Some((key, value)) = scanner.push(character)? {
                markers.push(Self::new(&key, &value)?);
            }
        }
        if let Some((key, value)) = scanner.end()? {
            markers.push(Self::new(&key, &value)?);
        }
        Ok(markers)
    }
}

#[derive(Default)]
struct Scanner {
    key: String,
    /// `Some` once the `=` was seen.
    value: Option<String>,
    quoted: bool,
    escaped: bool,
    depth: usize,
}

impl Scanner {
    fn push(&mut self, character: char) -> Result<Option<(String, String)>, String> {
        let Some(value) = &mut self.value else {
            if character == '=' {
                self.value = Some(String::new());
            } else if !(self.key.is_empty() && character.is_whitespace()) {
                self.key.push(character);
            }
            return Ok(None);
        };
        if self.escaped {
            self.escaped = false;
            value.push(character);
            return Ok(None);
        }
        match character {
            '\\' if self.quoted => self.escaped = true,
            '"' => self.quoted = !self.quoted,
            '{' | '[' if !self.quoted => self.depth += 1,
            '}' | ']' if !self.quoted => {
                let Some(depth) = self.depth.checked_sub(1) else {
                    return Err(format!(
                        "unmatched bracket {character:?} in the value of marker {:?}",
                        self.key.trim()
                    ));
                };
                self.depth = depth;
            }
            blank if blank.is_whitespace() && !self.quoted && self.depth == 0 => {
                return Ok(self.take());
            }
            _ => {}
        }
        value.push(character);
        Ok(None)
    }

    fn take(&mut self) -> Option<(String, String)> {
        let value = self.value.take()?;
        Some((std::mem::take(&mut self.key), value))
    }

    fn end(mut self) -> Result<Option<(String, String)>, String> {
        if self.quoted {
            return Err(format!(
                "unclosed quote in the value of marker {:?}",
                self.key.trim()
            ));
        }
        if self.depth > 0 {
            return Err(format!(
                "unclosed bracket in the value of marker {:?}",
                self.key.trim()
            ));
        }
        if self.value.is_none() {
            return Err(format!("marker key '{}' without a value", self.key));
        }
        Ok(self.take())
    }
}

/// Removes the quotes around a value; inside, `\"` and `\\` lose their backslash and other pairs stay as they are.
fn unquote(value: &str) -> Result<String, String> {
    if value == "\"" {
        return Err("unclosed quote".to_owned());
    }
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Ok(value.to_owned());
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some(escaped @ ('"' | '\\')) => text.push(escaped),
            Some(other) => {
                text.push('\\');
                text.push(other);
            }
            None => text.push('\\'),
        }
    }
    Ok(text)
}

/// Applies markers in the order written.
pub(crate) fn apply(field: &mut Field, markers: &[Marker]) -> Result<(), String> {
    for marker in markers {
        apply_one(field, marker)?;
    }
    let schema = &field.schema;
    if schema.contains_key("x-kubernetes-list-map-keys")
        && schema
            .get("x-kubernetes-list-type")
            .is_none_or(|list_type| list_type != "map")
    {
        let found = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        let found = found.map_or_else(|| "unset".to_owned(), |found| format!("set to {found}"));
        return Err(format!(
            "listMapKey set while listType is {found}, listType must be set to map"
        ));
    }
    Ok(())
}

fn apply_one(field: &mut Field, marker: &Marker) -> Result<(), String> {
    let schema = &mut field.schema;
    let value = marker.value.as_str();
    match marker.key {
        Name::Required => field.required = go_bool("required", value)?,
        Name::Default => {
            let default = default_value(schema, value)?;
            schema.insert("default".to_owned(), default);
        }
        Name::Description => set(schema, "description", value.into()),
        Name::Minimum => set(schema, "minimum", float("minimum", value)?),
        Name::Maximum => set(schema, "maximum", float("maximum", value)?),
        Name::MinLength => bound(schema, "string", "minLength", value)?,
        Name::MaxLength => bound(schema, "string", "maxLength", value)?,
        Name::MinItems => bound(schema, "array", "minItems", value)?,
        Name::MaxItems => bound(schema, "array", "maxItems", value)?,
        Name::Pattern => pattern(schema, value)?,
        Name::Enum => enumeration(schema, value)?,
        Name::UniqueItems => {
            only_for(schema, "array", "uniqueItems")?;
            if go_bool("uniqueItems", value)? {
                list_type(schema, "set")?;
            }
        }
        Name::ListType => {
            only_for(schema, "array", "listType")?;
            if !["atomic", "set", "map"].contains(&value) {
                let hint = suggestion(value, ["atomic", "set", "map"]);
                return Err(format!(
                    "listType must be atomic, set or map, got {value:?}{hint}"
                ));
            }
            list_type(schema, value)?;
        }
        Name::MapKey => list_map_key(schema, value)?,
        Name::Validation => {
            if value.trim().is_empty() {
                return Err("validation marker value cannot be empty".to_owned());
            }
            rule(schema, value, "validation failed");
        }
        Name::Immutable => {
            if go_bool("immutable", value)? {
                rule(schema, "self == oldSelf", "field is immutable");
            }
        }
    }
    Ok(())
}

fn set(schema: &mut Map<String, Value>, key: &str, value: Value) {
    schema.insert(key.to_owned(), value);
}

fn type_of(schema: &Map<String, Value>) -> &str {
    schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn only_for(schema: &Map<String, Value>, wanted: &str, marker: &str) -> Result<(), String> {
    let found = type_of(schema);
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "{marker} marker is only valid for {wanted} types, got type: {found}"
    ))
}

fn bound(
    schema: &mut Map<String, Value>,
    wanted: &str,
    key: &str,
    value: &str,
) -> Result<(), String> {
    only_for(schema, wanted, key)?;
    let number: i64 = value
        .parse()
        .map_err(|_| format!("failed to parse {key} value: expected an integer, got {value:?}"))?;
    set(schema, key, number.into());
    Ok(())
}

fn float(marker: &str, value: &str) -> Result<Value, String> {
    if let Ok(number) = value.parse::<i64>() {
        return Ok(number.into());
    }
    let number = value.parse::<f64>().ok();
    number
        .filter(|number| number.is_finite())
        .map(whole_or_not)
        .ok_or_else(|| format!("failed to parse {marker} value: expected a number, got {value:?}"))
}

/// A number as upstream writes it: without a fraction where it has none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and small enough"
)]
fn whole_or_not(number: f64) -> Value {
    /// Up to here whole numbers are exact.
    const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT_LIMIT {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(marker: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "failed to parse {marker} marker value: expected true or false, got {value:?}"
        )),
    }
}

fn default_value(schema: &Map<String, Value>, value: &str) -> Result<Value, String> {
    match type_of(schema) {
        // kro writes the text between quotes without escaping it, so JSON escapes in it count.
        "string" => {
            Ok(serde_json::from_str(&format!("\"{value}\"")).unwrap_or_else(|_| value.into()))
        }
        "integer" => value
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("default value must be a valid integer, got: {value}")),
        "number" => float("default", value)
            .map_err(|_| format!("default value must be a valid number, got: {value}")),
        "boolean" => go_bool("default", value)
            .map(Value::from)
            .map_err(|_| format!("default value must be a valid boolean, got: {value}")),
        _ => serde_json::from_str(value)
            .map_err(|error| format!("default value must be valid JSON, got: {value} ({error})")),
    }
}

fn pattern(schema: &mut Map<String, Value>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("pattern marker value cannot be empty".to_owned());
    }
    only_for(schema, "string", "pattern")?;
    // RE2's syntax, which is what the server will read it as.
    cel::regex::compile(value).map_err(|error| format!("invalid pattern regex: {error}"))?;
    set(schema, "pattern", value.into());
    Ok(())
}

fn enumeration(schema: &mut Map<String, Value>, value: &str) -> Result<(), String> {
    let type_ = type_of(schema);
    let parse = |item: &str| match type_ {
        "string" => Ok(Value::from(item)),
        "integer" => item
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("failed to parse integer enum value: {item:?}")),
        other => Err(format!(
            "enum values only supported for string and integer types, got type: {other}"
        )),
    };
    let mut values = Vec::new();
    for item in value.split(',').map(str::trim) {
        if item.is_empty() {
            return Err("empty enum values are not allowed".to_owned());
        }
        values.push(parse(item)?);
    }
    set(schema, "enum", Value::Array(values));
    Ok(())
}

fn list_type(schema: &mut Map<String, Value>, wanted: &str) -> Result<(), String> {
    if let Some(present) = schema.get("x-kubernetes-list-type").and_then(Value::as_str)
        && present != wanted
    {
        return Err(format!(
            "cannot set list type {wanted} when listType is set to {present}"
        ));
    }
    set(schema, "x-kubernetes-list-type", wanted.into());
    Ok(())
}

fn list_map_key(schema: &mut Map<String, Value>, value: &str) -> Result<(), String> {
    if type_of(schema) != "array" {
        return Err("listMapKey marker only applies to array types".to_owned());
    }
    let keys = schema
        .entry("x-kubernetes-list-map-keys")
        .or_insert_with(|| json!([]));
    if let Some(keys) = keys.as_array_mut() {
        if keys.iter().any(|key| key == value) {
            return Err(format!("duplicate listMapKey marker, value {value}"));
        }
        keys.push(value.into());
    }
    Ok(())
}

fn rule(schema: &mut Map<String, Value>, rule: &str, message: &str) {
    let rules = schema
        .entry("x-kubernetes-validations")
        .or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.push(json!({"rule": rule, "message": message}));
    }
}
