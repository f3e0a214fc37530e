//! A provisioner of volumes that are directories of a node.
//!
//! A StorageClass with the provisioner `corvus.dev/local-path` makes it work. Its volumes are on the node the scheduler
//! has chosen (`volumeBindingMode: WaitForFirstConsumer`) or, bound at once, on any. They go with their claims where the
//! class says `Delete`, and grow where it says `allowVolumeExpansion`. Parameters: `path`, the directory the volumes'
//! directories are in.
//!
//! Left out: the directories themselves, which the kubelet of the node makes (`DirectoryOrCreate`); what is in them stays
//! when a volume goes.

use controller::{
    Backoff, DeleteOptions, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, condition, enqueue, format_time,
};
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::{Error, looked_at};
use crate::persistent_volume::{
    BIND_COMPLETED, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, class, size,
};
use crate::resources;

/// The provisioner's name.
pub const NAME: &str = "corvus.dev/local-path";
/// Where volumes are unless the class says so.
const DIRECTORY: &str = "/var/lib/corvus/volumes";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("localpathprovisioner", Backoff::default());
    let volumes = cluster.informer(&resources::persistent_volumes());
    let claims = cluster.informer(&resources::persistent_volume_claims());
    let classes = cluster.informer(&resources::storage_classes());
    let _claim_handler = claims.add_handler(enqueue::object(&queue));
    let _volume_handler = volumes.add_handler(enqueue::object(&queue));
    let informers = vec![volumes.clone(), claims.clone(), classes.clone()];
    let reconciler = LocalPath {
        recorder: cluster.recorder(NAME),
        cluster: cluster.clone(),
        volumes,
        claims,
        classes,
    };
    let name = "localpathprovisioner";
    cluster.drive(name, queue, reconciler, informers).await;
}

struct LocalPath {
    cluster: Cluster,
    volumes: Informer,
    claims: Informer,
    classes: Informer,
    recorder: EventRecorder,
}

impl Reconciler for LocalPath {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let outcome = if key.namespace().is_some() {
            match self.claims.get(key) {
                Some(claim) if claim.annotation(BIND_COMPLETED).is_some() => {
                    self.grow(&claim).await
                }
                Some(claim) => self.provision(&claim).await,
                None => Ok(()),
            }
        } else {
            match self.volumes.get(key) {
                Some(volume) => self.reclaim(&volume).await,
                None => Ok(()),
            }
        };
        looked_at(outcome)
    }
}

/// The volume for a claim. Pure.
fn volume(claim: &Object, class: &Object) -> Value {
    let name = format!("pvc-{}", claim.uid());
    let directory = match object::text(class.value(), &["parameters", "path"]) {
        "" => DIRECTORY,
        path => path.trim_end_matches('/'),
    };
    let policy = match object::text(class.value(), &["reclaimPolicy"]) {
        "" => "Delete",
        policy => policy,
    };
    let namespace = claim.namespace().unwrap_or_default();
    let mut spec = json!({
        "accessModes": claim.value()["spec"]["accessModes"],
        "capacity": {"storage": claim.value()["spec"]["resources"]["requests"]["storage"]},
        "claimRef": {
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace,
            "name": claim.name(), "uid": claim.uid(), "resourceVersion": claim.resource_version(),
        },
        "hostPath": {
            "path": format!("{directory}/{name}_{namespace}_{}", claim.name()),
            "type": "DirectoryOrCreate",
        },
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": class.name(),
        "volumeMode": "Filesystem",
    });
    let options = object::list(class.value(), &["mountOptions"]);
    if !options.is_empty() {
        spec["mountOptions"] = json!(options);
    }
    if let Some(node) = claim.annotation(SELECTED_NODE) {
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{
            "key": "kubernetes.io/hostname", "operator": "In", "values": [node],
        }]}]}});
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: NAME}},
        "spec": spec,
    })
}

impl LocalPath {
    /// Makes the volume of a claim that waits for one.
    async fn provision(&self, claim: &Object) -> Result<(), Error> {
        let unnamed = object::text(claim.value(), &["spec", "volumeName"]).is_empty();
        if claim.annotation(PROVISIONER) != Some(NAME) || claim.is_terminating() || !unnamed {
            return Ok(());
        }
        let Some(class) = self.classes.get(&ObjectKey::cluster(class(claim))) else {
            return Ok(());
        };
        let late = object::text(class.value(), &["volumeBindingMode"]) == "WaitForFirstConsumer";
        if late && claim.annotation(SELECTED_NODE).is_none() {
            return Ok(());
        }
        if object::text(claim.value(), &["spec", "volumeMode"]) == "Block" {
            let text = format!(
                "failed to provision volume with StorageClass {:?}: block volumes are no directories",
                class.name()
            );
            self.recorder.warning(claim, "ProvisioningFailed", text);
            return Ok(());
        }
        let wanted = volume(claim, &class);
        let name = object::name(&wanted).to_owned();
        if self.volumes.get(&ObjectKey::cluster(&name)).is_some() {
            return Ok(());
        }
        let api = self.cluster.api();
        match api.create(&resources::persistent_volumes(), &wanted).await {
            Ok(_) => {
                let text = format!("Successfully provisioned volume {name}");
                self.recorder.normal(claim, "ProvisioningSucceeded", text);
                Ok(())
            }
            // Its name is the claim's: an earlier attempt made it.
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let text = format!(
                    "failed to provision volume with StorageClass {:?}: {}",
                    class.name(),
                    error.message()
                );
                self.recorder.warning(claim, "ProvisioningFailed", text);
                Err(error.into())
            }
        }
    }

    /// Removes a volume nobody needs any more.
    async fn reclaim(&self, volume: &Object) -> Result<(), Error> {
        let ours = volume.annotation(PROVISIONED_BY) == Some(NAME);
        let policy = object::text(volume.value(), &["spec", "persistentVolumeReclaimPolicy"]);
        let released = object::text(volume.status(), &["phase"]) == "Released";
        if !ours || !released || policy != "Delete" || volume.is_terminating() {
            return Ok(());
        }
        let options = DeleteOptions::of_uid(volume.uid());
        let api = self.cluster.api();
        api.delete(&resources::persistent_volumes(), &volume.key(), &options)
            .await?;
        Ok(())
    }

    /// Makes a volume as large as its claim asks: first the volume, then what the claim says.
    async fn grow(&self, claim: &Object) -> Result<(), Error> {
        let name = object::text(claim.value(), &["spec", "volumeName"]);
        let key = ObjectKey::cluster(name);
        let Some(volume) = self.volumes.get(&key) else {
            return Ok(());
        };
        let ours = volume.annotation(PROVISIONED_BY) == Some(NAME);
        let bound = object::text(claim.status(), &["phase"]) == "Bound";
        let wanted = size(claim, &["spec", "resources", "requests", "storage"]);
        let has = size(claim, &["status", "capacity", "storage"]);
        if !ours || !bound || claim.is_terminating() || wanted <= has {
            return Ok(());
        }
        let api = self.cluster.api();
        let told = claim.value()["spec"]["resources"]["requests"]["storage"].clone();
        if size(&volume, &["spec", "capacity", "storage"]) < wanted {
            let status = resizing(claim, self.cluster.now());
            if status != *claim.status() {
                // Its event brings the next step.
                self.recorder.normal(
                    claim,
                    "Resizing",
                    format!("External resizer is resizing volume {name}"),
                );
                return self.status(claim, status).await;
            }
            let mut updated = volume.value().clone();
            updated["spec"]["capacity"]["storage"] = told.clone();
            api.update(&resources::persistent_volumes(), &updated)
                .await?;
        }
        let mut status = claim.status().clone();
        condition::remove(&mut status, "Resizing");
        status["capacity"]["storage"] = told;
        self.status(claim, status).await?;
        self.recorder
            .normal(claim, "VolumeResizeSuccessful", "Resize volume succeeded");
        Ok(())
    }

    async fn status(&self, claim: &Object, status: Value) -> Result<(), Error> {
        let mut updated = claim.value().clone();
        updated["status"] = status;
        let resource = resources::persistent_volume_claims();
        self.cluster
            .api()
            .update_status(&resource, &updated)
            .await?;
        Ok(())
    }
}

/// The status of a claim whose volume grows.
fn resizing(claim: &Object, now: Timestamp) -> Value {
    let mut status = claim.status().clone();
    if condition::is_true(&status, "Resizing") {
        return status;
    }
    let mut conditions = object::list(&status, &["conditions"]).to_vec();
    conditions.push(json!({
        "type": "Resizing", "status": "True", "lastProbeTime": null, "lastTransitionTime": format_time(now),
    }));
    status["conditions"] = json!(conditions);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_after_its_claim_and_class() {
        let claim = Object::new(json!({
            "metadata": {"name": "data", "namespace": "n", "uid": "u", "annotations": {SELECTED_NODE: "node-1"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        }));
        let class = Object::new(json!({
            "metadata": {"name": "local"}, "reclaimPolicy": "Retain", "parameters": {"path": "/data/"},
        }));
        let made = volume(&claim, &class);
        assert_eq!(made["metadata"]["name"], "pvc-u");
        assert_eq!(made["spec"]["hostPath"]["path"], "/data/pvc-u_n_data");
        assert_eq!(made["spec"]["capacity"]["storage"], "2Gi");
        assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        let term = &made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0];
        assert_eq!(term["matchExpressions"][0]["values"], json!(["node-1"]));
    }
}
