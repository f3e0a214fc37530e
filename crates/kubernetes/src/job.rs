//! Jobs: Pods that run to their end.
//!
//! [`plan::Pass`] decides; this file carries out. A pass writes the status at most twice: once with the ended Pods
//! noted, before their finalizers go, and once with them counted. What was made, deleted and let go is remembered until
//! the informers show it, so that a cache that lags makes nothing twice.
//!
//! Left out: Workload and PodGroup objects for Jobs, which are off by default upstream.

mod backoff;
mod claim;
mod indexes;
mod orphans;
mod plan;
mod pods;
mod policy;
mod status;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, Event, EventRecorder, Expectations, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, enqueue,
};
use model::object;
use parking_lot::Mutex;

use self::backoff::Record;
use self::plan::{Pass, is_finished};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pace::Pace;
use crate::resources;
use crate::settled::{LAG, Own};

/// The controller Jobs name that are this one's.
const CONTROLLER: &str = "kubernetes.io/job-controller";
/// Changes of Pods within this time are looked at together.
const BATCH_WITHIN: Duration = Duration::from_millis(100);
/// Delays after failures.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_mins(1),
};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("job", BACKOFF);
    let jobs = cluster.informer(&resources::jobs());
    let pods = cluster.informer(&resources::pods());
    pods.add_owner_index();
    claim::add_orphan_index(&pods);
    let memory = Memory::default();
    let _job_handler = jobs.add_handler(enqueue::object(&queue));
    let (observed, batched) = (memory.clone(), queue.clone());
    let _pod_handler = pods.add_handler(move |event| {
        for key in observed.observe(event) {
            batched.add_after(key, BATCH_WITHIN);
        }
    });
    let _adoption = claim::wake_adopters(&pods, &jobs, &queue);
    let informers = vec![jobs.clone(), pods.clone()];
    let orphans = orphans::run(&cluster, &jobs, &pods);
    let reconciler = Jobs {
        recorder: cluster.recorder("job-controller"),
        cluster: cluster.clone(),
        jobs,
        pods,
        memory,
        pace: Pace::default(),
        own: Own::default(),
    };
    let driven = cluster.drive("job", queue, reconciler, informers);
    futures::future::join(driven, orphans).await;
}

/// What the controller knows and the informers may not show yet.
#[derive(Clone, Default)]
struct Memory {
    expectations: Expectations,
    jobs: Arc<Mutex<HashMap<ObjectKey, Known>>>,
}

/// What is known of one Job.
#[derive(Default)]
struct Known {
    record: Record,
    /// Uids of Pods whose finalizers have been removed.
    released: HashSet<String>,
    /// The uid, once the Job was written as ended.
    finished: String,
}

impl Memory {
    /// Notes what an event about a Pod shows; returns the Jobs it concerns.
    fn observe(&self, event: &Event) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        let mut owner = |pod: &Object| {
            let owner = pod
                .controller_of()
                .filter(|owner| owner.kind == "Job" && owner.group() == "batch")?;
            let key = ObjectKey::new(pod.namespace().unwrap_or_default(), owner.name);
            if !keys.contains(&key) {
                keys.push(key.clone());
            }
            Some(key)
        };
        if let Event::Updated { old, .. } = event {
            owner(old);
        }
        let pod = event.object();
        let Some(key) = owner(pod) else { return keys };
        match event {
            Event::Added(_) if !pod.is_terminating() => self.expectations.creation_observed(&key),
            Event::Updated { .. } if !pod.is_terminating() => {}
            _ => self.expectations.deletion_observed(&key, pod.uid()),
        }
        if matches!(event, Event::Deleted(_)) || !pods::is_tracked(pod) {
            self.held_again(&key, pod.uid());
        }
        keys
    }

    fn forget(&self, key: &ObjectKey) {
        self.expectations.delete(key);
        self.jobs.lock().remove(key);
    }

    fn with<T>(&self, key: &ObjectKey, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.jobs.lock().entry(key.clone()).or_default())
    }

    /// The cache shows what became of the Pod, or its finalizer could not be removed.
    fn held_again(&self, key: &ObjectKey, uid: &str) {
        if let Some(known) = self.jobs.lock().get_mut(key) {
            known.released.remove(uid);
        }
    }
}

struct Jobs {
    cluster: Cluster,
    jobs: Informer,
    pods: Informer,
    memory: Memory,
    recorder: EventRecorder,
    pace: Pace,
    own: Own,
}

impl Reconciler for Jobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(job) = self.jobs.get(key) else {
            self.memory.forget(key);
            self.pace.forget(key);
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if is_managed_elsewhere(&job) {
            return Ok(Outcome::Done);
        }
        if is_finished(&job) {
            self.memory.forget(key);
            return Ok(Outcome::Done);
        }
        if self.memory.with(key, |known| known.finished == job.uid()) {
            // The cache will show it in a moment.
            return Ok(Outcome::Done);
        }
        if !self.own.is_shown(&job) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        if let Some(left) = self.pace.left(key) {
            return Ok(Outcome::RequeueAfter(left));
        }
        self.pass(key, &job).await
    }
}

/// Whether another controller looks after the Job.
fn is_managed_elsewhere(job: &Object) -> bool {
    let manager = object::text(job.value(), &["spec", "managedBy"]);
    !manager.is_empty() && manager != CONTROLLER
}

impl Jobs {
    async fn pass(&self, key: &ObjectKey, job: &Object) -> Result<Outcome, Error> {
        let trusted = self.memory.expectations.satisfied(key);
        // Asked for before the cache is read: what is shown meanwhile is seen in the Pods themselves.
        let (released, record) = self
            .memory
            .with(key, |known| (known.released.clone(), known.record));
        let pods = self.claim(job).await?;
        self.pace.note(key, pods.len());
        let now = self.cluster.now();
        let mut pass = Pass::new(job, pods, &released, record, trusted, now);
        let action = pass.action();
        let (done, failure) = self.act(job, action).await;
        pass.acted(done);

        let release = pass.account();
        let mut written = job.clone();
        self.write(&mut written, &pass).await?;
        let (record, wait) = (pass.record, pass.wait);
        self.memory.with(key, |known| known.record = record);
        let (gone, held) = self.release(key, &release).await;
        let ended = pass.settle(&gone);
        self.write(&mut written, &pass).await?;
        if ended && held.is_none() {
            self.memory
                .with(key, |known| job.uid().clone_into(&mut known.finished));
        }
        for told in &pass.told {
            if told.warning {
                self.recorder.warning(job, &told.reason, &told.message);
            } else {
                self.recorder.normal(job, &told.reason, &told.message);
            }
        }
        match held.or(failure) {
            Some(error) => Err(error.into()),
            None => Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter)),
        }
    }

    /// Writes the status where it differs.
    async fn write(&self, job: &mut Object, pass: &Pass<'_>) -> Result<(), Error> {
        let status = pass.status.to_json();
        if status == *job.status() {
            return Ok(());
        }
        let mut new = job.value().clone();
        new["status"] = status;
        *job = self
            .cluster
            .api()
            .update_status(&resources::jobs(), &new)
            .await?;
        self.own.note(job);
        Ok(())
    }
}
