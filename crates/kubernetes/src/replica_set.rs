//! Replica sets: as many Pods as wanted.
//!
//! [`plan`] decides from the set and its Pods; the reconciler carries the plan out in growing batches,
//! so that a template that cannot work costs one failed request and not a thousand.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Event, EventRecorder, Expectations, Informer, Object, ObjectKey,
    Outcome, Reconciler, Subresource, WorkQueue, enqueue, index, owner,
};
use futures::future::join_all;
use model::{LabelSelector, object};
use serde_json::json;

use self::plan::{Plan, plan, status_of};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("replicaset", Backoff::default());
    let sets = cluster.informer(&resources::replica_sets());
    let pods = cluster.informer(&resources::pods());
    pods.add_owner_index();
    pods.add_namespace_index();
    let expectations = Arc::new(Expectations::new());
    let _set_handler = sets.add_handler(enqueue::object(&queue));
    let _pod_handler = pods.add_handler(enqueue::controller(&queue, "apps", "ReplicaSet"));
    let observed = expectations.clone();
    let _expectation_handler = pods.add_handler(move |event| observe(&observed, event));
    let (orphans, adopters) = (queue.clone(), sets.clone());
    let _orphan_handler = pods.add_handler(move |event| {
        // A Pod without an owner may belong to a set whose selector it fits.
        let pod = event.object();
        if pod.controller_of().is_none() && !pod.is_terminating() {
            for set in adopters.list_namespace(pod.namespace().unwrap_or_default()) {
                if selector(&set).is_ok_and(|s| s.matches(object::labels(pod.value()))) {
                    orphans.add(set.key());
                }
            }
        }
    });
    let reconciler = ReplicaSets {
        recorder: cluster.recorder("replicaset-controller"),
        sets: sets.clone(),
        pods: pods.clone(),
        expectations,
        cluster: cluster.clone(),
    };
    cluster
        .drive("replicaset", queue, reconciler, vec![sets, pods])
        .await;
}

/// Notes what the controller's own requests have brought about.
fn observe(expectations: &Expectations, event: &Event) {
    let pod = event.object();
    let Some(owner) = pod
        .controller_of()
        .filter(|owner| owner.kind == "ReplicaSet")
    else {
        return;
    };
    let key = ObjectKey::new(pod.namespace().unwrap_or_default(), owner.name);
    match event {
        Event::Added(_) => expectations.creation_observed(&key),
        Event::Updated { new, .. } if new.is_terminating() => {
            expectations.deletion_observed(&key, new.uid());
        }
        Event::Updated { .. } => {}
        Event::Deleted(gone) => expectations.deletion_observed(&key, gone.uid()),
    }
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(set.get(&["spec", "selector"]));
    selector.map_err(|error| Error::Object {
        kind: "ReplicaSet",
        name: set.key().to_string(),
        why: format!("spec.selector: {error}"),
    })
}

struct ReplicaSets {
    cluster: Cluster,
    sets: Informer,
    pods: Informer,
    expectations: Arc<Expectations>,
    recorder: EventRecorder,
}

impl Reconciler for ReplicaSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.delete(key);
            return Ok(Outcome::Done);
        };
        let pods = self.claim(&set).await?;
        let mut failure = None;
        if !set.is_terminating() && self.expectations.satisfied(key) {
            let plan = plan(&set, &pods);
            failure = self.carry_out(&set, plan).await.err();
        }
        let wait = self.report(&set, &pods, failure.as_ref()).await?;
        match (failure, wait) {
            (Some(failure), _) => Err(failure),
            (None, Some(wait)) => Ok(Outcome::RequeueAfter(wait)),
            (None, None) => Ok(Outcome::Done),
        }
    }
}

impl ReplicaSets {
    /// The Pods of a set; those that fit its selector and have no owner become its own.
    async fn claim(&self, set: &Object) -> Result<Vec<Arc<Object>>, Error> {
        let mut pods = self.pods.by_index(index::CONTROLLER_UID, set.uid());
        let selector = selector(set)?;
        if set.is_terminating() {
            return Ok(pods);
        }
        let namespace = set.namespace().unwrap_or_default();
        for pod in self.pods.by_index(index::NAMESPACE, namespace) {
            if pod.controller_of().is_some()
                || !pod::is_active(&pod)
                || !selector.matches(object::labels(pod.value()))
            {
                continue;
            }
            let mut owners = object::owner_references(pod.value()).to_vec();
            owners.push(owner::reference(set, true));
            let patch = json!({"metadata": {"uid": pod.uid(), "ownerReferences": owners}});
            let api = self.cluster.api();
            let adopted = api
                .merge_patch(&resources::pods(), &pod.key(), Subresource::None, &patch)
                .await;
            match adopted {
                Ok(adopted) => pods.push(Arc::new(adopted)),
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(pods)
    }

    async fn carry_out(&self, set: &Object, plan: Plan) -> Result<(), Error> {
        match plan {
            Plan::Keep => Ok(()),
            Plan::Create(count) => self.create(set, count).await,
            Plan::Delete(pods) => self.delete(set, pods).await,
        }
    }

    /// Makes Pods in batches of 1, 2, 4...; a batch with a failure is the last.
    async fn create(&self, set: &Object, count: usize) -> Result<(), Error> {
        let template = set.get(&["spec", "template"]).cloned().unwrap_or_default();
        let key = set.key();
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            self.expectations.expect_creations(&key, size);
            let requests = (0..size).map(|_| {
                let pod = pod::from_template(set, &template, &[]);
                async move { self.cluster.api().create(&resources::pods(), &pod).await }
            });
            let mut failures = Vec::new();
            for outcome in join_all(requests).await {
                match outcome {
                    Ok(pod) => self.recorder.normal(
                        set,
                        "SuccessfulCreate",
                        format!("Created pod: {}", pod.name()),
                    ),
                    Err(error) => {
                        self.expectations.creation_observed(&key);
                        self.recorder.warning(
                            set,
                            "FailedCreate",
                            format!("Error creating: {error}"),
                        );
                        failures.push(error);
                    }
                }
            }
            summary(failures, size)?;
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, set: &Object, pods: Vec<Arc<Object>>) -> Result<(), Error> {
        let key = set.key();
        self.expectations
            .expect_deletions(&key, pods.iter().map(|pod| pod.uid().to_owned()));
        let requests = pods.iter().map(|pod| async move {
            let options = DeleteOptions::of_uid(pod.uid());
            (
                pod,
                self.cluster
                    .api()
                    .delete(&resources::pods(), &pod.key(), &options)
                    .await,
            )
        });
        let mut failures = Vec::new();
        for (pod, outcome) in join_all(requests).await {
            match outcome {
                Ok(true) => self.recorder.normal(
                    set,
                    "SuccessfulDelete",
                    format!("Deleted pod: {}", pod.name()),
                ),
                Ok(false) => self.expectations.deletion_observed(&key, pod.uid()),
                Err(error) => {
                    self.expectations.deletion_observed(&key, pod.uid());
                    self.recorder
                        .warning(set, "FailedDelete", format!("Error deleting: {error}"));
                    failures.push(error);
                }
            }
        }
        summary(failures, pods.len())
    }

    /// Writes the status where it has changed; gives the time after which it may change by itself.
    async fn report(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        failure: Option<&Error>,
    ) -> Result<Option<Duration>, Error> {
        let now = self.cluster.now();
        let failure = failure.map(ToString::to_string);
        let (status, wait) = status_of(set, pods, failure.as_deref(), now);
        if status != *set.status() {
            let mut new = set.value().clone();
            new["status"] = status;
            match self
                .cluster
                .api()
                .update_status(&resources::replica_sets(), &new)
                .await
            {
                // The newer version is on its way and wakes the set again.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(wait)
    }
}

fn summary(mut failures: Vec<controller::Error>, all: usize) -> Result<(), Error> {
    if failures.is_empty() {
        return Ok(());
    }
    let failed = failures.len();
    Err(Error::Some {
        failed,
        all,
        first: Box::new(failures.swap_remove(0)),
    })
}
