//! Custom resources as their clients see them: versions and the webhook between them, defaults that come
//! later, rules, scale, warnings, and the end of a definition.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::raw::{Answer, Raw};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn version(name: &str, is_storage: bool, spec: &Value) -> Value {
    json!({"name": name, "served": true, "storage": is_storage,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas"}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
}

fn definition(versions: Vec<Value>) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"}, "versions": versions}})
}

fn things(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/things")
}

fn thing(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
        "metadata": {"name": name}, "spec": spec})
}

/// Makes a definition and waits until it is served.
async fn define(raw: &Raw, definition: &Value) {
    let answer = raw.send("POST", DEFINITIONS, &[], definition).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    established(raw).await;
}

async fn established(raw: &Raw) {
    let path = format!("{DEFINITIONS}/things.example.com");
    testkit::eventually("the definition is established", async || {
        let crd = raw.get(&path).await.json();
        let conditions = crd["status"]["conditions"].as_array()?.clone();
        conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
            .then_some(())
    })
    .await;
}

fn object_schema(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

#[tokio::test]
async fn definitions_are_judged_with_the_cost_of_their_rules() {
    let raw = Raw::start().await;
    let dear = object_schema(json!({"l": {"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a != b || a == b))"}]}}));
    let answer = raw
        .send(
            "POST",
            DEFINITIONS,
            &[],
            &definition(vec![version("v1", true, &dear)]),
        )
        .await;
    assert_eq!(answer.code, 422);
    let message = answer.message();
    assert!(message.contains("spec.validation.openAPIV3Schema.properties[spec].properties[l].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"), "{message}");
    assert!(
        message.contains("estimated rule cost total for entire OpenAPIv3 schema exceeds budget"),
        "{message}"
    );
}

#[tokio::test]
async fn objects_are_read_with_defaults_that_came_later() {
    let raw = Raw::start().await;
    let spec = object_schema(json!({"a": {"type": "string"}, "replicas": {"type": "integer"}}));
    define(&raw, &definition(vec![version("v1", true, &spec)])).await;
    let made = thing("v1", "x", json!({"a": "1"}));
    let made = raw.send("POST", &things("v1"), &[], &made).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let path = format!("{DEFINITIONS}/things.example.com");
    let late = json!([{"op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late",
        "value": {"type": "string", "default": "later"}}]);
    let headers = [("content-type", "application/json-patch+json")];
    let patched = raw.send("PATCH", &path, &headers, &late).await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    let object = format!("{}/x", things("v1"));
    let read = testkit::eventually("the default is there", async || {
        let read = raw.get(&object).await.json();
        (read["spec"]["late"] == "later").then_some(read)
    })
    .await;
    let list = raw.get(&things("v1")).await.json();
    assert_eq!(list["items"][0]["spec"]["late"], "later");
    // A write that changes nothing stores it.
    let before = read["metadata"]["resourceVersion"].clone();
    let written = raw.send("PUT", &object, &[], &read).await;
    assert_eq!(written.code, 200, "{}", written.text());
    assert_ne!(written.json()["metadata"]["resourceVersion"], before);
    let again = raw.send("PUT", &object, &[], &written.json()).await;
    assert_eq!(
        again.json()["metadata"]["resourceVersion"],
        written.json()["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn deprecated_versions_warn_and_scales_are_checked() {
    let raw = Raw::start().await;
    let spec = object_schema(json!({"replicas": {"type": "integer"}}));
    let mut old = version("v1beta1", false, &spec);
    old["deprecated"] = json!(true);
    define(&raw, &definition(vec![version("v1", true, &spec), old])).await;
    let made = raw
        .send("POST", &things("v1"), &[], &thing("v1", "x", json!({})))
        .await;
    assert_eq!((made.code, made.header("warning")), (201, None));
    let read = raw.get(&format!("{}/x", things("v1beta1"))).await;
    assert_eq!(read.json()["apiVersion"], "example.com/v1beta1");
    assert_eq!(
        read.header("warning").as_deref(),
        Some("299 - \"example.com/v1beta1 Thing is deprecated; use example.com/v1 Thing\"")
    );
    let scale = format!("{}/x/scale", things("v1"));
    let answer = raw.get(&scale).await;
    assert_eq!(answer.code, 500);
    assert!(
        answer
            .message()
            .contains("the spec replicas field \".spec.replicas\" does not exist")
    );
    let headers = [("content-type", "application/merge-patch+json")];
    let set = |replicas: i64| json!({"spec": {"replicas": replicas}});
    assert_eq!(raw.send("PATCH", &scale, &headers, &set(3)).await.code, 200);
    let refused = raw.send("PATCH", &scale, &headers, &set(-1)).await;
    assert_eq!(
        refused.message(),
        "Thing.example.com \"x\" is invalid: .spec.replicas: Invalid value: -1: should be a non-negative integer"
    );
    let status = json!({"status": {"replicas": "many"}});
    let refused = raw
        .send(
            "PATCH",
            &format!("{}/x/status", things("v1")),
            &headers,
            &status,
        )
        .await;
    assert!(
        refused.message().contains(
            ".status.replicas accessor error: many is of the type string, expected int64"
        ),
        "{}",
        refused.message()
    );
    let missing = raw.get(&format!("{}/x/nothing", things("v1"))).await;
    assert_eq!(missing.message(), "things.example.com \"x\" not found");
}

#[tokio::test]
async fn rules_that_held_for_what_is_unchanged_only_warn() {
    let raw = Raw::start().await;
    let spec = object_schema(json!({"a": {"type": "string"}, "replicas": {"type": "integer"}}));
    define(&raw, &definition(vec![version("v1", true, &spec)])).await;
    let made = thing("v1", "x", json!({"a": "old", "replicas": 1}));
    assert_eq!(raw.send("POST", &things("v1"), &[], &made).await.code, 201);
    let path = format!("{DEFINITIONS}/things.example.com");
    let rule = json!([{"op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/x-kubernetes-validations",
        "value": [{"rule": "self != 'old'", "message": "not old"}]}]);
    let headers = [("content-type", "application/json-patch+json")];
    assert_eq!(raw.send("PATCH", &path, &headers, &rule).await.code, 200);
    let refused = testkit::eventually("the rule is served", async || {
        let fresh = thing("v1", "y", json!({"a": "old"}));
        let answer = raw
            .send("POST", &format!("{}?dryRun=All", things("v1")), &[], &fresh)
            .await;
        (answer.code == 422).then_some(answer)
    })
    .await;
    assert!(
        refused
            .message()
            .contains("spec.a: Invalid value: \"old\": not old"),
        "{}",
        refused.message()
    );
    let headers = [("content-type", "application/merge-patch+json")];
    let object = format!("{}/x", things("v1"));
    let changed = json!({"spec": {"replicas": 2}});
    let kept = raw.send("PATCH", &object, &headers, &changed).await;
    assert_eq!(kept.code, 200, "{}", kept.text());
    assert!(
        kept.header("warning")
            .is_some_and(|warning| warning.contains("not old"))
    );
}

#[tokio::test]
async fn nothing_is_made_of_a_definition_that_is_going() {
    let raw = Raw::start().await;
    let spec = object_schema(json!({}));
    define(&raw, &definition(vec![version("v1", true, &spec)])).await;
    let mut held = thing("v1", "held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(raw.send("POST", &things("v1"), &[], &held).await.code, 201);
    let path = format!("{DEFINITIONS}/things.example.com");
    let going = raw.send("DELETE", &path, &[], &Value::Null).await.json();
    assert_eq!(going["metadata"]["generation"], 1);
    let conditions = going["status"]["conditions"].to_string();
    assert!(
        conditions.contains("InstanceDeletionPending"),
        "{conditions}"
    );
    testkit::eventually("creation is refused", async || {
        let late = thing("v1", "late", json!({}));
        let answer = raw
            .send("POST", &format!("{}?dryRun=All", things("v1")), &[], &late)
            .await;
        (answer.code == 403).then_some(())
    })
    .await;
    let headers = [("content-type", "application/merge-patch+json")];
    let release = json!({"metadata": {"finalizers": null}});
    let released = raw
        .send(
            "PATCH",
            &format!("{}/held", things("v1")),
            &headers,
            &release,
        )
        .await;
    assert_eq!(released.code, 200, "{}", released.text());
    testkit::eventually("the definition is gone", async || {
        (raw.get(&path).await.code == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn names_that_are_taken_wait_until_they_are_free() {
    let raw = Raw::start().await;
    let spec = object_schema(json!({}));
    define(&raw, &definition(vec![version("v1", true, &spec)])).await;
    let mut other = definition(vec![version("v1", true, &spec)]);
    other["metadata"]["name"] = json!("items.example.com");
    other["spec"]["names"] = json!({"plural": "items", "kind": "Thing"});
    let made = raw.send("POST", DEFINITIONS, &[], &other).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let path = format!("{DEFINITIONS}/items.example.com");
    let condition = async |kind: &str| {
        let crd = raw.get(&path).await.json();
        let conditions = crd["status"]["conditions"].as_array()?.clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == kind)
    };
    let refused = testkit::eventually("names are looked at", async || {
        condition("NamesAccepted").await
    })
    .await;
    assert_eq!(refused["status"], "False");
    assert_eq!(refused["reason"], "ListKindConflict");
    assert_eq!(refused["message"], "\"ThingList\" is already in use");
    let crd = raw.get(&path).await.json();
    assert_eq!(crd["status"]["acceptedNames"]["plural"], "items");
    assert_eq!(raw.get("/apis/example.com/v1/items").await.code, 404);
    let first = format!("{DEFINITIONS}/things.example.com");
    raw.send("DELETE", &first, &[], &Value::Null).await;
    testkit::eventually("the names are free", async || {
        condition("Established")
            .await
            .filter(|found| found["status"] == "True")
    })
    .await;
    assert_eq!(raw.get("/apis/example.com/v1/items").await.code, 200);
}

/// A conversion webhook: `v1` has `spec.size`, `v2` has `spec.large`.
async fn webhook() -> Value {
    let authority = pki::Authority::new("webhooks").expect("an authority");
    let identity = authority
        .server("hook", &["127.0.0.1".to_owned()])
        .expect("a certificate");
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
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(convert))
                        .await;
                }
            });
        }
    });
    let bundle = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        &authority.identity().certificate,
    );
    json!({"url": format!("https://{address}/convert"), "caBundle": bundle})
}

async fn convert(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let wanted = review["request"]["desiredAPIVersion"].clone();
    let objects = review["request"]["objects"].as_array().cloned();
    let mut result = json!({"status": "Success"});
    let mut converted = Vec::new();
    for mut object in objects.unwrap_or_default() {
        if object["metadata"]["name"] == "stubborn" {
            result = json!({"status": "Failed", "message": "stubborn stays"});
        }
        let is_first = wanted == "example.com/v1";
        object["spec"] = if is_first {
            json!({"size": if object["spec"]["large"] == true { 10 } else { 1 }})
        } else {
            json!({"large": object["spec"]["size"].as_i64() > Some(5)})
        };
        object["apiVersion"] = wanted.clone();
        converted.push(object);
    }
    let answer = json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": review["request"]["uid"], "result": result, "convertedObjects": converted}});
    Ok(Response::new(Full::from(answer.to_string())))
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let raw = Raw::start().await;
    let first = object_schema(json!({"size": {"type": "integer"}}));
    let second = object_schema(json!({"large": {"type": "boolean"}}));
    let versions = vec![version("v1", true, &first), version("v2", false, &second)];
    let mut crd = definition(versions);
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": webhook().await}});
    define(&raw, &crd).await;
    let small = thing("v1", "small", json!({"size": 2}));
    assert_eq!(raw.send("POST", &things("v1"), &[], &small).await.code, 201);
    let large = thing("v2", "large", json!({"large": true}));
    let made = raw.send("POST", &things("v2"), &[], &large).await;
    assert_eq!(
        (made.code, &made.json()["spec"]),
        (201, &json!({"large": true}))
    );
    // Both are stored in v1, and read in either version.
    let as_first = raw.get(&format!("{}/large", things("v1"))).await.json();
    assert_eq!(as_first["spec"], json!({"size": 10}));
    let list = raw.get(&things("v2")).await.json();
    let specs: Vec<&Value> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|i| &i["spec"])
        .collect();
    assert_eq!(specs, [&json!({"large": true}), &json!({"large": false})]);
    // A change through v2 is stored as v1 has it.
    let headers = [("content-type", "application/merge-patch+json")];
    let grown = json!({"spec": {"large": true}});
    let patched = raw
        .send(
            "PATCH",
            &format!("{}/small", things("v2")),
            &headers,
            &grown,
        )
        .await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    let as_first = raw.get(&format!("{}/small", things("v1"))).await.json();
    assert_eq!(as_first["spec"], json!({"size": 10}));
    // Watches are converted too.
    let watched = raw
        .get(&format!("{}?watch=1&timeoutSeconds=1", things("v2")))
        .await;
    let event: Value =
        serde_json::from_str(watched.text().lines().next().expect("an event")).expect("JSON");
    assert_eq!(
        (&event["type"], &event["object"]["spec"]),
        (&json!("ADDED"), &json!({"large": true}))
    );
    let stubborn = thing("v1", "stubborn", json!({"size": 1}));
    assert_eq!(
        raw.send("POST", &things("v1"), &[], &stubborn).await.code,
        201
    );
    let failed: Answer = raw.get(&format!("{}/stubborn", things("v2"))).await;
    assert_eq!(failed.code, 500);
    assert_eq!(
        failed.message(),
        "conversion webhook for example.com/v1, Kind=Thing failed: stubborn stays"
    );
}
