//! Media types: what a client accepts, and what it sent.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use model::{Reason, Status, StatusDetails};
use serde_json::Value;

/// How a response is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
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
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

const JSON: Accept = Accept {
    encoding: Encoding::Json,
    shape: Shape::Object,
};
const REPRESENTATIONS: &str = "application/json, application/yaml";

fn parameter<'a>(parts: &'a [&str], name: &str) -> Option<&'a str> {
    parts
        .iter()
        .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

/// A media range of `Accept`, where the server can serve it.
fn offer(range: &str) -> Option<Accept> {
    let parts: Vec<&str> = range.split(';').collect();
    let encoding = match parts[0].trim() {
        "" | "*/*" | "application/json" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let Some(form) = parameter(&parts, "as") else {
        return Some(Accept {
            encoding,
            shape: Shape::Object,
        });
    };
    let group = parameter(&parts, "g");
    let version = match parameter(&parts, "v") {
        Some("v1") => "v1",
        Some("v1beta1") => "v1beta1",
        Some("v2") => "v2",
        Some("v2beta1") => "v2beta1",
        _ => return None,
    };
    let meta = group == Some("meta.k8s.io") && version.starts_with("v1");
    let shape = match form {
        "Table" if meta => Shape::Table(version),
        "PartialObjectMetadata" if meta => Shape::Metadata(version),
        "PartialObjectMetadataList" if meta => Shape::MetadataList(version),
        "APIGroupDiscoveryList"
            if group == Some("apidiscovery.k8s.io") && version.starts_with("v2") =>
        {
            Shape::AggregatedDiscovery(version)
        }
        _ => return None,
    };
    Some(Accept { encoding, shape })
}

/// What a client accepts: the first of its ranges that can be served, the best quality first.
pub fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    let mut ranges: Vec<(f32, &str)> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| {
            let parts: Vec<&str> = range.split(';').collect();
            (
                parameter(&parts, "q")
                    .and_then(|q| q.parse().ok())
                    .unwrap_or(1.0),
                range.trim(),
            )
        })
        .collect();
    if ranges.is_empty() {
        return Ok(JSON);
    }
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    if let Some(accept) = ranges.iter().find_map(|(_, range)| offer(range)) {
        return Ok(accept);
    }
    // Upstream words the refusal differently where the type is known but not its form.
    let known = |range: &str| {
        let media = range
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        range.contains("as=") && (media == "application/json" || media == "application/yaml")
    };
    if ranges.iter().any(|(_, range)| known(range)) {
        return Err(Status::new(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {REPRESENTATIONS}"),
        ));
    }
    let mut status = Status::new(
        Reason::NotAcceptable,
        format!("406: Not Acceptable\n\nAvailable representations: {REPRESENTATIONS}"),
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

/// Encodes a value.
pub fn encode(value: &Value, encoding: Encoding) -> Result<Vec<u8>, Status> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(Status::internal),
        Encoding::Yaml => serde_saphyr::to_string(value)
            .map(String::into_bytes)
            .map_err(Status::internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accepted(text: &'static str) -> Result<Accept, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(text));
        accept(&headers)
    }

    #[test]
    fn the_first_range_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(kubectl).map(|a| a.shape), Ok(Shape::Table("v1")));
        assert_eq!(
            accepted("application/vnd.kubernetes.protobuf,*/*"),
            Ok(JSON)
        );
        assert_eq!(
            accepted("application/json;q=0.5,application/yaml").map(|a| a.encoding),
            Ok(Encoding::Yaml)
        );
        assert_eq!(accepted("text/html").map_err(|s| s.code), Err(406));
    }
}
