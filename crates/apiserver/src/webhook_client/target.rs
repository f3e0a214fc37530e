//! Where a `clientConfig` leads.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use model::object;
use serde_json::Value;
use store::{ListOptions, Store};

use super::Error;
use crate::envelope;

const HTTPS_PORT: u16 = 443;

/// One server, as connections tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where it listens.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// The name its certificate has to be for.
    pub name: String,
    /// The certificates it is judged by, as PEM; the system's where there are none.
    pub bundle: Arc<[u8]>,
}

/// A webhook's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) server: Server,
    /// The host and port of the request.
    pub(super) authority: String,
    path: String,
}

impl Target {
    /// The target of a `clientConfig`; Services are followed to an endpoint that is ready now.
    pub fn resolve(store: &dyn Store, config: &Value) -> Result<Self, Error> {
        let bundle = object::text(config, &["caBundle"]);
        let bundle: Arc<[u8]> = BASE64_STANDARD
            .decode(bundle)
            .map_err(|_| Error::Target("caBundle is not base64".to_owned()))?
            .into();
        match config.get("service") {
            Some(service) if service.is_object() => Self::of_service(store, service, bundle),
            _ => Self::of_url(object::text(config, &["url"]), bundle),
        }
    }

    fn of_url(url: &str, bundle: Arc<[u8]>) -> Result<Self, Error> {
        let bad = |why: &str| Error::Target(format!("the webhook's URL {url:?} {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("is not valid"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("is not https"));
        }
        let host = uri.host().ok_or_else(|| bad("names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self {
            server: Server {
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(HTTPS_PORT),
                name: host.to_owned(),
                bundle,
            },
            authority,
            path: uri.path().to_owned(),
        })
    }

    fn of_service(store: &dyn Store, service: &Value, bundle: Arc<[u8]>) -> Result<Self, Error> {
        let text = |field| object::text(service, &[field]);
        let (name, namespace) = (text("name"), text("namespace"));
        let port = object::number(service, &["port"]).unwrap_or(i64::from(HTTPS_PORT));
        let (host, endpoint_port) = endpoint(store, namespace, name, port)?;
        let server_name = format!("{name}.{namespace}.svc");
        let path = match text("path") {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        // The path becomes part of a request line.
        if path.parse::<Uri>().is_err() {
            return Err(Error::Target(format!(
                "the webhook's path {path:?} is not valid"
            )));
        }
        Ok(Self {
            server: Server {
                host,
                port: endpoint_port,
                name: server_name.clone(),
                bundle,
            },
            authority: format!("{server_name}:{port}"),
            path,
        })
    }

    /// What follows the host in a request's URL.
    pub(super) fn path_and_query(&self, timeout: Duration) -> String {
        format!("{}?timeout={}s", self.path, timeout.as_secs())
    }

    /// The URL as errors show it.
    pub fn shown(&self, timeout: Duration) -> String {
        format!("https://{}{}", self.authority, self.path_and_query(timeout))
    }
}

/// A ready endpoint of a Service's port.
fn endpoint(
    store: &dyn Store,
    namespace: &str,
    name: &str,
    port: i64,
) -> Result<(String, u16), Error> {
    let read = |key: &str| {
        store
            .get(key)
            .and_then(|entry| envelope::decode(&entry).ok())
    };
    let key = envelope::key("", "services", Some(namespace), name);
    let service = read(&key).ok_or_else(|| Error::Target(format!("service {name:?} not found")))?;
    let external = object::text(&service, &["spec", "externalName"]);
    if object::text(&service, &["spec", "type"]) == "ExternalName" {
        let port = u16::try_from(port).unwrap_or(HTTPS_PORT);
        return Ok((external.to_owned(), port));
    }
    let ports = object::list(&service, &["spec", "ports"]);
    let wanted = ports
        .iter()
        .find(|known| object::number(known, &["port"]) == Some(port))
        .ok_or_else(|| {
            Error::Target(format!("no service port {port} found for service {name:?}"))
        })?;
    let prefix = envelope::key_prefix("discovery.k8s.io", "endpointslices", Some(namespace));
    let listing = store
        .list(&prefix, &ListOptions::default())
        .map_err(|error| Error::Target(error.to_string()))?;
    listing
        .entries
        .iter()
        .filter_map(|entry| envelope::decode(entry).ok())
        .filter(|slice| object::label(slice, "kubernetes.io/service-name") == Some(name))
        .find_map(|slice| ready_address(&slice, object::text(wanted, &["name"])))
        .ok_or_else(|| Error::Target(format!("no endpoints available for service {name:?}")))
}

fn ready_address(slice: &Value, port_name: &str) -> Option<(String, u16)> {
    let port = object::list(slice, &["ports"])
        .iter()
        .find(|port| object::text(port, &["name"]) == port_name)?;
    let number = u16::try_from(object::number(port, &["port"])?).ok()?;
    let ready = |endpoint: &&Value| {
        object::at(endpoint, &["conditions", "ready"]) != Some(&Value::Bool(false))
    };
    let endpoint = object::list(slice, &["endpoints"]).iter().find(ready)?;
    let address = object::list(endpoint, &["addresses"]).first()?.as_str()?;
    Some((address.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_lead_to_servers() {
        let store = store::memory();
        let resolve = |config: Value| Target::resolve(&store, &config);
        let target = resolve(json!({"url": "https://example.com:8443/a/b"})).expect("a target");
        assert_eq!(
            (target.server.host.as_str(), target.server.port),
            ("example.com", 8443)
        );
        assert_eq!(
            target.shown(Duration::from_secs(5)),
            "https://example.com:8443/a/b?timeout=5s"
        );
        let target = resolve(json!({"url": "https://[::1]/x"})).expect("a target");
        assert_eq!(
            (target.server.host.as_str(), target.server.port),
            ("::1", 443)
        );
        assert!(resolve(json!({"url": "http://example.com"})).is_err());
        let missing = resolve(json!({"service": {"name": "a", "namespace": "b"}}));
        assert_eq!(
            missing.map_err(|error| error.to_string()),
            Err("service \"a\" not found".to_owned())
        );
    }

    #[test]
    fn ready_endpoints_are_found() {
        let slice = json!({
            "ports": [{"name": "https", "port": 9443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
            ],
        });
        assert_eq!(
            ready_address(&slice, "https"),
            Some(("10.0.0.2".to_owned(), 9443))
        );
        assert_eq!(ready_address(&slice, "other"), None);
    }
}
