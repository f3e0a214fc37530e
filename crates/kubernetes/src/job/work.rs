//! Makes, deletes and lets go of the Pods of a Job.

use std::collections::HashSet;
use std::sync::Arc;

use controller::{DeleteOptions, Error, Object, ObjectKey, Subresource};
use futures::future::join_all;
use serde_json::json;

use super::Jobs;
use super::plan::{Action, Done};
use super::pods::{self, Wanted};
use crate::creation::create_named;
use crate::{pod, resources};

impl Jobs {
    /// Carries an action out; the first failure comes with what was done nevertheless.
    pub(super) async fn act(&self, job: &Object, action: Action) -> (Done, Option<Error>) {
        match action {
            Action::Keep => (Done::default(), None),
            Action::Create(wanted) => self.create(job, wanted).await,
            Action::Delete { pods, counted } => self.delete(job, &pods, counted).await,
        }
    }

    /// Makes Pods in batches of 1, 2, 4...; a batch with a failure is the last.
    async fn create(&self, job: &Object, wanted: Vec<Wanted>) -> (Done, Option<Error>) {
        let key = job.key();
        let expectations = &self.memory.expectations;
        let (mut done, mut size, mut left) = (Done::default(), 1, wanted.as_slice());
        while !left.is_empty() {
            let (batch, rest) = left.split_at(size.min(left.len()));
            expectations.expect_creations(&key, batch.len());
            let requests = batch.iter().map(|wanted| {
                let pod = pods::make(job, wanted);
                async move { create_named(self.cluster.api(), &resources::pods(), pod).await }
            });
            let mut failure = None;
            for outcome in join_all(requests).await {
                match outcome {
                    Ok(pod) => {
                        done.created += 1;
                        let text = format!("Created pod: {}", pod.name());
                        self.recorder.normal(job, "SuccessfulCreate", text);
                    }
                    Err(error) => {
                        expectations.creation_observed(&key);
                        if !is_namespace_going(&error) {
                            let text = format!("Error creating: {}", error.message());
                            self.recorder.warning(job, "FailedCreate", text);
                        }
                        failure = Some(error);
                    }
                }
            }
            if failure.is_some() {
                // Nothing can be made in a namespace that is going, and nothing is wrong about that.
                return (done, failure.filter(|error| !is_namespace_going(error)));
            }
            (left, size) = (rest, size * 2);
        }
        (done, None)
    }

    /// Deletes Pods. Those that are not to be `counted` are let go first.
    async fn delete(
        &self,
        job: &Object,
        pods: &[Arc<Object>],
        counted: bool,
    ) -> (Done, Option<Error>) {
        let key = job.key();
        let expectations = &self.memory.expectations;
        if !counted {
            expectations.expect_deletions(&key, pods.iter().map(|pod| pod.uid().to_owned()));
        }
        let requests = pods.iter().map(|pod| async move {
            if !counted && pods::is_tracked(pod) {
                self.remove_finalizer(pod).await?;
            }
            let options = DeleteOptions::of_uid(pod.uid());
            let api = self.cluster.api();
            match api.delete(&resources::pods(), &pod.key(), &options).await {
                // Another Pod has the name: this one is gone.
                Err(error) if error.is_conflict() => Ok(false),
                outcome => outcome,
            }
        });
        let (mut done, mut failure) = (Done::default(), None);
        for (pod, outcome) in pods.iter().zip(join_all(requests).await) {
            match outcome {
                Ok(was_there) => {
                    done.deleted += 1;
                    done.deleted_ready += usize::from(pod::is_ready(pod));
                    if was_there {
                        let text = format!("Deleted pod: {}", pod.name());
                        self.recorder.normal(job, "SuccessfulDelete", text);
                    } else {
                        expectations.deletion_observed(&key, pod.uid());
                    }
                }
                Err(error) => {
                    expectations.deletion_observed(&key, pod.uid());
                    let text = format!("Error deleting: {}", error.message());
                    self.recorder.warning(job, "FailedDelete", text);
                    failure = Some(error);
                }
            }
        }
        (done, failure)
    }

    /// Lets Pods go; returns the uids of those that are free, and the first failure.
    pub(super) async fn release(
        &self,
        key: &ObjectKey,
        pods: &[Arc<Object>],
    ) -> (HashSet<String>, Option<Error>) {
        self.memory.with(key, |known| {
            let uids = pods.iter().map(|pod| pod.uid().to_owned());
            known.released.extend(uids);
        });
        let requests = pods.iter().map(|pod| self.remove_finalizer(pod));
        let (mut gone, mut failure) = (HashSet::new(), None);
        for (pod, outcome) in pods.iter().zip(join_all(requests).await) {
            match outcome {
                Ok(()) => {
                    gone.insert(pod.uid().to_owned());
                }
                Err(error) => {
                    self.memory.held_again(key, pod.uid());
                    failure = Some(error);
                }
            }
        }
        // What the cache has shown in the meantime is not waited for.
        self.memory.with(key, |known| {
            known.released.retain(|uid| {
                let shown = pods.iter().find(|pod| pod.uid() == uid);
                shown.is_none_or(|pod| {
                    let cached = self.pods.get(&pod.key());
                    cached.is_some_and(|now| now.uid() == uid && pods::is_tracked(&now))
                })
            });
        });
        (gone, failure)
    }

    async fn remove_finalizer(&self, pod: &Object) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [pods::FINALIZER],
        }});
        let api = self.cluster.api();
        let outcome = api
            .strategic_patch(&resources::pods(), &pod.key(), Subresource::None, &patch)
            .await;
        match outcome {
            // Gone, with or without another Pod under its name.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) if error.is_conflict() => self.is_gone(pod, error).await,
            outcome => outcome.map(drop),
        }
    }

    /// Whether a conflict means that another Pod has taken the name.
    async fn is_gone(&self, pod: &Object, conflict: Error) -> Result<(), Error> {
        let api = self.cluster.api();
        let present = api.get_metadata_opt(&resources::pods(), &pod.key()).await?;
        match present {
            Some(present) if present.uid() == pod.uid() => Err(conflict),
            _ => Ok(()),
        }
    }
}

/// Whether a creation failed because the namespace is being deleted.
fn is_namespace_going(error: &Error) -> bool {
    error.is_forbidden() && error.message().contains("because it is being terminated")
}
