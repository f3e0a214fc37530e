//! Daemon sets: one Pod on each node that should have one.
//!
//! [`placement`] knows where the Pods run and what they look like, [`plan`] decides what is to be made and deleted, [`failed`] how
//! soon a failed Pod is tried again. The scheduler binds each Pod to the node it is made for. Revisions of the template are kept
//! by [`crate::history`].

mod failed;
mod placement;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, Event, Informer, Object, ObjectKey, Outcome, Reconciler, Subresource, WorkQueue,
    enqueue, index,
};
use model::{LabelSelector, object};
use serde_json::{Value, json};

use self::failed::Failed;
use self::plan::{Plan, Situation};
use crate::claim::{self, Claim};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::history::{self, History};
use crate::pace::Pace;
use crate::pod_control::{If, PodControl};
use crate::settled::{LAG, Own};
use crate::{pod, resources};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("daemonset", Backoff::default());
    let sets = cluster.informer(&resources::daemon_sets());
    let pods = cluster.informer(&resources::pods());
    let nodes = cluster.informer(&resources::nodes());
    claim::add_indexes(&pods);
    sets.add_namespace_index();
    let history = History::new(&cluster, resources::daemon_sets());
    let revisions = history.revisions.clone();
    let control = PodControl::new(&cluster, "daemonset-controller");
    let _set_handler = sets.add_handler(enqueue::object(&queue));
    let _expectation_handler = control.observe(&sets, &pods, "DaemonSet");
    let _pod_handler = pods.add_handler(enqueue::controller(&queue, "apps", "DaemonSet"));
    let _revision_handler = revisions.add_handler(enqueue::controller(&queue, "apps", "DaemonSet"));
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
    let (placed, all) = (queue.clone(), sets.clone());
    let _node_handler = nodes.add_handler(move |event| {
        if moves_pods(event) {
            for set in all.list() {
                placed.add(set.key());
            }
        }
    });
    let informers = vec![sets.clone(), pods.clone(), nodes.clone(), revisions];
    let reconciler = DaemonSets {
        cluster: cluster.clone(),
        sets,
        pods,
        nodes,
        history,
        control,
        failed: Failed::default(),
        pace: Pace::default(),
        own: Own::default(),
    };
    cluster
        .drive("daemonset", queue, reconciler, informers)
        .await;
}

/// Whether what has become of a node may matter to where Pods run.
fn moves_pods(event: &Event) -> bool {
    let Event::Updated { old, new } = event else {
        return true;
    };
    let differs = |path: &[&str]| old.get(path) != new.get(path);
    old.uid() != new.uid() || differs(&["metadata", "labels"]) || differs(&["spec", "taints"])
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(set.get(&["spec", "selector"]));
    selector.map_err(|error| Error::Object {
        kind: "DaemonSet",
        name: set.key().to_string(),
        why: format!("spec.selector: {error}"),
    })
}

struct DaemonSets {
    cluster: Cluster,
    sets: Informer,
    pods: Informer,
    nodes: Informer,
    history: History,
    control: PodControl,
    failed: Failed,
    pace: Pace,
    own: Own,
}

/// The revision of the current template, and all others.
struct Known {
    hash: String,
    old: Vec<Arc<Object>>,
}

impl Reconciler for DaemonSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(key) else {
            self.control.settled.forget(key);
            self.history.forget(key);
            self.failed.forget(key);
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
        if selector.is_everything() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder().warning(&set, "SelectingAll", text);
            return Ok(Outcome::Done);
        }
        if set.is_terminating() {
            return Ok(Outcome::Done);
        }
        let (api, settled) = (self.cluster.api(), &self.control.settled);
        if !self.control.satisfied(&set) || !settled.is(api, &set, &selector, &self.pods).await? {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let Some(revisions) = self.history.of(&set, &selector).await? else {
            return Ok(Outcome::RequeueAfter(LAG));
        };
        let claim = Claim {
            cluster: &self.cluster,
            owner: &set,
            resource: &resources::daemon_sets(),
            selector: &selector,
        };
        let pods = claim.of(&self.pods, |_| true).await?;
        self.pace.note(key, self.nodes.len() + pods.len());
        let Some(known) = self.known(&set, revisions, &pods).await? else {
            return Ok(Outcome::Requeue);
        };
        self.run_on_nodes(&set, &pods, known).await
    }
}

impl DaemonSets {
    async fn run_on_nodes(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        known: Known,
    ) -> Result<Outcome, Error> {
        let (now, nodes) = (self.cluster.now(), self.nodes.list());
        let situation = Situation::of(set, &known.hash, &nodes, pods, now);
        let mut wait: Option<Duration> = None;
        let observed = object::number(set.status(), &["observedGeneration"]).unwrap_or(0);
        let managed = situation.manage(|node| {
            let replaced = self.failed.replace(&set.key(), observed, node, now);
            if let Err(left) = replaced {
                wait = Some(wait.map_or(left, |wait| wait.min(left)));
            }
            replaced.is_ok()
        });
        self.tell_ended(set, &managed);
        let rolls = managed.is_empty();
        let plan = if rolls { situation.roll() } else { managed };
        let done = self.carry_out(set, &known.hash, plan.limited(), rolls);
        let failure = done.await.err();
        if failure.is_none() {
            self.clean_up(set, pods, known.old).await?;
        }
        let status = situation.status(true);
        if status != *set.status() {
            let mut new = set.value().clone();
            new["status"] = status;
            let api = self.cluster.api();
            match api.update_status(&resources::daemon_sets(), &new).await {
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                Err(error) if error.is_not_found() => {}
                outcome => self.own.note(&outcome?),
            }
        }
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        let seconds = object::number(set.value(), &["spec", "minReadySeconds"]).unwrap_or(0);
        let available = pods
            .iter()
            .filter_map(|pod| pod::available_in(pod, seconds, now));
        let wait = available.chain(wait).min();
        Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter))
    }

    fn tell_ended(&self, set: &Object, plan: &Plan) {
        for pod in &plan.ended {
            let (key, node) = (pod.key(), placement::node_of(pod).unwrap_or_default());
            let recorder = self.control.recorder();
            if pod::phase(pod) == "Failed" {
                let text =
                    format!("Found failed daemon pod {key} on node {node}, will try to kill it");
                recorder.warning(set, "FailedDaemonPod", text);
            } else {
                let text = format!(
                    "Found succeeded daemon pod {key} on node {node}, will try to delete it"
                );
                recorder.normal(set, "SucceededDaemonPod", text);
            }
        }
    }

    /// Deletes, then creates: there are never more Pods beside one another than may be. Where only Pods that are missing are made,
    /// those that cannot be deleted are no hindrance.
    async fn carry_out(
        &self,
        set: &Object,
        hash: &str,
        plan: Plan,
        rolls: bool,
    ) -> Result<(), controller::Error> {
        let deleted = self.control.delete(set, &plan.delete, If::SameObject).await;
        let useless = &plan.delete_useless;
        let useless = self.control.delete(set, useless, If::Unchanged).await;
        let deleted = deleted.and(useless);
        if rolls {
            deleted?;
            return self.create(set, hash, &plan.create).await;
        }
        let created = self.create(set, hash, &plan.create).await;
        deleted.and(created)
    }

    async fn create(
        &self,
        set: &Object,
        hash: &str,
        nodes: &[String],
    ) -> Result<(), controller::Error> {
        let pods = nodes.iter().map(|node| placement::new_pod(set, hash, node));
        let pods: Vec<Value> = pods.collect();
        self.control.create(set, &pods).await
    }

    /// Tells the revision of the current template from the others; makes it or gives it the highest number. `None` where its
    /// name is taken: the next try has another.
    async fn known(
        &self,
        set: &Object,
        revisions: Vec<Arc<Object>>,
        pods: &[Arc<Object>],
    ) -> Result<Option<Known>, Error> {
        let patch = history::patch_of(set);
        let (mut same, old): (Vec<_>, Vec<_>) = revisions
            .into_iter()
            .partition(|revision| history::holds(revision, &patch));
        let next = old
            .iter()
            .map(|revision| history::number_of(revision))
            .max();
        let next = next.unwrap_or(0) + 1;
        let Some(current) = same.pop() else {
            let collisions = object::number(set.status(), &["collisionCount"]);
            let template = set.get(&["spec", "template"]).unwrap_or(&Value::Null);
            let hash = history::template_hash(template, collisions);
            let name = history::name(set.name(), &hash);
            let labels = [(history::HASH, hash.as_str())];
            let revision = history::revision(set, &name, &labels, &patch, next);
            if self.history.create(set, &revision).await?.is_some() {
                return Ok(Some(Known { hash, old }));
            }
            self.count_collision(set, collisions.unwrap_or(0) + 1)
                .await?;
            return Ok(None);
        };
        let hash = current
            .label(history::HASH)
            .unwrap_or(current.name())
            .to_owned();
        if current.label(history::HASH).is_none() {
            let label = json!({"metadata": {"labels": {history::HASH: hash}}});
            self.history.patch(set, &current, &label).await?;
            return Ok(None);
        }
        self.merge_revisions(set, &hash, same, pods).await?;
        if history::number_of(&current) < next {
            self.history.renumber(set, &current, next).await?;
        }
        Ok(Some(Known { hash, old }))
    }

    async fn count_collision(&self, set: &Object, collisions: i64) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"resourceVersion": set.resource_version()},
            "status": {"collisionCount": collisions},
        });
        let (api, resource, key) = (self.cluster.api(), resources::daemon_sets(), set.key());
        let patched = api.merge_patch(&resource, &key, Subresource::Status, &patch);
        patched.await?;
        Ok(())
    }

    /// Several revisions of one template become one: Pods take its label, the others go.
    async fn merge_revisions(
        &self,
        set: &Object,
        hash: &str,
        others: Vec<Arc<Object>>,
        pods: &[Arc<Object>],
    ) -> Result<(), Error> {
        if others.is_empty() {
            return Ok(());
        }
        let is_other = |pod: &&Arc<Object>| {
            let label = pod.label(history::HASH);
            others
                .iter()
                .any(|other| label.is_some() && other.label(history::HASH) == label)
        };
        let api = self.cluster.api();
        for pod in pods.iter().filter(is_other) {
            let patch = json!({"metadata": {"labels": {history::HASH: hash}}});
            let (resource, key) = (resources::pods(), pod.key());
            let patched = api
                .merge_patch(&resource, &key, Subresource::None, &patch)
                .await;
            self.control.settled.note(&set.key(), &patched);
            patched?;
        }
        for other in others {
            self.history.delete(&other).await?;
        }
        Ok(())
    }

    /// Deletes revisions beyond the history that is kept: those no Pod is of, the oldest first.
    async fn clean_up(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        old: Vec<Arc<Object>>,
    ) -> Result<(), Error> {
        let limit = object::number(set.value(), &["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        let is_used = |revision: &Object| {
            let label = revision.label(history::HASH);
            pods.iter()
                .any(|pod| label.is_some() && pod.label(history::HASH) == label)
        };
        let unused = old.iter().filter(|revision| !is_used(revision));
        for revision in unused.take(surplus) {
            self.history.delete(revision).await?;
        }
        Ok(())
    }
}
