//! Bodies to objects: media types, unknown and duplicate fields, and the types of fields.

use model::{GroupVersionKind, Status, object};
use schema::Schema;
use serde_json::Value;

use crate::catalog::Definition;
use crate::context::{Context, FieldValidation};
use crate::{go_json, media};

/// Reads YAML as kubectl reads it: version 1.1, one document, bounded aliases.
pub fn yaml_to_value(text: &[u8]) -> Result<Value, Status> {
    let bad = |why: String| {
        Status::bad_request(format!(
            "the object provided is unrecognized: error converting YAML to JSON: yaml: {why}"
        ))
    };
    let text = std::str::from_utf8(text).map_err(|error| bad(error.to_string()))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = error.to_string();
        bad(message.lines().next().unwrap_or_default().to_owned())
    })
}

/// The object in the request's body, of `kind`, checked and typed by `schema`.
pub fn decode_body(
    context: &Context,
    kind: &GroupVersionKind,
    schema: &Schema,
    custom: bool,
) -> Result<Value, Status> {
    match media::content_type(&context.headers) {
        "application/json" => {
            let value = go_json::parse(&context.body, &kind.kind)?;
            decode_value(context, kind, schema, custom, value, &context.body)
        }
        "application/yaml" => {
            let value = yaml_to_value(&context.body)?;
            let json = serde_json::to_vec(&value).map_err(Status::internal)?;
            let value = go_json::parse(&json, &kind.kind)?;
            decode_value(context, kind, schema, custom, value, &json)
        }
        protobuf::MEDIA_TYPE if !custom => {
            let mut value = protobuf::decode(&context.body).map_err(|error| {
                Status::bad_request(format!("decoding the protobuf body: {error}"))
            })?;
            // Protobuf always has the fields Go's JSON leaves out when they are empty.
            schema::encode(schema, &mut value);
            let json = serde_json::to_vec(&value).map_err(Status::internal)?;
            decode_value(context, kind, schema, custom, value, &json)
        }
        _ => Err(media::unsupported()),
    }
}

/// Checks and types an object that is JSON already; `json` is its text.
pub fn decode_value(
    context: &Context,
    kind: &GroupVersionKind,
    schema: &Schema,
    custom: bool,
    mut value: Value,
    json: &[u8],
) -> Result<Value, Status> {
    check_kind(kind, custom, &mut value)?;
    let validation = context.field_validation()?;
    let mut problems = Vec::new();
    if custom {
        if validation != FieldValidation::Ignore {
            problems = schema::duplicate_fields(json);
        }
        let unknown = schema::coerce_metadata(schema, &mut value)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let pruned = schema::prune(schema, &mut value);
        problems.extend(
            unknown
                .iter()
                .chain(&pruned)
                .map(|path| format!("unknown field \"{path}\"")),
        );
    } else {
        if validation != FieldValidation::Ignore {
            problems = schema::strict_errors(schema, json);
        }
        schema::decode(schema, &mut value).map_err(|error| unhandled(kind, &error.to_string()))?;
    }
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            let list = problems.join(", ");
            let why = format!("strict decoding error: {list}");
            return Err(if custom {
                Status::bad_request(why)
            } else {
                unhandled(kind, &why)
            });
        }
        FieldValidation::Warn => problems
            .into_iter()
            .for_each(|problem| context.warn(problem)),
        _ => {}
    }
    Ok(value)
}

fn unhandled(kind: &GroupVersionKind, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        kind.kind, kind.version, kind.kind
    ))
}

/// What is missing of `apiVersion` and `kind` is filled in, what differs is refused.
fn check_kind(kind: &GroupVersionKind, custom: bool, value: &mut Value) -> Result<(), Status> {
    let wanted = kind.api_version();
    let (found_version, found_kind) = (
        object::text(value, &["apiVersion"]),
        object::text(value, &["kind"]),
    );
    if custom && found_kind.is_empty() {
        let text = value.to_string();
        return Err(Status::bad_request(format!(
            "Object 'Kind' is missing in '{text}'"
        )));
    }
    let fits = |found: &str, wanted: &str| found == wanted || (found.is_empty() && !custom);
    if !fits(found_version, &wanted) || !fits(found_kind, &kind.kind) {
        let version = if found_version.is_empty() {
            wanted.clone()
        } else {
            found_version.to_owned()
        };
        let name = if found_kind.is_empty() {
            &kind.kind
        } else {
            found_kind
        };
        if custom && found_kind != kind.kind {
            return Err(Status::bad_request(format!(
                "{name} in version \"{}\" cannot be handled as a {}: expected kind {}, but got kind {name}",
                version.rsplit('/').next().unwrap_or_default(),
                kind.kind,
                kind.kind,
            )));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    if let Some(members) = value.as_object_mut() {
        members.insert("apiVersion".to_owned(), wanted.into());
        members.insert("kind".to_owned(), kind.kind.clone().into());
    }
    Ok(())
}

impl Definition {
    /// The object in the request's body, of this definition's kind.
    pub(crate) fn decode(&self, context: &Context) -> Result<Value, Status> {
        decode_body(context, &self.kind, &self.schema, self.custom.is_some())
    }
}
