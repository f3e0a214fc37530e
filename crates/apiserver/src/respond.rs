//! Making responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use model::Status;
use serde_json::Value;

use crate::body::Body;
use crate::media::{self, Encoding};

/// Longest text of one `Warning` header where all together are too long, as upstream.
const WARNING_LENGTH_MAX: usize = 256;
/// Most characters of all `Warning` headers together, as upstream.
const WARNINGS_LENGTH_MAX: usize = 4 << 10;

/// A response of a type.
pub fn bytes(code: u16, media_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    with_body(code, media_type, Body::whole(body))
}

/// A response with any body.
pub fn with_body(code: u16, media_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A response without a body.
pub fn empty(code: u16) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", "");
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// A response of plain text.
pub fn text(code: u16, body: impl Into<String>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", body.into())
}

/// A value in the encoding the client accepts.
pub fn value(code: u16, value: &Value, encoding: Encoding) -> Response<Body> {
    match media::encode(value, encoding) {
        Ok(encoded) => bytes(code, encoding.media_type(), encoded),
        Err(failure) => status(&failure),
    }
}

/// A failure, as JSON.
pub fn status(status: &Status) -> Response<Body> {
    status_as(status, Encoding::Json)
}

/// A failure in the encoding the client accepts.
pub fn status_as(status: &Status, encoding: Encoding) -> Response<Body> {
    let value = status.to_value();
    let mut response = match media::encode(&value, encoding) {
        Ok(encoded) => bytes(status.code, encoding.media_type(), encoded),
        Err(_) => bytes(status.code, "application/json", value.to_string()),
    };
    if let Some(details) = &status.details
        && details.retry_after_seconds > 0
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, details.retry_after_seconds.into());
    }
    response
}

/// Adds warnings, cut to what upstream allows: long ones only where there are too many.
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let length: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let longest = match length {
        0..=WARNINGS_LENGTH_MAX => WARNINGS_LENGTH_MAX,
        _ => WARNING_LENGTH_MAX,
    };
    let mut total = 0;
    for warning in warnings {
        if total >= WARNINGS_LENGTH_MAX {
            return;
        }
        let text: String = warning.chars().take(longest).collect();
        total += text.chars().count();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, header);
        }
    }
}
