//! Replica sets and replication controllers: as many Pods as wanted.
//!
//! The two differ in their kind and in how the selector is written; a [`Kind`] says how. [`plan`] decides from the set and
//! its Pods; [`PodControl`] carries the plan out. A set whose cache does not show its own deeds yet does nothing, not even
//! report: what its status says of the Pods is true of the generation it names, which rollouts rely on.

mod plan;

use std::sync::Arc;

use controller::{
    Backoff, Informer, Object, ObjectKey, Outcome, Reconciler, Resource, WorkQueue, enqueue, index,
};
use model::{LabelSelector, object};
use serde_json::Value;

use self::plan::{Failure, Plan, plan, status_of};
use crate::claim::{self, Claim};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::pace::Pace;
use crate::pod_control::{If, PodControl};
use crate::settled::{LAG, Own};
use crate::{pod, resources};

/// What tells the two kinds of sets apart.
pub struct Kind {
    name: &'static str,
    component: &'static str,
    group: &'static str,
    kind: &'static str,
    resource: fn() -> Resource,
    selector: fn(&Object) -> Result<LabelSelector, String>,
    /// Whether the status counts terminating Pods.
    counts_terminating: bool,
}

/// Replica sets.
pub static REPLICA_SETS: Kind = Kind {
    name: "replicaset",
    component: "replicaset-controller",
    group: "apps",
    kind: "ReplicaSet",
    resource: resources::replica_sets,
    selector: |set| {
        LabelSelector::from_object(set.get(&["spec", "selector"])).map_err(|e| e.to_string())
    },
    counts_terminating: true,
};

/// Replication controllers.
pub static REPLICATION_CONTROLLERS: Kind = Kind {
    name: "replicationcontroller",
    component: "replication-controller",
    group: "",
    kind: "ReplicationController",
    resource: resources::replication_controllers,
    selector: |set| {
        let labels = set.get(&["spec", "selector"]).and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        Ok(LabelSelector::from_labels(labels.map(|(key, value)| {
            (key.as_str(), value.as_str().unwrap_or_default())
        })))
    },
    counts_terminating: false,
};

/// Runs the controller of a kind.
pub async fn run(cluster: Cluster, kind: &'static Kind) {
    let queue: WorkQueue = WorkQueue::new(kind.name, Backoff::default());
    let sets = cluster.informer(&(kind.resource)());
    let pods = cluster.informer(&resources::pods());
    claim::add_indexes(&pods);
    sets.add_owner_index();
    sets.add_namespace_index();
    let control = PodControl::new(&cluster, kind.component);
    let _set_handler = sets.add_handler(enqueue::object(&queue));
    // Before the one that wakes: a set that wakes finds its expectations met.
    let _expectation_handler = control.observe(&sets, &pods, kind.kind);
    let _pod_handler = pods.add_handler(enqueue::controller(&queue, kind.group, kind.kind));
    let (orphans, adopters) = (queue.clone(), sets.clone());
    let _orphan_handler = pods.add_handler(move |event| {
        // A Pod without an owner may belong to a set whose selector it fits.
        let pod = event.object();
        if pod.controller_of().is_none() && !pod.is_terminating() {
            for set in adopters.by_index(index::NAMESPACE, pod.namespace().unwrap_or_default()) {
                if (kind.selector)(&set).is_ok_and(|s| s.matches(object::labels(pod.value()))) {
                    orphans.add(set.key());
                }
            }
        }
    });
    let reconciler = ReplicaSets {
        kind,
        sets: sets.clone(),
        pods: pods.clone(),
        control,
        pace: Pace::default(),
        own: Own::default(),
        cluster: cluster.clone(),
    };
    cluster
        .drive(kind.name, queue, reconciler, vec![sets, pods])
        .await;
}

struct ReplicaSets {
    kind: &'static Kind,
    cluster: Cluster,
    sets: Informer,
    pods: Informer,
    control: PodControl,
    pace: Pace,
    own: Own,
}

impl Reconciler for ReplicaSets {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(key) else {
            self.control.settled.forget(key);
            self.pace.forget(key);
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.own.is_shown(&set) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let observed = object::number(set.status(), &["observedGeneration"]).unwrap_or(0);
        if let Some(left) = self.pace.left(key).filter(|_| observed >= set.generation()) {
            return Ok(Outcome::RequeueAfter(left));
        }
        let selector = (self.kind.selector)(&set).map_err(|why| Error::Object {
            kind: self.kind.kind,
            name: key.to_string(),
            why: format!("spec.selector: {why}"),
        })?;
        let settled = &self.control.settled;
        let api = self.cluster.api();
        if !self.control.satisfied(&set) || !settled.is(api, &set, &selector, &self.pods).await? {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let claim = Claim {
            cluster: &self.cluster,
            owner: &set,
            resource: &(self.kind.resource)(),
            selector: &selector,
        };
        let pods = claim.of(&self.pods, pod::is_active).await?;
        let now = self.cluster.now();
        let failure = if set.is_terminating() {
            None
        } else {
            let plan = plan(&set, &pods, |node| self.neighbours(&set, node), now);
            // A set that is still being made or taken apart goes on at once.
            let size = if matches!(plan, Plan::Keep) {
                pods.len()
            } else {
                0
            };
            self.pace.note(key, size);
            self.carry_out(&set, plan).await.err()
        };
        let outcome = self.report(&set, &pods, failure.as_ref()).await?;
        failure.map_or(Ok(outcome), |(_, failure)| Err(failure.into()))
    }
}

impl ReplicaSets {
    /// How many active Pods of the same application a node has: those of all sets of this set's owner.
    fn neighbours(&self, set: &Object, node: &str) -> usize {
        let on_node = |set: &Object| {
            let pods = self.pods.by_index(index::CONTROLLER_UID, set.uid());
            let here = pods.iter().filter(|pod| {
                pod::is_active(pod) && object::text(pod.value(), &["spec", "nodeName"]) == node
            });
            here.count()
        };
        match set.controller_of() {
            None => on_node(set),
            Some(owner) => {
                let siblings = self.sets.by_index(index::CONTROLLER_UID, &owner.uid);
                siblings.iter().map(|set| on_node(set)).sum()
            }
        }
    }

    async fn carry_out(
        &self,
        set: &Object,
        plan: Plan,
    ) -> Result<(), (Failure, controller::Error)> {
        match plan {
            Plan::Keep => Ok(()),
            Plan::Create(count) => {
                let template = set.get(&["spec", "template"]).cloned().unwrap_or_default();
                let pod = pod::from_template(set, &template, &[]);
                let created = self.control.create(set, &vec![pod; count]).await;
                created.map_err(|error| (Failure::Create(error.message()), error))
            }
            Plan::Delete(pods) => {
                let deleted = self.control.delete(set, &pods, If::SameObject).await;
                deleted.map_err(|error| (Failure::Delete(error.message()), error))
            }
        }
    }

    /// Writes the status where it has changed; looks again when it may change by itself.
    async fn report(
        &self,
        set: &Object,
        pods: &[Arc<Object>],
        failure: Option<&(Failure, controller::Error)>,
    ) -> Result<Outcome, Error> {
        let failure = failure.map(|(failure, _)| failure);
        let (mut status, wait) = status_of(set, pods, failure, self.cluster.now());
        if !self.kind.counts_terminating
            && let Some(members) = status.as_object_mut()
        {
            members.remove("terminatingReplicas");
        }
        if status != *set.status() {
            let mut new = set.value().clone();
            new["status"] = status;
            let api = self.cluster.api();
            match api.update_status(&(self.kind.resource)(), &new).await {
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                Err(error) if error.is_not_found() => {}
                outcome => self.own.note(&outcome?),
            }
        }
        Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}
