//! The instance controller: brings the resources of one instance to what its graph says, as far as they can go.
//!
//! Resources run as soon as what they depend on is ready, independent ones at the same time, so the time to converge
//! follows the depth of a graph and not its size. An object is applied when what it should be changed or when what it
//! is changed; otherwise nothing is written.

mod apply;
mod children;
mod contributions;
mod creation;
mod deletion;
mod external_fields;
mod give;
mod inventory;
mod later;
mod memory;
mod patience;
mod propagation;
mod prune;
mod quarrel;
mod retention;
mod status;
mod wavefront;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use controller::{ApplyOptions, Error, Object, ObjectKey, Outcome, Reconciler};
use parking_lot::Mutex;
use serde_json::json;

use super::context::{Context, InstanceKey};
use super::metrics::InstanceEnd;
use super::registry::RevisionState;
use super::rgd_deletion;
use super::rollout::{self, Choice};
use super::serving::{Owner, is_suspended};
use super::watches::NotSynced;
use crate::applyset::{self, InvalidInventory, Inventory};
use crate::build::Graph;
use crate::conditions::ConditionStatus;
use crate::keys;
use memory::Memory;
use status::Report;

pub(super) const MANAGED: &str = "InstanceManaged";
pub(super) const GRAPH_RESOLVED: &str = "GraphResolved";
pub(super) const RESOURCES_READY: &str = "ResourcesReady";
pub(super) const RESOURCES_PROPAGATED: &str = "ResourcesPropagated";

/// Why a reconcile is to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error(transparent)]
    Api(#[from] Error),
    #[error(transparent)]
    Inventory(#[from] InvalidInventory),
    #[error(transparent)]
    NotSynced(#[from] NotSynced),
}

pub(crate) struct InstanceReconciler {
    context: Arc<Context>,
    /// What was last applied, per instance. Taken out while an instance is worked on.
    memories: Mutex<HashMap<InstanceKey, Memory>>,
}

/// An instance being worked on.
pub(super) struct Instance<'a> {
    pub context: &'a Context,
    pub id: &'a InstanceKey,
    pub object: Object,
    pub applyset: String,
}

impl Instance<'_> {
    /// The namespace of the instance, empty when cluster-scoped.
    pub fn namespace(&self) -> &str {
        &self.id.key.namespace
    }
}

impl InstanceReconciler {
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            memories: Mutex::default(),
        }
    }

    fn forget(&self, id: &InstanceKey) {
        self.context
            .options
            .metrics
            .conditions_gone(&id.resource, &id.key);
        self.memories.lock().remove(id);
        self.context.watches.forget(id);
    }
}

impl Reconciler for InstanceReconciler {
    type Key = InstanceKey;
    type Error = InstanceError;

    async fn reconcile(&self, id: &InstanceKey) -> Result<Outcome, InstanceError> {
        let started = Instant::now();
        let result = self.run(id).await;
        let end = match &result {
            Ok(Outcome::Done) => InstanceEnd::Done,
            Ok(Outcome::Requeue | Outcome::RequeueAfter(_)) => InstanceEnd::RequeueAfter,
            Err(_) => InstanceEnd::Failed,
        };
        self.context
            .options
            .metrics
            .instance_reconciled(&id.resource, started.elapsed(), end);
        result
    }
}

impl InstanceReconciler {
    async fn run(&self, id: &InstanceKey) -> Result<Outcome, InstanceError> {
        let Some(owner) = self.context.serving.owner(&id.resource) else {
            return Ok(Outcome::Done);
        };
        let Some(object) = self.context.api.get_opt(&id.resource, &id.key).await? else {
            self.forget(id);
            rgd_deletion::instance_is_gone(&self.context, &owner.rgd);
            rollout::tell(&self.context, &owner.rgd);
            return Ok(Outcome::Done);
        };
        let applyset = applyset::id(
            &id.key.name,
            &id.key.namespace,
            &id.resource.kind,
            &id.resource.group,
        );
        let mut instance = Instance {
            context: &self.context,
            id,
            object,
            applyset,
        };
        if instance.object.is_terminating() {
            let outcome = deletion::run(&instance).await?;
            if outcome == deletion::Progress::Gone {
                self.forget(id);
                rgd_deletion::instance_is_gone(&self.context, &owner.rgd);
            }
            return Ok(Outcome::Done);
        }
        let mut report = Report::new(&instance);
        let result = self.work(&mut instance, &owner, &mut report).await;
        let outcome = match &result {
            Ok(outcome) => *outcome,
            Err(_) => Outcome::Done,
        };
        if self.context.shutdown.is_cancelled() && report.is_error() {
            // The end of the informers looks like trouble with the instance, and is none.
            return result.map(|_| outcome);
        }
        report.write(&instance).await?;
        if report.has_moved() || report.is_held() {
            // The revision it was on may be garbage now; or nobody has decided yet about this one.
            self.context.rgd_queue.add(ObjectKey::cluster(&owner.rgd));
        }
        rollout::tell(&self.context, &owner.rgd);
        result.map(|_| outcome)
    }
}

impl InstanceReconciler {
    async fn work(
        &self,
        instance: &mut Instance<'_>,
        owner: &Owner,
        report: &mut Report,
    ) -> Result<Outcome, InstanceError> {
        let Some(graph) = self.graph(instance, owner, report).await? else {
            // The revision that becomes available wakes us.
            return Ok(Outcome::Done);
        };
        if let Err(error) = manage(instance, owner).await {
            report.failed(MANAGED, "ManagementFailed", &error);
            return Err(error);
        }
        let message = "instance is properly managed with finalizers and labels";
        report.set(MANAGED, ConditionStatus::True, "Managed", message);
        let message = "runtime graph created and all resources resolved";
        report.set(GRAPH_RESOLVED, ConditionStatus::True, "Resolved", message);
        if is_suspended(&instance.object) {
            let message = "resource reconciliation is suspended";
            report.set(
                RESOURCES_READY,
                ConditionStatus::False,
                "ReconciliationSuspended",
                message,
            );
            return Ok(Outcome::Done);
        }
        let instance = &*instance;
        report.move_on(instance).await?;
        let memory = self.memories.lock().remove(instance.id).unwrap_or_default();
        let mut run = wavefront::Run::new(instance, &graph, memory);
        let result = run.advance().await;
        let result = match result {
            // What refers to members goes before the members.
            Ok(()) => match run.release().await {
                Ok(()) => run.prune().await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let outcome = run.conclude(report, result.as_ref().err());
        self.memories
            .lock()
            .insert(instance.id.clone(), run.into_memory());
        result.map(|()| outcome)
    }

    /// The graph of the revision the instance is to be on, if it can run.
    async fn graph(
        &self,
        instance: &Instance<'_>,
        owner: &Owner,
        report: &mut Report,
    ) -> Result<Option<Arc<Graph>>, InstanceError> {
        let newest = self.context.registry.latest(&owner.rgd);
        let choice = rollout::choose(&self.context, &owner.rgd, &instance.object, newest.as_ref());
        let older = match choice {
            Choice::Newest => return Ok(self.newest_graph(instance, owner, report)),
            Choice::Older { revision, target } => {
                let found = rollout::older_graph(&self.context, &owner.rgd, revision).await?;
                found.map(|graph| (revision, target, graph))
            }
            Choice::Unavailable(message) => Err(message),
        };
        match older {
            Ok((revision, target, graph)) => {
                report.use_graph(instance, &graph, revision);
                report.target(target);
                Ok(Some(graph))
            }
            Err(message) => {
                report.unavailable(message);
                Ok(None)
            }
        }
    }

    /// The graph of the newest revision, if it can run.
    fn newest_graph(
        &self,
        instance: &Instance<'_>,
        owner: &Owner,
        report: &mut Report,
    ) -> Option<Arc<Graph>> {
        let metrics = &self.context.options.metrics;
        let resource = &instance.id.resource;
        let state = self.context.registry.latest(&owner.rgd);
        let message = match state.map(|entry| (entry.revision, entry.state)) {
            Some((revision, RevisionState::Active(graph))) => {
                report.use_graph(instance, &graph, revision);
                metrics.graph_resolved(resource);
                return Some(graph);
            }
            None => {
                metrics.graph_not_resolved(resource, "not_available");
                format!("no graph revision of {} is available yet", owner.rgd)
            }
            Some((revision, RevisionState::Failed(message))) => {
                metrics.graph_not_resolved(resource, "failed");
                format!(
                    "graph revision {revision} of {} failed: {message}",
                    owner.rgd
                )
            }
            Some((revision, RevisionState::Pending | RevisionState::Retained)) => {
                metrics.graph_pending(resource);
                format!(
                    "graph revision {revision} of {} is not compiled yet",
                    owner.rgd
                )
            }
        };
        report.unresolved(message);
        None
    }
}

/// Makes sure of labels, the finalizer and, the first time, an empty inventory.
async fn manage(instance: &mut Instance<'_>, owner: &Owner) -> Result<(), InstanceError> {
    let object = &instance.object;
    let labels = [
        (keys::OWNED, "true"),
        (keys::KRO_VERSION, keys::TOOL_VERSION),
        (keys::RGD_ID, owner.rgd_uid.as_str()),
        (keys::RGD_NAME, owner.rgd.as_str()),
    ];
    let has_finalizer = object.has_finalizer(keys::FINALIZER);
    if has_finalizer
        && labels
            .iter()
            .all(|(key, value)| object.label(key) == Some(value))
    {
        return Ok(());
    }
    let mut wanted_labels: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    let mut metadata = json!({"name": object.name(), "finalizers": [keys::FINALIZER]});
    if let Some(namespace) = object.namespace() {
        metadata["namespace"] = namespace.into();
    }
    if !has_finalizer {
        if Inventory::is_present(object) {
            // Children may exist; without a trustworthy inventory they would never be deleted.
            Inventory::read(object, &instance.applyset)?;
        } else {
            wanted_labels.insert(
                keys::APPLYSET_ID.to_owned(),
                instance.applyset.as_str().into(),
            );
            metadata["annotations"] = json!(Inventory::default().annotations(&instance.applyset));
        }
    }
    metadata["labels"] = serde_json::Value::Object(wanted_labels);
    let patch = json!({
        "apiVersion": instance.id.resource.api_version(),
        "kind": &*instance.id.resource.kind,
        "metadata": metadata,
    });
    let options = ApplyOptions::force(keys::MANAGER_LABELLER);
    instance.object = instance
        .context
        .api
        .apply(&instance.id.resource, &patch, &options)
        .await?;
    Ok(())
}
