//! Bodies to objects: media types, unknown and duplicate fields, and the types of fields.

use model::{FieldError, FieldPath, GroupVersionKind, Status, object};
use schema::Schema;
use serde_json::Value;

use super::yaml::Yaml;
use crate::catalog::Definition;
use crate::context::{Context, FieldValidation};
use crate::{go_json, media};

/// How much of a body that is no object is shown, as upstream.
const SUMMARY_LENGTH: usize = 30;

/// Reads YAML as kubectl reads it: version 1.1, the first document, bounded aliases. Errors are
/// worded as Go's YAML reader words them where that is known.
pub fn parse_yaml(text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("yaml: {error}"))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let read = serde_saphyr::from_str_with_options::<Yaml>(first_document(text), options);
    read.map(|yaml| yaml.0).map_err(|error| {
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

/// Types the object a patch has made.
pub fn decode_patched(context: &Context, object: Value) -> Result<Value, Misfit> {
    let definition = &context.definition;
    let custom = definition.custom.is_some();
    let (object, unknown) = typed(
        context,
        &definition.kind,
        &definition.schema,
        custom,
        object,
        None,
    )?;
    let validation = context.field_validation().map_err(Misfit::Refused)?;
    let mut problems = schema::duplicate_fields(&context.body);
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
    let word = |why: String| unhandled(kind, &found, &why);
    let (object, unknown) = typed(context, kind, schema, custom, value, Some(json))
        .map_err(|misfit| misfit.with(word))?;
    let validation = context.field_validation()?;
    report(context, validation, unknown).map_err(word)?;
    Ok(object)
}

/// The object as its kind has it, and the fields that are unknown or, in its text where there is one,
/// stand twice.
fn typed(
    context: &Context,
    kind: &GroupVersionKind,
    schema: &Schema,
    custom: bool,
    mut value: Value,
    json: Option<&[u8]>,
) -> Result<(Value, Vec<String>), Misfit> {
    check_kind(context, kind, custom, &mut value, json)?;
    let validation = context.field_validation().map_err(Misfit::Refused)?;
    let mut problems = Vec::new();
    if custom {
        if let Some(json) = json.filter(|_| validation != FieldValidation::Ignore) {
            problems = schema::duplicate_fields(json);
        }
        let unknown = schema::coerce_metadata(schema, &mut value)
            .map_err(|error| Misfit::Because(error.to_string()))?;
        let pruned = schema::prune(schema, &mut value);
        // As upstream: the object's own metadata comes first, that of resources embedded in it last.
        let (own, embedded): (Vec<String>, Vec<String>) = unknown
            .into_iter()
            .partition(|path| path.starts_with("metadata."));
        problems.extend(
            own.iter()
                .chain(&pruned)
                .chain(&embedded)
                .map(|path| format!("unknown field \"{path}\"")),
        );
    } else {
        if validation != FieldValidation::Ignore {
            problems = match json {
                Some(json) => schema::strict_errors(schema, json),
                None => schema::unknown_fields(schema, &value)
                    .iter()
                    .map(|path| format!("unknown field \"{path}\""))
                    .collect(),
            };
        }
        schema::decode(schema, &mut value).map_err(|error| Misfit::Because(error.to_string()))?;
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
            for problem in problems {
                context.warn(problem);
            }
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
    json: Option<&[u8]>,
) -> Result<(), Misfit> {
    let wanted = kind.api_version();
    let (found_version, found_kind) = (
        object::text(value, &["apiVersion"]),
        object::text(value, &["kind"]),
    );
    if custom && found_kind.is_empty() {
        let text = json.map_or_else(
            || value.to_string(),
            |json| String::from_utf8_lossy(json).into_owned(),
        );
        let start: String = text.chars().take(SUMMARY_LENGTH).collect();
        let more = if start.len() < text.len() { " ..." } else { "" };
        return Err(Misfit::Refused(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{text}' ({start}{more})",
            kind.kind
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
            other_custom(kind, version, name, object::name(value))
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

fn other_custom(kind: &GroupVersionKind, version: &str, found: &str, name: &str) -> Misfit {
    Misfit::Refused(if version == kind.api_version() {
        let why = format!("must be {}", kind.kind);
        let error = FieldError::invalid(&FieldPath::new("kind"), found, why);
        Status::invalid(&kind.group, found, name, &[error])
    } else {
        other_version(kind, version)
    })
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
