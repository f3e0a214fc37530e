//! Bodies no honest client sends: each is refused with a `Status`, and the server goes on.

use std::fmt::Write as _;

use http::{Method, Request, StatusCode};
use kube::client::Body;
use serde_json::Value;
use testkit::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Answer {
    code: StatusCode,
    status: Value,
}

async fn send(cluster: &Cluster, method: Method, path: &str, media: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(Body::from(body))
        .expect("a request");
    let response = cluster.client().send(request).await.expect("an answer");
    let code = response.status();
    let bytes = response.into_body().collect_bytes().await.expect("a body");
    Answer {
        code,
        status: serde_json::from_slice(&bytes).expect("a Status"),
    }
}

async fn check(cluster: &Cluster, media: &str, body: impl Into<Vec<u8>>, code: u16, expect: &str) {
    let answer = send(cluster, Method::POST, MAPS, media, body.into()).await;
    let message = answer.status["message"].as_str().unwrap_or_default();
    let shown: String = message.chars().take(500).collect();
    assert_eq!(answer.code.as_u16(), code, "{shown}");
    assert_eq!(answer.status["kind"], "Status", "{shown}");
    assert!(
        message.contains(expect),
        "{expect:?} is missing in: {shown}"
    );
    assert!(
        message.len() < 10_000,
        "a message of {} bytes",
        message.len()
    );
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    let (open, close) = (open.repeat(levels), close.repeat(levels));
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"deep"}},"data":{open}1{close}}}"#
    )
}

fn alias_bomb() -> String {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nx0: &x0 [lol]\n".to_owned();
    for level in 1..=9 {
        let below = vec![format!("*x{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "x{level}: &x{level} [{below}]");
    }
    text
}

#[tokio::test]
async fn bodies_that_are_no_objects() {
    let cluster = Cluster::start().await;
    let (json, yaml) = ("application/json", "application/yaml");
    check(
        &cluster,
        json,
        r#"{"apiVersion":"v1","#,
        400,
        "unexpected end of JSON input",
    )
    .await;
    check(&cluster, json, "", 400, "").await;
    check(&cluster, json, "[]", 400, "").await;
    // Go reads it as an object without fields.
    check(
        &cluster,
        json,
        "null",
        422,
        "name or generateName is required",
    )
    .await;
    check(&cluster, json, "{} {}", 400, "").await;
    check(&cluster, "text/plain", "{}", 415, "").await;
    check(&cluster, yaml, "a: [", 400, "error converting YAML to JSON").await;
    check(&cluster, yaml, alias_bomb(), 400, "").await;
    check(&cluster, yaml, vec![0xff, 0xfe, b'a'], 400, "").await;
    check(
        &cluster,
        json,
        vec![b' '; (3 << 20) + 1],
        413,
        "limit is 3145728",
    )
    .await;
}

#[tokio::test]
async fn bodies_that_nest_without_end() {
    let cluster = Cluster::start().await;
    let (json, yaml) = ("application/json", "application/yaml");
    for levels in [200, 10_000, 200_000] {
        check(&cluster, json, nested("[", "]", levels), 400, "").await;
        check(&cluster, json, nested("{\"a\":", "}", levels), 400, "").await;
    }
    for levels in [200, 10_000] {
        check(&cluster, yaml, nested("[", "]", levels), 400, "").await;
        check(&cluster, yaml, "- ".repeat(levels), 400, "").await;
    }
    let path = format!("{MAPS}/deep?fieldManager=test");
    for media in [
        "application/apply-patch+yaml",
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
    ] {
        let body = nested("{\"a\":", "}", 10_000).into_bytes();
        let answer = send(&cluster, Method::PATCH, &path, media, body).await;
        assert!(answer.code.is_client_error(), "{media}: {}", answer.status);
        let answer = send(&cluster, Method::PATCH, &path, media, alias_bomb().into()).await;
        assert!(answer.code.is_client_error(), "{media}: {}", answer.status);
    }
}

#[tokio::test]
async fn text_that_is_not_unicode() {
    let cluster = Cluster::start().await;
    let mut body =
        br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"latin"},"data":{"a":"x"#
            .to_vec();
    body.push(0xe9);
    body.extend(br#""}}"#);
    // Go's decoder reads what is not UTF-8 as the replacement character; either is honest, silence is not.
    let answer = send(&cluster, Method::POST, MAPS, "application/json", body).await;
    match answer.code.as_u16() {
        201 => assert_eq!(answer.status["data"]["a"], "x\u{fffd}"),
        code => assert_eq!(code, 400, "{}", answer.status),
    }
}

#[tokio::test]
async fn selectors_that_cannot_be_parsed() {
    let cluster = Cluster::start().await;
    let media = "application/json";
    for selector in ["a%20in%20(b", "%3D%3D", "a%20in", "!!a", "-a%3Db"] {
        let path = format!("{MAPS}?labelSelector={selector}");
        let answer = send(&cluster, Method::GET, &path, media, Vec::new()).await;
        assert_eq!(answer.code.as_u16(), 400, "{selector}: {}", answer.status);
    }
    let path = format!("{MAPS}?fieldSelector=nonsense%3Da");
    let answer = send(&cluster, Method::GET, &path, media, Vec::new()).await;
    assert_eq!(answer.code.as_u16(), 400, "{}", answer.status);
}
