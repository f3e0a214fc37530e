//! Media types: what a client accepts, and what it sent.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use model::{Reason, Status, StatusDetails};
use serde_json::Value;

use crate::query::Query;
use crate::yaml_text;

/// How a response is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// The same with line breaks and indentation, for those who read it.
    PrettyJson,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// In which shape an object is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Object,
    /// As rows and columns; the version is `v1` or `v1beta1`.
    Table(&'static str),
    /// Only its metadata.
    Metadata(&'static str),
    /// A list of only metadata.
    MetadataList(&'static str),
    /// The aggregated form of discovery, version `v2` or `v2beta1`.
    AggregatedDiscovery(&'static str),
}

/// What the client will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// How to encode.
    pub encoding: Encoding,
    /// What to encode.
    pub shape: Shape,
}

impl Encoding {
    /// The media type in `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json | Self::PrettyJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => protobuf::MEDIA_TYPE,
        }
    }
}

const JSON: Accept = Accept {
    encoding: Encoding::Json,
    shape: Shape::Object,
};
const REPRESENTATIONS: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
/// In upstream's order of preference.
const ENCODINGS: [(&str, &str, Encoding); 3] = [
    ("application", "json", Encoding::Json),
    ("application", "yaml", Encoding::Yaml),
    ("application", "vnd.kubernetes.protobuf", Encoding::Protobuf),
];

/// What is asked for, as far as the encodings it can have depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Built-in objects.
    BuiltIn,
    /// Custom resources: no protobuf, except of their metadata.
    Custom,
    /// Events about objects.
    Watch,
    /// Events about custom resources.
    CustomWatch,
    /// `/api` and `/apis`, which can be had in the aggregated form.
    Discovery,
    /// A failure, or another document that has but one shape.
    Plain,
}

/// One range of `Accept`.
struct Range<'a> {
    kind: &'a str,
    subkind: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (kind, subkind) = media.split_once('/').unwrap_or((media, "*"));
        let mut range = Self {
            kind: kind.trim(),
            subkind: subkind.trim(),
            quality: 1.0,
            parameters: Vec::new(),
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            if name == "q" {
                range.quality = value.parse().unwrap_or(1.0);
            } else {
                range.parameters.push((name, value));
            }
        }
        range
    }

    /// Whether the range is for any type, or any of a kind.
    fn is_open(&self) -> (bool, bool) {
        (self.kind == "*", self.subkind == "*")
    }

    fn includes(&self, kind: &str, subkind: &str) -> bool {
        match self.is_open() {
            (true, true) => true,
            (_, true) => self.kind == kind,
            _ => self.kind == kind && self.subkind == subkind,
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        let found = self.parameters.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }

    /// What the range makes of an encoding at an endpoint; nothing where it cannot be had.
    fn offer(&self, encoding: Encoding, endpoint: Endpoint) -> Option<Accept> {
        let is_watch = matches!(endpoint, Endpoint::Watch | Endpoint::CustomWatch);
        if self
            .parameter("stream")
            .is_some_and(|stream| stream != "watch" || encoding == Encoding::Yaml)
        {
            return None;
        }
        if self
            .parameter("sv")
            .is_some_and(|version| !version.is_empty())
        {
            return None;
        }
        let encoding = match self.parameter("pretty") {
            Some("1") if encoding == Encoding::Json && !is_watch => Encoding::PrettyJson,
            _ => encoding,
        };
        let accept = |shape| Some(Accept { encoding, shape });
        let (form, group, version) = (
            self.parameter("as"),
            self.parameter("g"),
            self.parameter("v"),
        );
        if (form, group, version) == (None, None, None) {
            let is_custom = matches!(endpoint, Endpoint::Custom | Endpoint::CustomWatch);
            return if is_custom && encoding == Encoding::Protobuf {
                None
            } else {
                accept(Shape::Object)
            };
        }
        let form = form.unwrap_or_default();
        if endpoint == Endpoint::Discovery {
            let is_aggregated = form == "APIGroupDiscoveryList"
                && group == Some("apidiscovery.k8s.io")
                && version == Some("v2");
            let is_json = matches!(encoding, Encoding::Json | Encoding::PrettyJson);
            return if is_aggregated && is_json {
                accept(Shape::AggregatedDiscovery("v2"))
            } else {
                None
            };
        }
        let version = match version {
            Some("v1") => "v1",
            Some("v1beta1") => "v1beta1",
            _ => return None,
        };
        if endpoint == Endpoint::Plain || group != Some("meta.k8s.io") {
            return None;
        }
        match form {
            "Table" if encoding != Encoding::Protobuf => accept(Shape::Table(version)),
            "PartialObjectMetadata" => accept(Shape::Metadata(version)),
            "PartialObjectMetadataList" => accept(Shape::MetadataList(version)),
            _ => None,
        }
    }
}

/// What a client accepts: the best of its ranges that can be served.
pub fn accept(headers: &HeaderMap, query: &Query, endpoint: Endpoint) -> Result<Accept, Status> {
    let mut accept = negotiate(headers.get_all(ACCEPT).iter(), endpoint)?;
    let is_watch = matches!(endpoint, Endpoint::Watch | Endpoint::CustomWatch);
    if is_watch && accept.encoding == Encoding::Yaml {
        return Err(not_acceptable(STREAMS));
    }
    if accept.encoding == Encoding::Json && !is_watch && is_for_reading(headers, query) {
        accept.encoding = Encoding::PrettyJson;
    }
    Ok(accept)
}

/// How a failure is encoded: as the client would have had the answer, else as JSON.
pub fn encoding_of_failure(accept: Option<&HeaderValue>) -> Encoding {
    negotiate(accept.into_iter(), Endpoint::Plain).map_or(Encoding::Json, |accept| accept.encoding)
}

/// Whether a person is going to read the answer.
fn is_for_reading(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.raw("pretty").filter(|pretty| !pretty.is_empty()) {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| {
        ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|known| agent.starts_with(known))
    })
}

fn negotiate<'a>(
    accept: impl Iterator<Item = &'a HeaderValue>,
    endpoint: Endpoint,
) -> Result<Accept, Status> {
    let texts: Vec<&str> = accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .collect();
    if texts.is_empty() {
        return Ok(JSON);
    }
    let mut ranges: Vec<Range<'_>> = texts.into_iter().map(Range::parse).collect();
    let is_watch = matches!(endpoint, Endpoint::Watch | Endpoint::CustomWatch);
    if matches!(endpoint, Endpoint::BuiltIn | Endpoint::Watch) {
        check_known(&ranges, is_watch)?;
    }
    ranges.sort_by(|a, b| {
        let quality = b.quality.total_cmp(&a.quality);
        quality.then(a.is_open().cmp(&b.is_open()))
    });
    for range in &ranges {
        for (kind, subkind, encoding) in ENCODINGS {
            if range.includes(kind, subkind)
                && let Some(accept) = range.offer(encoding, endpoint)
            {
                return Ok(accept);
            }
        }
    }
    Err(not_acceptable(if is_watch {
        STREAMS
    } else {
        REPRESENTATIONS
    }))
}

fn not_acceptable(accepted: &str) -> Status {
    Status::new(
        Reason::NotAcceptable,
        format!("only the following media types are accepted: {accepted}"),
    )
}

/// Upstream's router turns requests for types it has never heard of away, in words of its own.
fn check_known(ranges: &[Range<'_>], is_watch: bool) -> Result<(), Status> {
    let is_known = |range: &Range<'_>| {
        range.is_open() == (true, true)
            || ENCODINGS
                .iter()
                .any(|(kind, subkind, _)| (range.kind, range.subkind) == (kind, subkind))
    };
    if ranges.iter().any(is_known) {
        return Ok(());
    }
    let streams = if is_watch {
        format!(", {STREAMS}")
    } else {
        String::new()
    };
    let mut status = Status::new(
        Reason::NotAcceptable,
        format!("406: Not Acceptable\n\nAvailable representations: {REPRESENTATIONS}{streams}"),
    );
    status.details = Some(Box::new(StatusDetails::default()));
    Err(status)
}

/// The media type of the request's body without parameters; JSON where none is named.
pub fn content_type(headers: &HeaderMap) -> &str {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "" => "application/json",
        media => media,
    }
}

/// 415, as upstream words it.
pub fn unsupported() -> Status {
    let mut status = Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type");
    status.details = Some(Box::new(StatusDetails::default()));
    status
}

/// 415 for a body no decoder reads.
pub fn unknown_body(custom: bool) -> Status {
    let protobuf = if custom {
        ""
    } else {
        ", application/vnd.kubernetes.protobuf"
    };
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml{protobuf}"
        ),
    )
}

/// 415 for a body that is no patch of a custom resource.
pub fn unknown_patch(custom: bool) -> Status {
    if !custom {
        return unsupported();
    }
    Status::new(
        Reason::UnsupportedMediaType,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    )
}

/// Encodes a value.
pub fn encode(value: &Value, encoding: Encoding) -> Result<Vec<u8>, Status> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(Status::internal),
        Encoding::PrettyJson => serde_json::to_vec_pretty(value).map_err(Status::internal),
        Encoding::Yaml => yaml_text::to_yaml(value)
            .map(String::into_bytes)
            .ok_or_else(|| Status::internal("the object nests too deep for YAML")),
        // What has no message is something only other encodings have.
        Encoding::Protobuf => protobuf::encode(value)
            .map_err(|_| not_acceptable("application/json, application/yaml")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &'static str, endpoint: Endpoint) -> Result<Accept, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(text));
        accept(&headers, &Query::default(), endpoint).map_err(|status| status.code)
    }

    #[test]
    fn the_best_range_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let shape = |text, endpoint| accepted(text, endpoint).map(|accept| accept.shape);
        let encoding = |text, endpoint| accepted(text, endpoint).map(|accept| accept.encoding);
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert_eq!(shape(kubectl, Endpoint::BuiltIn), Ok(Shape::Table("v1")));
        assert_eq!(
            encoding(protobuf, Endpoint::BuiltIn),
            Ok(Encoding::Protobuf)
        );
        assert_eq!(encoding(protobuf, Endpoint::Custom), Err(406));
        assert_eq!(
            encoding(
                "application/vnd.kubernetes.protobuf,application/json",
                Endpoint::Custom
            ),
            Ok(Encoding::Json)
        );
        assert_eq!(
            encoding("application/json;q=0.5,application/yaml", Endpoint::BuiltIn),
            Ok(Encoding::Yaml)
        );
        assert_eq!(
            encoding("*/*, application/yaml", Endpoint::BuiltIn),
            Ok(Encoding::Yaml)
        );
        assert_eq!(encoding("application/yaml", Endpoint::Watch), Err(406));
        assert_eq!(encoding("text/html", Endpoint::BuiltIn), Err(406));
        assert_eq!(encoding("application/*", Endpoint::BuiltIn), Err(406));
        assert_eq!(
            encoding("application/*", Endpoint::Custom),
            Ok(Encoding::Json)
        );
    }
}
