//! Volumes and claims: a claim is bound to the smallest volume that fits, and both say so.
//!
//! Left out: making volumes for claims and taking deleted ones apart (`Delete`, `Recycle`), which are a
//! provisioner's work; a claim whose class has one waits for it.

use std::sync::Arc;

use controller::{Backoff, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue};
use model::{LabelSelector, Quantity, object};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("persistentvolumebinder", Backoff::default());
    let volumes = cluster.informer(&resources::persistent_volumes());
    let claims = cluster.informer(&resources::persistent_volume_claims());
    let _volume_handler = volumes.add_handler(enqueue::object(&queue));
    let _claim_handler = claims.add_handler(enqueue::object(&queue));
    // What a volume is free for, and what a claim is waiting for, shows in the other's change.
    let (waiting, waiting_queue) = (claims.clone(), queue.clone());
    let _free_handler = volumes.add_handler(move |_| {
        for claim in waiting.list() {
            if object::text(claim.value(), &["status", "phase"]) != "Bound" {
                waiting_queue.add(claim.key());
            }
        }
    });
    let (held, held_queue) = (volumes.clone(), queue.clone());
    let _claim_of_handler = claims.add_handler(move |event| {
        let claim = event.object();
        for volume in held.list() {
            if names_claim(&volume, claim) {
                held_queue.add(volume.key());
            }
        }
    });
    let reconciler = Binder {
        cluster: cluster.clone(),
        volumes: volumes.clone(),
        claims: claims.clone(),
    };
    cluster
        .drive(
            "persistentvolumebinder",
            queue,
            reconciler,
            vec![volumes, claims],
        )
        .await;
}

struct Binder {
    cluster: Cluster,
    volumes: Informer,
    claims: Informer,
}

impl Reconciler for Binder {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        if key.namespace().is_some() {
            if let Some(claim) = self.claims.get(key) {
                self.claim(&claim).await?;
            }
        } else if let Some(volume) = self.volumes.get(key) {
            self.volume(&volume).await?;
        }
        Ok(Outcome::Done)
    }
}

fn claim_ref(volume: &Object) -> Option<&Value> {
    volume
        .get(&["spec", "claimRef"])
        .filter(|own| own.is_object())
}

/// Whether a volume is meant for a claim; it may not know yet which of that name.
fn names_claim(volume: &Object, claim: &Object) -> bool {
    claim_ref(volume).is_some_and(|own| {
        let uid = object::text(own, &["uid"]);
        object::text(own, &["name"]) == claim.name()
            && Some(object::text(own, &["namespace"])) == claim.namespace()
            && (uid.is_empty() || uid == claim.uid())
    })
}

/// The class of a volume or claim; an annotation was the way to name it once.
fn class(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::text(object.value(), &["spec", "storageClassName"]))
}

fn size(object: &Object, path: &[&str]) -> Quantity {
    let text = object::text(object.value(), path);
    text.parse().unwrap_or_else(|_| Quantity::from_units(0))
}

/// Whether a volume that is free, or meant for the claim, fits it.
fn fits(volume: &Object, claim: &Object) -> bool {
    let modes = |object: &Object| object::list(object.value(), &["spec", "accessModes"]).to_vec();
    let mode = |object: &Object| match object::text(object.value(), &["spec", "volumeMode"]) {
        "" => "Filesystem".to_owned(),
        mode => mode.to_owned(),
    };
    let selector = claim
        .get(&["spec", "selector"])
        .filter(|own| own.is_object());
    let selected = selector.is_none_or(|selector| {
        LabelSelector::from_object(Some(selector))
            .is_ok_and(|selector| selector.matches(object::labels(volume.value())))
    });
    let offered = modes(volume);
    !volume.is_terminating()
        && (claim_ref(volume).is_none() || names_claim(volume, claim))
        && class(volume) == class(claim)
        && mode(volume) == mode(claim)
        && modes(claim).iter().all(|wanted| offered.contains(wanted))
        && size(volume, &["spec", "capacity", "storage"])
            >= size(claim, &["spec", "resources", "requests", "storage"])
        && selected
}

/// The volume a claim gets: the one meant for it, else the smallest that fits. Pure.
fn choose<'a>(volumes: &'a [Arc<Object>], claim: &Object) -> Option<&'a Arc<Object>> {
    let capacity = |volume: &Object| size(volume, &["spec", "capacity", "storage"]);
    volumes
        .iter()
        .filter(|volume| fits(volume, claim))
        .min_by(|a, b| {
            names_claim(b, claim)
                .cmp(&names_claim(a, claim))
                .then_with(|| capacity(a).cmp(&capacity(b)))
                .then_with(|| a.name().cmp(b.name()))
        })
}

impl Binder {
    async fn volume(&self, volume: &Object) -> Result<(), Error> {
        let phase = self.phase_of(volume);
        if object::text(volume.value(), &["status", "phase"]) == phase {
            return Ok(());
        }
        let mut updated = volume.value().clone();
        object::child_mut(&mut updated, "status").insert("phase".to_owned(), json!(phase));
        let resource = resources::persistent_volumes();
        quietly(self.cluster.api().update_status(&resource, &updated).await)
    }

    fn phase_of(&self, volume: &Object) -> &'static str {
        let Some(own) = claim_ref(volume) else {
            return "Available";
        };
        let key = ObjectKey::new(
            object::text(own, &["namespace"]),
            object::text(own, &["name"]),
        );
        match self.claims.get(&key) {
            Some(claim) if names_claim(volume, &claim) => {
                let bound = object::text(claim.value(), &["spec", "volumeName"]) == volume.name();
                if bound { "Bound" } else { "Available" }
            }
            // Meant for a claim that is not there yet, or left behind by one that has gone.
            _ if object::text(own, &["uid"]).is_empty() => "Available",
            _ => "Released",
        }
    }

    async fn claim(&self, claim: &Object) -> Result<(), Error> {
        let wanted = object::text(claim.value(), &["spec", "volumeName"]);
        let volumes = self.volumes.list();
        let found = if wanted.is_empty() {
            if claim.is_terminating() {
                return Ok(());
            }
            choose(&volumes, claim)
        } else {
            volumes.iter().find(|volume| volume.name() == wanted)
        };
        let Some(volume) = found else {
            let known = object::text(claim.value(), &["status", "phase"]) == "Bound";
            return if known && !wanted.is_empty() {
                self.report(claim, json!({"phase": "Lost"})).await
            } else {
                Ok(())
            };
        };
        if claim_ref(volume).is_some() && !names_claim(volume, claim) {
            return Ok(());
        }
        self.bind(volume, claim).await
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
        let mut claim = claim.value().clone();
        let named = object::text(&claim, &["spec", "volumeName"]) == volume.name();
        if !named || object::annotation(&claim, BIND_COMPLETED).is_none() {
            if !named {
                annotate(&mut claim, BOUND_BY_CONTROLLER);
            }
            annotate(&mut claim, BIND_COMPLETED);
            claim["spec"]["volumeName"] = json!(volume.name());
            let resource = resources::persistent_volume_claims();
            claim = api.update(&resource, &claim).await?.into_value();
        }
        let status = json!({
            "phase": "Bound",
            "accessModes": volume.value()["spec"]["accessModes"],
            "capacity": volume.value()["spec"]["capacity"],
        });
        self.report(&Object::new(claim), status).await
    }

    async fn report(&self, claim: &Object, status: Value) -> Result<(), Error> {
        let mut updated = claim.value().clone();
        let own = object::child_mut(&mut updated, "status");
        for (name, value) in status.as_object().into_iter().flatten() {
            own.insert(name.clone(), value.clone());
        }
        if updated == *claim.value() {
            return Ok(());
        }
        let resource = resources::persistent_volume_claims();
        quietly(self.cluster.api().update_status(&resource, &updated).await)
    }
}

fn annotate(object: &mut Value, key: &str) {
    let annotations = object::metadata_mut(object)
        .entry("annotations")
        .or_insert_with(|| json!({}));
    annotations[key] = json!("yes");
}

/// What has gone in the meantime needs nothing more.
fn quietly<T>(outcome: Result<T, controller::Error>) -> Result<(), Error> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, size: &str, spec: Value) -> Arc<Object> {
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        object["spec"]["capacity"] = json!({"storage": size});
        object["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
        Arc::new(Object::new(object))
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let claim = Object::new(json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        }));
        let other = json!({"claimRef": {"name": "x", "namespace": "n"}});
        let volumes = [
            volume("big", "9Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("fit", "3Gi", json!({})),
            volume("classy", "2Gi", json!({"storageClassName": "a"})),
            volume("taken", "2Gi", other),
        ];
        let name = |volumes: &[Arc<Object>]| choose(volumes, &claim).map(|v| v.name().to_owned());
        assert_eq!(name(&volumes).as_deref(), Some("fit"));
        let meant = json!({"claimRef": {"name": "c", "namespace": "n"}});
        let volumes = [
            volume("fit", "3Gi", json!({})),
            volume("meant", "9Gi", meant),
        ];
        assert_eq!(name(&volumes).as_deref(), Some("meant"));
        assert_eq!(name(&volumes[..0]), None);
    }
}
