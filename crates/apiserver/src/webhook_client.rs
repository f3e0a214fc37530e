//! Requests to webhooks: admission and conversion call servers that a configuration names.
//!
//! A `clientConfig` is a URL, or a Service that is followed to one of its ready endpoints: there may be no
//! proxy that makes a cluster IP reachable. The server is judged by the bundle in the configuration, or by
//! the system's roots. Connections are kept and used again.

mod connection;
mod target;

pub use self::target::Target;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Most connections to one server, and servers, that are kept when nobody uses them.
const IDLE_MAX: usize = 8;
const SERVERS_MAX: usize = 128;

type Connection = SendRequest<Full<Bytes>>;

/// Why a webhook gave no answer. Worded as Go words it, because people know these texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It could not be reached, or did not answer in time.
    #[error("Post \"{url}\": {why}")]
    Unreachable {
        /// Where the request went.
        url: String,
        /// What happened.
        why: String,
    },
    /// It answered with a status that is no success.
    #[error("{0}")]
    Status(String),
    /// Its configuration leads nowhere.
    #[error("{0}")]
    Target(String),
}

/// Calls webhooks. Holds the connections that are open.
#[derive(Default)]
pub struct WebhookClient {
    idle: Mutex<HashMap<target::Server, Vec<Connection>>>,
}

impl WebhookClient {
    /// Sends a JSON body and gives the JSON answer, both as bytes.
    pub async fn post(
        &self,
        target: &Target,
        timeout: Duration,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let outcome = tokio::time::timeout(timeout, self.exchange(target, timeout, body)).await;
        let unreachable = |why: String| Error::Unreachable {
            url: target.shown(timeout),
            why,
        };
        match outcome {
            Ok(Ok((200..300, answer))) => Ok(answer),
            Ok(Ok((code, answer))) => Err(Error::Status(refusal(code, &answer))),
            Ok(Err(why)) => Err(unreachable(why)),
            Err(_) => Err(unreachable("context deadline exceeded".to_owned())),
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        timeout: Duration,
        body: Bytes,
    ) -> Result<(u16, Bytes), String> {
        // A kept connection may have been closed by the server in the meantime.
        while let Some(mut connection) = self.take(&target.server) {
            if connection.ready().await.is_err() {
                continue;
            }
            if let Ok(response) = send(&mut connection, target, timeout, body.clone()).await {
                return self.finish(target, connection, response).await;
            }
        }
        let mut connection = connection::open(&target.server).await?;
        let response = send(&mut connection, target, timeout, body)
            .await
            .map_err(|error| plain(&error))?;
        self.finish(target, connection, response).await
    }

    async fn finish(
        &self,
        target: &Target,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<(u16, Bytes), String> {
        let code = response.status().as_u16();
        let mut body = response.into_body();
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| plain(&error))?;
            if let Ok(data) = frame.into_data() {
                if read.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err(format!(
                        "the answer is larger than {ANSWER_BYTES_MAX} bytes"
                    ));
                }
                read.extend_from_slice(&data);
            }
        }
        self.keep(&target.server, connection);
        Ok((code, read.freeze()))
    }

    fn take(&self, server: &target::Server) -> Option<Connection> {
        self.idle.lock().get_mut(server)?.pop()
    }

    fn keep(&self, server: &target::Server, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() >= SERVERS_MAX && !idle.contains_key(server) {
            idle.clear();
        }
        let connections = idle.entry(server.clone()).or_default();
        if connections.len() < IDLE_MAX {
            connections.push(connection);
        }
    }
}

async fn send(
    connection: &mut Connection,
    target: &Target,
    timeout: Duration,
    body: Bytes,
) -> hyper::Result<Response<Incoming>> {
    let request = Request::builder()
        .method("POST")
        .uri(target.path_and_query(timeout))
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(body))
        .expect("the target's parts have been parsed as parts of a URI");
    connection.send_request(request).await
}

/// An error of the connection in a few words.
fn plain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: {error}");
    }
    error.to_string()
}

/// What a status that is no success means.
fn refusal(code: u16, answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    match code {
        400 => format!("the server rejected our request for an unknown reason: {text}")
            .trim_end_matches([' ', ':'])
            .to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        500.. => {
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        _ => format!(
            "the server responded with the status code {code} but did not return more information"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_known() {
        assert_eq!(
            refusal(500, b"boom\n"),
            "an error on the server (\"boom\") has prevented the request from succeeding"
        );
        assert_eq!(
            refusal(404, b""),
            "the server could not find the requested resource"
        );
    }
}
