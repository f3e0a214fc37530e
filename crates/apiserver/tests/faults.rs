//! Clients that misbehave and clocks that jump: everybody else is served as before.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use apiserver::identity::User;
use bytes::Bytes;
use common::raw::Raw;
use common::{CONFIG_MAPS, Requests, config_map};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use testkit::Cluster;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Connections that never say anything sensible.
const LORISES: usize = 200;

async fn client_of(endpoint: &testkit::Endpoint) -> kube::Client {
    let kubeconfig: Kubeconfig =
        serde_json::from_value(endpoint.kubeconfig.clone()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("complete");
    kube::Client::try_from(config).expect("a client")
}

/// A watch that is not read holds no events: it falls out of the history and is told so.
#[tokio::test]
async fn a_watch_nobody_reads_costs_nothing_and_is_told_that_it_is_too_old() {
    let cluster = Cluster::start().await;
    let requests = Requests::on(cluster);
    let made = requests.create(CONFIG_MAPS, config_map("big")).await;
    let version = made["metadata"]["resourceVersion"]
        .as_str()
        .expect("it has one");
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}");
    let request = Request::get(path)
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let user = Arc::new(User::admin());
    let answer = requests.server().handle(request, Some(user)).await;
    // More than the history keeps of one resource.
    let filling = "x".repeat(500_000);
    for number in 0..140 {
        let body = json!({"data": {"n": number.to_string(), "f": filling}});
        let (code, answer) = requests
            .send("PATCH", &format!("{CONFIG_MAPS}/big"), &body)
            .await;
        assert_eq!(code, 200, "{answer}");
    }
    let mut body = answer.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("infallible").into_data() {
            read.extend_from_slice(&data);
        }
    }
    let last = read
        .split(|byte| *byte == b'\n')
        .rfind(|line| !line.is_empty());
    let last: Value = serde_json::from_slice(last.expect("an event")).expect("JSON");
    assert_eq!(
        (&last["type"], &last["object"]["code"]),
        (&json!("ERROR"), &json!(410)),
        "{last}"
    );
}

/// Connections that send nothing, or a byte now and then, take nothing from others.
#[tokio::test]
async fn slow_clients_do_not_hold_up_others() {
    let cluster = Cluster::start().await;
    let endpoint = cluster.listen().await;
    let mut lorises = Vec::new();
    for number in 0..LORISES {
        let mut socket = TcpStream::connect(endpoint.address)
            .await
            .expect("accepted");
        // The first bytes of a handshake that never goes on.
        if number % 2 == 0 {
            socket.write_all(&[22, 3, 1]).await.expect("open");
        }
        lorises.push(socket);
    }
    let client = client_of(&endpoint).await;
    client.apiserver_version().await.expect("answered");
    // None of them had to go for it.
    for socket in lorises {
        let nothing = socket.try_read(&mut [0]).expect_err("nobody talks to it");
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// Times in objects follow the clock wherever it goes; versions and watches do not look at it.
#[tokio::test]
async fn a_clock_that_jumps_confuses_nobody() {
    let seconds = Arc::new(AtomicI64::new(1_800_000_000));
    let now = seconds.clone();
    let mut options = testkit::options();
    options.clock =
        Arc::new(move || jiff::Timestamp::from_second(now.load(Ordering::SeqCst)).expect("a time"));
    let requests = Requests::on(Cluster::with(options).await);
    let mut versions = Vec::new();
    for (number, jump) in [0, -86_400 * 365, 86_400 * 3_650, 0]
        .into_iter()
        .enumerate()
    {
        seconds.store(1_800_000_000 + jump, Ordering::SeqCst);
        let name = format!("at-{number}");
        let made = requests.create(CONFIG_MAPS, config_map(&name)).await;
        let version: u64 = made["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|version| version.parse().ok())
            .expect("a number");
        versions.push(version);
        let (code, answer) = requests
            .send(
                "PATCH",
                &format!("{CONFIG_MAPS}/at-0"),
                &json!({"data": {"k": name}}),
            )
            .await;
        assert_eq!(code, 200, "{answer}");
    }
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
    let (code, _) = requests
        .send("DELETE", &format!("{CONFIG_MAPS}/at-1"), &Value::Null)
        .await;
    assert_eq!(code, 200);
}

/// A body that is too large is refused before it is read to its end.
#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let raw = Raw::start().await;
    let body = Bytes::from(vec![b' '; 4 << 20]);
    let answer = raw.send_bytes("POST", CONFIG_MAPS, &[], body).await;
    assert_eq!(answer.code, 413, "{}", answer.text());
}
