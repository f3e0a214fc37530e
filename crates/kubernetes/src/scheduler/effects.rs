//! What a decision writes: bindings, claims and volumes, conditions, evictions.

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Api, DeleteOptions, Error, EventRecorder, Informer, Object, Subresource, condition,
};
use model::object;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::pod_info::PodInfo;
use super::preemption::{Eviction, PREEMPTED};
use super::volumes::{Needs, SELECTED_NODE};
use crate::cluster::Cluster;
use crate::resources;

/// How long volumes may take to be made and bound.
const VOLUMES_LIMIT: Duration = Duration::from_mins(10);
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Writes.
#[derive(Clone)]
pub struct Effects {
    /// The cluster.
    pub cluster: Cluster,
    /// Events.
    pub recorder: EventRecorder,
    /// Claims, which are watched until they are bound.
    pub claims: Informer,
    /// Told whenever a claim changes.
    pub claims_changed: Arc<Notify>,
}

/// Why a Pod was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] Error),
    /// Its volumes are not to be had.
    #[error("{0}")]
    Volumes(String),
}

impl BindError {
    /// Whether the Pod has gone or has changed: no error, the newer state is on its way.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_not_found() || error.is_conflict())
    }
}

impl Effects {
    fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// Sees to a Pod's volumes, then binds it.
    pub async fn bind(&self, pod: &PodInfo, node: &str, needs: &Needs) -> Result<(), BindError> {
        if !needs.is_empty() {
            self.prepare(node, needs).await?;
            let bound = tokio::time::timeout(VOLUMES_LIMIT, self.volumes_bound(node, needs));
            match bound.await {
                Ok(outcome) => outcome.map_err(BindError::Volumes)?,
                Err(_) => {
                    let why = "binding volumes: timed out waiting for the condition".to_owned();
                    return Err(BindError::Volumes(why));
                }
            }
        }
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid()},
            "target": {"kind": "Node", "name": node},
        });
        self.api()
            .create_subresource(&resources::pods(), &pod.key, "binding", &binding)
            .await?;
        let text = format!("Successfully assigned {} to {node}", pod.key);
        self.recorder.normal(&pod.object, "Scheduled", text);
        Ok(())
    }

    /// Writes which volumes and nodes the claims get.
    async fn prepare(&self, node: &str, needs: &Needs) -> Result<(), Error> {
        for (volume, claim) in &needs.bind {
            let patch = json!({
                "metadata": {
                    "resourceVersion": volume.resource_version(),
                    "annotations": {BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "name": claim.name(),
                    "namespace": claim.namespace(),
                    "uid": claim.uid(),
                    "resourceVersion": claim.resource_version(),
                }},
            });
            let volumes = resources::persistent_volumes();
            let key = volume.key();
            self.api()
                .merge_patch(&volumes, &key, Subresource::None, &patch)
                .await?;
        }
        for claim in &needs.provision {
            if claim.annotation(SELECTED_NODE) == Some(node) {
                continue;
            }
            let patch = json!({"metadata": {
                "uid": claim.uid(),
                "annotations": {SELECTED_NODE: node},
            }});
            let claims = resources::persistent_volume_claims();
            self.api()
                .merge_patch(&claims, &claim.key(), Subresource::None, &patch)
                .await?;
        }
        Ok(())
    }

    /// Waits until all claims are bound.
    async fn volumes_bound(&self, node: &str, needs: &Needs) -> Result<(), String> {
        let (mut selected, all) = (false, needs.bind.iter().map(|(_, claim)| claim));
        let all: Vec<&Arc<Object>> = all.chain(&needs.provision).collect();
        loop {
            // Registered before looking, so that no change is missed.
            let changed = self.claims_changed.notified();
            let mut waiting = false;
            for claim in &all {
                let Some(current) = self.claims.get(&claim.key()) else {
                    return Err(format!(
                        "persistentvolumeclaim {:?} not found",
                        claim.name()
                    ));
                };
                let bound = !object::text(current.spec(), &["volumeName"]).is_empty()
                    && current.annotation(BIND_COMPLETED).is_some();
                waiting |= !bound;
            }
            for claim in &needs.provision {
                let current = self.claims.get(&claim.key());
                let here = current
                    .as_ref()
                    .is_some_and(|claim| claim.annotation(SELECTED_NODE) == Some(node));
                // Taken back by the provisioner once it was there: it cannot be made for this node.
                if selected && !here {
                    return Err(format!("provisioning failed for PVC {:?}", claim.name()));
                }
                selected |= here && needs.provision.len() == 1;
            }
            if !waiting {
                return Ok(());
            }
            changed.await;
        }
    }

    /// A Pod as it is now, asked for rather than remembered.
    pub async fn current(&self, pod: &PodInfo) -> Result<Option<Arc<Object>>, Error> {
        let found = self.api().get_opt(&resources::pods(), &pod.key).await?;
        Ok(found.map(Arc::new))
    }

    /// Says on a Pod that it has no node, and why.
    pub async fn report(
        &self,
        pod: &PodInfo,
        reason: &str,
        message: &str,
        nominated: &str,
    ) -> Result<(), Error> {
        let object = &pod.object;
        self.recorder.warning(object, "FailedScheduling", message);
        let old = condition::find(object.status(), "PodScheduled");
        let text = |name: &str| old.map_or("", |old| object::text(old, &[name]));
        let unchanged = text("status") == "False"
            && text("reason") == reason
            && text("message") == message
            && pod.nominated_node() == nominated;
        if unchanged {
            return Ok(());
        }
        let since = match (text("status"), text("lastTransitionTime")) {
            ("False", since) if !since.is_empty() => since.to_owned(),
            _ => self.cluster.timestamp(),
        };
        let mut condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": since,
        });
        if object.generation() > 0 {
            condition["observedGeneration"] = json!(object.generation());
        }
        let mut status = json!({"conditions": [condition]});
        if pod.nominated_node() != nominated {
            status["nominatedNodeName"] = match nominated {
                "" => Value::Null,
                node => json!(node),
            };
        }
        self.patch_status(object, status).await
    }

    /// Takes the hope for a node from a Pod.
    pub async fn clear_nomination(&self, pod: &PodInfo) -> Result<(), Error> {
        if pod.nominated_node().is_empty() {
            return Ok(());
        }
        let status = json!({"nominatedNodeName": null});
        self.patch_status(&pod.object, status).await
    }

    async fn patch_status(&self, pod: &Object, status: Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        let pods = resources::pods();
        let key = pod.key();
        let outcome = self
            .api()
            .strategic_patch(&pods, &key, Subresource::Status, &patch)
            .await;
        match outcome {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Evicts Pods for another.
    pub async fn evict(&self, pod: &PodInfo, eviction: &Eviction) -> Result<(), Error> {
        let scheduler = match object::text(pod.object.spec(), &["schedulerName"]) {
            "" => super::NAME,
            name => name,
        };
        for victim in &eviction.victims {
            if victim.is_terminating {
                continue;
            }
            let mut condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": PREEMPTED,
                "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
                "lastProbeTime": null,
                "lastTransitionTime": self.cluster.timestamp(),
            });
            if victim.object.generation() > 0 {
                condition["observedGeneration"] = json!(victim.object.generation());
            }
            let status = json!({"conditions": [condition]});
            self.patch_status(&victim.object, status).await?;
            let pods = resources::pods();
            let options = DeleteOptions::of_uid(victim.uid());
            match self.api().delete(&pods, &victim.key, &options).await {
                // Another Pod of that name is not the one.
                Err(error) if error.is_conflict() => continue,
                outcome => drop(outcome?),
            }
            let text = format!("Preempted by pod {} on node {}", pod.uid(), eviction.node);
            self.recorder.normal(&victim.object, "Preempted", text);
        }
        Ok(())
    }
}
