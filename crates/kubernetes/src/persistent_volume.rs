//! Volumes and claims: a claim is bound to the smallest volume that fits, and both say so.
//!
//! [`plan`] decides from one claim or volume and what the caches show; this file carries out. Making volumes for claims
//! and taking released ones apart is a provisioner's work: [`local_path`](crate::local_path) is one, a claim of another's
//! class is told to it by annotation, as upstream does.
//!
//! Left out: `Recycle`, which upstream gave up, and volumes of plugins upstream still has in its own code.

mod plan;

use std::sync::Arc;

use controller::{
    Backoff, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue,
    index,
};
use model::object;
use serde_json::{Value, json};

use self::plan::{ClaimPlan, VolumePlan, claim_key, claim_ref, names_claim};
use crate::cluster::Cluster;
use crate::error::{Error, looked_at};
use crate::resources;

pub use self::plan::{BIND_COMPLETED, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, class, size};

const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Volumes by the claims they are meant for.
const BY_CLAIM: &str = "claim";
/// Claims that are not bound.
const UNBOUND: &str = "unbound";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("persistentvolumebinder", Backoff::default());
    let volumes = cluster.informer(&resources::persistent_volumes());
    let claims = cluster.informer(&resources::persistent_volume_claims());
    let classes = cluster.informer(&resources::storage_classes());
    let pods = cluster.informer(&resources::pods());
    pods.add_namespace_index();
    volumes.add_index(BY_CLAIM, |volume| {
        claim_key(volume)
            .map(|key| key.to_string())
            .into_iter()
            .collect()
    });
    claims.add_index(UNBOUND, |claim| {
        let bound = claim.annotation(BIND_COMPLETED).is_some();
        (!bound).then(|| "yes".to_owned()).into_iter().collect()
    });
    let _volume_handler = volumes.add_handler(enqueue::object(&queue));
    let _claim_handler = claims.add_handler(enqueue::object(&queue));
    // What a volume is free for, and what a claim is waiting for, shows in the other's change.
    let (waiting, woken) = (claims.clone(), queue.clone());
    let _free_handler = volumes.add_handler(move |event| {
        let volume = event.object();
        if let Some(key) = claim_key(volume) {
            woken.add(key);
        } else {
            for claim in waiting.by_index(UNBOUND, "yes") {
                woken.add(claim.key());
            }
        }
    });
    let (held, woken) = (volumes.clone(), queue.clone());
    let _held_handler = claims.add_handler(move |event| {
        let key = event.object().key().to_string();
        for volume in held.by_index(BY_CLAIM, &key) {
            woken.add(volume.key());
        }
    });
    let (waiting, woken) = (claims.clone(), queue.clone());
    let _class_handler = classes.add_handler(move |_| {
        for claim in waiting.by_index(UNBOUND, "yes") {
            woken.add(claim.key());
        }
    });
    let informers = vec![
        volumes.clone(),
        claims.clone(),
        classes.clone(),
        pods.clone(),
    ];
    let reconciler = Binder {
        recorder: cluster.recorder("persistentvolume-controller"),
        cluster: cluster.clone(),
        volumes,
        claims,
        classes,
        pods,
    };
    let name = "persistentvolumebinder";
    cluster.drive(name, queue, reconciler, informers).await;
}

struct Binder {
    cluster: Cluster,
    volumes: Informer,
    claims: Informer,
    classes: Informer,
    pods: Informer,
    recorder: EventRecorder,
}

impl Reconciler for Binder {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let outcome = if key.namespace().is_some() {
            match self.claims.get(key) {
                Some(claim) => self.claim(&claim).await,
                None => Ok(()),
            }
        } else {
            match self.volumes.get(key) {
                Some(volume) => self.volume(&volume).await,
                None => Ok(()),
            }
        };
        looked_at(outcome)
    }
}

impl Binder {
    async fn claim(&self, claim: &Object) -> Result<(), Error> {
        let class = self.classes.get(&ObjectKey::cluster(class(claim)));
        let default = || {
            let mut defaults = self.classes.list();
            defaults.retain(|class| class.annotation(DEFAULT_CLASS) == Some("true"));
            // As upstream: the youngest of several.
            defaults.sort_by_key(|class| class.creation_timestamp().to_owned());
            defaults.last().map(|class| class.name().to_owned())
        };
        let wanted = object::text(claim.value(), &["spec", "volumeName"]);
        let requested = self.volumes.get(&ObjectKey::cluster(wanted));
        let decided = plan::claim(
            claim,
            class.as_deref(),
            requested.as_deref(),
            default,
            || self.volumes.list(),
        );
        match decided {
            ClaimPlan::Keep => Ok(()),
            ClaimPlan::Bind(volume) => self.bind(&volume, claim).await,
            ClaimPlan::Wait {
                warning,
                reason,
                message,
            } => {
                let tell = if warning {
                    EventRecorder::warning
                } else {
                    EventRecorder::normal
                };
                tell(&self.recorder, claim, reason, message);
                self.phase(claim, "Pending").await
            }
            ClaimPlan::WaitForPods => {
                let (reason, message) = self.consumers(claim);
                self.recorder.normal(claim, reason, message);
                self.phase(claim, "Pending").await
            }
            ClaimPlan::Class(class) => {
                let mut updated = claim.value().clone();
                updated["spec"]["storageClassName"] = json!(class);
                self.update_claim(&updated).await.map(drop)
            }
            ClaimPlan::Provision(provisioner) => self.provision(claim, &provisioner).await,
            ClaimPlan::Lost { reason, message } => {
                if object::text(claim.status(), &["phase"]) != "Lost" {
                    self.phase(claim, "Lost").await?;
                    self.recorder.warning(claim, reason, message);
                }
                Ok(())
            }
        }
    }

    async fn update_claim(&self, claim: &Value) -> Result<Object, Error> {
        let resource = resources::persistent_volume_claims();
        Ok(self.cluster.api().update(&resource, claim).await?)
    }

    /// Asks a provisioner for a volume.
    async fn provision(&self, claim: &Object, provisioner: &str) -> Result<(), Error> {
        if claim.annotation(PROVISIONER) != Some(provisioner) {
            let mut updated = claim.value().clone();
            for key in [PROVISIONER, BETA_PROVISIONER] {
                updated["metadata"]["annotations"][key] = json!(provisioner);
            }
            self.update_claim(&updated).await?;
        }
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.recorder.normal(claim, "ExternalProvisioning", text);
        Ok(())
    }

    /// Whom a claim waits for that is bound only once a Pod needs it.
    fn consumers(&self, claim: &Object) -> (&'static str, String) {
        let namespace = claim.namespace().unwrap_or_default();
        let uses = |pod: &Arc<Object>| {
            let volumes = object::list(pod.value(), &["spec", "volumes"]).iter();
            let path = ["persistentVolumeClaim", "claimName"];
            volumes
                .map(|v| object::text(v, &path))
                .any(|name| name == claim.name())
        };
        let mut pods = self.pods.by_index(index::NAMESPACE, namespace);
        pods.retain(|pod| object::text(pod.value(), &["spec", "nodeName"]).is_empty() && uses(pod));
        let mut names: Vec<&str> = pods.iter().map(|pod| pod.name()).collect();
        names.sort_unstable();
        match names.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [one] => (
                "WaitForPodScheduled",
                format!("waiting for pod {one} to be scheduled"),
            ),
            more => (
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", more.join(",")),
            ),
        }
    }

    /// First the volume, so that no two claims get it; then the claim; then both say so.
    async fn bind(&self, volume: &Object, claim: &Object) -> Result<(), Error> {
        let api = self.cluster.api();
        let known = claim_ref(volume).is_some_and(|own| object::text(own, &["uid"]) == claim.uid());
        if !known {
            let mut updated = volume.value().clone();
            updated["spec"]["claimRef"] = json!({
                "kind": "PersistentVolumeClaim", "apiVersion": "v1",
                "namespace": claim.namespace(), "name": claim.name(),
                "uid": claim.uid(), "resourceVersion": claim.resource_version(),
            });
            if claim_ref(volume).is_none() {
                annotate(&mut updated, BOUND_BY_CONTROLLER);
            }
            api.update(&resources::persistent_volumes(), &updated)
                .await?;
        }
        let mut bound = claim.value().clone();
        let named = object::text(&bound, &["spec", "volumeName"]) == volume.name();
        if !named || object::annotation(&bound, BIND_COMPLETED).is_none() {
            if !named {
                annotate(&mut bound, BOUND_BY_CONTROLLER);
            }
            annotate(&mut bound, BIND_COMPLETED);
            bound["spec"]["volumeName"] = json!(volume.name());
            bound = self.update_claim(&bound).await?.into_value();
        }
        let mut status = object::at(&bound, &["status"])
            .cloned()
            .unwrap_or_else(|| json!({}));
        status["phase"] = json!("Bound");
        status["accessModes"] = volume.value()["spec"]["accessModes"].clone();
        // What a resizer has told stays; the volume may be larger already.
        if object::text(claim.status(), &["phase"]) != "Bound" {
            status["capacity"] = volume.value()["spec"]["capacity"].clone();
        }
        self.status(&Object::new(bound), status).await
    }

    async fn phase(&self, claim: &Object, phase: &str) -> Result<(), Error> {
        let mut status = claim.status().clone();
        if status.is_null() {
            status = json!({});
        }
        status["phase"] = json!(phase);
        if phase != "Bound"
            && let Some(fields) = status.as_object_mut()
        {
            fields.remove("accessModes");
            fields.remove("capacity");
        }
        self.status(claim, status).await
    }

    async fn status(&self, claim: &Object, status: Value) -> Result<(), Error> {
        if status == *claim.status() {
            return Ok(());
        }
        let mut updated = claim.value().clone();
        updated["status"] = status;
        let resource = resources::persistent_volume_claims();
        self.cluster
            .api()
            .update_status(&resource, &updated)
            .await?;
        Ok(())
    }

    async fn volume(&self, volume: &Object) -> Result<(), Error> {
        let claim = self.claim_of(volume).await?;
        match plan::volume(volume, claim.as_ref()) {
            VolumePlan::Phase(phase) => self.volume_phase(volume, phase, None).await,
            VolumePlan::Failed { reason, message } => {
                if object::text(volume.status(), &["phase"]) != "Failed" {
                    self.volume_phase(volume, "Failed", Some(message)).await?;
                    self.recorder.warning(volume, reason, message);
                }
                Ok(())
            }
            VolumePlan::Unbind { forget } => {
                let mut updated = volume.value().clone();
                if forget {
                    object::child_mut(&mut updated, "spec").remove("claimRef");
                    if let Some(annotations) = updated
                        .pointer_mut("/metadata/annotations")
                        .and_then(Value::as_object_mut)
                    {
                        annotations.remove(BOUND_BY_CONTROLLER);
                    }
                } else if let Some(own) = updated
                    .pointer_mut("/spec/claimRef")
                    .and_then(Value::as_object_mut)
                {
                    own.remove("uid");
                    own.remove("resourceVersion");
                }
                let api = self.cluster.api();
                api.update(&resources::persistent_volumes(), &updated)
                    .await?;
                Ok(())
            }
            VolumePlan::Mismatch(claim) => {
                let text = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim:?} due to incompatible volumeMode."
                );
                self.recorder.warning(volume, "VolumeMismatch", text);
                Ok(())
            }
            VolumePlan::Keep => Ok(()),
        }
    }

    /// The claim a volume is bound to. The server is asked before a volume is given up: the claim may be younger than the
    /// cache.
    async fn claim_of(&self, volume: &Object) -> Result<Option<Object>, Error> {
        let Some(key) = claim_key(volume) else {
            return Ok(None);
        };
        if let Some(claim) = self
            .claims
            .get(&key)
            .filter(|claim| names_claim(volume, claim))
        {
            return Ok(Some((*claim).clone()));
        }
        let phase = object::text(volume.status(), &["phase"]);
        if matches!(phase, "Released" | "Failed") {
            return Ok(None);
        }
        let resource = resources::persistent_volume_claims();
        let found = self.cluster.api().get_opt(&resource, &key).await?;
        Ok(found.filter(|claim| names_claim(volume, claim)))
    }

    async fn volume_phase(
        &self,
        volume: &Object,
        phase: &str,
        message: Option<&str>,
    ) -> Result<(), Error> {
        if object::text(volume.status(), &["phase"]) == phase {
            return Ok(());
        }
        let mut updated = volume.value().clone();
        let status = object::child_mut(&mut updated, "status");
        status.insert("phase".to_owned(), json!(phase));
        match message {
            Some(message) => status.insert("message".to_owned(), json!(message)),
            None => status.remove("message"),
        };
        let resource = resources::persistent_volumes();
        self.cluster
            .api()
            .update_status(&resource, &updated)
            .await?;
        Ok(())
    }
}

fn annotate(object: &mut Value, key: &str) {
    object["metadata"]["annotations"][key] = json!("yes");
}
