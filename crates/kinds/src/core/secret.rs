//! Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::{FieldError, FieldPath, names, object};
use serde_json::{Map, Value, json};

use super::config_map::{BYTES_MAX, check_immutable, decoded_length};
use crate::at::{At, Errors};
use crate::behaviour::Behaviour;
use crate::cell;
use crate::check;
use crate::edit::{fill_zero, remove, within};

/// Secrets.
pub const BEHAVIOUR: Behaviour = Behaviour {
    default,
    validate_create,
    validate_update,
    cells: Some(cells),
    selectable_fields: &["type"],
    ..Behaviour::DEFAULT
};

/// `stringData` is a way to write `data`; it is never stored.
fn default(secret: &mut Value) {
    fill_zero(secret, "type", "Opaque");
    let Some(Value::Object(texts)) = secret.get("stringData").cloned() else {
        return;
    };
    remove(secret, "stringData");
    if texts.is_empty() {
        return;
    }
    within(secret, "data", |data| {
        for (key, text) in texts {
            let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
            crate::edit::set(data, &key, encoded);
        }
    });
}

fn validate_create(secret: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(secret);
    let data = root.get("data");
    let mut total_bytes = 0;
    for (key, value) in data.entries() {
        for message in names::config_map_key(key) {
            errors.push(FieldError::invalid(value.path(), key, message));
        }
        total_bytes += decoded_length(value.text());
    }
    if total_bytes > BYTES_MAX {
        errors.push(data.too_long(BYTES_MAX));
    }
    check_type(&root, &data, &mut errors);
    errors
}

/// Secrets of some types must have certain keys.
fn check_type(root: &At<'_>, data: &At<'_>, errors: &mut Errors) {
    let has = |key: &str| data.value().get(key).is_some();
    let mut require = |key: &str| errors.push(FieldError::required(&data.path().key(key), ""));
    match root.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if object::annotation(root.value(), key).is_none_or(str::is_empty) {
                let path = FieldPath::new("metadata.annotations").key(key);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => docker(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if object::text(data.value(), &["ssh-privatekey"]).is_empty() => {
            require("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            ["tls.crt", "tls.key"]
                .into_iter()
                .filter(|key| !has(key))
                .for_each(require);
        }
        _ => {}
    }
}

fn docker(data: &At<'_>, key: &str, errors: &mut Errors) {
    let path = data.path().key(key);
    let Some(text) = data.value().get(key).and_then(Value::as_str) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Some(why) = json_error(&bytes) {
        errors.push(FieldError::invalid(
            &path,
            "<secret contents redacted>",
            why,
        ));
    }
}

/// Why bytes are no JSON object, in the words of Go.
fn json_error(bytes: &[u8]) -> Option<String> {
    let error = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            let target = "Go value of type map[string]interface {}";
            return Some(format!("json: cannot unmarshal {kind} into {target}"));
        }
        Err(error) => error,
    };
    if error.is_eof() {
        return Some("unexpected end of JSON input".to_owned());
    }
    let first = bytes
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .copied()
        .unwrap_or(b' ');
    let starts_value = first.is_ascii_digit() || b"{[\"-tfn".contains(&first);
    let (found, place) = if starts_value {
        let line = bytes
            .split(|byte| *byte == b'\n')
            .nth(error.line().saturating_sub(1));
        let column = error.column().saturating_sub(1);
        let found = line
            .and_then(|line| line.get(column))
            .copied()
            .unwrap_or(first);
        (found, "after top-level value")
    } else {
        (first, "looking for beginning of value")
    };
    Some(format!("invalid character '{}' {place}", char::from(found)))
}

fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    check::immutable(
        &At::root(new).get("type"),
        &At::root(old).get("type"),
        &mut errors,
    );
    errors.extend(check_immutable(new, old, &["data"]));
    errors.extend(validate_create(new));
    errors
}

fn cells(secret: &Value, now: Timestamp) -> Vec<Value> {
    let length = secret
        .get("data")
        .and_then(Value::as_object)
        .map_or(0, Map::len);
    vec![
        json!(object::name(secret)),
        json!(object::text(secret, &["type"])),
        json!(length),
        cell::age_of(secret, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_become_data() {
        let mut secret = json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}});
        default(&mut secret);
        assert_eq!(
            secret,
            json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}})
        );
    }

    #[test]
    fn types_require_keys() {
        let check = |kind: &str, expect: &[&str]| {
            let errors = validate_create(&json!({"type": kind}));
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expect);
        };
        check("Opaque", &[]);
        check(
            "kubernetes.io/tls",
            &[
                "data[tls.crt]: Required value",
                "data[tls.key]: Required value",
            ],
        );
        check(
            "kubernetes.io/dockercfg",
            &["data[.dockercfg]: Required value"],
        );
        assert_eq!(
            json_error(b"x").as_deref(),
            Some("invalid character 'x' looking for beginning of value")
        );
        assert_eq!(json_error(b"{}"), None);
    }
}
