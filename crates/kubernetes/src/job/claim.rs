//! Whose a Pod is: a Job takes in Pods without an owner that fit its selector, and lets go of those that fit no more.

use std::sync::Arc;

use controller::{HandlerGuard, Informer, Object, Subresource, WorkQueue, index, owner};
use model::{LabelSelector, object};
use serde_json::json;

use super::{Jobs, pods};
use crate::error::Error;
use crate::{pod, resources};

/// Pods that no controller owns, by namespace.
const ORPHANS: &str = "orphans";

/// Makes Pods without an owner easy to find.
pub fn add_orphan_index(pods: &Informer) {
    pods.add_index(ORPHANS, |pod| {
        let namespace = pod.namespace().unwrap_or_default().to_owned();
        let owned = pod.controller_of().is_some();
        (!owned).then_some(namespace).into_iter().collect()
    });
}

/// Queues the Jobs whose selectors fit a Pod without an owner.
pub fn wake_adopters(pods: &Informer, jobs: &Informer, queue: &WorkQueue) -> HandlerGuard {
    let (jobs, queue) = (jobs.clone(), queue.clone());
    pods.add_handler(move |event| {
        let pod = event.object();
        if pod.controller_of().is_some() || pod.is_terminating() {
            return;
        }
        for job in jobs.list_namespace(pod.namespace().unwrap_or_default()) {
            if selector(&job).is_ok_and(|s| s.matches(object::labels(pod.value()))) {
                queue.add(job.key());
            }
        }
    })
}

fn selector(job: &Object) -> Result<LabelSelector, Error> {
    LabelSelector::from_object(job.get(&["spec", "selector"])).map_err(|error| Error::Object {
        kind: "Job",
        name: job.key().to_string(),
        why: format!("spec.selector: {error}"),
    })
}

impl Jobs {
    /// The Pods of a Job.
    pub(super) async fn claim(&self, job: &Object) -> Result<Vec<Arc<Object>>, Error> {
        let selector = selector(job)?;
        let fits = |pod: &Object| selector.matches(object::labels(pod.value()));
        let mut mine = Vec::new();
        for pod in self.pods.by_index(index::CONTROLLER_UID, job.uid()) {
            if fits(&pod) {
                mine.push(pod);
            } else if !job.is_terminating() {
                self.let_go(job, &pod).await?;
            }
        }
        if job.is_terminating() {
            return Ok(mine);
        }
        let namespace = job.namespace().unwrap_or_default();
        let orphans = self.pods.by_index(ORPHANS, namespace);
        let adoptable = |pod: &&Arc<Object>| pod::is_active(pod) && fits(pod);
        let mut checked = false;
        for pod in orphans.iter().filter(adoptable) {
            if !checked && !self.is_there(job).await? {
                break;
            }
            checked = true;
            mine.extend(self.adopt(job, pod).await?);
        }
        Ok(mine)
    }

    /// Whether the Job is there as of now, whatever the cache says.
    async fn is_there(&self, job: &Object) -> Result<bool, Error> {
        let api = self.cluster.api();
        let fresh = api.get_metadata_opt(&resources::jobs(), &job.key()).await?;
        Ok(fresh.is_some_and(|fresh| fresh.uid() == job.uid() && !fresh.is_terminating()))
    }

    async fn adopt(&self, job: &Object, pod: &Object) -> Result<Option<Arc<Object>>, Error> {
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "ownerReferences": [owner::reference(job, true)],
            "finalizers": [pods::FINALIZER],
        }});
        self.patch(pod, &patch).await
    }

    async fn let_go(&self, job: &Object, pod: &Object) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "ownerReferences": [{"$patch": "delete", "uid": job.uid()}],
            "$deleteFromPrimitiveList/finalizers": [pods::FINALIZER],
        }});
        self.patch(pod, &patch).await.map(drop)
    }

    async fn patch(
        &self,
        pod: &Object,
        patch: &serde_json::Value,
    ) -> Result<Option<Arc<Object>>, Error> {
        let api = self.cluster.api();
        let outcome = api
            .strategic_patch(&resources::pods(), &pod.key(), Subresource::None, patch)
            .await;
        match outcome {
            Ok(patched) => Ok(Some(Arc::new(patched))),
            // Gone, or another Pod by now.
            Err(error) if error.is_not_found() || error.is_invalid() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
