//! Requests in JSON, for tests of what a client gets to see.

pub mod raw;

use http::Request;
use kube::Client;
use serde_json::{Value, json};
use testkit::Cluster;

/// A client that asks in JSON.
pub struct Requests {
    client: Client,
    cluster: Cluster,
}

#[allow(dead_code, reason = "each test binary uses some of these")]
impl Requests {
    /// An empty cluster with the namespace `default`.
    pub async fn start() -> Self {
        Self::on(Cluster::start().await)
    }

    /// On this cluster.
    pub fn on(cluster: Cluster) -> Self {
        Self {
            client: cluster.client(),
            cluster,
        }
    }

    /// The server.
    pub fn server(&self) -> &apiserver::ApiServer {
        self.cluster.server()
    }

    /// Sends a request; gives the code and the answer.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let media = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let text = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .body(text)
            .expect("a request");
        match self.client.request::<Value>(request).await {
            Ok(value) => (200, value),
            Err(kube::Error::Api(status)) => {
                let value = json!({"message": status.message, "reason": status.reason});
                (status.code, value)
            }
            Err(other) => panic!("{method} {path}: {other}"),
        }
    }

    /// Makes an object, which has to succeed.
    pub async fn create(&self, path: &str, object: Value) -> Value {
        let (code, answer) = self.send("POST", path, &object).await;
        assert!(code < 300, "{path}: {code} {answer}");
        answer
    }

    /// Makes an object, which has to be refused; gives code and message.
    pub async fn refused(&self, path: &str, object: Value) -> (u16, String) {
        let (code, answer) = self.send("POST", path, &object).await;
        assert!(code >= 400, "{path}: made {answer}");
        (
            code,
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

/// Where ConfigMaps of the namespace `default` are.
#[allow(dead_code, reason = "each test binary uses some of these")]
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A ConfigMap.
#[allow(dead_code, reason = "each test binary uses some of these")]
pub fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}
