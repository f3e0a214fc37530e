//! The ResourceGraphDefinition controller: issues revisions, ensures the generated kind, starts to serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::{
    DeleteOptions, Event, Object, ObjectKey, Outcome, Reconciler, Subresource, finalizer,
};
use serde_json::{Value, json};

use super::caches;
use super::context::{Context, revision_resource, rgd_resource};
use super::ensure_crd::{self, EnsureError};
use super::registry::RevisionState;
use super::rgd_plan::{Decision, decide, owner_reference, revision_name, revision_object};
use super::rgd_status::{ACCEPTED, CONTROLLER_READY, KIND_READY, RESOLVED, Report};
use super::serving::Owner;
use super::{rgd_deletion, rollout};
use crate::build::{self, BuildError, Graph};
use crate::conditions::ConditionStatus;
use crate::{crd, hash, keys};

/// Only its author can mend a broken definition, and that wakes us. So do changed CustomResourceDefinitions; this is for
/// schemas of aggregated APIs.
const BROKEN_INTERVAL: Duration = Duration::from_mins(1);

/// Why a reconcile is to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RgdError {
    #[error(transparent)]
    Api(#[from] controller::Error),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Crd(#[from] EnsureError),
    #[error("{0}")]
    Revision(String),
}

pub(crate) struct RgdReconciler {
    pub(super) context: Arc<Context>,
}

impl RgdReconciler {
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
        }
    }
}

/// Status changes of the definition itself wake nobody.
pub(crate) fn wake_on_own_events(
    context: &Arc<Context>,
) -> impl Fn(&Event) + Send + Sync + 'static {
    let queue = context.rgd_queue.clone();
    move |event| {
        let concerns_us = match event {
            Event::Added(_) => true,
            Event::Deleted(_) => false,
            Event::Updated { old, new } => {
                old.generation() != new.generation()
                    || old.is_terminating() != new.is_terminating()
                    || allows_breaking(old) != allows_breaking(new)
                    || rgd_deletion::is_allowed(old) != rgd_deletion::is_allowed(new)
            }
        };
        if concerns_us {
            queue.add(event.object().key());
        }
    }
}

/// The definition a revision belongs to.
pub(crate) fn keys_of_revision(revision: &Object) -> Vec<ObjectKey> {
    caches::definition(revision)
        .map(ObjectKey::cluster)
        .into_iter()
        .collect()
}

/// A changed CustomResourceDefinition concerns the graph it was made by, and graphs that wait for kinds.
pub(crate) fn wake_on_crd_events(
    context: &Arc<Context>,
) -> impl Fn(&Event) + Send + Sync + 'static {
    let (rgd_queue, revision_queue) = (context.rgd_queue.clone(), context.revision_queue.clone());
    let (rgds, revisions) = (context.rgds.clone(), context.revisions.clone());
    let discovery = context.discovery.clone();
    move |event| {
        let crd = event.object();
        if let Some((_, group)) = crd.name().split_once('.') {
            discovery.invalidate(group);
        }
        let is_new = matches!(event, Event::Added(_));
        if crd.label(keys::OWNED) == Some("true")
            && !is_new
            && let Some(name) = crd.label(keys::RGD_NAME)
        {
            rgd_queue.add(ObjectKey::cluster(name));
        }
        for (informer, queue) in [(&rgds, &rgd_queue), (&revisions, &revision_queue)] {
            for object in informer.by_index(caches::REFUSED, "") {
                queue.add(object.key());
            }
        }
    }
}

fn allows_breaking(rgd: &Object) -> bool {
    rgd.annotation(keys::ALLOW_BREAKING_CHANGES) == Some("true")
}

impl Reconciler for RgdReconciler {
    type Key = ObjectKey;
    type Error = RgdError;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, RgdError> {
        let Some(rgd) = self.context.api.get_opt(&rgd_resource(), key).await? else {
            return Ok(Outcome::Done);
        };
        if rgd.is_terminating() {
            return rgd_deletion::run(self, &rgd).await;
        }
        let rgd = finalizer::add(&self.context.api, &rgd_resource(), &rgd, keys::FINALIZER).await?;
        let mut report = Report::new(&rgd, self.context.clock.now_text());
        let result = self.work(&rgd, &mut report).await;
        self.write_status(&rgd, &report).await?;
        match result {
            Ok(()) => Ok(Outcome::Done),
            Err(RgdError::Build(error)) if !error.is_about_a_missing_kind() => {
                Ok(Outcome::RequeueAfter(BROKEN_INTERVAL))
            }
            Err(error) => Err(error),
        }
    }
}

impl RgdReconciler {
    async fn work(&self, rgd: &Object, report: &mut Report) -> Result<(), RgdError> {
        let name = rgd.name();
        let metrics = &self.context.options.metrics;
        let spec_hash = hash::spec_hash(rgd.spec());
        let revisions = self.revisions(name).await?;
        let (terminating, live): (Vec<_>, Vec<_>) = revisions
            .into_iter()
            .partition(|(_, revision)| revision.is_terminating());
        let live: BTreeMap<i64, Object> = live.into_iter().collect();
        self.adopt(rgd, &live).await?;
        if live.is_empty() && terminating.is_empty() {
            self.context.registry.remove_all(name);
        }
        let newest = live.last_key_value().map(|(revision, _)| *revision);
        let entry = newest.and_then(|newest| self.context.registry.get(name, newest));
        if let (Some(newest), Some(RevisionState::Retained)) =
            (newest, entry.as_ref().map(|entry| &entry.state))
        {
            // What was newer is gone, so this one is to run again.
            self.context
                .revision_queue
                .add(ObjectKey::cluster(revision_name(name, newest)));
        }
        match decide(newest, terminating.len(), entry, &spec_hash) {
            Decision::Wait(reason, message) => {
                metrics.revision_waited(reason);
                report.wait(reason, message);
            }
            Decision::Issue => {
                let number = newest.unwrap_or_default();
                let issued = self.issue(rgd, &spec_hash, number, report).await;
                match &issued {
                    Ok(()) => metrics.revision_issued(newest.is_none()),
                    Err(_) => metrics.revision_resolved("failed"),
                }
                issued?;
            }
            Decision::Serve(revision, graph) => {
                metrics.revision_resolved("serve");
                let message = format!("revision {revision} compiled and active");
                report
                    .conditions
                    .set(RESOLVED, ConditionStatus::True, "Resolved", message);
                let result = self.serve(rgd, revision, &graph, report).await;
                self.collect_garbage(live, &graph).await;
                result?;
                let progress = rollout::advance(&self.context, name, revision, &graph).await?;
                report.propagated(rgd, revision, progress.as_ref());
            }
            Decision::Failed(message) => {
                metrics.revision_resolved("failed");
                report
                    .conditions
                    .set(RESOLVED, ConditionStatus::False, "Failed", message.as_str());
                report.conditions.set(
                    ACCEPTED,
                    ConditionStatus::False,
                    "InvalidResourceGraph",
                    message.as_str(),
                );
                return Err(RgdError::Revision(message));
            }
        }
        Ok(())
    }

    /// All revisions, straight from the server: what was just issued must not be overlooked.
    async fn revisions(&self, name: &str) -> Result<Vec<(i64, Object)>, RgdError> {
        let options = controller::ListOptions {
            field_selector: Some(format!("spec.snapshot.name={name}")),
            ..controller::ListOptions::default()
        };
        let list = self
            .context
            .api
            .list(&revision_resource(), &options)
            .await?;
        let number = |object: &Object| object.pointer("/spec/revision").and_then(Value::as_i64);
        Ok(list
            .items
            .into_iter()
            .filter_map(|object| Some((number(&object)?, object)))
            .collect())
    }

    /// Takes over revisions whose definition was deleted and made again.
    async fn adopt(&self, rgd: &Object, live: &BTreeMap<i64, Object>) -> Result<(), RgdError> {
        for revision in live.values() {
            if revision
                .controller_of()
                .is_some_and(|owner| owner.uid == rgd.uid())
            {
                continue;
            }
            let reference = owner_reference(rgd);
            let change = |object: &mut Value| {
                let owners = &mut object["metadata"]["ownerReferences"];
                let mut kept: Vec<Value> = owners.as_array().cloned().unwrap_or_default();
                kept.retain(|owner| owner["kind"] != "ResourceGraphDefinition");
                kept.push(reference.clone());
                *owners = Value::Array(kept);
                true
            };
            self.context
                .api
                .modify(
                    &revision_resource(),
                    &revision.key(),
                    Subresource::None,
                    change,
                )
                .await?;
        }
        Ok(())
    }

    async fn issue(
        &self,
        rgd: &Object,
        spec_hash: &str,
        newest: i64,
        report: &mut Report,
    ) -> Result<(), RgdError> {
        let started = Instant::now();
        let compiled = compile(&self.context, rgd.spec()).await;
        self.context
            .options
            .metrics
            .graph_built(rgd.name(), started.elapsed(), compiled.is_err());
        let graph = match compiled {
            Ok(graph) => graph,
            Err(CompileError::Api(error)) => return Err(error.into()),
            Err(CompileError::Build(error)) => {
                report.conditions.set(
                    ACCEPTED,
                    ConditionStatus::False,
                    "InvalidResourceGraph",
                    error.to_string(),
                );
                report.topological_order = Value::Null;
                report.resources = Value::Null;
                return Err(error.into());
            }
        };
        report.graph(&graph);
        report.conditions.set(
            ACCEPTED,
            ConditionStatus::True,
            "Valid",
            "resource graph and schema are valid",
        );
        let number = report.last_issued_revision.max(newest) + 1;
        self.context
            .registry
            .put_fresh(rgd.name(), spec_hash, Arc::new(graph));
        match self
            .context
            .api
            .create(
                &revision_resource(),
                &revision_object(rgd, number, spec_hash),
            )
            .await
        {
            Ok(_) => {}
            // An earlier attempt got this far.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        report.last_issued_revision = number;
        let message = format!("graph revision {number} issued and awaiting compilation");
        report.wait("WaitingForGraphRevisionCompilation", message);
        Ok(())
    }

    async fn serve(
        &self,
        rgd: &Object,
        revision: i64,
        graph: &Arc<Graph>,
        report: &mut Report,
    ) -> Result<(), RgdError> {
        report.graph(graph);
        report.conditions.set(
            ACCEPTED,
            ConditionStatus::True,
            "Valid",
            "resource graph and schema are valid",
        );
        let mut desired = graph.crd();
        crd::label(&mut desired, rgd.name(), rgd.uid());
        let version = match ensure_crd::ensure(&self.context, &desired, allows_breaking(rgd)).await
        {
            Ok(version) => version,
            Err(error) => {
                report.conditions.set(
                    KIND_READY,
                    ConditionStatus::False,
                    "Failed",
                    error.to_string(),
                );
                return Err(error.into());
            }
        };
        let message = format!("kind {} has been accepted and ready", graph.schema.kind);
        report
            .conditions
            .set(KIND_READY, ConditionStatus::True, "Ready", message);
        let owner = Owner {
            rgd: rgd.name().to_owned(),
            rgd_uid: rgd.uid().to_owned(),
        };
        self.context.serving.serve(
            &graph.schema.resource(),
            &owner,
            &format!("{revision}/{version}"),
        );
        report.conditions.set(
            CONTROLLER_READY,
            ConditionStatus::True,
            "Running",
            "controller is running",
        );
        Ok(())
    }

    /// Deletes revisions beyond those to keep; failing to is no reason to stop.
    async fn collect_garbage(&self, live: BTreeMap<i64, Object>, graph: &Graph) {
        let keep = self.context.options.max_graph_revisions;
        let excess = live.len().saturating_sub(keep);
        if keep == 0 || excess == 0 {
            return;
        }
        let mut in_use = BTreeSet::new();
        if graph.rollout.is_tracked {
            match rollout::in_use(&self.context, &graph.schema.resource()).await {
                Ok(found) => in_use = found,
                Err(error) => {
                    tracing::warn!(%error, "revisions in use are not known, none is deleted");
                    return;
                }
            }
        }
        let oldest = live.into_iter().take(excess);
        for (_, oldest) in oldest.filter(|(revision, _)| !in_use.contains(revision)) {
            let options = DeleteOptions::of_uid(oldest.uid());
            let deleted = self
                .context
                .api
                .delete(&revision_resource(), &oldest.key(), &options)
                .await;
            self.context
                .options
                .metrics
                .revision_collected(deleted.is_err());
            if let Err(error) = deleted {
                tracing::warn!(revision = oldest.name(), %error, "graph revision not deleted");
            }
        }
    }

    pub(super) async fn write_status(&self, rgd: &Object, report: &Report) -> Result<(), RgdError> {
        let status = report.value();
        let current = rgd.status();
        let fields = status.as_object().into_iter().flatten();
        // Absent and null are the same to a merge patch.
        let same = fields
            .clone()
            .all(|(key, value)| current.get(key).unwrap_or(&Value::Null) == value);
        if same {
            return Ok(());
        }
        let patch = json!({"status": status});
        self.context
            .api
            .merge_patch(&rgd_resource(), &rgd.key(), Subresource::Status, &patch)
            .await?;
        let state = |status: &Value| status["state"].as_str().unwrap_or_default().to_owned();
        let (from, to) = (state(current), state(&status));
        if from != to {
            self.context
                .options
                .metrics
                .rgd_changed(rgd.name(), &from, &to);
        }
        Ok(())
    }
}

/// Why a spec was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Api(#[from] controller::Error),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Compiles a spec with the kinds that the cluster serves now.
pub(crate) async fn compile(context: &Context, spec: &Value) -> Result<Graph, CompileError> {
    let spec = build::read_spec(spec)?;
    let kinds = context
        .kinds
        .snapshot(&build::required_kinds(&spec))
        .await?;
    Ok(build::build(&spec, &kinds, &context.options.build)?)
}
