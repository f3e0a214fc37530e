//! The scheduler: every Pod that has no node gets one.
//!
//! As upstream's with its default profile: the same filters, scores, weights, messages, queue and
//! preemption. All that is known is kept in one [`state::State`], fed by informers, which decides without IO
//! about one Pod at a time; what it decides counts at once, and the writes that follow go out in
//! parallel.
//!
//! Left out: extenders and plugins of others; pod groups, which are alpha upstream and switched off;
//! the allocation of devices (dynamic resource allocation).

mod amounts;
mod attempts;
mod configuration;
mod cycle;
mod diagnosis;
mod effects;
mod hints;
mod inter_pod;
mod lookup;
mod node_info;
mod pod_info;
mod preemption;
mod profile;
mod queue;
mod random;
mod score;
mod spread;
mod state;
#[cfg(test)]
mod tests;
mod volumes;
mod world;

use std::sync::Arc;
use std::time::Duration;

use controller::{HandlerGuard, Informer};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::attempts::{Attempt, AttemptObserver, Outcome as AttemptOutcome};
pub use self::configuration::{Configuration as SchedulerConfiguration, ConfigurationError};
use self::effects::{BindError, Effects};
use self::hints::Change;
use self::lookup::Informed;
use self::pod_info::PodInfo;
use self::preemption::{Budget, Eviction};
use self::state::{State, Step};
use self::volumes::Needs;
use crate::cluster::Cluster;
use crate::resources as kinds;

/// The scheduler's name in `spec.schedulerName`.
const NAME: &str = "default-scheduler";
/// Writes that are on their way at a time.
const WRITERS: usize = 64;

/// Runs the scheduler.
pub async fn run(
    cluster: Cluster,
    configuration: SchedulerConfiguration,
    attempts: AttemptObserver,
) {
    let lookup = Arc::new(Informed::new(&cluster));
    let seed = cluster.now().as_nanosecond() as u64;
    let pods = cluster.informer(&kinds::pods());
    let budgets = cluster.informer(&kinds::pod_disruption_budgets());
    let effects = Effects {
        recorder: cluster.recorder(NAME),
        claims: lookup.claims.clone(),
        claims_changed: Arc::default(),
        cluster: cluster.clone(),
    };
    let scheduler = Scheduler {
        state: Arc::new(Mutex::new(State::new(&configuration, lookup.clone(), seed))),
        changed: Arc::default(),
        writers: Arc::new(Semaphore::new(WRITERS)),
        pods: pods.clone(),
        budgets: budgets.clone(),
        effects,
        attempts,
    };
    let nodes = cluster.informer(&kinds::nodes());
    let namespaces = cluster.informer(&kinds::namespaces());
    // Nodes first: who comes to a node that is known needs no second look.
    let mut guards = vec![
        scheduler.follow(&nodes, |state, event| {
            state.observe_node(event, Instant::now());
        }),
        scheduler.follow(&namespaces, |state, event| {
            state.observe_namespace(event, Instant::now());
        }),
        scheduler.follow(&pods, |state, event| {
            state.observe_pod(event, Instant::now());
        }),
    ];
    for storage in [&lookup.claims, &lookup.volumes, &lookup.classes] {
        guards.push(scheduler.follow(storage, |state, _| {
            state.wake(Change::Storage, Instant::now());
        }));
    }
    for driver in [&lookup.csi_nodes, &lookup.csi_drivers, &lookup.capacities] {
        guards.push(scheduler.follow(driver, |state, _| {
            state.wake(Change::Driver, Instant::now());
        }));
    }
    let claims_changed = scheduler.effects.claims_changed.clone();
    guards.push(
        lookup
            .claims
            .add_handler(move |_| claims_changed.notify_waiters()),
    );
    let mut informers = lookup.informers();
    informers.extend([pods, nodes, namespaces, budgets]);
    for informer in &informers {
        tokio::select! {
            () = cluster.shutdown().cancelled() => return,
            _ = informer.wait_for_sync() => {}
        }
    }
    scheduler.work().await;
}

/// The scheduler.
#[derive(Clone)]
struct Scheduler {
    state: Arc<Mutex<State>>,
    /// Told when there may be something to decide.
    changed: Arc<Notify>,
    writers: Arc<Semaphore>,
    pods: Informer,
    budgets: Informer,
    effects: Effects,
    attempts: AttemptObserver,
}

impl Scheduler {
    /// Tells the state of every change.
    fn follow(
        &self,
        informer: &Informer,
        observe: impl Fn(&mut State, &controller::Event) + Send + Sync + 'static,
    ) -> HandlerGuard {
        let (state, changed) = (self.state.clone(), self.changed.clone());
        informer.add_handler(move |event| {
            observe(&mut state.lock(), event);
            changed.notify_one();
        })
    }

    /// Decides until the end; the writes of a decision go their own way.
    async fn work(self) {
        let shutdown = self.effects.cluster.shutdown().clone();
        let mut writing = JoinSet::new();
        while !shutdown.is_cancelled() {
            while writing.try_join_next().is_some() {}
            let began = Instant::now();
            let (step, deadline) = {
                let mut state = self.state.lock();
                let step = state.step(began, &|| self.budgets());
                (step, state.deadline())
            };
            let Some(step) = step else {
                let sleep = async {
                    match deadline {
                        Some(deadline) => tokio::time::sleep_until(deadline).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = self.changed.notified() => {}
                    () = sleep => {}
                }
                continue;
            };
            // A binding that waits for its volumes must not keep others from being written.
            let waits = matches!(&step, Step::Bind { needs, .. } if !needs.is_empty());
            let permit = if waits {
                None
            } else {
                self.writers.clone().acquire_owned().await.ok()
            };
            let scheduler = self.clone();
            writing.spawn(async move {
                scheduler.carry_out(step, began).await;
                drop(permit);
            });
            tokio::task::yield_now().await;
        }
        writing.shutdown().await;
    }

    fn budgets(&self) -> Vec<Budget> {
        let budgets = self.budgets.list();
        budgets
            .iter()
            .filter_map(|budget| Budget::of(budget))
            .collect()
    }

    async fn carry_out(&self, step: Step, began: Instant) {
        match step {
            Step::Bind { pod, node, needs } => match self.effects.bind(&pod, &node, &needs).await {
                Ok(()) => {
                    self.attempts
                        .tell(AttemptOutcome::Scheduled, began.elapsed());
                    self.state.lock().bound(&pod, &needs);
                }
                Err(error) => {
                    self.attempts.tell(AttemptOutcome::Error, began.elapsed());
                    self.not_bound(&pod, &needs, error).await;
                }
            },
            Step::Refuse {
                pod,
                message,
                eviction,
                outbid,
            } => {
                self.attempts
                    .tell(AttemptOutcome::Unschedulable, began.elapsed());
                for other in outbid {
                    if let Err(error) = self.effects.clear_nomination(&other).await {
                        tracing::warn!(pod = %other.key, %error, "clearing a nomination");
                    }
                }
                let nominated = self.state.lock().nomination(pod.uid()).to_owned();
                let report = self
                    .effects
                    .report(&pod, "Unschedulable", &message, &nominated);
                if let Err(error) = report.await {
                    tracing::warn!(pod = %pod.key, %error, "reporting why a Pod has no node");
                }
                if let Some(eviction) = eviction {
                    let done = self.evict(&pod, &eviction).await;
                    self.state.lock().evicted(&pod, done, Instant::now());
                    self.changed.notify_one();
                }
            }
        }
    }

    /// Evicts Pods for another. To begin anew elsewhere would cost more of them, so it does not give up soon.
    async fn evict(&self, pod: &PodInfo, eviction: &Eviction) -> bool {
        const ATTEMPTS: u32 = 6;
        for attempt in 0..ATTEMPTS {
            let Err(error) = self.effects.evict(pod, eviction).await else {
                return true;
            };
            tracing::warn!(pod = %pod.key, %error, "evicting Pods for another");
            tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
        }
        false
    }

    async fn not_bound(&self, pod: &PodInfo, needs: &Needs, error: BindError) {
        // An answer may have got lost: who is bound after all must not be called unschedulable.
        let current = match self.effects.current(pod).await {
            Ok(current) => current,
            Err(_) => self.pods.get(&pod.key),
        };
        let assigned = current
            .as_ref()
            .is_some_and(|current| !model::object::text(current.spec(), &["nodeName"]).is_empty());
        self.state
            .lock()
            .not_bound(pod, needs, current.as_ref(), Instant::now());
        self.changed.notify_one();
        if assigned || error.is_overtaken() {
            return;
        }
        tracing::warn!(pod = %pod.key, %error, "binding");
        let message = error.to_string();
        let report = self.effects.report(pod, "SchedulerError", &message, "");
        if let Err(error) = report.await {
            tracing::warn!(pod = %pod.key, %error, "reporting that a Pod was not bound");
        }
    }
}
