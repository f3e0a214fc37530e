//! Answers compressed with gzip, for clients that ask for it.
//!
//! As upstream, only what is large enough is compressed, at the level that costs least. The text
//! is compressed while it is sent, a frame at a time, so that a large list is never in memory a
//! second time. Watches and other streams go out as they are.

use std::collections::VecDeque;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;

use crate::body::Body;
use crate::route::Route;

/// Objects and lists up to this size are not worth the work.
const OBJECT_BYTES_MAX: u64 = 128 << 10;
/// The same for the schema document of version 2, which another handler serves upstream.
const DOCUMENT_BYTES_MAX: u64 = 1400;
/// About how much compressed text makes a frame.
const FRAME_BYTES: usize = 16 << 10;
/// Most text that is compressed at once.
const STEP_BYTES: usize = 64 << 10;

/// The largest body that goes out as it is, where the client and the path allow compression.
pub fn limit(route: &Route, headers: &HeaderMap) -> Option<u64> {
    let limit = match route {
        Route::Resource(_)
        | Route::LegacyVersions
        | Route::Groups
        | Route::Group(_)
        | Route::Resources { .. } => OBJECT_BYTES_MAX,
        Route::OpenApiV2 => DOCUMENT_BYTES_MAX,
        _ => return None,
    };
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    accepted
        .split(',')
        .any(|coding| coding.trim() == "gzip")
        .then_some(limit)
}

/// Compresses an answer that is larger than `limit`.
pub fn apply(response: Response<Body>, limit: u64) -> Response<Body> {
    let is_object = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    if !is_object || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match body {
        Body::Made(rest) => begun(rest, limit),
        Body::Whole(_) | Body::Pieces(_) if !is_larger(&body, limit) => Err(body),
        Body::Whole(bytes) => Ok(Frames::new(bytes.into_iter().collect())),
        Body::Pieces(pieces) => Ok(Frames::new(pieces)),
        Body::Stream(_) => Err(body),
    };
    match body {
        Err(plain) => Response::from_parts(head, plain),
        Ok(frames) => {
            let headers = &mut head.headers;
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            headers.remove(CONTENT_LENGTH);
            Response::from_parts(head, Body::Made(Box::new(frames)))
        }
    }
}

fn is_larger(body: &Body, limit: u64) -> bool {
    body.size_hint().exact().is_some_and(|size| size > limit)
}

/// Takes pieces until there is enough to compress, or no more: then the body is all there.
fn begun(mut rest: Box<dyn Iterator<Item = Bytes> + Send>, limit: u64) -> Result<Frames, Body> {
    let (mut pieces, mut size) = (VecDeque::new(), 0);
    while size <= limit {
        let Some(piece) = rest.next() else {
            return Err(Body::Pieces(pieces));
        };
        size += piece.len() as u64;
        pieces.push_back(piece);
    }
    let mut frames = Frames::new(pieces);
    frames.rest = rest;
    Ok(frames)
}

/// Compressed frames of a text in pieces.
struct Frames {
    /// What comes first.
    pieces: VecDeque<Bytes>,
    /// What is made after that.
    rest: Box<dyn Iterator<Item = Bytes> + Send>,
    /// None after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Frames {
    fn new(pieces: VecDeque<Bytes>) -> Self {
        Self {
            pieces,
            rest: Box::new(std::iter::empty()),
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        while encoder.get_ref().len() < FRAME_BYTES {
            let next = self.pieces.pop_front().or_else(|| self.rest.next());
            let Some(mut piece) = next else {
                let finished = self.encoder.take()?.finish();
                return Some(finished.expect("a vector takes all bytes").into());
            };
            let step = piece.split_to(piece.len().min(STEP_BYTES));
            encoder.write_all(&step).expect("a vector takes all bytes");
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
        Some(std::mem::take(encoder.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn pieces_become_one_gzip_text() {
        let texts = [
            "x".repeat(500_000),
            String::new(),
            uuid::Uuid::new_v4().to_string().repeat(3),
        ];
        let many = (0..40_000).map(|n| uuid::Uuid::from_u128(n * n * 7919).to_string());
        let pieces: VecDeque<Bytes> = texts.into_iter().chain(many).map(Bytes::from).collect();
        let expect: Vec<u8> = pieces.iter().flatten().copied().collect();
        let made = Box::new(pieces.into_iter());
        let frames = begun(made, OBJECT_BYTES_MAX).ok().expect("is large");
        let frames: Vec<Bytes> = frames.collect();
        assert!(frames.len() > 5, "{} frames", frames.len());
        assert!(frames.iter().all(|frame| frame.len() < 4 * STEP_BYTES));
        let all = frames.concat();
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(all.as_slice())
            .read_to_end(&mut read)
            .expect("gzip");
        assert_eq!(read, expect);
    }

    #[test]
    fn clients_must_ask_by_name() {
        for (accepted, expect) in [
            ("gzip", true),
            ("deflate, gzip", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("*", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            let found = limit(&Route::Groups, &headers).is_some();
            assert_eq!(found, expect, "{accepted}");
        }
        assert_eq!(limit(&Route::Groups, &HeaderMap::new()), None);
    }
}
