//! A command in a container that does not run.
//!
//! The answer goes over a WebSocket in upstream's channels: what the command would print, and that it has
//! ended well. All of it is known beforehand, so the answer carries the bytes ([`Spoken`]) and whoever holds
//! the connection writes them once it is taken over. Clients that speak SPDY alone are told so.

use aws_lc_rs::digest;
use base64::Engine as _;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{HeaderValue, Response};
use model::{Reason, Status, object};
use serde_json::{Value, json};

use super::logs::{container, pod_of};
use super::{annotation, status_of};
use crate::body::Body;
use crate::context::Context;

/// What is written on a connection once the client has been told that protocols change.
#[derive(Clone)]
pub struct Spoken(pub Bytes);

const KEY: &str = "sec-websocket-key";
const PROTOCOL: &str = "sec-websocket-protocol";
const ACCEPTED: &str = "sec-websocket-accept";
/// Appended to a client's key, as the protocol of WebSockets has it.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// How the streams of a command share a WebSocket, the newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// The channels of a command.
const STDOUT: u8 = 1;
const OUTCOME: u8 = 3;

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const NORMAL_CLOSURE: [u8; 2] = 1_000_u16.to_be_bytes();

/// `GET` or `POST` of a Pod's `exec` or `attach`.
pub fn exec(context: &Context) -> Result<Response<Body>, Status> {
    let pod = pod_of(context)?;
    let name = container(&pod, context.query.get("container"))?;
    if status_of(&pod, name).is_none_or(|status| status.pointer("/state/running").is_none()) {
        return Err(Status::internal(format!("container not found ({name:?})")));
    }
    let Some((key, protocol)) = handshake(&context.headers) else {
        return Err(Status::new(
            Reason::NotImplemented,
            "commands in simulated containers are answered over WebSockets only: kubectl has them since 1.31",
        ));
    };
    let command: Vec<&str> = context.query.all("command").collect();
    let spoken = Spoken(frames(&text(&pod, name, &command)));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accepted) = HeaderValue::from_str(&accept(key)) {
        headers.insert(ACCEPTED, accepted);
    }
    response.extensions_mut().insert(spoken);
    Ok(response)
}

/// The client's key and the protocol to speak, where it asks for a WebSocket.
fn handshake(headers: &HeaderMap) -> Option<(&str, &'static str)> {
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let offered: Vec<&str> = headers
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let protocol = PROTOCOLS
        .into_iter()
        .find(|known| offered.contains(known))?;
    Some((headers.get(KEY)?.to_str().ok()?, protocol))
}

/// What shows a client that its key was understood.
fn accept(key: &str) -> String {
    let text = format!("{key}{GUID}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(hash.as_ref())
}

/// What the command would print.
fn text(pod: &Value, container: &str, command: &[&str]) -> String {
    if let Some(own) = annotation(pod, "exec", container) {
        return own.to_owned();
    }
    format!(
        "Nothing runs here: pod {}/{} is on a virtual node, which simulates containers and runs none.\n\
         container {container}: {}\n\
         The annotation virtual.corvus.dev/exec sets what is shown here.\n",
        object::namespace(pod),
        object::name(pod),
        command.join(" "),
    )
}

/// The output, the outcome and the end.
fn frames(text: &str) -> Bytes {
    let mut out = Vec::new();
    put(&mut out, BINARY, &[&[STDOUT], text.as_bytes()].concat());
    let outcome = json!({"metadata": {}, "status": "Success"}).to_string();
    put(&mut out, BINARY, &[&[OUTCOME], outcome.as_bytes()].concat());
    put(&mut out, CLOSE, &NORMAL_CLOSURE);
    out.into()
}

/// One frame, whole and unmasked, as servers send them.
fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => out.push(length as u8),
        Ok(length) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_protocol_says() {
        // The example of the protocol's own specification.
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn lengths_are_written_in_three_ways() {
        let head = |length: usize| {
            let mut out = Vec::new();
            put(&mut out, BINARY, &vec![0; length]);
            out[..out.len() - length].to_vec()
        };
        assert_eq!(head(125), [BINARY, 125]);
        assert_eq!(head(126), [BINARY, 126, 0, 126]);
        assert_eq!(head(65_536), [BINARY, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
