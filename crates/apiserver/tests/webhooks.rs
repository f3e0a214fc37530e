//! Admission webhooks over HTTPS and in process, and what becomes of a write when they fail.

mod common;

use std::sync::Arc;

use apiserver::admission::{InProcess, Plugins};
use bytes::Bytes;
use common::{CONFIG_MAPS, Requests, config_map};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::admission::{AdmissionRequest, AdmissionResponse, Answer, Handler};
use serde_json::{Value, json};
use testkit::Cluster;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A server whose answers depend on the path.
struct Server {
    address: std::net::SocketAddr,
    bundle: String,
}

impl Server {
    async fn start() -> Self {
        let authority = pki::Authority::new("webhooks").expect("an authority");
        let names = ["127.0.0.1".to_owned(), "hook.default.svc".to_owned()];
        let identity = authority.server("hook", &names).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![identity.certificate_der().expect("PEM")],
                identity.key_der().expect("PEM"),
            )
            .expect("a key that fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(respond))
                        .await;
                });
            }
        });
        let pem = &authority.identity().certificate;
        Self {
            address,
            bundle: base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem),
        }
    }

    fn client_config(&self, path: &str) -> Value {
        json!({"url": format!("https://{}{path}", self.address), "caBundle": self.bundle})
    }
}

async fn respond(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let uid = review["request"]["uid"].clone();
    let response = match path.as_str() {
        "/allow" => json!({"uid": uid, "allowed": true, "warnings": ["mind the gap"]}),
        "/deny" => json!({"uid": uid, "allowed": false,
            "status": {"code": 418, "message": "not today", "reason": "Teapot"}}),
        "/label" => {
            let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}]);
            let patch =
                base64::Engine::encode(&base64::prelude::BASE64_STANDARD, patch.to_string());
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        "/uid" => json!({"uid": "other", "allowed": true}),
        "/hang" => std::future::pending().await,
        "/nonsense" => return Ok(Response::new(Full::from("<html>"))),
        _ => {
            let mut response = Response::new(Full::from("boom"));
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(response);
        }
    };
    let answer = json!({
        "kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response,
    });
    Ok(Response::new(Full::from(answer.to_string())))
}

fn configuration(kind: &str, client_config: Value, more: Value) -> Value {
    let mut webhook = json!({
        "name": "hook.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": client_config,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
    });
    if let (Some(webhook), Value::Object(more)) = (webhook.as_object_mut(), more) {
        webhook.extend(more);
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": "hooks"}, "webhooks": [webhook],
    })
}

async fn validating(requests: &Requests, client_config: Value, more: Value) {
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let _ = requests
        .send("DELETE", &format!("{path}/hooks"), &Value::Null)
        .await;
    let configuration = configuration("ValidatingWebhookConfiguration", client_config, more);
    requests.create(&path, configuration).await;
}

#[tokio::test]
async fn webhooks_refuse_in_their_own_words() {
    let (requests, server) = (Requests::start().await, Server::start().await);
    validating(&requests, server.client_config("/deny"), json!({})).await;
    let (code, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(
        (code, message.as_str()),
        (
            418,
            "admission webhook \"hook.example.com\" denied the request: not today"
        )
    );
    validating(&requests, server.client_config("/allow"), json!({})).await;
    requests.create(CONFIG_MAPS, config_map("a")).await;
}

#[tokio::test]
async fn what_fails_is_told_and_the_policy_decides() {
    let (requests, server) = (Requests::start().await, Server::start().await);
    let expect = [
        (
            "/uid",
            "received invalid webhook response: expected response.uid=",
        ),
        (
            "/nonsense",
            "failed to call webhook: couldn't get version/kind; json parse error",
        ),
        (
            "/500",
            "failed to call webhook: an error on the server (\"boom\") has prevented the request from succeeding",
        ),
    ];
    for (index, (path, text)) in expect.iter().enumerate() {
        validating(&requests, server.client_config(path), json!({})).await;
        let (code, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
        let start = "Internal error occurred: failed calling webhook \"hook.example.com\": ";
        assert_eq!(code, 500);
        assert!(message.starts_with(&format!("{start}{text}")), "{message}");
        let ignore = json!({"failurePolicy": "Ignore"});
        validating(&requests, server.client_config(path), ignore).await;
        requests
            .create(CONFIG_MAPS, config_map(&format!("ignored-{index}")))
            .await;
    }
    let nobody = json!({"url": "https://127.0.0.1:1/x"});
    validating(&requests, nobody, json!({"timeoutSeconds": 3})).await;
    let (_, message) = requests.refused(CONFIG_MAPS, config_map("b")).await;
    assert_eq!(
        message,
        "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=3s\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

#[tokio::test]
async fn a_webhook_that_hangs_delays_nobody_else() {
    let (requests, server) = (Requests::start().await, Server::start().await);
    let within = |seconds: u64| json!({"timeoutSeconds": seconds});
    let hang = server.client_config("/hang");
    validating(&requests, hang.clone(), within(30)).await;
    let map = config_map("a");
    let secret = json!({"metadata": {"name": "s"}});
    tokio::select! {
        biased;
        (code, answer) = requests.send("POST", CONFIG_MAPS, &map) => panic!("{code} {answer}"),
        _ = requests.create("/api/v1/namespaces/default/secrets", secret) => {}
    }
    validating(&requests, hang, within(1)).await;
    let (_, message) = requests.refused(CONFIG_MAPS, map).await;
    assert!(message.ends_with("context deadline exceeded"), "{message}");
}

#[tokio::test]
async fn webhooks_that_change_are_patched_in() {
    let (requests, server) = (Requests::start().await, Server::start().await);
    let path = format!("{GROUP}/mutatingwebhookconfigurations");
    let hook = configuration(
        "MutatingWebhookConfiguration",
        server.client_config("/label"),
        json!({"matchConditions": [{"name": "not-b", "expression": "object.metadata.name != 'b'"}]}),
    );
    requests.create(&path, hook).await;
    let made = requests.create(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(made["metadata"]["labels"], json!({"by": "hook"}));
    let skipped = requests.create(CONFIG_MAPS, config_map("b")).await;
    assert_eq!(skipped["metadata"].get("labels"), None);
}

#[tokio::test]
async fn services_are_followed_to_their_endpoints() {
    let (requests, server) = (Requests::start().await, Server::start().await);
    let config = json!({
        "service": {"name": "hook", "namespace": "default", "path": "/deny"},
        "caBundle": server.bundle,
    });
    validating(&requests, config, json!({})).await;
    let (_, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
    assert!(message.ends_with("service \"hook\" not found"), "{message}");
    requests
        .create(
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443}]}}),
        )
        .await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": server.address.port()}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
    });
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    // No address of an EndpointSlice may be a loopback one; the store holds what an older server let in.
    let (code, answer) = requests.send("POST", path, &slice).await;
    if code < 300 {
        let (code, _) = requests.refused(CONFIG_MAPS, config_map("a")).await;
        assert_eq!(code, 418);
    } else {
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("loopback"), "{message}");
    }
}

struct Numbers;

impl Handler for Numbers {
    fn review<'a>(&'a self, request: &'a AdmissionRequest) -> Answer<'a> {
        Box::pin(async move {
            if request.object["data"].get("number").is_some() {
                return AdmissionResponse::allowed();
            }
            AdmissionResponse::denied(403, "a number is missing")
        })
    }
}

#[tokio::test]
async fn handlers_in_process_are_asked_like_webhooks() {
    let webhook = json!({
        "name": "numbers.corvus.dev",
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "sideEffects": "None",
    });
    let handler = InProcess {
        webhook,
        mutating: false,
        handler: Arc::new(Numbers),
    };
    let mut options = testkit::options();
    options.admission = Plugins::default().with_handlers(&[handler]);
    let requests = Requests::on(Cluster::with(options).await);
    let (code, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "admission webhook \"numbers.corvus.dev\" denied the request: a number is missing"
        )
    );
    let mut map = config_map("a");
    map["data"]["number"] = json!("1");
    requests.create(CONFIG_MAPS, map).await;
}
