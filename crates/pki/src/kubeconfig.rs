//! Kubeconfigs: how a client finds and enters a cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::authority::Identity;

/// What a kubeconfig says.
pub struct Access<'a> {
    /// Name of cluster, user and context.
    pub name: &'a str,
    /// The URL of the API server.
    pub server: &'a str,
    /// The certificate of the authority that signed the server's, as PEM.
    pub authority: &'a str,
    /// The user's certificate.
    pub client: &'a Identity,
    /// The user's bearer token.
    pub token: Option<&'a str>,
}

/// The kubeconfig as a JSON value; JSON is YAML, so it can be written to a file as it is.
pub fn kubeconfig(access: &Access<'_>) -> Value {
    let mut user = json!({
        "client-certificate-data": STANDARD.encode(&access.client.certificate),
        "client-key-data": STANDARD.encode(&access.client.key),
    });
    if let Some(token) = access.token {
        user["token"] = json!(token);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": access.name,
            "cluster": {
                "server": access.server,
                "certificate-authority-data": STANDARD.encode(access.authority),
            },
        }],
        "users": [{"name": access.name, "user": user}],
        "contexts": [{
            "name": access.name,
            "context": {"cluster": access.name, "user": access.name, "namespace": "default"},
        }],
        "current-context": access.name,
    })
}
