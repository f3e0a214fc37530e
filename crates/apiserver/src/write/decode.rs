//! Bodies to objects: media types, unknown and duplicate fields, and the types of fields.

use model::{GroupVersionKind, Status, object};
use schema::Schema;
use serde_json::Value;

use crate::catalog::Definition;
use crate::context::{Context, FieldValidation};
use crate::{go_json, media};

/// Reads YAML as kubectl reads it: version 1.1, the first document, bounded aliases. Errors are
/// worded as Go's YAML reader words them where that is known.
pub fn parse_yaml(text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("yaml: {error}"))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(first_document(text), options).map_err(|error| {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        let line = message
            .split_once("line ")
            .and_then(|(_, rest)| rest.split(' ').next());
        let expected = match message {
            _ if message.contains("unclosed bracket '['") => "',' or ']'",
            _ if message.contains("unclosed bracket '{'") => "',' or '}'",
            _ => return format!("yaml: {message}"),
        };
        format!(
            "yaml: line {}: did not find expected {expected}",
            line.unwrap_or("1")
        )
    })
}

/// The text up to where a second document begins. A line of three dashes is never anything else.
fn first_document(text: &str) -> &str {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let marks = bare == "---" || bare.starts_with("--- ");
        if begun && (marks || bare == "...") {
            return &text[..at];
        }
        begun |= marks || !(bare.is_empty() || bare.starts_with(['#', '%']));
        at += line.len();
    }
    text
}

/// Reads a YAML body.
pub fn yaml_to_value(text: &[u8]) -> Result<Value, Status> {
    parse_yaml(text).map_err(|error| {
        Status::bad_request(format!(
            "the object provided is unrecognized: error converting YAML to JSON: {error}"
        ))
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
        _ => Err(media::unknown_body(custom)),
    }
}

/// Why an object is not of the kind that is wanted.
pub enum Misfit {
    /// Refused as it stands.
    Refused(Status),
    /// For this reason, which each verb words its own way.
    Because(String),
}

impl Misfit {
    /// The answer, where `word` words the reason.
    pub fn with(self, word: impl FnOnce(String) -> Status) -> Status {
        match self {
            Self::Refused(status) => status,
            Self::Because(why) => word(why),
        }
    }
}

/// Types the object a patch has made; `patch` is the text of the patch.
pub fn decode_patched(context: &Context, object: Value, patch: &[u8]) -> Result<Value, Misfit> {
    let definition = &context.definition;
    let custom = definition.custom.is_some();
    let text =
        serde_json::to_vec(&object).map_err(|error| Misfit::Because(error.to_string()))?;
    let (object, unknown) = typed(
        context,
        &definition.kind,
        &definition.schema,
        custom,
        object,
        &text,
    )?;
    let validation = context.field_validation().map_err(Misfit::Refused)?;
    let mut problems = schema::duplicate_fields(patch);
    problems.extend(unknown);
    report(context, validation, problems).map_err(Misfit::Because)?;
    Ok(object)
}

/// Checks and types an object that is JSON already; `json` is its text.
pub fn decode_value(
    context: &Context,
    kind: &GroupVersionKind,
    schema: &Schema,
    custom: bool,
    value: Value,
    json: &[u8],
) -> Result<Value, Status> {
    let found = (
        object::text(&value, &["apiVersion"]).to_owned(),
        object::text(&value, &["kind"]).to_owned(),
    );
    let word = |why: String| {
        if custom && why.starts_with("strict decoding error") {
            return Status::bad_request(why);
        }
        unhandled(kind, &found, &why)
    };
    let (object, unknown) = typed(context, kind, schema, custom, value, json)
        .map_err(|misfit| misfit.with(word))?;
    let validation = context.field_validation()?;
    report(context, validation, unknown).map_err(word)?;
    Ok(object)
}

/// The object as its kind has it, and the fields that are unknown or stand twice.
fn typed(
    context: &Context,
    kind: &GroupVersionKind,
    schema: &Schema,
    custom: bool,
    mut value: Value,
    json: &[u8],
) -> Result<(Value, Vec<String>), Misfit> {
    check_kind(context, kind, custom, &mut value)?;
    let validation = context.field_validation().map_err(Misfit::Refused)?;
    let mut problems = Vec::new();
    if custom {
        if validation != FieldValidation::Ignore {
            problems = schema::duplicate_fields(json);
        }
        let unknown = schema::coerce_metadata(schema, &mut value)
            .map_err(|error| Misfit::Refused(Status::bad_request(error.to_string())))?;
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
        schema::decode(schema, &mut value)
            .map_err(|error| Misfit::Because(error.to_string()))?;
    }
    Ok((value, problems))
}

/// Refuses or tells of unknown and duplicate fields, as the client wants it.
fn report(
    context: &Context,
    validation: FieldValidation,
    problems: Vec<String>,
) -> Result<(), String> {
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            Err(format!("strict decoding error: {}", problems.join(", ")))
        }
        FieldValidation::Warn => {
            problems
                .into_iter()
                .for_each(|problem| context.warn(problem));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn unhandled(kind: &GroupVersionKind, found: &(String, String), why: &str) -> Status {
    let version = found.0.rsplit('/').next().unwrap_or_default();
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    Status::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        or(&found.1, &kind.kind),
        or(version, &kind.version),
        kind.kind
    ))
}

/// What is missing of `apiVersion` and `kind` is filled in, what differs is refused.
fn check_kind(
    context: &Context,
    kind: &GroupVersionKind,
    custom: bool,
    value: &mut Value,
) -> Result<(), Misfit> {
    let wanted = kind.api_version();
    let (found_version, found_kind) = (
        object::text(value, &["apiVersion"]),
        object::text(value, &["kind"]),
    );
    if custom && found_kind.is_empty() {
        let text = value.to_string();
        return Err(Misfit::Refused(Status::bad_request(format!(
            "Object 'Kind' is missing in '{text}'"
        ))));
    }
    let fits = |found: &str, wanted: &str| found == wanted || (found.is_empty() && !custom);
    if !fits(found_version, &wanted) || !fits(found_kind, &kind.kind) {
        let version = if found_version.is_empty() {
            wanted.as_str()
        } else {
            found_version
        };
        let name = if found_kind.is_empty() {
            kind.kind.as_str()
        } else {
            found_kind
        };
        return Err(if custom {
            other_custom(kind, version, name)
        } else {
            other_built_in(context, kind, version, name, value)
        });
    }
    if let Some(members) = value.as_object_mut() {
        members.insert("apiVersion".to_owned(), wanted.into());
        members.insert("kind".to_owned(), kind.kind.clone().into());
    }
    Ok(())
}

fn other_custom(kind: &GroupVersionKind, version: &str, name: &str) -> Misfit {
    if name != kind.kind {
        return Misfit::Because(format!("expected kind {}, but got kind {name}", kind.kind));
    }
    Misfit::Refused(other_version(kind, version))
}

fn other_version(kind: &GroupVersionKind, version: &str) -> Status {
    Status::bad_request(format!(
        "the API version in the data ({version}) does not match the expected API version ({})",
        kind.api_version()
    ))
}

/// Kinds every version of every group knows.
const EVERYWHERE: &[&str] = &[
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];
/// Kinds of `v1` that are no resources.
const OF_THE_CORE: &[&str] = &[
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "List",
    "Status",
];

/// An object of another kind where a built-in one is wanted: upstream decodes it as what it says it is
/// and then finds no way to make the one of the other.
fn other_built_in(
    context: &Context,
    kind: &GroupVersionKind,
    version: &str,
    name: &str,
    value: &Value,
) -> Misfit {
    let item = name.strip_suffix("List").unwrap_or(name);
    let mut known = EVERYWHERE.contains(&name) || (version == "v1" && OF_THE_CORE.contains(&name));
    if let Some(other) = context
        .catalog
        .all()
        .find(|other| other.kind.api_version() == version && other.kind.kind == item)
    {
        known = true;
        if name == kind.kind && other.kind.group == kind.group {
            return Misfit::Refused(other_version(kind, version));
        }
        if item == name
            && let Err(error) = schema::decode(&other.schema, &mut value.clone())
        {
            return Misfit::Because(error.to_string());
        }
    }
    if !known {
        return Misfit::Because(format!(
            "no kind \"{name}\" is registered for version \"{version}\" in scheme \
             \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
        ));
    }
    let package = match kind.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    Misfit::Because(format!(
        "converting ({}.{name}) to ({package}.{}): unknown conversion",
        version.rsplit('/').next().unwrap_or_default(),
        kind.kind
    ))
}

impl Definition {
    /// The object in the request's body, of this definition's kind.
    pub(crate) fn decode(&self, context: &Context) -> Result<Value, Status> {
        decode_body(context, &self.kind, &self.schema, self.custom.is_some())
    }
}
