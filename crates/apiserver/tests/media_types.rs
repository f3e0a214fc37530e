//! What clients accept and send: protobuf, YAML, pretty JSON, tables, partial objects, and refusals.

mod common;

use bytes::Bytes;
use common::raw::Raw;
use common::{CONFIG_MAPS, config_map};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn with_config_map() -> Raw {
    let raw = Raw::start().await;
    let made = raw.send("POST", CONFIG_MAPS, &[], &config_map("cm")).await;
    assert_eq!(made.code, 201, "{}", made.text());
    raw
}

#[tokio::test]
async fn protobuf_is_taken_and_given() {
    let raw = Raw::start().await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"},
        "data": {"k": "v"}});
    let body = Bytes::from(protobuf::encode(&object).expect("has a message"));
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let made = raw.send_bytes("POST", CONFIG_MAPS, &headers, body).await;
    assert_eq!(
        (made.code, made.header("content-type").as_deref()),
        (201, Some(PROTOBUF))
    );
    let made = protobuf::decode(&made.body).expect("well formed");
    assert_eq!(made["data"], json!({"k": "v"}));
    let list = raw
        .send("GET", CONFIG_MAPS, &[("accept", PROTOBUF)], &Value::Null)
        .await;
    let list = protobuf::decode(&list.body).expect("well formed");
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"][0]["metadata"]["name"], "cm");
    let missing = raw
        .send(
            "GET",
            &format!("{CONFIG_MAPS}/none"),
            &[("accept", PROTOBUF)],
            &Value::Null,
        )
        .await;
    let status = protobuf::decode(&missing.body).expect("well formed");
    assert_eq!((missing.code, &status["reason"]), (404, &json!("NotFound")));
    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let partial = raw
        .send(
            "GET",
            &format!("{CONFIG_MAPS}/cm"),
            &[("accept", &partial)],
            &Value::Null,
        )
        .await;
    let partial = protobuf::decode(&partial.body).expect("well formed");
    assert_eq!(partial["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn watches_frame_protobuf() {
    let raw = with_config_map().await;
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let answer = raw
        .send("GET", &path, &[("accept", PROTOBUF)], &Value::Null)
        .await;
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/vnd.kubernetes.protobuf;stream=watch")
    );
    let length = u32::from_be_bytes(answer.body[..4].try_into().expect("four bytes")) as usize;
    let event = &answer.body[4..4 + length];
    assert_eq!(event[..7], *b"\x0a\x05ADDED");
    let start = event.windows(4).position(|four| four == b"k8s\0");
    let object = protobuf::decode(&event[start.expect("an object")..]).expect("well formed");
    assert_eq!(object["metadata"]["name"], "cm");
    let refused = raw
        .send(
            "GET",
            &path,
            &[("accept", "application/yaml")],
            &Value::Null,
        )
        .await;
    assert_eq!(refused.code, 406);
    assert!(
        refused.text().contains("application/json;stream=watch"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn people_get_what_they_can_read() {
    let raw = with_config_map().await;
    let path = format!("{CONFIG_MAPS}/cm");
    let ask = async |headers: &[(&str, &str)], path: &str| {
        raw.send("GET", path, headers, &Value::Null).await
    };
    let plain = ask(&[], &path).await;
    assert!(!plain.text().contains("\n  "));
    for (headers, path) in [
        (vec![("user-agent", "curl/8.0")], path.clone()),
        (vec![], format!("{path}?pretty=true")),
        (vec![("accept", "application/json;pretty=1")], path.clone()),
    ] {
        let pretty = ask(&headers, &path).await;
        assert_eq!(pretty.json(), plain.json());
        assert!(pretty.text().contains("\n  \""), "{}", pretty.text());
    }
    let yaml = ask(&[("accept", "application/yaml")], &path).await;
    assert!(
        yaml.text().starts_with("apiVersion: v1\ndata:\n  k: v\n"),
        "{}",
        yaml.text()
    );
    // A body in YAML 1.1 is read as such.
    let body = Bytes::from_static(b"metadata: {name: y1}\ndata: {n: \"1\"}\n");
    let made = raw
        .send_bytes(
            "POST",
            CONFIG_MAPS,
            &[("content-type", "application/yaml")],
            body,
        )
        .await;
    assert_eq!(made.json()["data"], json!({"false": "1"}));
}

#[tokio::test]
async fn forms_that_do_not_fit_are_refused() {
    let raw = with_config_map().await;
    let form = |name: &str| format!("application/json;as={name};g=meta.k8s.io;v=v1");
    let ask = async |accept: &str, path: &str| {
        raw.send("GET", path, &[("accept", accept)], &Value::Null)
            .await
    };
    let item = format!("{CONFIG_MAPS}/cm");
    let answer = ask(&form("PartialObjectMetadataList"), &item).await;
    assert_eq!(
        answer.message(),
        "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)"
    );
    let answer = ask(&form("PartialObjectMetadata"), CONFIG_MAPS).await;
    assert_eq!(
        answer.message(),
        "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"
    );
    let answer = ask(&form("Nonsense"), &item).await;
    assert_eq!(
        answer.message(),
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let answer = ask("application/cbor", &item).await;
    assert_eq!(answer.code, 406);
    assert!(
        answer
            .message()
            .starts_with("406: Not Acceptable\n\nAvailable representations: ")
    );
    let answer = ask("application/cbor", "/apis").await;
    assert!(
        answer
            .message()
            .starts_with("only the following media types are accepted: ")
    );
    let table = ask(&form("Table"), &item).await.json();
    assert_eq!(table["rows"][0]["cells"][0], "cm");
    let described = table["columnDefinitions"][0]["description"].as_str();
    assert!(described.is_some_and(|text| text.starts_with("Name must be unique")));
    let empty = ask(&form("Table"), "/api/v1/namespaces/default/limitranges").await;
    assert_eq!(empty.json()["rows"], Value::Null);
    let empty = ask(&form("Table"), "/api/v1/namespaces/default/secrets").await;
    assert_eq!(empty.json()["rows"], json!([]));
}

#[tokio::test]
async fn discovery_and_documents_answer_in_their_own_ways() {
    let raw = Raw::start().await;
    let unknown = raw.get("/apis/apps/v9").await;
    assert_eq!(
        (unknown.code, unknown.json()["kind"].clone()),
        (404, json!("Status"))
    );
    assert_eq!(
        raw.get("/apis/example.com/v1").await.text(),
        "404 page not found\n"
    );
    let deleted = raw.send("DELETE", "/api/v1", &[], &Value::Null).await;
    assert_eq!(
        (deleted.code, deleted.json()["reason"].clone()),
        (405, json!("MethodNotAllowed"))
    );
    let index = raw.get("/openapi/v3").await;
    assert_eq!(
        index.header("content-type").as_deref(),
        Some("text/plain; charset=utf-8")
    );
    let url = index.json()["paths"]["apis/apps/v1"]["serverRelativeURL"].clone();
    let document = raw.get(url.as_str().expect("a URL")).await;
    assert_eq!(document.code, 200);
    let moved = raw.get("/openapi/v3/apis/apps/v1?hash=0000").await;
    assert_eq!(
        (moved.code, moved.header("location")),
        (301, url.as_str().map(str::to_owned))
    );
    let other = [("accept", "application/vnd.oai.openapi+json")];
    assert_eq!(
        raw.send("GET", "/openapi/v2", &other, &Value::Null)
            .await
            .code,
        406
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let raw = with_config_map().await;
    for n in 0..4 {
        let mut object = config_map(&format!("large-{n}"));
        object["data"] = json!({"text": "some text ".repeat(5_000)});
        let made = raw.send("POST", CONFIG_MAPS, &[], &object).await;
        assert_eq!(made.code, 201, "{}", made.text());
    }
    let gzip = ("accept-encoding", "deflate, gzip");
    let accepts = [
        "application/json",
        "application/yaml",
        PROTOBUF,
        "application/json;pretty=1",
    ];
    for accept in accepts {
        let accept = ("accept", accept);
        let plain = raw.send("GET", CONFIG_MAPS, &[accept], &Value::Null).await;
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("vary"), None);
        let small = raw
            .send("GET", CONFIG_MAPS, &[accept, gzip], &Value::Null)
            .await;
        assert_eq!(small.header("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(small.header("vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(small.header("content-type"), plain.header("content-type"));
        assert!(small.body.len() < plain.body.len() / 10);
        let mut read = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::GzDecoder::new(small.body.as_ref()),
            &mut read,
        )
        .expect("gzip");
        assert!(read == plain.body.as_ref(), "{accept:?}");
    }
    let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let one = format!("{CONFIG_MAPS}/large-0");
    for path in [watch, one] {
        let answer = raw.send("GET", &path, &[gzip], &Value::Null).await;
        assert_eq!(answer.header("content-encoding"), None, "{path}");
    }
    let document = raw.send("GET", "/openapi/v2", &[gzip], &Value::Null).await;
    assert_eq!(document.header("content-encoding").as_deref(), Some("gzip"));
}
