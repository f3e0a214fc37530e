//! A proxy with a certificate of its own authority says who asks; nobody else does.

use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::identity::{Authentication, RequestHeader};
use apiserver::{Listener, ListenerOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use pki::{Authority, Identity};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use testkit::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server that listens, and who may sign what.
struct Setup {
    cluster: Cluster,
    address: SocketAddr,
    clients: Authority,
    proxies: Authority,
}

async fn start() -> Setup {
    let proxies = Authority::new("proxies").expect("an authority");
    start_with(proxies, Authority::new("clients").expect("an authority")).await
}

async fn start_with(proxies: Authority, clients: Authority) -> Setup {
    let mut options = testkit::options();
    let settings = RequestHeader::usual(proxies.identity().certificate.clone());
    options.authority = Some(clients.identity().certificate.clone());
    options.authentication = Authentication {
        request_header: Some(Arc::new(settings)),
        ..options.authentication
    };
    let cluster = Cluster::with(options).await;
    let serving = clients
        .server("server", &["localhost".to_owned()])
        .expect("a certificate");
    let der = |identity: &Identity| identity.certificate_der().expect("own PEM");
    let listener = Listener::bind(ListenerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificates: vec![der(&serving)],
        key: serving.key_der().expect("own PEM"),
        client_authority: der(clients.identity()),
        proxy_authority: Some(der(proxies.identity())),
    })
    .await
    .expect("a free port");
    let address = listener.address();
    tokio::spawn(listener.serve(cluster.server().clone(), cluster.shutdown()));
    Setup {
        cluster,
        address,
        clients,
        proxies,
    }
}

impl Setup {
    /// Asks who one is; gives the code and the answer.
    async fn who_am_i(&self, identity: Option<&Identity>, headers: &str) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        let authority = self.clients.identity().certificate_der();
        roots
            .add(authority.expect("own PEM"))
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(own) => {
                let chain = vec![own.certificate_der().expect("own PEM")];
                let key = own.key_der().expect("own PEM");
                config
                    .with_client_auth_cert(chain, key)
                    .expect("a certificate and its key")
            }
        };
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, socket).await.expect("a handshake");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let body = body.to_string();
        let request = format!(
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: localhost\r\n\
             Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = Vec::new();
        // Some servers end without saying so.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = serde_json::from_str(body).expect("JSON");
        (code.expect("a code"), body)
    }
}

#[tokio::test]
async fn a_proxy_says_who_asks() {
    let setup = start().await;
    let proxy = setup.proxies.client("front-proxy-client", &[]);
    let other = setup.proxies.client("somebody", &[]);
    // A name that means something, by the authority that does not.
    let client = setup.clients.client("front-proxy-client", &["dev"]);
    let (proxy, other, client) = (
        proxy.expect("a certificate"),
        other.expect("a certificate"),
        client.expect("a certificate"),
    );
    let jane = "X-Remote-User: jane\r\nX-Remote-Group: ops\r\nX-Remote-Extra-Scope: all\r\n";
    let name = |answer: &Value| answer["status"]["userInfo"]["username"].clone();

    let (code, answer) = setup.who_am_i(Some(&proxy), jane).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "jane", "groups": ["ops", "system:authenticated"], "extra": {"scope": ["all"]}})
    );
    let (code, answer) = setup.who_am_i(Some(&other), jane).await;
    assert_eq!(code, 401, "{answer}");
    let (code, answer) = setup.who_am_i(Some(&proxy), "").await;
    assert_eq!(code, 401, "{answer}");
    let token = format!("Authorization: Bearer {}\r\n", testkit::TOKEN);
    let (_, answer) = setup.who_am_i(Some(&proxy), &token).await;
    assert_eq!(name(&answer), "admin");
    let (_, answer) = setup.who_am_i(Some(&client), jane).await;
    assert_eq!(name(&answer), "front-proxy-client");
    let with_token = format!("{token}{jane}");
    let (_, answer) = setup.who_am_i(None, &with_token).await;
    assert_eq!(name(&answer), "admin", "headers alone say nothing");
}

/// Home-made clusters have one authority for everything: only proxies that are named ask for others then.
#[tokio::test]
async fn one_authority_may_sign_clients_and_proxies() {
    let one = Authority::new("one").expect("an authority");
    let same = Authority::load(one.identity().clone()).expect("its own files");
    let setup = start_with(one, same).await;
    let sign = |name: &str| setup.clients.client(name, &["dev"]).expect("a certificate");
    let (proxy, client) = (sign("front-proxy-client"), sign("joe"));
    let jane = "X-Remote-User: jane\r\n";
    for (identity, headers, expect) in [
        (&proxy, jane, "jane"),
        (&proxy, "", "front-proxy-client"),
        (&client, jane, "joe"),
        (&client, "", "joe"),
    ] {
        let (_, answer) = setup.who_am_i(Some(identity), headers).await;
        assert_eq!(answer["status"]["userInfo"]["username"], expect, "{answer}");
    }
}

/// Servers that extend this one, and kube-controller-manager and kube-scheduler, read it.
#[tokio::test]
async fn others_are_told_whom_to_believe() {
    let setup = start().await;
    let config_maps: kube::Api<ConfigMap> =
        kube::Api::namespaced(setup.cluster.client(), "kube-system");
    let found = config_maps.get("extension-apiserver-authentication").await;
    let data = json!(found.expect("it is there").data);
    let expect = json!({
        "client-ca-file": setup.clients.identity().certificate,
        "requestheader-client-ca-file": setup.proxies.identity().certificate,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
    });
    assert_eq!(data, expect);
}
