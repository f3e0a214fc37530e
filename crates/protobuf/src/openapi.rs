//! The OpenAPI v2 document as protobuf: kubectl asks for it in this form alone when it validates lists.
//!
//! The messages are those of the published `openapi.v2` package. Each is a table of its fields; what has a
//! name of its own choosing (`x-...`) goes into the vendor extensions, whose values are texts of YAML.

use serde_json::Value;

use crate::encode::{put_bytes, put_number, put_varint};

/// The media type of the encoding.
pub const OPENAPI_V2_MEDIA_TYPE: &str =
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Nested deeper than any schema there is.
const DEPTH_MAX: usize = 64;

/// What a field holds.
#[derive(Clone, Copy)]
enum Form {
    /// Text.
    Text,
    /// Texts, one after the other.
    Texts,
    /// Yes or no.
    Flag,
    /// A whole number.
    Whole,
    /// A number with a fraction.
    Number,
    /// Anything, as YAML.
    Any,
    /// A list of anything.
    Anys,
    /// A message.
    One(&'static Message),
    /// Messages, one after the other.
    Many(&'static Message),
    /// One message or several of them, wrapped in a message of which they are the first field.
    Wrapped(&'static Message),
    /// A map, wrapped in a message whose field of this number holds pairs of a name and the message.
    Named(u64, &'static Message),
    /// One text or several, wrapped.
    Type,
    /// A schema, or yes or no.
    Additional,
    /// Parameters, which are told apart by where they stand.
    Parameters,
    /// Responses by their code.
    Responses,
    /// Maps of names to lists of names.
    Security,
    /// How clients say who they are: an API key.
    Keys,
}

/// A message: its fields by their names in JSON, and the number of its vendor extensions.
struct Message {
    fields: &'static [(&'static str, u64, Form)],
    extensions: u64,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("host", 3, Form::Text),
        ("basePath", 4, Form::Text),
        ("schemes", 5, Form::Texts),
        ("consumes", 6, Form::Texts),
        ("produces", 7, Form::Texts),
        ("paths", 8, Form::Named(2, &PATH)),
        ("definitions", 9, Form::Named(1, &SCHEMA)),
        ("security", 12, Form::Security),
        ("securityDefinitions", 13, Form::Keys),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[
        ("title", 1, Form::Text),
        ("version", 2, Form::Text),
        ("description", 3, Form::Text),
    ],
    extensions: 7,
};

static PATH: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("options", 6, Form::One(&OPERATION)),
        ("head", 7, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Responses),
        ("schemes", 10, Form::Texts),
        ("deprecated", 11, Form::Flag),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    extensions: 6,
};

/// Parameters of paths; those of queries have one field more between the name and the type.
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 20, Form::Flag),
    ],
    extensions: 22,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Flag),
    ],
    extensions: 23,
};

static REFERENCE: Message = Message {
    fields: &[("$ref", 1, Form::Text), ("description", 2, Form::Text)],
    extensions: 0,
};

static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("schema", 2, Form::Wrapped(&SCHEMA)),
    ],
    extensions: 5,
};

static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("description", 4, Form::Text),
    ],
    extensions: 5,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Number),
        ("maximum", 7, Form::Number),
        ("exclusiveMaximum", 8, Form::Flag),
        ("minimum", 9, Form::Number),
        ("exclusiveMinimum", 10, Form::Flag),
        ("maxLength", 11, Form::Whole),
        ("minLength", 12, Form::Whole),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Whole),
        ("minItems", 15, Form::Whole),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Whole),
        ("minProperties", 18, Form::Whole),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::Additional),
        ("type", 22, Form::Type),
        ("items", 23, Form::Wrapped(&SCHEMA)),
        ("allOf", 24, Form::Many(&SCHEMA)),
        ("properties", 25, Form::Named(1, &SCHEMA)),
        ("discriminator", 26, Form::Text),
        ("readOnly", 27, Form::Flag),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
};

/// A document of OpenAPI v2 in protobuf. Fields the messages do not have are left out.
pub fn encode_openapi_v2(document: &Value) -> Vec<u8> {
    message(document, &DOCUMENT, 0)
}

fn message(value: &Value, kind: &Message, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(fields) = value.as_object().filter(|_| depth < DEPTH_MAX) else {
        return out;
    };
    for (name, number, form) in kind.fields {
        if let Some(value) = fields.get(*name) {
            put(&mut out, *number, *form, value, depth + 1);
        }
    }
    if kind.extensions > 0 {
        for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
            put_bytes(&mut out, kind.extensions, &named(name, &any(value)));
        }
    }
    out
}

fn put(out: &mut Vec<u8>, number: u64, form: Form, value: &Value, depth: usize) {
    match form {
        Form::Text => put_bytes(out, number, text(value)),
        Form::Texts => list(value).for_each(|item| put_bytes(out, number, text(item))),
        Form::Flag => put_number(out, number, u64::from(value == &Value::Bool(true))),
        Form::Whole => put_number(out, number, value.as_u64().unwrap_or_default()),
        Form::Number => put_double(out, number, value.as_f64().unwrap_or_default()),
        Form::Any => put_bytes(out, number, &any(value)),
        Form::Anys => list(value).for_each(|item| put_bytes(out, number, &any(item))),
        Form::One(kind) => put_bytes(out, number, &message(value, kind, depth)),
        Form::Many(kind) => {
            list(value).for_each(|item| put_bytes(out, number, &message(item, kind, depth)));
        }
        Form::Wrapped(kind) => {
            let inner = wrap(1, &message(value, kind, depth));
            put_bytes(out, number, &inner);
        }
        Form::Named(field, kind) => {
            let members = map(value).map(|(name, item)| named(name, &message(item, kind, depth)));
            put_bytes(out, number, &wrap_all(field, members));
        }
        Form::Type => {
            let one = std::slice::from_ref(value);
            let names = value.as_array().map_or(one, Vec::as_slice).iter();
            let inner = wrap_all(1, names.map(|name| text(name).to_vec()));
            put_bytes(out, number, &inner);
        }
        Form::Additional => {
            let mut inner = Vec::new();
            match value {
                Value::Bool(allowed) => put_number(&mut inner, 2, u64::from(*allowed)),
                schema => put_bytes(&mut inner, 1, &message(schema, &SCHEMA, depth)),
            }
            put_bytes(out, number, &inner);
        }
        Form::Parameters => {
            list(value).for_each(|item| put_bytes(out, number, &parameter(item, depth)));
        }
        Form::Responses => {
            let codes = map(value).map(|(code, item)| named(code, &response(item, depth)));
            put_bytes(out, number, &wrap_all(1, codes));
        }
        Form::Security => list(value).for_each(|requirement| {
            let pairs = map(requirement).map(|(name, scopes)| {
                named(
                    name,
                    &wrap_all(1, list(scopes).map(|scope| text(scope).to_vec())),
                )
            });
            put_bytes(out, number, &wrap_all(1, pairs));
        }),
        Form::Keys => {
            // Of the ways there are, the second is the API key.
            let keys =
                map(value).map(|(name, key)| named(name, &wrap(2, &message(key, &API_KEY, depth))));
            put_bytes(out, number, &wrap_all(1, keys));
        }
    }
}

/// A parameter, or a reference to one: each in the wrappers its place calls for.
fn parameter(value: &Value, depth: usize) -> Vec<u8> {
    if value.get("$ref").is_some() {
        return wrap(2, &message(value, &REFERENCE, depth));
    }
    let parameter = match value.get("in").and_then(Value::as_str) {
        Some("body") => wrap(1, &message(value, &BODY_PARAMETER, depth)),
        Some("query") => wrap(2, &wrap(3, &message(value, &QUERY_PARAMETER, depth))),
        _ => wrap(2, &wrap(4, &message(value, &PATH_PARAMETER, depth))),
    };
    wrap(1, &parameter)
}

fn response(value: &Value, depth: usize) -> Vec<u8> {
    if value.get("$ref").is_some() {
        wrap(2, &message(value, &REFERENCE, depth))
    } else {
        wrap(1, &message(value, &RESPONSE, depth))
    }
}

/// Anything, as the text of YAML that JSON is too.
fn any(value: &Value) -> Vec<u8> {
    wrap(2, format!("{value}\n").as_bytes())
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut pair = wrap(1, name.as_bytes());
    put_bytes(&mut pair, 2, value);
    pair
}

fn wrap(number: u64, bytes: &[u8]) -> Vec<u8> {
    wrap_all(number, std::iter::once(bytes.to_vec()))
}

fn wrap_all(number: u64, parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    parts.for_each(|part| put_bytes(&mut out, number, &part));
    out
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    const EIGHT_BYTES: u64 = 1;
    put_varint(out, number << 3 | EIGHT_BYTES);
    out.extend_from_slice(&value.to_le_bytes());
}

fn text(value: &Value) -> &[u8] {
    value.as_str().unwrap_or_default().as_bytes()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_laid_out_as_published() {
        let bytes = message(
            &json!({"type": "array", "items": {"$ref": "#/a"}, "x-k": "v"}),
            &SCHEMA,
            0,
        );
        // Field 22 (type): its first field is the name; field 23 (items): its first field is a schema,
        // whose first field is the reference; field 31: a name and YAML.
        let expected = [
            &[0xb2, 0x01, 7, 0x0a, 5][..],
            b"array",
            &[0xba, 0x01, 7, 0x0a, 5, 0x0a, 3],
            b"#/a",
            &[0xfa, 0x01, 13, 0x0a, 3],
            b"x-k",
            &[0x12, 6, 0x12, 4],
            b"\"v\"\n",
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn parameters_are_told_apart() {
        let query = parameter(&json!({"in": "query", "name": "q", "type": "string"}), 0);
        assert_eq!(query[0], 0x0a, "a parameter");
        assert_eq!(query[2], 0x12, "that is no body");
        assert_eq!(query[4], 0x1a, "but of the query");
        let body = parameter(&json!({"in": "body", "name": "body", "schema": {}}), 0);
        assert_eq!(body[2], 0x0a);
        assert_eq!(parameter(&json!({"$ref": "#/parameters/x"}), 0)[0], 0x12);
    }
}
