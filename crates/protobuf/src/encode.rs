//! JSON to messages.
//!
//! As Go's generated code writes them: fields in the order of their numbers, and every field that is no
//! pointer is written even where it is empty, so the bytes are those of the real server.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::Error;
use crate::message::{DEPTH_MAX, PREFIX};
use crate::table::{self, FieldFact, FieldType, Shape};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// An object as a body: the four bytes, and what is in the envelope behind them.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let name = table::name_of(group, version, kind)
        .ok_or_else(|| Error::Kind(format!("{api_version} {kind}")))?;
    let raw = message(&name, object, DEPTH_MAX)?;
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = PREFIX.to_vec();
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, &raw);
    // The encoding and the type of the content, which are not used.
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// One item of a list, as it stands in the list's message: lists are written item by item, so that a long
/// one never stands in memory as values.
pub fn encode_item(api_version: &str, kind: &str, item: &Value) -> Result<Vec<u8>, Error> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let name = table::name_of(group, version, kind)
        .ok_or_else(|| Error::Kind(format!("{api_version} {kind}")))?;
    let mut out = Vec::new();
    put_bytes(&mut out, LIST_ITEMS, &message(&name, item, DEPTH_MAX)?);
    Ok(out)
}

/// What comes before and after the items of a list that take `length` bytes in all.
pub fn encode_list(
    api_version: &str,
    list_kind: &str,
    metadata: &Value,
    length: usize,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut list = Vec::new();
    put_bytes(
        &mut list,
        LIST_METADATA,
        &message(LIST_META, metadata, DEPTH_MAX)?,
    );
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, list_kind.as_bytes());
    let mut head = PREFIX.to_vec();
    put_bytes(&mut head, 1, &meta);
    put_tag(&mut head, 2, BYTES);
    put_varint(&mut head, (list.len() + length) as u64);
    head.extend_from_slice(&list);
    let mut tail = Vec::new();
    put_bytes(&mut tail, 3, b"");
    put_bytes(&mut tail, 4, b"");
    Ok((head, tail))
}

/// One event of a watch, with the four bytes of length before it.
pub fn encode_event(kind: &str, object: &Value) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &encode(object)?);
    let mut event = Vec::new();
    put_bytes(&mut event, 1, kind.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let length = u32::try_from(event.len()).map_err(|_| Error::Depth)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&event);
    Ok(frame)
}

/// The fields every list's message has, and the type of the first.
const LIST_METADATA: u64 = 1;
const LIST_ITEMS: u64 = 2;
const LIST_META: &str = "%apis.meta.v1.ListMeta";

/// Whether a kind has a message.
pub fn has_message(group: &str, version: &str, kind: &str) -> bool {
    table::name_of(group, version, kind).is_some()
}

pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_tag(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    put_varint(out, number << 3 | wire_type);
}

pub fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

fn message(name: &str, value: &Value, depth: usize) -> Result<Vec<u8>, Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
    if let Some(special) = special(name, value, depth)? {
        return Ok(special);
    }
    let facts = table::message(name).ok_or_else(|| Error::Kind(name.to_owned()))?;
    let mut out = Vec::new();
    for (number, fact) in facts {
        let found = match fact.field_type {
            FieldType::Inline(_) => Some(value),
            _ => value.get(fact.name).filter(|found| !found.is_null()),
        };
        field(&mut out, *number, fact, found, depth)?;
    }
    Ok(out)
}

fn field(
    out: &mut Vec<u8>,
    number: u64,
    fact: &FieldFact,
    found: Option<&Value>,
    depth: usize,
) -> Result<(), Error> {
    match fact.shape {
        Shape::List => {
            for item in found.and_then(Value::as_array).into_iter().flatten() {
                put(out, number, &fact.field_type, item, depth)?;
            }
        }
        Shape::Map => {
            for (key, value) in found.and_then(Value::as_object).into_iter().flatten() {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                put(&mut entry, 2, &fact.field_type, value, depth)?;
                put_bytes(out, number, &entry);
            }
        }
        Shape::One => match found {
            Some(found) => put(out, number, &fact.field_type, found, depth)?,
            None if fact.is_pointer || fact.field_type == FieldType::Bytes => {}
            None => put(out, number, &fact.field_type, &Value::Null, depth)?,
        },
    }
    Ok(())
}

/// One value; null is the empty one of its type.
fn put(
    out: &mut Vec<u8>,
    number: u64,
    field_type: &FieldType,
    value: &Value,
    depth: usize,
) -> Result<(), Error> {
    match field_type {
        FieldType::String => {
            put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes());
        }
        FieldType::Bytes => {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default());
            let bytes = bytes.map_err(|_| Error::Text {
                message: "bytes".to_owned(),
                field: number,
            })?;
            put_bytes(out, number, &bytes);
        }
        FieldType::Integer => put_number(out, number, integer(value)),
        FieldType::Bool => put_number(out, number, u64::from(value.as_bool().unwrap_or(false))),
        FieldType::Double => {
            put_tag(out, number, FIXED64);
            let value = value.as_f64().unwrap_or(0.0);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        FieldType::Message(name) | FieldType::Inline(name) => {
            put_bytes(out, number, &message(name, value, depth)?);
        }
    }
    Ok(())
}

fn integer(value: &Value) -> u64 {
    value
        .as_i64()
        .map(|number| number as u64)
        .or_else(|| value.as_u64())
        .unwrap_or(0)
}

/// Nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;

/// Messages whose JSON is not an object of their fields.
fn special(name: &str, value: &Value, depth: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut out = Vec::new();
    match name {
        "%apis.meta.v1.Time" | "%apis.meta.v1.MicroTime" => {
            // The zero time is an empty message.
            let time = value
                .as_str()
                .and_then(|text| text.parse::<jiff::Timestamp>().ok());
            if let Some(time) = time {
                let micro = name.ends_with("MicroTime");
                let nanos = time.subsec_nanosecond() / 1000 * 1000;
                put_number(&mut out, 1, time.as_second() as u64);
                put_number(&mut out, 2, if micro { nanos as u64 } else { 0 });
            }
        }
        "%apis.meta.v1.Duration" => {
            // Whole seconds are all that is measured over.
            let seconds = value.as_str().and_then(|text| text.strip_suffix('s'));
            let seconds = seconds.and_then(|text| text.parse::<u64>().ok());
            put_number(&mut out, 1, seconds.unwrap_or(0).saturating_mul(NANOS));
        }
        "%util.intstr.IntOrString" => {
            let text = value.as_str();
            put_number(&mut out, 1, u64::from(text.is_some()));
            put_number(&mut out, 2, integer(value));
            put_bytes(&mut out, 3, text.unwrap_or_default().as_bytes());
        }
        "%api.resource.Quantity" => {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => "0".to_owned(),
                other => other.to_string(),
            };
            put_bytes(&mut out, 1, text.as_bytes());
        }
        "%runtime.RawExtension" | "%apis.meta.v1.FieldsV1" | "@apiextensions.v1.JSON" => {
            if !value.is_null() {
                put_bytes(&mut out, 1, raw_json(value).as_bytes());
            }
        }
        "@apiextensions.v1.JSONSchemaPropsOrBool" => {
            let is_schema = value.is_object();
            put_number(
                &mut out,
                1,
                u64::from(is_schema || *value == Value::Bool(true)),
            );
            if is_schema {
                let schema = message("@apiextensions.v1.JSONSchemaProps", value, depth)?;
                put_bytes(&mut out, 2, &schema);
            }
        }
        "@apiextensions.v1.JSONSchemaPropsOrArray" => {
            let items = value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice);
            let number = if value.is_array() { 2 } else { 1 };
            for item in items {
                let schema = message("@apiextensions.v1.JSONSchemaProps", item, depth)?;
                put_bytes(&mut out, number, &schema);
            }
        }
        "@apiextensions.v1.JSONSchemaPropsOrStringArray" => match value {
            Value::Array(names) => {
                for name in names {
                    put_bytes(&mut out, 2, name.as_str().unwrap_or_default().as_bytes());
                }
            }
            schema => {
                let schema = message("@apiextensions.v1.JSONSchemaProps", schema, depth)?;
                put_bytes(&mut out, 1, &schema);
            }
        },
        _ if table::is_items(name) => {
            for item in value.as_array().into_iter().flatten() {
                put_bytes(&mut out, 1, item.as_str().unwrap_or_default().as_bytes());
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(out))
}

/// JSON as Go writes it where it is kept as text: with the characters escaped that mean something in HTML. Go's programs
/// compare such texts by their bytes, a revision with the template they would make it from for one.
pub fn raw_json(value: &Value) -> String {
    let text = value.to_string();
    let is_special =
        |character: char| matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if !text.contains(is_special) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 32);
    for character in text.chars() {
        if is_special(character) {
            // Writing to a text does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use serde_json::json;

    /// What is written is read back; empty fields may appear.
    fn check(object: &Value) {
        let bytes = encode(object).expect("has a message");
        let back = decode(&bytes).expect("well formed");
        assert!(contains(&back, object), "{back}\nis not\n{object}");
    }

    fn contains(all: &Value, part: &Value) -> bool {
        match (all, part) {
            (Value::Object(all), Value::Object(part)) => part
                .iter()
                .all(|(name, part)| all.get(name).is_some_and(|all| contains(all, part))),
            (Value::Array(all), Value::Array(part)) => {
                all.len() == part.len() && all.iter().zip(part).all(|(a, b)| contains(a, b))
            }
            (all, part) => all == part,
        }
    }

    #[test]
    fn what_is_kept_as_text_is_as_go_writes_it() {
        let data = json!({"image": "a<b>&c\u{2028}", "name": "\u{fc}"});
        let text = r#"{"image":"a\u003cb\u003e\u0026c\u2028","name":"ü"}"#;
        assert_eq!(raw_json(&data), text);
        let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": "n"}, "data": data, "revision": 1});
        check(&revision);
        let bytes = encode(&revision).expect("has a message");
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(has(text));
    }

    #[test]
    fn what_is_written_is_read_back() {
        check(
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": {"name": "n", "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 3,
                "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:data": {}}}]},
            "data": {"a": "1", "b": ""}, "binaryData": {"c": "AAEC"}}),
        );
        check(
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]}}),
        );
        check(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
                "containers": [{"name": "c", "resources": {"limits": {"cpu": "100m"}}}],
                "terminationGracePeriodSeconds": 30}}),
        );
        check(
            &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"renewTime": "2026-01-02T03:04:05.123456Z", "leaseTransitions": -1}}),
        );
        check(
            &json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"},
            "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}),
        );
        check(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "x"}, "spec": {"group": "g", "versions": [{"name": "v1", "schema":
                {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "array",
                "items": {"type": "string", "enum": ["a", 1]}}, "m": {"additionalProperties": true},
                "n": {"additionalProperties": {"type": "number", "maximum": 1.5, "default": 1}}}}}}]}}),
        );
    }

    #[test]
    fn a_status_has_the_bytes_of_the_real_server() {
        let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": "no", "reason": "NotAcceptable", "code": 406});
        let expect: &[u8] =
            b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status\x12\x27\x0a\x06\x0a\0\x12\0\x1a\0\
            \x12\x07Failure\x1a\x02no\"\x0dNotAcceptable0\x96\x03\x1a\0\"\0";
        let bytes = encode(&status).expect("has a message");
        assert_eq!(bytes, expect);
    }

    #[test]
    fn a_list_written_item_by_item_is_the_list() {
        let item = |name: &str| json!({"metadata": {"name": name}, "data": {"k": name}});
        let items = [item("a"), item("b")];
        let metadata = json!({"resourceVersion": "7"});
        let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata,
            "items": items});
        let parts: Vec<Vec<u8>> = items
            .iter()
            .map(|item| encode_item("v1", "ConfigMap", item).expect("has a message"))
            .collect();
        let length = parts.iter().map(Vec::len).sum();
        let (head, tail) =
            encode_list("v1", "ConfigMapList", &metadata, length).expect("has a message");
        let joined = [head, parts.concat(), tail].concat();
        assert_eq!(joined, encode(&whole).expect("has a message"));
    }

    #[test]
    fn an_event_is_framed() {
        let event = encode_event("ADDED", &json!({"apiVersion": "v1", "kind": "Secret"}));
        let event = event.expect("has a message");
        assert_eq!(event[..4], (event.len() as u32 - 4).to_be_bytes());
        assert_eq!(event[4..11], *b"\x0a\x05ADDED");
    }
}
