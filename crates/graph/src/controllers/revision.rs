//! The GraphRevision controller: compiles revisions and publishes their graphs to those who run instances.

use std::sync::Arc;
use std::time::Instant;

use controller::{Event, Object, ObjectKey, Outcome, Reconciler, Subresource, finalizer};
use serde_json::{Value, json};

use super::caches;
use super::context::{Context, revision_resource};
use super::registry::RevisionState;
use super::rgd::{self, CompileError};
use crate::build::Graph;
use crate::conditions::{ConditionSet, ConditionStatus, REVISION_CONDITIONS};
use crate::{hash, keys};

pub(super) const VERIFIED: &str = "GraphVerified";

pub(crate) struct RevisionReconciler {
    context: Arc<Context>,
}

impl RevisionReconciler {
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
        }
    }
}

/// Revisions never change, so only their beginning and their end count.
pub(crate) fn wake_on_own_events(
    context: &Arc<Context>,
) -> impl Fn(&Event) + Send + Sync + 'static {
    let queue = context.revision_queue.clone();
    move |event| {
        let concerns_us = match event {
            Event::Added(_) => true,
            Event::Deleted(_) => false,
            Event::Updated { old, new } => old.is_terminating() != new.is_terminating(),
        };
        if concerns_us {
            queue.add(event.object().key());
        }
    }
}

/// What a revision holds.
struct Snapshot {
    rgd: String,
    number: i64,
    spec: Value,
    hash: String,
}

impl Snapshot {
    fn read(revision: &Object) -> Option<Self> {
        let spec = revision.pointer("/spec/snapshot/spec")?.clone();
        Some(Self {
            rgd: revision
                .pointer("/spec/snapshot/name")?
                .as_str()?
                .to_owned(),
            number: revision.pointer("/spec/revision")?.as_i64()?,
            hash: hash::spec_hash(&spec),
            spec,
        })
    }
}

impl Reconciler for RevisionReconciler {
    type Key = ObjectKey;
    type Error = CompileError;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, CompileError> {
        let revisions = revision_resource();
        let Some(revision) = self.context.api.get_opt(&revisions, key).await? else {
            return Ok(Outcome::Done);
        };
        let Some(snapshot) = Snapshot::read(&revision) else {
            tracing::error!(revision = %key, "graph revision without snapshot");
            return Ok(Outcome::Done);
        };
        if revision.is_terminating() {
            finalizer::remove(&self.context.api, &revisions, &revision, keys::FINALIZER).await?;
            self.context.options.metrics.revision_evicted();
            self.context.registry.remove(&snapshot.rgd, snapshot.number);
            let rollouts = &self.context.rollouts;
            rollouts.forget_revision(&snapshot.rgd, snapshot.number);
            return Ok(Outcome::Done);
        }
        let revision =
            finalizer::add(&self.context.api, &revisions, &revision, keys::FINALIZER).await?;
        if self
            .context
            .registry
            .get(&snapshot.rgd, snapshot.number)
            .is_none()
        {
            self.publish(&snapshot, RevisionState::Pending);
        }
        if self.is_history(&revision, &snapshot) {
            self.publish(&snapshot, RevisionState::Retained);
            return Ok(Outcome::Done);
        }
        self.compile(&revision, &snapshot).await?;
        Ok(Outcome::Done)
    }
}

impl RevisionReconciler {
    fn publish(&self, snapshot: &Snapshot, state: RevisionState) {
        self.context
            .registry
            .put(&snapshot.rgd, snapshot.number, &snapshot.hash, state);
    }

    /// Revisions that were verified and are not the newest never run again: compiling them would cost and serve nothing.
    fn is_history(&self, revision: &Object, snapshot: &Snapshot) -> bool {
        let newer = |other: &Arc<Object>| {
            !other.is_terminating()
                && other.pointer("/spec/revision").and_then(Value::as_i64) > Some(snapshot.number)
        };
        let all = || {
            let revisions = &self.context.revisions;
            revisions.by_index(caches::DEFINITION, &snapshot.rgd)
        };
        controller::condition::is_true(revision.status(), VERIFIED) && all().iter().any(newer)
    }

    async fn compile(&self, revision: &Object, snapshot: &Snapshot) -> Result<(), CompileError> {
        let started = Instant::now();
        let graph = match self
            .context
            .registry
            .take_fresh(&snapshot.rgd, &snapshot.hash)
        {
            Some(graph) => Ok(graph),
            None => rgd::compile(&self.context, &snapshot.spec)
                .await
                .map(Arc::new),
        };
        self.context
            .options
            .metrics
            .revision_compiled(started.elapsed(), graph.is_err());
        let now = self.context.clock.now_text();
        let mut conditions = ConditionSet::read(REVISION_CONDITIONS, revision, now);
        match graph {
            Ok(graph) => {
                conditions.set(
                    VERIFIED,
                    ConditionStatus::True,
                    "Verified",
                    "graph revision compiled and verified",
                );
                self.write_status(revision, &conditions, Some(&graph))
                    .await?;
                // Only what the status says may run.
                self.publish(snapshot, RevisionState::Active(graph));
                self.wake(snapshot);
                Ok(())
            }
            Err(CompileError::Api(error)) => Err(error.into()),
            Err(CompileError::Build(error)) => {
                let message = error.to_string();
                self.publish(snapshot, RevisionState::Failed(message.clone()));
                conditions.set(VERIFIED, ConditionStatus::False, "InvalidGraph", message);
                self.write_status(revision, &conditions, None).await?;
                self.wake(snapshot);
                // A kind that appears wakes us again.
                Err(error.into())
            }
        }
    }

    /// Wakes the definition, and through it the instances.
    fn wake(&self, snapshot: &Snapshot) {
        self.context
            .rgd_queue
            .add(ObjectKey::cluster(&snapshot.rgd));
        self.context.serving.wake_all(&snapshot.rgd);
    }

    async fn write_status(
        &self,
        revision: &Object,
        conditions: &ConditionSet,
        graph: Option<&Graph>,
    ) -> Result<(), controller::Error> {
        let order = graph.map(Graph::topological_order);
        let status = json!({
            "conditions": conditions.to_value(),
            "topologicalOrder": order.filter(|order| !order.is_empty()),
            "resources": graph.map(Graph::resources_status),
        });
        let current = revision.status();
        let fields = status.as_object().into_iter().flatten();
        if fields
            .clone()
            .all(|(key, value)| current.get(key).unwrap_or(&Value::Null) == value)
        {
            return Ok(());
        }
        let patch = json!({"status": status});
        let key = revision.key();
        let written = self
            .context
            .api
            .merge_patch(&revision_resource(), &key, Subresource::Status, &patch)
            .await;
        if written.is_err() {
            let metrics = &self.context.options.metrics;
            metrics.revision_status_failed(graph.is_some());
        }
        written.map(drop)
    }
}
