//! Frees Pods that wait to be counted by a Job that is gone or has ended.

use std::future::Future;

use controller::{
    Event, Informer, Object, ObjectKey, Outcome, Reconciler, Subresource, WorkQueue, index,
};
use serde_json::json;

use super::plan::is_finished;
use super::{BACKOFF, is_managed_elsewhere, pods};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// Connects the handlers; the future does the work.
pub fn run(
    cluster: &Cluster,
    jobs: &Informer,
    pods: &Informer,
) -> impl Future<Output = ()> + use<> {
    let queue: WorkQueue = WorkQueue::new("job_orphan_pod", BACKOFF);
    let (known, added) = (jobs.clone(), queue.clone());
    let pod_handler = pods.add_handler(move |event| {
        let pod = event.object();
        if !matches!(event, Event::Deleted(_))
            && pods::is_tracked(pod)
            && job_of(&known, pod).is_none_or(|job| is_finished(&job))
        {
            added.add(pod.key());
        }
    });
    let (tracked, added) = (pods.clone(), queue.clone());
    let job_handler = jobs.add_handler(move |event| {
        let job = event.object();
        if matches!(event, Event::Deleted(_)) || is_finished(job) {
            for pod in tracked.by_index(index::CONTROLLER_UID, job.uid()) {
                if pods::is_tracked(&pod) {
                    added.add(pod.key());
                }
            }
        }
    });
    let reconciler = Orphans {
        cluster: cluster.clone(),
        jobs: jobs.clone(),
        pods: pods.clone(),
    };
    let (cluster, informers) = (cluster.clone(), vec![jobs.clone(), pods.clone()]);
    async move {
        cluster
            .drive("job_orphan_pod", queue, reconciler, informers)
            .await;
        drop((pod_handler, job_handler));
    }
}

/// The Job that owns a Pod, as far as the cache knows.
fn job_of(jobs: &Informer, pod: &Object) -> Option<std::sync::Arc<Object>> {
    let owner = pod.controller_of()?;
    let key = ObjectKey::new(pod.namespace().unwrap_or_default(), owner.name);
    jobs.get(&key).filter(|job| job.uid() == owner.uid)
}

struct Orphans {
    cluster: Cluster,
    jobs: Informer,
    pods: Informer,
}

impl Orphans {
    /// Whether nobody will count the Pod. The server is asked: the cache may not show a young Job.
    async fn is_orphan(&self, pod: &Object) -> Result<bool, Error> {
        let Some(owner) = pod.controller_of() else {
            return Ok(true);
        };
        if owner.kind != "Job" || owner.group() != "batch" {
            return Ok(false);
        }
        let cached = job_of(&self.jobs, pod);
        if cached.as_ref().is_some_and(|job| !is_finished(job)) {
            return Ok(false);
        }
        let key = ObjectKey::new(pod.namespace().unwrap_or_default(), owner.name);
        let job = match cached {
            Some(job) => Some((*job).clone()),
            None => self.cluster.api().get_opt(&resources::jobs(), &key).await?,
        };
        Ok(match job.filter(|job| job.uid() == owner.uid) {
            Some(job) => is_finished(&job) && !is_managed_elsewhere(&job),
            None => true,
        })
    }
}

impl Reconciler for Orphans {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| pods::is_tracked(pod)) else {
            return Ok(Outcome::Done);
        };
        if !self.is_orphan(&pod).await? {
            return Ok(Outcome::Done);
        }
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [pods::FINALIZER],
        }});
        let api = self.cluster.api();
        let outcome = api
            .strategic_patch(&resources::pods(), key, Subresource::None, &patch)
            .await;
        match outcome {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Outcome::Done),
        }
    }
}
