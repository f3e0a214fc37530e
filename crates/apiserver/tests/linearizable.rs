//! Requests that overlap answer as if they had come one after another.
//!
//! Many tasks create, change, delete and read the same few objects. Each request's beginning and end are
//! noted on one clock, and a checker (Wing and Gong's search, with memory) looks for an order of the
//! requests that agrees with those times and explains every answer. There must be one.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apiserver::ApiServer;
use apiserver::identity::User;
use bytes::Bytes;
use common::CONFIG_MAPS;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use store::{EmbeddedOptions, Store};
use testkit::Cluster;

const ROUNDS: usize = 60;
const TASKS: usize = 6;
const REQUESTS: usize = 8;
const KEYS: usize = 2;

/// What is asked for; the numbers are the object's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request1 {
    Create(u64),
    Change(u64),
    Delete,
    Read,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    /// It is there already, or is not there.
    Refused,
    Found(u64),
}

#[derive(Debug, Clone, Copy)]
struct Event {
    request: Request1,
    answer: Answer,
    began: u64,
    ended: u64,
}

/// The content of an object; none where it is not there.
type State = Option<u64>;

/// What a request makes of the state, where the answer is right in it.
fn step(state: State, event: &Event) -> Option<State> {
    match (event.request, state, event.answer) {
        (Request1::Create(content), None, Answer::Done)
        | (Request1::Change(content), Some(_), Answer::Done) => Some(Some(content)),
        (Request1::Delete, Some(_), Answer::Done) => Some(None),
        (Request1::Create(_), Some(_), Answer::Refused)
        | (Request1::Change(_) | Request1::Delete | Request1::Read, None, Answer::Refused) => {
            Some(state)
        }
        (Request1::Read, Some(content), Answer::Found(found)) if content == found => Some(state),
        _ => None,
    }
}

/// Whether some order explains the history of one object.
fn is_linearizable(history: &[Event]) -> bool {
    assert!(history.len() < 128, "one bit for each event");
    let all = (1_u128 << history.len()) - 1;
    let mut seen: HashSet<(u128, State)> = HashSet::new();
    let mut waiting: Vec<(u128, State)> = vec![(0, None)];
    while let Some((done, state)) = waiting.pop() {
        if done == all {
            return true;
        }
        if !seen.insert((done, state)) {
            continue;
        }
        let open = |index: &usize| done & (1 << index) == 0;
        // Nothing can come before what had ended when it began.
        let first_end = (0..history.len())
            .filter(open)
            .map(|index| history[index].ended)
            .min()
            .unwrap_or(0);
        for index in (0..history.len()).filter(open) {
            let event = &history[index];
            if event.began <= first_end
                && let Some(next) = step(state, event)
            {
                waiting.push((done | (1 << index), next));
            }
        }
    }
    false
}

async fn send(server: &ApiServer, method: &str, path: &str, body: Value) -> (u16, Value) {
    let media = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let text = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(Full::new(text))
        .expect("a request");
    let answer = server.handle(request, Some(Arc::new(User::admin()))).await;
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("infallible");
    let value = serde_json::from_slice(&bytes.to_bytes()).unwrap_or_default();
    (code, value)
}

async fn ask(server: &ApiServer, key: &str, request: Request1) -> Answer {
    let item = format!("{CONFIG_MAPS}/{key}");
    let object =
        |content: u64| json!({"metadata": {"name": key}, "data": {"n": content.to_string()}});
    let (code, answer) = match request {
        Request1::Create(content) => send(server, "POST", CONFIG_MAPS, object(content)).await,
        Request1::Change(content) => send(server, "PATCH", &item, object(content)).await,
        Request1::Delete => send(server, "DELETE", &item, Value::Null).await,
        Request1::Read => send(server, "GET", &item, Value::Null).await,
    };
    match (code, request) {
        (200, Request1::Read) => {
            let content = answer["data"]["n"].as_str().expect("always written");
            Answer::Found(content.parse().expect("a number"))
        }
        (200 | 201, _) => Answer::Done,
        (404 | 409, _) => Answer::Refused,
        (code, _) => panic!("{request:?}: {code} {answer}"),
    }
}

async fn one_task(
    server: ApiServer,
    keys: Arc<Vec<String>>,
    clock: Arc<AtomicU64>,
    seed: u64,
) -> Vec<(usize, Event)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut events = Vec::new();
    for _ in 0..REQUESTS {
        let key = random.random_range(0..keys.len());
        let content = random.random();
        let request = match random.random_range(0..6) {
            0 => Request1::Create(content),
            1 | 2 => Request1::Change(content),
            3 => Request1::Delete,
            _ => Request1::Read,
        };
        let began = clock.fetch_add(1, Ordering::SeqCst);
        let answer = ask(&server, &keys[key], request).await;
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        events.push((
            key,
            Event {
                request,
                answer,
                began,
                ended,
            },
        ));
    }
    events
}

async fn check(store: Arc<dyn Store>) {
    let cluster = Cluster::on(store, testkit::options()).await;
    let seed: u64 = rand::rng().random();
    println!("linearizable: seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let keys: Arc<Vec<String>> =
            Arc::new((0..KEYS).map(|key| format!("r{round}-k{key}")).collect());
        let clock = Arc::new(AtomicU64::new(1));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let server = cluster.server().clone();
                let (keys, clock) = (keys.clone(), clock.clone());
                tokio::spawn(one_task(server, keys, clock, random.random()))
            })
            .collect();
        let mut histories = vec![Vec::new(); KEYS];
        for task in tasks {
            for (key, event) in task.await.expect("no task panics") {
                histories[key].push(event);
            }
        }
        for history in histories {
            assert!(
                is_linearizable(&history),
                "seed {seed}, round {round}: no order explains {history:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_on_a_memory_store_are_linearizable() {
    check(Arc::new(store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_on_an_embedded_store_are_linearizable() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions {
        path: folder.path().join("store.redb"),
    };
    check(Arc::new(store::open_embedded(&options).expect("opens"))).await;
}

#[test]
fn the_checker_refuses_what_cannot_be() {
    let event = |request, answer, began, ended| Event {
        request,
        answer,
        began,
        ended,
    };
    let created = event(Request1::Create(1), Answer::Done, 1, 2);
    let changed = event(Request1::Change(2), Answer::Done, 3, 6);
    let stale = event(Request1::Read, Answer::Found(1), 4, 5);
    assert!(is_linearizable(&[created, changed, stale]), "they overlap");
    let late = event(Request1::Read, Answer::Found(1), 7, 8);
    assert!(!is_linearizable(&[created, changed, late]), "a stale read");
    let twice = event(Request1::Create(3), Answer::Done, 3, 4);
    assert!(!is_linearizable(&[created, twice]), "created twice");
    let lost = event(Request1::Read, Answer::Refused, 3, 4);
    assert!(!is_linearizable(&[created, lost]), "a lost write");
}
