//! What `/metrics` tells: upstream's names, and numbers that are true.

mod common;

use std::sync::Arc;

use apiserver::identity::User;
use bytes::Bytes;
use common::raw::Raw;
use common::{CONFIG_MAPS, config_map};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

async fn value(raw: &Raw, series: &str) -> Option<f64> {
    let text = raw.get("/metrics").await.text();
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn requests_watches_and_objects_are_counted() {
    let raw = Raw::start().await;
    let created = "apiserver_request_total{verb=\"POST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\",scope=\"namespace\",component=\"apiserver\",code=\"201\"}";
    let objects = "apiserver_resource_objects{group=\"\",resource=\"configmaps\"}";
    // The server makes ConfigMaps of its own.
    let created_before = value(&raw, created).await.unwrap_or(0.0);
    let objects_before = value(&raw, objects).await.unwrap_or(0.0);
    for name in ["a", "b"] {
        let made = raw.send("POST", CONFIG_MAPS, &[], &config_map(name)).await;
        assert_eq!(made.code, 201, "{}", made.text());
    }
    raw.send("GET", CONFIG_MAPS, &[], &Value::Null).await;
    assert_eq!(value(&raw, created).await, Some(created_before + 2.0));
    assert_eq!(value(&raw, objects).await, Some(objects_before + 2.0));
    let listed = "apiserver_response_sizes_count{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\"";
    assert_eq!(value(&raw, listed).await, Some(1.0));
    assert!(
        value(&raw, "apiserver_storage_size_bytes{")
            .await
            .is_some_and(|bytes| bytes > 100.0)
    );
    let waiting = "apiserver_current_inflight_requests{request_kind=\"mutating\"}";
    assert_eq!(value(&raw, waiting).await, Some(0.0));

    let open = "apiserver_longrunning_requests{verb=\"WATCH\",group=\"\",version=\"v1\",resource=\"configmaps\"";
    assert!(value(&raw, open).await.is_none_or(|watches| watches == 0.0));
    let request = Request::get(format!("{CONFIG_MAPS}?watch=true&resourceVersion=0"))
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let user = Arc::new(User::admin());
    let answer = raw.server().handle(request, Some(user)).await;
    let mut body = answer.into_body();
    body.frame()
        .await
        .expect("what is there")
        .expect("infallible");
    assert_eq!(value(&raw, open).await, Some(1.0));
    let sent = "apiserver_watch_events_total{group=\"\",version=\"v1\",resource=\"configmaps\"}";
    assert_eq!(value(&raw, sent).await, Some(2.0));
    drop(body);
    assert_eq!(value(&raw, open).await, Some(0.0));
}
