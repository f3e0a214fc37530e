//! Leader election with a `coordination.k8s.io/v1` Lease.
//!
//! As client-go: a candidate takes a Lease that nobody has renewed for its whole duration, measured on the candidate's
//! own clock since it last saw the Lease change, so clocks need not agree. A leader that cannot renew in time stops.
//!
//! [`Leadership`] fences what a leader does: a client from it refuses every request from the moment the Lease might be
//! somebody else's, also those of a reconcile that is half done, and also in a process that was asleep meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use crate::api::Api;
use crate::clock::{Clock, SystemClock, format_micro_time};
use crate::error::Error;
use crate::object::{Object, ObjectKey};
use crate::resource::Resource;

/// A candidate for the leadership that one Lease stands for.
#[derive(Clone)]
pub struct LeaderElector {
    api: Api,
    key: ObjectKey,
    identity: String,
    clock: Arc<dyn Clock>,
    /// After this long without renewal others may take over (15 s).
    pub lease_duration: Duration,
    /// A leader that could not renew for this long gives up (10 s).
    pub renew_deadline: Duration,
    /// Time between attempts (2 s).
    pub retry_period: Duration,
}

/// What was last seen of the Lease.
#[derive(Default)]
struct Seen {
    version: String,
    at: Option<Instant>,
}

/// The time somebody is the leader.
#[derive(Clone)]
pub struct Leadership {
    ended: CancellationToken,
    /// Until when the Lease is certain.
    until: Arc<Mutex<Instant>>,
}

impl Leadership {
    /// Cancelled when the leadership ends.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Whether nobody else can be the leader now.
    pub fn is_certain(&self) -> bool {
        !self.ended.is_cancelled() && Instant::now() < *self.until.lock()
    }

    /// A client that does what `client` does, as long as this is the leader.
    pub fn fence(&self, client: kube::Client) -> kube::Client {
        let leadership = self.clone();
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, leadership) = (client.clone(), leadership.clone());
            async move {
                if !leadership.is_certain() {
                    return Err(BoxError::from(LOST));
                }
                tokio::select! {
                    biased;
                    () = leadership.ended.cancelled() => Err(BoxError::from(LOST)),
                    answer = client.send(request) => answer.map_err(BoxError::from),
                }
            }
        });
        kube::Client::new(service, namespace)
    }
}

/// Why a fenced client refuses.
const LOST: &str = "another process may be the leader by now";

impl LeaderElector {
    /// A candidate with client-go's default times.
    pub fn new(
        api: Api,
        namespace: impl Into<String>,
        name: impl Into<String>,
        identity: impl Into<String>,
    ) -> Self {
        Self {
            api,
            key: ObjectKey::new(namespace, name),
            identity: identity.into(),
            clock: Arc::new(SystemClock),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits to become the leader, then runs `lead` until the leadership or the process ends.
    ///
    /// `lead` must end when its leadership does; the Lease is released on shutdown. Returns whether it ended because of
    /// the shutdown (`false`: the leadership was lost).
    pub async fn run<F, L>(&self, shutdown: CancellationToken, lead: L) -> bool
    where
        F: Future<Output = ()>,
        L: FnOnce(Leadership) -> F,
    {
        let mut seen = Seen::default();
        crate::metrics::leads(&self.key.name, false);
        let taken = tokio::select! {
            () = shutdown.cancelled() => return true,
            at = self.acquire(&mut seen) => at,
        };
        tracing::info!(lease = %self.key, identity = self.identity, "became the leader");
        crate::metrics::leads(&self.key.name, true);
        let leading = shutdown.child_token();
        let leadership = Leadership {
            ended: leading.clone(),
            until: Arc::new(Mutex::new(taken + self.certain())),
        };
        let renewal = async {
            tokio::select! {
                () = shutdown.cancelled() => true,
                () = self.renew(&mut seen, &leadership) => false,
            }
        };
        let work = lead(leadership.clone());
        tokio::pin!(work, renewal);
        let ended_by_shutdown = tokio::select! {
            () = &mut work => true,
            orderly = &mut renewal => {
                leading.cancel();
                work.await;
                orderly
            }
        };
        crate::metrics::leads(&self.key.name, false);
        if ended_by_shutdown {
            self.release().await;
        } else {
            tracing::warn!(lease = %self.key, "lost the leadership");
        }
        ended_by_shutdown
    }

    /// For how long after a renewal nobody else can have the Lease: others wait for its whole duration, from when they
    /// saw it change; a retry period is left for clocks that run unevenly.
    fn certain(&self) -> Duration {
        let most = self.lease_duration.saturating_sub(self.retry_period);
        most.max(self.renew_deadline.min(self.lease_duration))
    }

    /// Waits for the Lease; returns when the request that took it was sent.
    async fn acquire(&self, seen: &mut Seen) -> Instant {
        loop {
            let sent = Instant::now();
            match self.attempt(seen).await {
                Ok(true) => return sent,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = %self.key, %error, "lease not acquired"),
            }
            tokio::time::sleep(self.retry_period).await;
        }
    }

    /// Returns when the Lease could not be renewed in time.
    async fn renew(&self, seen: &mut Seen, leadership: &Leadership) {
        loop {
            tokio::time::sleep(self.retry_period).await;
            let renewed = tokio::time::timeout(self.renew_deadline, async {
                loop {
                    // What is written now counts from before it was sent.
                    let sent = Instant::now();
                    match self.attempt(seen).await {
                        Ok(true) => return Some(sent),
                        Ok(false) => return None,
                        Err(error) => {
                            tracing::debug!(lease = %self.key, %error, "lease not renewed");
                        }
                    }
                    tokio::time::sleep(self.retry_period).await;
                }
            });
            match renewed.await {
                Ok(Some(sent)) => *leadership.until.lock() = sent + self.certain(),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes or renews the Lease; `false` if somebody else holds it.
    async fn attempt(&self, seen: &mut Seen) -> Result<bool, Error> {
        let leases = leases();
        let Some(current) = self.api.get_opt(&leases, &self.key).await? else {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.key.name, "namespace": self.key.namespace},
                "spec": self.spec(None),
            });
            self.api.create(&leases, &lease).await?;
            return Ok(true);
        };
        if seen.version != current.resource_version() {
            *seen = Seen {
                version: current.resource_version().to_owned(),
                at: Some(Instant::now()),
            };
        }
        if !self.may_hold(&current, seen) {
            return Ok(false);
        }
        let mut lease = current.value().clone();
        lease["spec"] = self.spec(Some(&current));
        let written = self.api.update(&leases, &lease).await?;
        written.resource_version().clone_into(&mut seen.version);
        Ok(true)
    }

    fn may_hold(&self, current: &Object, seen: &Seen) -> bool {
        let holder = current
            .pointer("/spec/holderIdentity")
            .and_then(Value::as_str);
        let duration = current
            .pointer("/spec/leaseDurationSeconds")
            .and_then(Value::as_u64)
            .map_or(self.lease_duration, Duration::from_secs);
        match holder {
            None | Some("") => true,
            Some(holder) if holder == self.identity => true,
            Some(_) => seen.at.is_some_and(|at| at.elapsed() > duration),
        }
    }

    fn spec(&self, current: Option<&Object>) -> Value {
        let now = format_micro_time(self.clock.now());
        let spec = current.map(Object::spec);
        let mine = spec.is_some_and(|spec| spec["holderIdentity"] == self.identity.as_str());
        let field = |name: &str| spec.map(|spec| spec[name].clone()).unwrap_or_default();
        let acquired = if mine {
            field("acquireTime")
        } else {
            now.as_str().into()
        };
        let transitions = match spec {
            None => 0,
            Some(_) => field("leaseTransitions").as_i64().unwrap_or(0) + i64::from(!mine),
        };
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.lease_duration.as_secs(),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions,
        })
    }

    /// Lets the next candidate take over at once.
    async fn release(&self) {
        let leases = leases();
        let release = async {
            let Some(current) = self.api.get_opt(&leases, &self.key).await? else {
                return Ok(());
            };
            if current.spec()["holderIdentity"] != self.identity.as_str() {
                return Ok(());
            }
            let mut lease = current.into_value();
            lease["spec"]["holderIdentity"] = "".into();
            lease["spec"]["leaseDurationSeconds"] = 1.into();
            self.api.update(&leases, &lease).await.map(drop)
        };
        match tokio::time::timeout(self.retry_period, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(lease = %self.key, %error, "lease not released"),
            Err(_) => tracing::debug!(lease = %self.key, "lease not released in time"),
        }
    }
}

fn leases() -> Resource {
    Resource::namespaced("coordination.k8s.io/v1", "leases", "Lease")
}
