//! Messages to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::table::{self, FieldFact, FieldType, Shape};
use crate::wire::{Field, next};

/// What every protobuf body of Kubernetes starts with.
pub const PREFIX: &[u8] = b"k8s\0";
/// The message of schemas.
const SCHEMA: &str = "@apiextensions.v1.JSONSchemaProps";
/// Deepest nesting; the built-in types need far less, except for schemas within schemas.
pub const DEPTH_MAX: usize = 64;

/// A body as the JSON object it stands for, with `apiVersion` and `kind`.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let mut rest = body.strip_prefix(PREFIX).ok_or(Error::Prefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &b""[..]);
    while let Some((number, field)) = next(&mut rest, "Unknown")? {
        match (number, field) {
            (1, Field::Bytes(mut meta)) => {
                while let Some((number, field)) = next(&mut meta, "TypeMeta")? {
                    let Field::Bytes(bytes) = field else { continue };
                    let text = text(bytes, "TypeMeta", number)?;
                    match number {
                        1 => api_version = text,
                        2 => kind = text,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let name = table::name_of(group, version, &kind)
        .ok_or_else(|| Error::Kind(format!("{api_version} {kind}")))?;
    let mut object = match message(&name, raw, DEPTH_MAX)? {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

fn text(bytes: &[u8], message: &str, field: u64) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Text {
        message: message.to_owned(),
        field,
    })
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
    if let Some(special) = special(name, bytes, depth)? {
        return Ok(special);
    }
    let facts = table::message(name).ok_or_else(|| Error::Kind(name.to_owned()))?;
    let mut members = Map::new();
    let mut rest = bytes;
    while let Some((number, field)) = next(&mut rest, name)? {
        // A field of a newer version is passed over, as Go's decoder does.
        let Some(fact) = facts.get(&number) else {
            continue;
        };
        put(&mut members, name, number, fact, field, depth)?;
    }
    Ok(Value::Object(members))
}

fn put(
    members: &mut Map<String, Value>,
    name: &str,
    number: u64,
    fact: &FieldFact,
    field: Field<'_>,
    depth: usize,
) -> Result<(), Error> {
    match fact.shape {
        Shape::Map => {
            let Field::Bytes(entry) = field else {
                return Err(Error::WireType {
                    message: name.to_owned(),
                    field: number,
                });
            };
            let (key, value) = map_entry(name, number, fact, entry, depth)?;
            let map = members.entry(fact.name).or_insert_with(|| json!({}));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        }
        Shape::List => {
            let list = members.entry(fact.name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                // Numbers may come packed.
                if let (FieldType::Integer, Field::Bytes(mut packed)) = (&fact.field_type, field) {
                    let mut padded = Vec::with_capacity(packed.len() + 1);
                    while !packed.is_empty() {
                        padded.clear();
                        padded.push(0x08);
                        padded.extend_from_slice(packed);
                        let mut rest: &[u8] = &padded;
                        if let Some((_, Field::Varint(value))) = next(&mut rest, name)? {
                            list.push(json!(value as i64));
                        }
                        packed = &packed[packed.len() - rest.len()..];
                    }
                } else {
                    list.push(value(name, number, &fact.field_type, field, depth)?);
                }
            }
        }
        Shape::One => {
            let found = value(name, number, &fact.field_type, field, depth)?;
            match (&fact.field_type, found) {
                (FieldType::Inline(_), Value::Object(inner)) => members.extend(inner),
                (_, found) => drop(members.insert(fact.name.to_owned(), found)),
            }
        }
    }
    Ok(())
}

fn map_entry(
    name: &str,
    number: u64,
    fact: &FieldFact,
    mut entry: &[u8],
    depth: usize,
) -> Result<(String, Value), Error> {
    let mut key = String::new();
    let mut found = match fact.field_type {
        FieldType::Message(message_name) => message(message_name, b"", depth)?,
        _ => json!(""),
    };
    while let Some((part, field)) = next(&mut entry, name)? {
        match (part, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes, name, number)?,
            (2, field) => found = value(name, number, &fact.field_type, field, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

/// A number as upstream writes it: without a fraction where it has none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and small enough"
)]
fn number_value(value: f64) -> Value {
    /// Up to here whole numbers are exact.
    const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;
    let is_negative_zero = value == 0.0 && value.is_sign_negative();
    if value.fract() == 0.0 && value.abs() < EXACT_LIMIT && !is_negative_zero {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn value(
    name: &str,
    number: u64,
    field_type: &FieldType,
    field: Field<'_>,
    depth: usize,
) -> Result<Value, Error> {
    Ok(match (field_type, field) {
        (FieldType::String, Field::Bytes(bytes)) => json!(text(bytes, name, number)?),
        (FieldType::Bytes, Field::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (FieldType::Integer, Field::Varint(value)) => json!(value as i64),
        (FieldType::Bool, Field::Varint(value)) => json!(value != 0),
        (FieldType::Double, Field::Fixed64(bits)) => number_value(f64::from_bits(bits)),
        (FieldType::Message(other) | FieldType::Inline(other), Field::Bytes(bytes)) => {
            message(other, bytes, depth)?
        }
        _ => {
            return Err(Error::WireType {
                message: name.to_owned(),
                field: number,
            });
        }
    })
}

/// Messages whose JSON is not an object of their fields.
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
    let read = || -> Result<(u64, u64, Option<&[u8]>), Error> {
        let (mut first, mut second, mut data) = (0, 0, None);
        let mut rest = bytes;
        while let Some((number, field)) = next(&mut rest, name)? {
            match (number, field) {
                (1, Field::Varint(value)) => first = value,
                (2, Field::Varint(value)) => second = value,
                (_, Field::Bytes(bytes)) => data = Some(bytes),
                _ => {}
            }
        }
        Ok((first, second, data))
    };
    Ok(Some(match name {
        "%apis.meta.v1.Time" | "%apis.meta.v1.MicroTime" => {
            let (seconds, nanos, _) = read()?;
            // An empty message is the zero time, which JSON has as null.
            if bytes.is_empty() {
                return Ok(Some(Value::Null));
            }
            let time =
                jiff::Timestamp::new(seconds as i64, nanos as i32).map_err(|_| Error::Text {
                    message: name.to_owned(),
                    field: 1,
                })?;
            let format = if name.ends_with("MicroTime") {
                "%Y-%m-%dT%H:%M:%S%.6fZ"
            } else {
                "%Y-%m-%dT%H:%M:%SZ"
            };
            json!(time.strftime(format).to_string())
        }
        "%apis.meta.v1.Duration" => json!(format!("{}s", read()?.0 / 1_000_000_000)),
        "%util.intstr.IntOrString" => {
            let (kind, number, data) = read()?;
            if kind == 1 {
                json!(text(data.unwrap_or_default(), name, 3)?)
            } else {
                json!(i64::from(number as i32))
            }
        }
        "%api.resource.Quantity" => json!(text(read()?.2.unwrap_or_default(), name, 1)?),
        "%runtime.RawExtension" | "%apis.meta.v1.FieldsV1" | "@apiextensions.v1.JSON" => {
            let data = read()?.2.unwrap_or_default();
            if data.is_empty() {
                return Ok(Some(Value::Null));
            }
            serde_json::from_slice(data).map_err(|_| Error::Text {
                message: name.to_owned(),
                field: 1,
            })?
        }
        "@apiextensions.v1.JSONSchemaPropsOrBool" => match read()? {
            (_, _, Some(schema)) => message(SCHEMA, schema, depth)?,
            (allows, _, None) => json!(allows != 0),
        },
        "@apiextensions.v1.JSONSchemaPropsOrArray"
        | "@apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            let (mut items, mut rest) = (Vec::new(), bytes);
            while let Some((number, field)) = next(&mut rest, name)? {
                match (number, field) {
                    (1, Field::Bytes(bytes)) => return message(SCHEMA, bytes, depth).map(Some),
                    (_, Field::Bytes(bytes)) if name.ends_with("StringArray") => {
                        items.push(json!(text(bytes, name, number)?));
                    }
                    (_, Field::Bytes(bytes)) => items.push(message(SCHEMA, bytes, depth)?),
                    _ => {}
                }
            }
            json!(items)
        }
        _ if table::is_items(name) => {
            let mut items = Vec::new();
            let mut rest = bytes;
            while let Some((number, field)) = next(&mut rest, name)? {
                if let Field::Bytes(bytes) = field {
                    items.push(text(bytes, name, number)?);
                }
            }
            json!(items)
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, content.len() as u8];
        field.extend_from_slice(content);
        field
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [PREFIX.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let check = |number: f64, expect: &str| {
            assert_eq!(number_value(number).to_string(), expect);
        };
        check(3.0, "3");
        check(-3.0, "-3");
        check(0.5, "0.5");
        check(-0.0, "-0.0");
        check(1e300, "1e+300");
        check(f64::NAN, "null");
    }

    #[test]
    fn a_config_map_is_read() {
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [bytes(1, &bytes(1, b"name")), bytes(2, &entry)].concat();
        assert_eq!(
            decode(&body("v1", "ConfigMap", &raw)),
            Ok(json!({"apiVersion": "v1", "kind": "ConfigMap",
                      "metadata": {"name": "name"}, "data": {"k": "v"}}))
        );
    }

    #[test]
    fn inline_messages_and_ports_that_are_numbers_or_names() {
        // A Service whose port has targetPort 80: IntOrString {type 0, intVal 80}.
        let target = [0x08, 0x00, 0x10, 80, 0x1a, 0x00];
        let port = [bytes(1, b"http"), vec![0x18, 80], bytes(4, &target)].concat();
        let raw = bytes(2, &bytes(1, &port));
        let service = decode(&body("v1", "Service", &raw)).expect("well formed");
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "port": 80, "targetPort": 80}])
        );
        // A volume with an inline source.
        let source = bytes(2, &bytes(2, &[]));
        let volume = bytes(1, &[bytes(1, b"v"), source].concat());
        let pod = decode(&body("v1", "Pod", &bytes(2, &volume))).expect("well formed");
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "v", "emptyDir": {}}])
        );
    }

    #[test]
    fn malformed_bodies_are_errors() {
        assert_eq!(decode(b"{}"), Err(Error::Prefix));
        assert_eq!(
            decode(b"k8s\0\x12\x05ab"),
            Err(Error::Truncated("Unknown".to_owned()))
        );
        assert!(matches!(
            decode(&body("v1", "Thing", b"")),
            Err(Error::Kind(_))
        ));
        let mut nested = Vec::new();
        for _ in 0..200 {
            nested = bytes(1, &nested[..nested.len().min(120)]);
        }
        // Whatever comes out, nothing may panic.
        let _ = decode(&body("v1", "Pod", &nested));
    }
}
