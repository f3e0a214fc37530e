//! Creates and deletes Pods for an owner: with events, expectations and growing batches.
//!
//! A template that cannot work costs one failed request and not a thousand: creations go in batches of 1, 2, 4..., and a
//! batch with a failure is the last. The first failure is given back; each has its event.

use std::sync::Arc;

use controller::{
    DeleteOptions, Error, Event, EventRecorder, Expectations, HandlerGuard, Informer, Object,
    ObjectKey,
};
use futures::future::join_all;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::resources;
use crate::settled::Settled;

/// When a Pod is still to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum If {
    /// It is the Pod that was meant.
    SameObject,
    /// It has not changed either: it might have become what would have saved it.
    Unchanged,
}

/// Creates and deletes Pods for the owners of one kind.
pub struct PodControl {
    cluster: Cluster,
    recorder: EventRecorder,
    expectations: Arc<Expectations>,
    /// What the owners' caches have to show.
    pub settled: Settled,
}

impl PodControl {
    /// For a component; its expectations are met by what [`PodControl::observe`] sees.
    pub fn new(cluster: &Cluster, component: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            recorder: cluster.recorder(component),
            expectations: Arc::new(Expectations::new()),
            settled: Settled::default(),
        }
    }

    /// Notes the Pods of owners of a kind, and the owners, as they come and go.
    pub fn observe(
        &self,
        owners: &Informer,
        pods: &Informer,
        kind: &'static str,
    ) -> [HandlerGuard; 2] {
        let (expectations, forgotten) = (self.expectations.clone(), self.expectations.clone());
        [
            pods.add_handler(move |event| observe(&expectations, kind, event)),
            owners.add_handler(move |event| {
                if let Event::Deleted(gone) = event {
                    forgotten.delete(&expected_of(gone.uid()));
                }
            }),
        ]
    }

    /// The recorder.
    pub fn recorder(&self) -> &EventRecorder {
        &self.recorder
    }

    /// Whether the cache shows the creations and deletions that were asked for.
    pub fn satisfied(&self, owner: &Object) -> bool {
        self.expectations.satisfied(&expected_of(owner.uid()))
    }

    /// Makes Pods.
    pub async fn create(&self, owner: &Object, pods: &[Value]) -> Result<(), Error> {
        let key = expected_of(owner.uid());
        let (mut rest, mut size) = (pods, 1);
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            self.expectations.expect_creations(&key, batch.len());
            let requests = batch.iter().map(|pod| self.create_one(owner, &key, pod));
            let outcomes = join_all(requests).await;
            if let Some(error) = outcomes.into_iter().find_map(Result::err) {
                return Err(error);
            }
            rest = later;
            size *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, owner: &Object, key: &ObjectKey, pod: &Value) -> Result<(), Error> {
        let created = self.cluster.api().create(&resources::pods(), pod).await;
        self.settled.note(&owner.key(), &created);
        match created {
            Ok(pod) => {
                let text = format!("Created pod: {}", pod.name());
                self.recorder.normal(owner, "SuccessfulCreate", text);
                Ok(())
            }
            Err(error) => {
                self.expectations.creation_observed(key);
                if error.is_namespace_terminating() {
                    // Nothing can be created there any more, and the owner goes, too.
                    return Ok(());
                }
                let text = format!("Error creating: {}", error.message());
                self.recorder.warning(owner, "FailedCreate", text);
                Err(error)
            }
        }
    }

    /// Deletes Pods, all at once.
    pub async fn delete(
        &self,
        owner: &Object,
        pods: &[Arc<Object>],
        condition: If,
    ) -> Result<(), Error> {
        if pods.is_empty() {
            return Ok(());
        }
        let key = expected_of(owner.uid());
        let uids = pods.iter().map(|pod| pod.uid().to_owned());
        self.expectations.expect_deletions(&key, uids);
        let requests = pods
            .iter()
            .map(|pod| self.delete_one(owner, &key, pod, condition));
        let outcomes = join_all(requests).await;
        outcomes
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(()), Err)
    }

    async fn delete_one(
        &self,
        owner: &Object,
        key: &ObjectKey,
        pod: &Object,
        condition: If,
    ) -> Result<(), Error> {
        let options = DeleteOptions {
            resource_version: match condition {
                If::SameObject => None,
                If::Unchanged => Some(pod.resource_version().to_owned()),
            },
            ..DeleteOptions::of_uid(pod.uid())
        };
        let api = self.cluster.api();
        match api.delete(&resources::pods(), &pod.key(), &options).await {
            Ok(true) => {
                let text = format!("Deleted pod: {}", pod.name());
                self.recorder.normal(owner, "SuccessfulDelete", text);
                Ok(())
            }
            // Gone, or another one of its name: its event is on its way.
            Ok(false) => {
                self.expectations.deletion_observed(key, pod.uid());
                Ok(())
            }
            Err(error) => {
                self.expectations.deletion_observed(key, pod.uid());
                if error.is_ambiguous() {
                    self.settled.doubt(&owner.key());
                }
                if !error.is_conflict() {
                    let text = format!("Error deleting: {}", error.message());
                    self.recorder.warning(owner, "FailedDelete", text);
                }
                Err(error)
            }
        }
    }
}

/// What an owner's expectations are kept under: another owner of its name has its own.
fn expected_of(uid: &str) -> ObjectKey {
    ObjectKey::cluster(uid)
}

fn observe(expectations: &Expectations, kind: &str, event: &Event) {
    let pod = event.object();
    let Some(owner) = pod.controller_of().filter(|owner| owner.kind == kind) else {
        return;
    };
    let key = expected_of(&owner.uid);
    match event {
        Event::Added(_) => expectations.creation_observed(&key),
        Event::Updated { new, .. } if new.is_terminating() => {
            expectations.deletion_observed(&key, new.uid());
        }
        Event::Updated { .. } => {}
        Event::Deleted(gone) => expectations.deletion_observed(&key, gone.uid()),
    }
}
