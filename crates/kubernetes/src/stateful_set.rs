//! Stateful sets: Pods with a number, a name and storage of their own.
//!
//! [`plan`] decides from the set, its Pods and its two revisions; [`control`] carries the plan out; [`identity`] knows what Pods
//! and claims are called and look like, [`retention`] whom claims belong to. Revisions of the template are kept by
//! [`crate::history`]. Left out: the expansion of claims when their templates change, which upstream does not do either.

mod control;
mod identity;
mod plan;
mod retention;

use std::sync::Arc;

use controller::{
    Backoff, Event, Expectations, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue,
    enqueue, index,
};
use futures::future::join_all;
use model::{LabelSelector, object};

use self::control::{Control, Failure};
use self::plan::{Plan, Revisions, Situation, Step, is_parallel, plan};
use crate::claim::{self, Claim};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::history::{self, History};
use crate::pace::Pace;
use crate::resources;
use crate::settled::{LAG, Own};

/// Most Pods worked on at once.
const BATCH_MAX: usize = 500;
/// The label of a revision with its hash.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// Runs the controller.
pub async fn run(cluster: Cluster, max_unavailable: bool) {
    let queue: WorkQueue = WorkQueue::new("statefulset", Backoff::default());
    let sets = cluster.informer(&resources::stateful_sets());
    let pods = cluster.informer(&resources::pods());
    let claims = cluster.informer(&resources::persistent_volume_claims());
    claim::add_indexes(&pods);
    sets.add_namespace_index();
    let history = History::new(&cluster, resources::stateful_sets());
    let control = Control::new(&cluster, claims.clone());
    let expectations = control.expectations.clone();
    let _expectation_handler = pods.add_handler(move |event| observe(&expectations, event));
    let forgotten = control.expectations.clone();
    let _forget_handler = sets.add_handler(move |event| {
        if let Event::Deleted(gone) = event {
            forgotten.delete(&control::expected_of(gone.uid()));
        }
    });
    let _set_handler = sets.add_handler(enqueue::object(&queue));
    let _pod_handler = pods.add_handler(enqueue::controller(&queue, "apps", "StatefulSet"));
    let revisions = history.revisions.clone();
    let _revision_handler =
        revisions.add_handler(enqueue::controller(&queue, "apps", "StatefulSet"));
    let (orphans, adopters) = (queue.clone(), sets.clone());
    let _orphan_handler = pods.add_handler(move |event| {
        let pod = event.object();
        if pod.controller_of().is_none() && !pod.is_terminating() {
            for set in adopters.by_index(index::NAMESPACE, pod.namespace().unwrap_or_default()) {
                if selector(&set).is_ok_and(|s| s.matches(object::labels(pod.value()))) {
                    orphans.add(set.key());
                }
            }
        }
    });
    let (waiting, users) = (queue.clone(), sets.clone());
    let _claim_handler = claims.add_handler(move |event| {
        // One that goes may be what the next Pod of its ordinal waits for; one that comes may lack its owners.
        let claim = event.object();
        let Some((_, ordinal)) = identity::parent_and_ordinal(claim.name()) else {
            return;
        };
        for set in users.by_index(index::NAMESPACE, claim.namespace().unwrap_or_default()) {
            if identity::claim_names(&set, ordinal)
                .iter()
                .any(|name| name == claim.name())
            {
                waiting.add(set.key());
            }
        }
    });
    let informers = vec![sets.clone(), pods.clone(), claims, revisions];
    let reconciler = StatefulSets {
        cluster: cluster.clone(),
        sets,
        pods,
        history,
        control,
        pace: Pace::default(),
        own: Own::default(),
        max_unavailable,
    };
    cluster
        .drive("statefulset", queue, reconciler, informers)
        .await;
}

fn observe(expectations: &Expectations, event: &Event) {
    let pod = event.object();
    let owner = pod
        .controller_of()
        .filter(|owner| owner.kind == "StatefulSet");
    if let Some(owner) = owner
        && (pod.is_terminating() || matches!(event, Event::Deleted(_)))
    {
        expectations.deletion_observed(&control::expected_of(&owner.uid), pod.uid());
    }
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(set.get(&["spec", "selector"]));
    selector.map_err(|error| Error::Object {
        kind: "StatefulSet",
        name: set.key().to_string(),
        why: format!("spec.selector: {error}"),
    })
}

struct StatefulSets {
    cluster: Cluster,
    sets: Informer,
    pods: Informer,
    history: History,
    control: Control,
    pace: Pace,
    own: Own,
    max_unavailable: bool,
}

/// The two revisions of a set, and how often their names were taken.
struct Known {
    current: Arc<Object>,
    update: Arc<Object>,
    collisions: i64,
}

impl Reconciler for StatefulSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(key) else {
            self.control.settled.forget(key);
            self.history.forget(key);
            self.pace.forget(key);
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.own.is_shown(&set) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        if let Some(left) = self.pace.left(key) {
            return Ok(Outcome::RequeueAfter(left));
        }
        let selector = selector(&set)?;
        let (api, settled) = (self.cluster.api(), &self.control.settled);
        let expected = control::expected_of(set.uid());
        if !self.control.expectations.satisfied(&expected)
            || !settled.is(api, &set, &selector, &self.pods).await?
        {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let Some(revisions) = self.history.of(&set, &selector).await? else {
            return Ok(Outcome::RequeueAfter(LAG));
        };
        let claim = Claim {
            cluster: &self.cluster,
            owner: &set,
            resource: &resources::stateful_sets(),
            selector: &selector,
        };
        let mut pods = claim
            .of(&self.pods, |pod| identity::is_member(&set, pod))
            .await?;
        pods.retain(|pod| identity::is_member(&set, pod));
        self.pace.note(key, pods.len());
        let known = self.revisions(&set, &revisions).await?;
        let (failure, outcome) = self.update(&set, &pods, &known).await?;
        self.truncate(&set, &pods, &revisions, &known).await?;
        failure.map_or(Ok(outcome), Err)
    }
}

impl StatefulSets {
    /// Finds the current and the update revision; makes the latter or gives it the highest number.
    async fn revisions(&self, set: &Object, revisions: &[Arc<Object>]) -> Result<Known, Error> {
        let patch = history::patch_of(set);
        let status = |name: &str| object::text(set.status(), &[name]);
        let mut collisions = object::number(set.status(), &["collisionCount"]).unwrap_or(0);
        let next = revisions.last().map_or(0, |last| history::number_of(last)) + 1;
        let equal = revisions
            .iter()
            .rfind(|revision| history::holds(revision, &patch));
        let update = match (equal, revisions.last()) {
            (Some(equal), Some(last)) if history::holds(last, &patch) => {
                debug_assert_eq!(equal.name(), last.name(), "the last of them");
                last.clone()
            }
            (Some(equal), _) => Arc::new(self.history.renumber(set, equal, next).await?),
            (None, _) => loop {
                let hash = history::hash_of(&patch, collisions);
                let name = history::name(set.name(), &hash);
                let labels = [(REVISION_HASH, hash.as_str())];
                let revision = history::revision(set, &name, &labels, &patch, next);
                if let Some(made) = self.history.create(set, &revision).await? {
                    break Arc::new(made);
                }
                collisions += 1;
            },
        };
        let current = revisions
            .iter()
            .find(|revision| revision.name() == status("currentRevision"));
        Ok(Known {
            current: current.cloned().unwrap_or_else(|| update.clone()),
            update,
            collisions,
        })
    }

    /// Plans, acts and reports. The first failure does not keep the status from being written.
    async fn update(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        known: &Known,
    ) -> Result<(Option<Error>, Outcome), Error> {
        let now = self.cluster.now();
        let revisions = Revisions {
            current: known.current.name(),
            update: known.update.name(),
        };
        let plan = plan(&Situation {
            set,
            pods,
            revisions,
            claims_match: &|pod| self.control.claims_match(set, pod),
            is_blocked: &|ordinal| self.control.is_blocked(set, ordinal),
            max_unavailable: self.max_unavailable,
            now,
        });
        let counts = plan.counts;
        let failure = self.carry_out(set, known, plan).await.err();
        let failure = failure.map(|failure| Error::Object {
            kind: "StatefulSet",
            name: set.key().to_string(),
            why: failure.to_string(),
        });
        let status = plan::status(set, revisions, counts, known.collisions);
        if plan::differs(set, &status) {
            let mut new = set.value().clone();
            new["status"] = status;
            let api = self.cluster.api();
            match api.update_status(&resources::stateful_sets(), &new).await {
                Err(error) if error.is_conflict() => return Ok((failure, Outcome::Requeue)),
                Err(error) if error.is_not_found() => {}
                outcome => self.own.note(&outcome?),
            }
        }
        let wait = plan::next_availability(set, pods, now);
        Ok((failure, wait.map_or(Outcome::Done, Outcome::RequeueAfter)))
    }

    async fn carry_out(&self, set: &Object, known: &Known, plan: Plan) -> Result<(), Failure> {
        for group in plan.groups {
            let (mut rest, mut size) = (group.as_slice(), 1);
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                let steps = batch.iter().map(|step| self.step(set, known, step));
                let outcomes = join_all(steps).await;
                if let Some(failure) = outcomes.into_iter().find_map(Result::err) {
                    return Err(failure);
                }
                rest = later;
                if is_parallel(set) {
                    size = (size * 2).min(BATCH_MAX);
                }
            }
        }
        Ok(())
    }

    async fn step(&self, set: &Object, known: &Known, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Create { ordinal, updated } => {
                let revision = if *updated {
                    &known.update
                } else {
                    &known.current
                };
                let template = history::template_of(revision);
                let pod = identity::new_pod(set, &template, revision.name(), *ordinal);
                self.control.create(set, &pod).await
            }
            Step::Delete(pod) => self.control.delete(set, pod).await,
            Step::MakeClaims(pod) => self.control.make_claims(set, pod).await,
            Step::Conform(pod) => self.control.conform(set, pod).await,
            Step::Release(pod) => self.control.set_owners(set, pod).await,
        }
    }

    /// Deletes revisions beyond the history that is kept: those no Pod is of, the oldest first.
    async fn truncate(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        revisions: &[Arc<Object>],
        known: &Known,
    ) -> Result<(), Error> {
        let limit = object::number(set.value(), &["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else {
            return Ok(());
        };
        let is_live = |name: &str| {
            name == known.current.name()
                || name == known.update.name()
                || pods
                    .iter()
                    .any(|pod| pod.label(history::HASH) == Some(name))
        };
        let unused: Vec<_> = revisions.iter().filter(|r| !is_live(r.name())).collect();
        let surplus = unused.len().saturating_sub(limit);
        for revision in unused.into_iter().take(surplus) {
            self.history.delete(revision).await?;
        }
        Ok(())
    }
}
