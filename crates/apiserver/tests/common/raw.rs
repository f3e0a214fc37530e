//! Requests with headers of one's own, and answers as they are.

use apiserver::identity::User;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use testkit::Cluster;

/// A cluster to send requests to, as an administrator.
pub struct Raw {
    cluster: Cluster,
}

/// What came back.
#[allow(dead_code, reason = "each test binary uses some of these")]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[allow(dead_code, reason = "each test binary uses some of these")]
impl Raw {
    /// An empty cluster with the namespace `default`.
    pub async fn start() -> Self {
        Self {
            cluster: Cluster::start().await,
        }
    }

    /// The server.
    pub fn server(&self) -> &apiserver::ApiServer {
        self.cluster.server()
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &Value::Null).await
    }

    /// Sends a request; JSON where the headers do not say otherwise.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        self.send_bytes(method, path, headers, bytes).await
    }

    /// Sends a request with any body.
    pub async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let user = std::sync::Arc::new(User::admin());
        let response = self.cluster.server().handle(request, Some(user)).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("infallible").to_bytes();
        Answer {
            code: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }
}

#[allow(dead_code, reason = "each test binary uses some of these")]
impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The message of a failure.
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// A header, the first of its name.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap_or_default().to_owned())
    }
}
