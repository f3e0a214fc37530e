//! `ConfigMap`s.

use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Value, json};

use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;

/// Most bytes of all values together.
pub const BYTES_MAX: usize = 1 << 20;
const KEPT: &str = "field is immutable when `immutable` is set";

/// `ConfigMap`s.
pub const BEHAVIOUR: Behaviour = Behaviour {
    validate_create,
    validate_update,
    cells: Some(cells),
    ..Behaviour::DEFAULT
};

/// How many bytes base64 text stands for.
pub fn decoded_length(text: &str) -> usize {
    let text = text.trim_end_matches('=');
    text.len() * 3 / 4
}

fn validate_create(map: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(map);
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut total_bytes = 0;
    for (key, value) in data.entries() {
        check_key(key, &value, &mut errors);
        if binary.value().get(key).is_some() {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(value.path(), key, why));
        }
        total_bytes += value.text().len();
    }
    for (key, value) in binary.entries() {
        check_key(key, &value, &mut errors);
        total_bytes += decoded_length(value.text());
    }
    if total_bytes > BYTES_MAX {
        // As upstream: the whole object is meant, and printed as an empty list of names.
        errors.push(FieldError::too_long(&FieldPath::new("[]"), BYTES_MAX));
    }
    errors
}

fn check_key(key: &str, value: &At<'_>, errors: &mut Errors) {
    for message in names::config_map_key(key) {
        errors.push(FieldError::invalid(value.path(), key, message));
    }
}

/// What may not change once `immutable` is set.
pub fn check_immutable(new: &Value, old: &Value, fields: &[&str]) -> Errors {
    let mut errors = Vec::new();
    let (root, before) = (At::root(new), At::root(old));
    if !before.get("immutable").is_true() {
        return errors;
    }
    if !root.get("immutable").is_true() {
        errors.push(root.get("immutable").forbidden(KEPT));
    }
    for field in fields {
        if root.get(field).value() != before.get(field).value() {
            errors.push(root.get(field).forbidden(KEPT));
        }
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = check_immutable(new, old, &["data", "binaryData"]);
    errors.extend(validate_create(new));
    errors
}

fn cells(map: &Value, now: Timestamp) -> Vec<Value> {
    let length = |name: &str| {
        map.get(name)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    };
    vec![
        json!(object::name(map)),
        json!(length("data") + length("binaryData")),
        cell::age_of(map, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immutable_maps_stay() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let new = json!({"immutable": true, "data": {"a": "2"}});
        let found: Vec<String> = validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
        assert_eq!(decoded_length("AAEC"), 3);
        assert_eq!(decoded_length("AA=="), 1);
    }
}
