//! Makes a client unreliable, or tells what went through it. For tests.
//!
//! Faults are drawn from a seeded generator, so a failing run can be repeated. A request may fail before it reaches the
//! server, conflict without reaching it, or (the nasty case) reach it while its answer is lost. Events of a watch may
//! come late, so that caches are stale: late, never out of order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tower::BoxError;

/// How often what goes wrong, as probabilities.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultPlan {
    /// Seeds the generator.
    pub seed: u64,
    /// The server answers 500.
    pub error: f64,
    /// A write is answered 409 Conflict without being done.
    pub conflict: f64,
    /// The request is done but its answer is lost.
    pub lost_answer: f64,
    /// The request is lost before it reaches the server.
    pub lost_request: f64,
    /// A part of a watch's answer comes late, and with it all that follows.
    pub stale: f64,
    /// How late at most.
    pub stale_for: Duration,
}

impl FaultPlan {
    /// The same probability for every fault of a request; nothing is stale.
    pub fn evenly(seed: u64, probability: f64) -> Self {
        Self {
            seed,
            error: probability,
            conflict: probability,
            lost_answer: probability,
            lost_request: probability,
            ..Self::default()
        }
    }

    /// The same plan with parts of watches that come up to `stale_for` late.
    pub fn with_stale_caches(self, stale: f64, stale_for: Duration) -> Self {
        Self {
            stale,
            stale_for,
            ..self
        }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

#[derive(Clone, Copy)]
enum Fault {
    Error,
    Conflict,
    LostAnswer,
    LostRequest,
}

/// Injects faults into clients until stopped.
#[derive(Clone)]
pub struct Faults {
    plan: FaultPlan,
    generator: Arc<Mutex<StdRng>>,
    active: Arc<AtomicBool>,
}

impl Faults {
    /// Faults by plan.
    pub fn new(plan: FaultPlan) -> Self {
        let generator = Arc::new(Mutex::new(StdRng::seed_from_u64(plan.seed)));
        Self {
            plan,
            generator,
            active: Arc::new(AtomicBool::new(true)),
        }
    }

    /// From now on nothing fails any more.
    pub fn stop(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// A client that fails by plan and otherwise does what `client` does.
    pub fn wrap(&self, client: kube::Client) -> kube::Client {
        let faults = self.clone();
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, fault) = (client.clone(), faults.draw(&request));
            let faults = faults.clone();
            async move {
                let answer: Result<Answer, BoxError> = match fault {
                    None => {
                        let is_watch = is_watch(&request);
                        let answer = client.send(request).await?;
                        let answer = answer.map(|body| body.map_err(Into::into).boxed_unsync());
                        Ok(if is_watch {
                            faults.delay(answer)
                        } else {
                            answer
                        })
                    }
                    Some(Fault::Error) => {
                        Ok(failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
                    }
                    Some(Fault::Conflict) => Ok(failure(StatusCode::CONFLICT, "Conflict")),
                    Some(Fault::LostRequest) => Err("injected: request lost".into()),
                    Some(Fault::LostAnswer) => {
                        let _ = client.send(request).await;
                        Err("injected: answer lost".into())
                    }
                };
                answer
            }
        });
        kube::Client::new(service, namespace)
    }

    /// The same answer, some of its parts late.
    fn delay(&self, answer: Answer) -> Answer {
        let faults = self.clone();
        answer.map(|body| {
            let frames = body.into_data_stream().then(move |part| {
                let wait = faults.draw_delay();
                async move {
                    if let Some(wait) = wait {
                        tokio::time::sleep(wait).await;
                    }
                    part.map(http_body::Frame::data)
                }
            });
            StreamBody::new(frames).boxed_unsync()
        })
    }

    fn draw_delay(&self) -> Option<Duration> {
        if !self.active.load(Ordering::Acquire) || self.plan.stale == 0.0 {
            return None;
        }
        let mut generator = self.generator.lock();
        let drawn: f64 = generator.random();
        let part: f64 = generator.random();
        (drawn < self.plan.stale).then(|| self.plan.stale_for.mul_f64(part))
    }

    fn draw(&self, request: &Request<Body>) -> Option<Fault> {
        if !self.active.load(Ordering::Acquire) {
            return None;
        }
        let is_write = request.method() != Method::GET;
        let mut drawn: f64 = self.generator.lock().random();
        let faults = [
            (self.plan.error, Fault::Error, true),
            (self.plan.conflict, Fault::Conflict, is_write),
            (self.plan.lost_answer, Fault::LostAnswer, true),
            (self.plan.lost_request, Fault::LostRequest, true),
        ];
        for (probability, fault, applies) in faults {
            if drawn < probability {
                return applies.then_some(fault);
            }
            drawn -= probability;
        }
        None
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .any(|part| part == "watch=true" || part == "watch=1")
}

fn failure(code: StatusCode, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected fault", "reason": reason, "code": code.as_u16(),
    });
    let body = Full::from(status.to_string()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = code;
    response
}

/// Remembers the method and path of every request.
#[derive(Clone, Debug, Default)]
pub struct RequestLog {
    requests: Arc<Mutex<Vec<(Method, String)>>>,
}

impl RequestLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client whose requests are remembered.
    pub fn wrap(&self, client: kube::Client) -> kube::Client {
        let log = self.clone();
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().to_string();
            log.requests.lock().push((request.method().clone(), path));
            let client = client.clone();
            async move { client.send(request).await }
        });
        kube::Client::new(service, namespace)
    }

    /// All requests since the start or the last [`RequestLog::clear`].
    pub fn requests(&self) -> Vec<(Method, String)> {
        self.requests.lock().clone()
    }

    /// Those that write.
    pub fn writes(&self) -> Vec<(Method, String)> {
        let mut requests = self.requests();
        requests.retain(|(method, _)| method != Method::GET);
        requests
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.requests.lock().clear();
    }
}
