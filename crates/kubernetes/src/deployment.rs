//! Deployments: replica sets of successive templates, rolled from one to the next.
//!
//! [`sets`] knows which replica set is the new one and what a new one looks like, [`rollout`] decides
//! the next step, [`status`] says how far it is. Each reconcile takes one step; what it changes wakes
//! it for the next, and no step is taken before the cache shows the one before ([`Settled`]).

mod rollback;
mod rollout;
mod sets;
mod status;

use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, Event, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    Subresource, WorkQueue, enqueue, index,
};
use model::{LabelSelector, object};
use serde_json::{Value, json};

use self::rollout::{Scale, is_recreate, is_scaling, next_step};
use self::sets::{Sets, new_set, revision_of};
use self::status::Pass;
use crate::claim::{self, Claim};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::settled::{LAG, Own, Settled};
use crate::{pod, resources};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("deployment", Backoff::default());
    let deployments = cluster.informer(&resources::deployments());
    let replica_sets = cluster.informer(&resources::replica_sets());
    let pods = cluster.informer(&resources::pods());
    claim::add_indexes(&replica_sets);
    pods.add_owner_index();
    deployments.add_namespace_index();
    let _deployment_handler = deployments.add_handler(enqueue::object(&queue));
    let _set_handler = replica_sets.add_handler(enqueue::controller(&queue, "apps", "Deployment"));
    let (orphans, adopters) = (queue.clone(), deployments.clone());
    let _orphan_handler = replica_sets.add_handler(move |event| {
        // A set without an owner may belong to a deployment whose selector it fits.
        let set = event.object();
        if set.controller_of().is_none() && !set.is_terminating() {
            for found in adopters.by_index(index::NAMESPACE, set.namespace().unwrap_or_default()) {
                if selector(&found).is_ok_and(|s| s.matches(object::labels(set.value()))) {
                    orphans.add(found.key());
                }
            }
        }
    });
    let (sets_of_pods, recreated) = (replica_sets.clone(), queue.clone());
    let all = deployments.clone();
    let _pod_handler = pods.add_handler(move |event| {
        // A deployment that recreates waits until its old Pods are really gone.
        if let Event::Deleted(pod) = event
            && let Some(key) = deployment_of(pod, &sets_of_pods)
            && all
                .get(&key)
                .is_some_and(|deployment| is_recreate(&deployment))
        {
            recreated.add(key);
        }
    });
    let informers = vec![deployments.clone(), replica_sets.clone(), pods.clone()];
    let recorder = cluster.recorder("deployment-controller");
    let reconciler = Deployments {
        cluster: cluster.clone(),
        deployments,
        replica_sets,
        pods,
        recorder,
        settled: Settled::default(),
        own: Own::default(),
    };
    cluster
        .drive("deployment", queue, reconciler, informers)
        .await;
}

fn deployment_of(pod: &Object, sets: &Informer) -> Option<ObjectKey> {
    let namespace = pod.namespace().unwrap_or_default();
    let owner = pod
        .controller_of()
        .filter(|owner| owner.kind == "ReplicaSet")?;
    let set = sets.get(&ObjectKey::new(namespace, owner.name))?;
    let owner = set
        .controller_of()
        .filter(|owner| owner.kind == "Deployment")?;
    Some(ObjectKey::new(namespace, owner.name))
}

fn selector(deployment: &Object) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(deployment.get(&["spec", "selector"]));
    selector.map_err(|error| Error::Object {
        kind: "Deployment",
        name: deployment.key().to_string(),
        why: format!("spec.selector: {error}"),
    })
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Unneeded,
    Done,
    /// The object has changed or gone: what was decided was decided on an old state.
    Lost,
}

struct Deployments {
    cluster: Cluster,
    deployments: Informer,
    replica_sets: Informer,
    pods: Informer,
    recorder: EventRecorder,
    settled: Settled,
    own: Own,
}

impl Reconciler for Deployments {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(deployment) = self.deployments.get(key) else {
            self.settled.forget(key);
            self.own.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.own.is_shown(&deployment) {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let selector = selector(&deployment)?;
        if selector.is_everything() {
            return self.refuse_all(&deployment).await;
        }
        let api = self.cluster.api();
        let sets = &self.replica_sets;
        if !self.settled.is(api, &deployment, &selector, sets).await? {
            return Ok(Outcome::RequeueAfter(LAG));
        }
        let claim = Claim {
            cluster: &self.cluster,
            owner: &deployment,
            resource: &resources::deployments(),
            selector: &selector,
        };
        let owned = claim.of(sets, |_| true).await?;
        let mut sets = Sets::of(&deployment, owned);
        let pass = if deployment.is_terminating() {
            Pass::Upkeep
        } else if let Some(revision) =
            rollback::wanted(&deployment).filter(|_| !is_paused(&deployment))
        {
            // Its own change of the template wakes it again.
            let (cluster, recorder) = (&self.cluster, &self.recorder);
            rollback::carry_out(cluster, recorder, &deployment, &sets, revision).await?;
            return Ok(Outcome::Done);
        } else {
            match self.roll(&deployment, &mut sets).await? {
                Some(pass) => pass,
                None => return Ok(Outcome::Requeue),
            }
        };
        self.report(&deployment, &sets, pass).await
    }
}

fn is_paused(deployment: &Object) -> bool {
    deployment.get(&["spec", "paused"]) == Some(&Value::Bool(true))
}

/// How many Pods of a set are not available: those cost nothing to take away.
fn unhealthy(set: &Object) -> i64 {
    let wanted = object::number(set.value(), &["spec", "replicas"]).unwrap_or(0);
    let available = object::number(set.value(), &["status", "availableReplicas"]).unwrap_or(0);
    (wanted - available).max(0)
}

impl Deployments {
    /// One step. `None` where somebody else was faster, or the name of the new set is taken: to be tried again.
    async fn roll(&self, deployment: &Object, sets: &mut Sets) -> Result<Option<Pass>, Error> {
        let upkeep = is_paused(deployment) || is_scaling(deployment, sets);
        let mut pass = if upkeep { Pass::Upkeep } else { Pass::Rollout };
        if sets.new.is_none() && !upkeep && self.may_begin(deployment, sets) {
            match self.create(deployment, sets).await? {
                Some(set) => sets.new = Some(set),
                None => return Ok(None),
            }
            pass = Pass::Created;
        }
        match self.sync_new_set(deployment, sets).await? {
            Write::Unneeded => {}
            Write::Done => return Ok(Some(pass)),
            Write::Lost => return Ok(None),
        }
        let may_begin = upkeep || self.may_begin(deployment, sets);
        for scale in next_step(deployment, sets, may_begin, unhealthy) {
            if self.scale(deployment, &scale).await? == Write::Lost {
                return Ok(None);
            }
        }
        if is_paused(deployment) || status::is_complete(deployment) {
            self.clean_up(deployment, sets).await?;
        }
        Ok(Some(pass))
    }

    /// A deployment that selects everything would take over whatever there is.
    async fn refuse_all(&self, deployment: &Object) -> Result<Outcome, Error> {
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        self.recorder.warning(deployment, "SelectingAll", text);
        let observed = object::number(deployment.value(), &["status", "observedGeneration"]);
        if observed.unwrap_or(0) < deployment.generation() {
            let mut new = deployment.value().clone();
            new["status"]["observedGeneration"] = json!(deployment.generation());
            let api = self.cluster.api();
            api.update_status(&resources::deployments(), &new).await?;
        }
        Ok(Outcome::Done)
    }

    /// A deployment that recreates begins anew only when no old Pod is left, and no old set thinks it has one.
    fn may_begin(&self, deployment: &Object, sets: &Sets) -> bool {
        if !is_recreate(deployment) {
            return true;
        }
        sets.old.iter().all(|set| {
            let number = |path: &[&str]| object::number(set.value(), path).unwrap_or(0);
            let is_empty =
                number(&["spec", "replicas"]) == 0 && number(&["status", "replicas"]) == 0;
            let has_said = rollout::is_observed(set) && is_empty;
            has_said
                && self
                    .pods
                    .by_index(index::CONTROLLER_UID, set.uid())
                    .iter()
                    .all(|pod| matches!(pod::phase(pod), "Succeeded" | "Failed"))
        })
    }

    /// Makes the replica set of the current template. `None` where its name is taken by a set of
    /// another template: the next try has another name.
    async fn create(&self, deployment: &Object, sets: &Sets) -> Result<Option<Arc<Object>>, Error> {
        let wanted = new_set(deployment, sets);
        let api = self.cluster.api();
        let created = api.create(&resources::replica_sets(), &wanted).await;
        self.settled.note(&deployment.key(), &created);
        match created {
            Ok(set) => {
                let count = object::number(set.value(), &["spec", "replicas"]).unwrap_or(0);
                if count > 0 {
                    let text = format!("Scaled up replica set {} from 0 to {count}", set.name());
                    self.recorder.normal(deployment, "ScalingReplicaSet", text);
                }
                Ok(Some(Arc::new(set)))
            }
            Err(error) if error.is_already_exists() => {
                let key = ObjectKey::new(
                    deployment.namespace().unwrap_or_default(),
                    object::name(&wanted),
                );
                let found = api.get_opt(&resources::replica_sets(), &key).await?;
                let own = found.filter(|set| {
                    set.controller_of()
                        .is_some_and(|owner| owner.uid == deployment.uid())
                        && sets::same_template(deployment, set)
                });
                if let Some(set) = own {
                    return Ok(Some(Arc::new(set)));
                }
                let count = object::number(deployment.value(), &["status", "collisionCount"]);
                let patch = json!({"status": {"collisionCount": count.unwrap_or(0) + 1}});
                api.merge_patch(
                    &resources::deployments(),
                    &deployment.key(),
                    Subresource::Status,
                    &patch,
                )
                .await?;
                Ok(None)
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let name = object::name(&wanted);
                    self.report_failed_creation(deployment, name, &error).await;
                }
                Err(error.into())
            }
        }
    }

    async fn report_failed_creation(
        &self,
        deployment: &Object,
        name: &str,
        error: &controller::Error,
    ) {
        let why = error.message();
        let text = format!("Failed to create new replica set \"{name}\": {why}");
        let now = self.cluster.now();
        if let Some(status) = status::with_failed_creation(deployment, &text, now) {
            let mut new = deployment.value().clone();
            new["status"] = status;
            let api = self.cluster.api();
            if let Err(error) = api.update_status(&resources::deployments(), &new).await {
                // The failure to create is the bigger one, and the next try says it again.
                tracing::debug!(%error, "reporting a failed creation");
            }
        }
        let recorder = &self.recorder;
        recorder.warning(deployment, "ReplicaSetCreateError", text);
    }

    /// Brings the annotations and `minReadySeconds` of the new set in line with the deployment.
    async fn sync_new_set(&self, deployment: &Object, sets: &Sets) -> Result<Write, Error> {
        let Some(new) = &sets.new else {
            return Ok(Write::Unneeded);
        };
        let annotations = sets::annotations_due(deployment, sets, new);
        let seconds = |object: &Object| {
            object::number(object.value(), &["spec", "minReadySeconds"]).unwrap_or(0)
        };
        if annotations.is_empty() && seconds(new) == seconds(deployment) {
            return Ok(Write::Unneeded);
        }
        let patch = json!({
            "metadata": {"resourceVersion": new.resource_version(), "annotations": annotations},
            "spec": {"minReadySeconds": seconds(deployment)},
        });
        self.patch_set(deployment, new, &patch).await
    }

    /// Patches a set as the cache knows it.
    async fn patch_set(
        &self,
        deployment: &Object,
        set: &Object,
        patch: &Value,
    ) -> Result<Write, Error> {
        let (api, key) = (self.cluster.api(), set.key());
        let resource = resources::replica_sets();
        let patched = api
            .merge_patch(&resource, &key, Subresource::None, patch)
            .await;
        self.settled.note(&deployment.key(), &patched);
        match patched {
            Ok(_) => Ok(Write::Done),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Write::Lost),
            Err(error) => Err(error.into()),
        }
    }

    async fn scale(&self, deployment: &Object, scale: &Scale) -> Result<Write, Error> {
        let set = &scale.set;
        let from = object::number(set.value(), &["spec", "replicas"]).unwrap_or(0);
        let patch = json!({
            "metadata": {"resourceVersion": set.resource_version(), "annotations": scale.annotations},
            "spec": {"replicas": scale.to},
        });
        let write = self.patch_set(deployment, set, &patch).await?;
        if write == Write::Done && from != scale.to {
            let way = if scale.to > from { "up" } else { "down" };
            let to = scale.to;
            let text = format!(
                "Scaled {way} replica set {} from {from} to {to}",
                set.name()
            );
            self.recorder.normal(deployment, "ScalingReplicaSet", text);
        }
        Ok(write)
    }

    /// Deletes empty old sets beyond the history that is kept.
    async fn clean_up(&self, deployment: &Object, sets: &Sets) -> Result<(), Error> {
        let limit = object::number(deployment.value(), &["spec", "revisionHistoryLimit"])
            .unwrap_or(10)
            .max(0) as usize;
        let empty = |set: &&Arc<Object>| {
            let number = |path: &[&str]| object::number(set.value(), path).unwrap_or(0);
            number(&["spec", "replicas"]) == 0
                && number(&["status", "replicas"]) == 0
                && number(&["status", "observedGeneration"]) >= set.generation()
                && !set.is_terminating()
        };
        let mut old: Vec<&Arc<Object>> = sets.old.iter().filter(|s| !s.is_terminating()).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| revision_of(set));
        for set in old.into_iter().take(surplus).filter(empty) {
            let options = DeleteOptions::of_uid(set.uid());
            self.cluster
                .api()
                .delete(&resources::replica_sets(), &set.key(), &options)
                .await?;
        }
        Ok(())
    }

    /// Writes the status, and the revision, where they have changed.
    async fn report(&self, deployment: &Object, sets: &Sets, pass: Pass) -> Result<Outcome, Error> {
        let (status, wait) = status::status_of(deployment, sets, pass, self.cluster.now());
        let revision = sets
            .new
            .as_ref()
            .and_then(|set| set.annotation(sets::REVISION));
        let revision =
            revision.filter(|revision| deployment.annotation(sets::REVISION) != Some(revision));
        if status != *deployment.status() || revision.is_some() {
            let mut new = deployment.value().clone();
            new["status"] = status;
            if let Some(revision) = revision {
                // Through the status, as upstream: a change of the object itself would be a new generation.
                new["metadata"]["annotations"][sets::REVISION] = json!(revision);
            }
            let api = self.cluster.api();
            match api.update_status(&resources::deployments(), &new).await {
                Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                Err(error) if error.is_not_found() => {}
                outcome => self.own.note(&outcome?),
            }
        }
        Ok(wait.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}
