//! Carries the plans of stateful sets out: Pods, their claims, and events about both.

use std::sync::Arc;

use controller::{DeleteOptions, Error, EventRecorder, Expectations, Informer, Object, ObjectKey};
use model::object;
use serde_json::{Value, json};

use super::identity::{self, claim_names, claims, conforming, ordinal};
use super::retention;
use crate::cluster::Cluster;
use crate::resources;
use crate::settled::Settled;

/// Why a Pod or its claims could not be brought about.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request failed; what it was for.
    #[error("{what}{}", cause.message())]
    Request {
        /// What it was for, empty or with a colon.
        what: String,
        /// Why it failed.
        cause: Error,
    },
    /// A claim is going.
    #[error("pvc {0} is being deleted")]
    ClaimIsGoing(String),
}

impl From<Error> for Failure {
    fn from(cause: Error) -> Self {
        Self::Request {
            what: String::new(),
            cause,
        }
    }
}

/// What a set's expectations are kept under: another set of its name has its own.
pub fn expected_of(uid: &str) -> ObjectKey {
    ObjectKey::cluster(uid)
}

/// Makes, changes and deletes Pods and claims.
pub struct Control {
    cluster: Cluster,
    recorder: EventRecorder,
    claims: Informer,
    /// Deletions that have not been seen yet.
    pub expectations: Arc<Expectations>,
    /// What the caches have to show.
    pub settled: Settled,
}

impl Control {
    /// For all sets of a cluster.
    pub fn new(cluster: &Cluster, claims: Informer) -> Self {
        Self {
            cluster: cluster.clone(),
            recorder: cluster.recorder("statefulset-controller"),
            claims,
            expectations: Arc::new(Expectations::new()),
            settled: Settled::default(),
        }
    }

    /// The claims of a Pod that exist.
    fn claims_of(&self, set: &Object, ordinal: i64) -> impl Iterator<Item = Arc<Object>> {
        let namespace = set.namespace().unwrap_or_default().to_owned();
        let names = claim_names(set, ordinal).into_iter();
        names.filter_map(move |name| self.claims.get(&ObjectKey::new(namespace.clone(), name)))
    }

    /// Whether the claims of a Pod have the owners they should have; those that are missing do.
    pub fn claims_match(&self, set: &Object, pod: &Object) -> bool {
        let ordinal = ordinal(pod).unwrap_or_default();
        self.claims_of(set, ordinal)
            .all(|claim| retention::is_up_to_date(&claim, set, pod))
    }

    /// Whether a claim of an ordinal is about to go with an earlier Pod.
    pub fn is_blocked(&self, set: &Object, ordinal: i64) -> bool {
        let name = identity::pod_name(set, ordinal);
        let pod =
            Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}));
        self.claims_of(set, ordinal)
            .any(|claim| retention::blocks_creation(&claim, set, &pod))
    }

    /// Makes a Pod, its claims first.
    pub async fn create(&self, set: &Object, pod: &Value) -> Result<(), Failure> {
        let name = object::name(pod).to_owned();
        let number = identity::parent_and_ordinal(&name).map_or(0, |(_, ordinal)| ordinal);
        if let Err(failure) = self.create_claims(set, &name, number).await {
            return self.tell("Create", set, &name, Err(failure));
        }
        let created = self.cluster.api().create(&resources::pods(), pod).await;
        self.settled.note(&set.key(), &created);
        match created {
            // Its event is on its way.
            Err(error) if error.is_already_exists() => Err(error.into()),
            Err(error) => self.tell("Create", set, &name, Err(error.into())),
            Ok(created) => {
                if let Err(failure) = self.set_owners(set, &created).await {
                    return self.tell("Update", set, &name, Err(failure));
                }
                self.tell("Create", set, &name, Ok(()))
            }
        }
    }

    /// Makes the claims a Pod lacks, and gives them their owners.
    pub async fn make_claims(&self, set: &Object, pod: &Object) -> Result<(), Failure> {
        self.create_claims(set, pod.name(), ordinal(pod).unwrap_or_default())
            .await?;
        match self.set_owners(set, pod).await {
            Ok(()) => Ok(()),
            failed => self.tell("Update", set, pod.name(), failed),
        }
    }

    async fn create_claims(&self, set: &Object, pod: &str, ordinal: i64) -> Result<(), Failure> {
        for claim in claims(set, ordinal) {
            let name = object::name(&claim);
            let key = ObjectKey::new(set.namespace().unwrap_or_default(), name);
            if let Some(present) = self.claims.get(&key) {
                if present.is_terminating() {
                    return Err(Failure::ClaimIsGoing(name.to_owned()));
                }
                continue;
            }
            let api = self.cluster.api();
            let created = api
                .create(&resources::persistent_volume_claims(), &claim)
                .await;
            match created {
                Ok(_) => self.tell_claim(set, pod, name, None),
                Err(cause) => {
                    if !cause.is_already_exists() {
                        self.tell_claim(set, pod, name, Some(&cause));
                    }
                    let what = format!("failed to create PVC {name}: ");
                    return Err(Failure::Request { what, cause });
                }
            }
        }
        Ok(())
    }

    /// Gives the claims of a Pod the owners the retention policy wants.
    pub async fn set_owners(&self, set: &Object, pod: &Object) -> Result<(), Failure> {
        let number = ordinal(pod).unwrap_or_default();
        let due: Vec<Arc<Object>> = self.claims_of(set, number).collect();
        for claim in due {
            if retention::has_other_controller(&claim, set, pod) {
                let name = claim.name();
                let text = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                self.recorder.warning(set, "ConflictingController", text);
            }
            if retention::is_up_to_date(&claim, set, pod) {
                continue;
            }
            let mut new = claim.value().clone();
            new["metadata"]["ownerReferences"] = Value::Array(retention::owners(&claim, set, pod));
            let api = self.cluster.api();
            let updated = api
                .update(&resources::persistent_volume_claims(), &new)
                .await;
            updated.map_err(|cause| Failure::Request {
                what: format!(
                    "could not update claim {} for delete policy ownerRefs: ",
                    claim.name()
                ),
                cause,
            })?;
        }
        Ok(())
    }

    /// Gives a Pod and its claims what they should have.
    pub async fn conform(&self, set: &Object, pod: &Object) -> Result<(), Failure> {
        if !identity::storage_matches(set, pod)
            && let Err(failure) = self
                .create_claims(set, pod.name(), ordinal(pod).unwrap_or_default())
                .await
        {
            return self.tell("Update", set, pod.name(), Err(failure));
        }
        if let Err(failure) = self.set_owners(set, pod).await {
            return self.tell("Update", set, pod.name(), Err(failure));
        }
        let new = conforming(set, pod);
        if new == *pod.value() {
            return Ok(());
        }
        let updated = self.cluster.api().update(&resources::pods(), &new).await;
        self.settled.note(&set.key(), &updated);
        let outcome = updated.map(drop).map_err(Failure::from);
        self.tell("Update", set, pod.name(), outcome)
    }

    /// Deletes a Pod.
    pub async fn delete(&self, set: &Object, pod: &Object) -> Result<(), Failure> {
        let (api, key) = (self.cluster.api(), expected_of(set.uid()));
        self.expectations
            .expect_deletions(&key, [pod.uid().to_owned()]);
        let options = DeleteOptions::of_uid(pod.uid());
        let deleted = api.delete(&resources::pods(), &pod.key(), &options).await;
        if !matches!(deleted, Ok(true)) {
            self.expectations.deletion_observed(&key, pod.uid());
        }
        if let Err(error) = &deleted
            && error.is_ambiguous()
        {
            self.settled.doubt(&set.key());
        }
        let outcome = deleted.map(drop).map_err(Failure::from);
        self.tell("Delete", set, pod.name(), outcome)
    }

    fn tell(
        &self,
        verb: &str,
        set: &Object,
        pod: &str,
        outcome: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        match &outcome {
            Ok(()) => {
                let text = format!("{what} successful");
                self.recorder
                    .normal(set, &format!("Successful{verb}"), text);
            }
            Err(failure) => {
                let text = format!("{what} failed error: {failure}");
                self.recorder.warning(set, &format!("Failed{verb}"), text);
            }
        }
        outcome
    }

    fn tell_claim(&self, set: &Object, pod: &str, claim: &str, failure: Option<&Error>) {
        let set_name = set.name();
        match failure {
            None => {
                let text =
                    format!("Create Claim {claim} Pod {pod} in StatefulSet {set_name} success");
                self.recorder.normal(set, "SuccessfulCreate", text);
            }
            Some(error) => {
                let why = error.message();
                let text = format!(
                    "Create Claim {claim} for Pod {pod} in StatefulSet {set_name} failed error: {why}"
                );
                self.recorder.warning(set, "FailedCreate", text);
            }
        }
    }
}
