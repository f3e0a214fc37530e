//! Deployments: replica sets of successive templates, rolled from one to the next.
//!
//! [`sets`] knows which replica set is the new one and what a new one looks like, [`rollout`] decides
//! the next step, [`status`] says how far it is. Each reconcile takes one step; what it changes wakes
//! it for the next.

mod rollout;
mod sets;
mod status;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    Subresource, WorkQueue, enqueue, index,
};
use model::object;
use serde_json::{Value, json};

use self::rollout::{Scale, next_step};
use self::sets::{Sets, new_set, revision_of};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::{pod, resources};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("deployment", Backoff::default());
    let deployments = cluster.informer(&resources::deployments());
    let replica_sets = cluster.informer(&resources::replica_sets());
    let pods = cluster.informer(&resources::pods());
    replica_sets.add_owner_index();
    pods.add_owner_index();
    let _deployment_handler = deployments.add_handler(enqueue::object(&queue));
    let _set_handler = replica_sets.add_handler(enqueue::controller(&queue, "apps", "Deployment"));
    let sets_of_pods = replica_sets.clone();
    let _pod_handler = pods.add_handler(enqueue::mapped(&queue, move |pod| {
        // A deployment that recreates waits until its old Pods are really gone.
        let owner = pod
            .controller_of()
            .filter(|owner| owner.kind == "ReplicaSet");
        let set = owner.and_then(|owner| {
            sets_of_pods.get(&ObjectKey::new(
                pod.namespace().unwrap_or_default(),
                owner.name,
            ))
        });
        let deployment = set.and_then(|set| {
            let owner = set
                .controller_of()
                .filter(|owner| owner.kind == "Deployment")?;
            Some(ObjectKey::new(
                set.namespace().unwrap_or_default(),
                owner.name,
            ))
        });
        deployment.into_iter().collect()
    }));
    let informers = vec![deployments.clone(), replica_sets.clone(), pods.clone()];
    let recorder = cluster.recorder("deployment-controller");
    let reconciler = Deployments {
        cluster: cluster.clone(),
        deployments,
        replica_sets,
        pods,
        recorder,
    };
    cluster
        .drive("deployment", queue, reconciler, informers)
        .await;
}

struct Deployments {
    cluster: Cluster,
    deployments: Informer,
    replica_sets: Informer,
    pods: Informer,
    recorder: EventRecorder,
}

impl Reconciler for Deployments {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(Outcome::Done);
        };
        let owned = self
            .replica_sets
            .by_index(index::CONTROLLER_UID, deployment.uid());
        let mut sets = Sets::of(&deployment, owned);
        if !deployment.is_terminating() {
            if sets.new.is_none() && !is_paused(&deployment) && self.may_begin(&deployment, &sets) {
                match self.create(&deployment, &sets).await? {
                    Some(set) => sets.new = Some(set),
                    None => return Ok(Outcome::Requeue),
                }
            }
            self.mark_revision(&deployment, &sets).await?;
            for scale in next_step(&deployment, &sets, unhealthy) {
                self.scale(&deployment, &scale).await?;
            }
            self.clean_up(&deployment, &sets).await?;
        }
        self.report(&deployment, &sets).await
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
    /// A deployment that recreates begins anew only when no old Pod is left.
    fn may_begin(&self, deployment: &Object, sets: &Sets) -> bool {
        if object::text(deployment.value(), &["spec", "strategy", "type"]) != "Recreate" {
            return true;
        }
        sets.old.iter().all(|set| {
            self.pods
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
        match api.create(&resources::replica_sets(), &wanted).await {
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
                let text = format!("Failed to create new replica set: {error}");
                self.recorder
                    .warning(deployment, "ReplicaSetCreateError", text);
                Err(error.into())
            }
        }
    }

    /// The revision of the new set, on the set and on the deployment.
    async fn mark_revision(&self, deployment: &Object, sets: &Sets) -> Result<(), Error> {
        let Some(new) = &sets.new else { return Ok(()) };
        let highest = sets
            .old
            .iter()
            .map(|set| revision_of(set))
            .max()
            .unwrap_or(0);
        let own = revision_of(new);
        let revision = if own > highest { own } else { highest + 1 };
        let text = revision.to_string();
        let api = self.cluster.api();
        if own != revision {
            let patch = json!({"metadata": {"annotations": {sets::REVISION: text}}});
            api.merge_patch(
                &resources::replica_sets(),
                &new.key(),
                Subresource::None,
                &patch,
            )
            .await?;
        }
        if deployment.annotation(sets::REVISION) != Some(text.as_str()) {
            let patch = json!({"metadata": {"annotations": {sets::REVISION: text}}});
            // Through the status, as upstream: a change of the object itself would be a new generation.
            api.merge_patch(
                &resources::deployments(),
                &deployment.key(),
                Subresource::Status,
                &patch,
            )
            .await?;
        }
        Ok(())
    }

    async fn scale(&self, deployment: &Object, scale: &Scale) -> Result<(), Error> {
        let set = &scale.set;
        let from = object::number(set.value(), &["spec", "replicas"]).unwrap_or(0);
        let patch = json!({
            "metadata": {"resourceVersion": set.resource_version(), "annotations": scale.annotations},
            "spec": {"replicas": scale.to},
        });
        let outcome = self
            .cluster
            .api()
            .merge_patch(
                &resources::replica_sets(),
                &set.key(),
                Subresource::None,
                &patch,
            )
            .await;
        match outcome {
            Ok(_) => {
                if from != scale.to {
                    let way = if scale.to > from { "up" } else { "down" };
                    let text = format!(
                        "Scaled {way} replica set {} from {from} to {}",
                        set.name(),
                        scale.to
                    );
                    self.recorder.normal(deployment, "ScalingReplicaSet", text);
                }
                Ok(())
            }
            // Decided on an old state; the new one is on its way.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
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
        let mut old: Vec<&Arc<Object>> = sets.old.iter().filter(empty).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| revision_of(set));
        for set in old.into_iter().take(surplus) {
            let options = DeleteOptions::of_uid(set.uid());
            self.cluster
                .api()
                .delete(&resources::replica_sets(), &set.key(), &options)
                .await?;
        }
        Ok(())
    }

    async fn report(&self, deployment: &Object, sets: &Sets) -> Result<Outcome, Error> {
        let (status, wait) = status::status_of(deployment, sets, self.cluster.now());
        if status != *deployment.status() {
            let mut new = deployment.value().clone();
            new["status"] = status;
            match self
                .cluster
                .api()
                .update_status(&resources::deployments(), &new)
                .await
            {
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(wait.map_or(Outcome::Done, |wait: Duration| Outcome::RequeueAfter(wait)))
    }
}
