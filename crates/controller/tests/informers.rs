//! Informers, finalizers, optimistic writes and leases against a scripted server.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use controller::{
    Api, Event, FaultPlan, Faults, InformerOptions, Informers, LeaderElector, Leadership,
    ObjectKey, RequestLog, Resource, Subresource,
};
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

type Answer = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A server of one collection that keeps optimistic concurrency and streams watches.
#[derive(Default)]
struct Server {
    objects: std::collections::BTreeMap<String, Value>,
    version: u64,
    streaming: bool,
    /// Initial events are promised, and then the server says that its etcd has no way to tell when they end.
    old_etcd: bool,
    /// Watches older than this are refused.
    oldest: u64,
    watchers: Vec<mpsc::UnboundedSender<Value>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, std::convert::Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    fn put(&self, name: &str, mut object: Value) {
        let mut server = self.0.lock();
        server.version += 1;
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = server.version.to_string().into();
        let known = server
            .objects
            .insert(name.to_owned(), object.clone())
            .is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let event = json!({"type": kind, "object": object});
        server
            .watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn remove(&self, name: &str) {
        let mut server = self.0.lock();
        server.version += 1;
        let object = server.objects.remove(name).unwrap();
        let event = json!({"type": "DELETED", "object": object});
        server
            .watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn break_watches(&self) {
        self.0.lock().watchers.clear();
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let name = parts.uri.path().rsplit('/').next().unwrap().to_owned();
        if query.contains("watch=true") {
            return self.watch(&query);
        }
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        match parts.method {
            Method::GET if name == "things" || name == "leases" => {
                let server = self.0.lock();
                let items: Vec<&Value> = server.objects.values().collect();
                full(
                    200,
                    &json!({"metadata": {"resourceVersion": server.version.to_string()}, "items": items}),
                )
            }
            Method::GET => match self.0.lock().objects.get(&name) {
                Some(object) => full(200, object),
                None => failure(404, "NotFound"),
            },
            Method::POST => {
                let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
                self.put(&name, sent);
                full(201, &self.0.lock().objects[&name])
            }
            _ => {
                let current = self.0.lock().objects.get(&name).cloned();
                let Some(mut current) = current else {
                    return failure(404, "NotFound");
                };
                let guard = &sent["metadata"]["resourceVersion"];
                if !guard.is_null() && *guard != current["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                if parts.method == Method::PUT {
                    current = sent;
                } else {
                    current["metadata"]["finalizers"] = sent["metadata"]["finalizers"].clone();
                }
                self.put(&name, current);
                full(200, &self.0.lock().objects[&name])
            }
        }
    }

    fn watch(&self, query: &str) -> Response<Answer> {
        let mut server = self.0.lock();
        let (sender, receiver) = mpsc::unbounded_channel();
        let initial = query.contains("sendInitialEvents=true");
        if initial && !server.streaming {
            return failure(422, "Invalid");
        }
        if initial && server.old_etcd {
            let status = json!({"status": "Failure", "code": 500, "message":
                "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled"});
            sender
                .send(json!({"type": "ERROR", "object": status}))
                .unwrap();
        } else if initial {
            for object in server.objects.values() {
                sender
                    .send(json!({"type": "ADDED", "object": object}))
                    .unwrap();
            }
            let metadata = json!({"resourceVersion": server.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"}});
            sender
                .send(json!({"type": "BOOKMARK", "object": {"metadata": metadata}}))
                .unwrap();
        } else {
            let from: u64 = query
                .split("resourceVersion=")
                .nth(1)
                .unwrap()
                .split('&')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            if from < server.oldest {
                let status = json!({"status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
                sender
                    .send(json!({"type": "ERROR", "object": status}))
                    .unwrap();
            }
            let missed = server.objects.values().filter(|object| {
                object["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
                    > from
            });
            for object in missed {
                sender
                    .send(json!({"type": "MODIFIED", "object": object}))
                    .unwrap();
            }
        }
        server.watchers.push(sender);
        let lines = tokio_stream_of(receiver);
        Response::new(http_body_util::StreamBody::new(lines).boxed_unsync())
    }
}

fn tokio_stream_of(
    receiver: mpsc::UnboundedReceiver<Value>,
) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>> {
    futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (event, receiver))
    })
    .flat_map(|event| {
        // Cut every line in two, as a network may.
        let text = format!("{event}\n");
        let (head, tail) = text.split_at(text.len() / 2);
        let frames =
            [head.to_owned(), tail.to_owned()].map(|part| Ok(http_body::Frame::data(part.into())));
        futures::stream::iter(frames)
    })
}

fn full(code: u16, value: &Value) -> Response<Answer> {
    let body = http_body_util::Full::new(Bytes::from(value.to_string())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn failure(code: u16, reason: &str) -> Response<Answer> {
    full(
        code,
        &json!({"kind": "Status", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}

fn things() -> Resource {
    Resource::cluster("test.io/v1", "things", "Thing")
}

/// Collects what an informer tells, and waits for a given number of lines.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn handler(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let told = self.clone();
        move |event| {
            let verb = match event {
                Event::Added(_) => "+",
                Event::Updated { .. } => "~",
                Event::Deleted(_) => "-",
            };
            told.0
                .lock()
                .push(format!("{verb}{}", event.object().name()));
        }
    }

    async fn wait(&self, expect: &[&str]) {
        let reached = async {
            while self.0.lock().len() < expect.len() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_mins(2), reached).await;
        assert_eq!(*self.0.lock(), expect);
    }
}

async fn informer_follows(streaming: bool) {
    let fake = Fake::default();
    fake.0.lock().streaming = streaming;
    fake.put(
        "a",
        json!({"metadata": {"labels": {"color": "red"}, "managedFields": [1]}}),
    );
    let shutdown = CancellationToken::new();
    let informers = Informers::new(Api::new(fake.client()), shutdown.clone());
    let informer = informers.informer(&things(), InformerOptions::default());
    informer.add_label_index("color");
    assert!(informer.wait_for_sync().await);
    let told = Told::default();
    let guard = informer.add_handler(told.handler());
    told.wait(&["+a"]).await;
    assert!(
        informer
            .get(&ObjectKey::cluster("a"))
            .unwrap()
            .get(&["metadata", "managedFields"])
            .is_none()
    );
    assert_eq!(informer.by_index("label:color", "red").len(), 1);

    fake.put("b", json!({}));
    fake.put("a", json!({"metadata": {"labels": {"color": "blue"}}}));
    told.wait(&["+a", "+b", "~a"]).await;
    assert!(informer.by_index("label:color", "red").is_empty());

    // A broken watch goes on where it was.
    fake.break_watches();
    fake.put("c", json!({}));
    told.wait(&["+a", "+b", "~a", "+c"]).await;

    // What is too old is listed again; only differences are told.
    {
        let mut server = fake.0.lock();
        server.watchers.clear();
        server.objects.remove("b");
        server.version += 10;
        server.oldest = server.version;
    }
    told.wait(&["+a", "+b", "~a", "+c", "-b"]).await;

    drop(guard);
    fake.remove("c");
    fake.put("d", json!({}));
    while informer.get(&ObjectKey::cluster("d")).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    told.wait(&["+a", "+b", "~a", "+c", "-b"]).await;

    assert_eq!(informers.len(), 1);
    let second = informers.informer(&things(), InformerOptions::default());
    assert!(second.has_synced());
    drop((informer, second));
    assert_eq!(informers.len(), 0);
    // The last handle stopped the task; no shutdown is needed.
    informers.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn an_informer_follows_with_a_streamed_list() {
    informer_follows(true).await;
}

#[tokio::test(start_paused = true)]
async fn an_informer_follows_with_a_paged_list() {
    informer_follows(false).await;
}

/// kube-apiserver 1.36 on etcd 3.4.
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_stream_lists_is_asked_for_plain_ones() {
    let fake = Fake::default();
    {
        let mut server = fake.0.lock();
        (server.streaming, server.old_etcd) = (true, true);
    }
    fake.put("a", json!({}));
    let informers = Informers::new(Api::new(fake.client()), CancellationToken::new());
    let informer = informers.informer(&things(), InformerOptions::default());
    // Without a failure that would have to be waited out.
    assert!(
        informer
            .wait_for_sync_timeout(Duration::from_millis(100))
            .await
    );
    assert_eq!(informer.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_informer_arrives_through_faults() {
    for seed in 0..20 {
        let fake = Fake::default();
        fake.0.lock().streaming = seed % 2 == 0;
        let faults = Faults::new(FaultPlan::evenly(seed, 0.15));
        let informers = Informers::new(
            Api::new(faults.wrap(fake.client())),
            CancellationToken::new(),
        );
        let informer = informers.informer(&things(), InformerOptions::default());
        for number in 0..20 {
            fake.put(&format!("n{number}"), json!({}));
            fake.break_watches();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        faults.stop();
        fake.break_watches();
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(informer.len(), 20, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn modify_starts_over_on_conflict_and_writes_nothing_when_nothing_changes() {
    let fake = Fake::default();
    fake.put("a", json!({"count": 0}));
    let log = RequestLog::new();
    let api = Api::new(log.wrap(fake.client()));
    let key = ObjectKey::cluster("a");
    let mut raced = false;
    let change = |object: &mut Value| {
        if !std::mem::replace(&mut raced, true) {
            fake.put("a", json!({"count": 10}));
        }
        object["count"] = (object["count"].as_i64().unwrap() + 1).into();
        true
    };
    let written = api
        .modify(&things(), &key, Subresource::None, change)
        .await
        .unwrap();
    assert_eq!(written.value()["count"], 11);
    assert_eq!(log.writes().len(), 2);
    log.clear();
    api.modify(&things(), &key, Subresource::None, |_| true)
        .await
        .unwrap();
    assert_eq!(log.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn finalizers_of_others_stay() {
    let fake = Fake::default();
    fake.put("a", json!({"metadata": {"finalizers": ["theirs"]}}));
    let api = Api::new(fake.client());
    let stale = api.get(&things(), &ObjectKey::cluster("a")).await.unwrap();
    fake.put("a", json!({"metadata": {"finalizers": ["theirs", "more"]}}));
    let added = controller::finalizer::add(&api, &things(), &stale, "ours")
        .await
        .unwrap();
    assert_eq!(
        added.finalizers().collect::<Vec<_>>(),
        ["theirs", "more", "ours"]
    );
    controller::finalizer::remove(&api, &things(), &added, "ours")
        .await
        .unwrap();
    let left = api.get(&things(), &ObjectKey::cluster("a")).await.unwrap();
    assert_eq!(left.finalizers().collect::<Vec<_>>(), ["theirs", "more"]);
}

#[tokio::test(start_paused = true)]
async fn one_candidate_leads_and_the_next_takes_over() {
    let fake = Fake::default();
    let api = Api::new(fake.client());
    let first_shutdown = CancellationToken::new();
    let leads = Arc::new(Mutex::new(Vec::new()));
    let spawn = |identity: &'static str, shutdown: CancellationToken| {
        let (api, leads) = (api.clone(), Arc::clone(&leads));
        tokio::spawn(async move {
            let elector = LeaderElector::new(api, "kube-system", "lease", identity);
            let lead = |leadership: Leadership| async move {
                leads.lock().push(identity);
                leadership.ended().cancelled().await;
            };
            elector.run(shutdown, lead).await
        })
    };
    let first = spawn("first", first_shutdown.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second_shutdown = CancellationToken::new();
    let second = spawn("second", second_shutdown.clone());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(*leads.lock(), ["first"]);
    first_shutdown.cancel();
    assert!(first.await.unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*leads.lock(), ["first", "second"]);
    second_shutdown.cancel();
    assert!(second.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_writes_nothing_more() {
    let fake = Fake::default();
    // The leader is cut off: its requests for the Lease are lost, all others come through.
    let cut = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let partition = {
        let (client, cut) = (fake.client(), Arc::clone(&cut));
        tower::service_fn(move |request: Request<Body>| {
            let (client, cut) = (client.clone(), Arc::clone(&cut));
            async move {
                let lost = cut.load(std::sync::atomic::Ordering::SeqCst)
                    && request.uri().path().contains("leases");
                if lost {
                    return Err(tower::BoxError::from("lost"));
                }
                client.send(request).await.map_err(tower::BoxError::from)
            }
        })
    };
    let cut_off = kube::Client::new(partition, "default");
    let log: Arc<Mutex<Vec<(&str, tokio::time::Instant)>>> = Arc::default();
    let spawn = |client: kube::Client, identity: &'static str| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let elector =
                LeaderElector::new(Api::new(client.clone()), "kube-system", "lease", identity);
            let lead = |leadership: Leadership| async move {
                let api = Api::new(leadership.fence(client));
                // A sync that takes no notice of the end, in the middle of its writes.
                loop {
                    let key = ObjectKey::cluster("work");
                    let patch = json!({"by": identity});
                    match api
                        .merge_patch(&things(), &key, Subresource::None, &patch)
                        .await
                    {
                        Ok(_) => log.lock().push((identity, tokio::time::Instant::now())),
                        Err(_) => return,
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            elector.run(CancellationToken::new(), lead).await
        })
    };
    fake.put("work", json!({}));
    let first = spawn(cut_off, "first");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = spawn(fake.client(), "second");
    cut.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let _ = first.is_finished();
    second.abort();
    let log = log.lock();
    let last_of_first = log
        .iter()
        .filter(|(by, _)| *by == "first")
        .map(|(_, at)| *at)
        .max();
    let first_of_second = log
        .iter()
        .filter(|(by, _)| *by == "second")
        .map(|(_, at)| *at)
        .min();
    let (last, first) = (
        last_of_first.expect("it led"),
        first_of_second.expect("it took over"),
    );
    assert!(
        last < first,
        "both led at once: {:?}",
        last.duration_since(first)
    );
}
