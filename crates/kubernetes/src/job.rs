//! Jobs: Pods that run to their end.
//!
//! Completions and parallelism, the back-off limit, the active deadline, suspension. Indexed jobs, pod
//! failure policies and success policies are refused with a `Failed` condition that names the field:
//! running them as something else would be worse.

mod plan;

use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, enqueue, index,
};

use self::plan::{Plan, plan};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("job", Backoff::default());
    let jobs = cluster.informer(&resources::jobs());
    let pods = cluster.informer(&resources::pods());
    pods.add_owner_index();
    let _job_handler = jobs.add_handler(enqueue::object(&queue));
    let _pod_handler = pods.add_handler(enqueue::controller(&queue, "batch", "Job"));
    let informers = vec![jobs.clone(), pods.clone()];
    let recorder = cluster.recorder("job-controller");
    let reconciler = Jobs {
        cluster: cluster.clone(),
        jobs,
        pods,
        recorder,
    };
    cluster.drive("job", queue, reconciler, informers).await;
}

struct Jobs {
    cluster: Cluster,
    jobs: Informer,
    pods: Informer,
    recorder: EventRecorder,
}

impl Reconciler for Jobs {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let Some(job) = self.jobs.get(key).filter(|job| !job.is_terminating()) else {
            return Ok(Outcome::Done);
        };
        let pods: Vec<Arc<Object>> = self.pods.by_index(index::CONTROLLER_UID, job.uid());
        let Plan {
            create,
            delete,
            status,
            wait,
        } = plan(&job, &pods, self.cluster.now());
        for pod in &delete {
            let options = DeleteOptions::of_uid(pod.uid());
            if api.delete(&resources::pods(), &pod.key(), &options).await? {
                let text = format!("Deleted pod: {}", pod.name());
                self.recorder.normal(&job, "SuccessfulDelete", text);
            }
        }
        let template = job.get(&["spec", "template"]).cloned().unwrap_or_default();
        for number in create {
            let mut wanted = pod::from_template(&job, &template, &[]);
            // A name of its own for each attempt, so that a stale cache cannot make two of one.
            wanted["metadata"]["name"] = format!("{}-{number}", job.name()).into();
            if let Some(metadata) = wanted["metadata"].as_object_mut() {
                metadata.remove("generateName");
            }
            match api.create(&resources::pods(), &wanted).await {
                Ok(pod) => {
                    let text = format!("Created pod: {}", pod.name());
                    self.recorder.normal(&job, "SuccessfulCreate", text);
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if status != *job.status() {
            let mut new = job.value().clone();
            new["status"] = status;
            match api.update_status(&resources::jobs(), &new).await {
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}
