//! The garbage collector: an object goes when the last of its owners has gone.
//!
//! It follows the metadata of every resource that can be deleted, and looks at three kinds of object: one whose owners
//! may be gone (it goes too, or loses the references that lead nowhere), one that waits with `foregroundDeletion` until
//! its dependents are gone, and one that waits with `orphan` until its dependents no longer name it.
//!
//! What the caches show as fine costs no request. Whatever is deleted or changed is first read from the server, with its
//! owners, because a cache may be late.

mod absent;
mod graph;
mod plan;
mod served;

use std::sync::Arc;
use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, EventRecorder, Object, ObjectKey, Outcome, OwnerReference, Reconciler,
    Subresource, WorkQueue, finalizer,
};
use model::{GroupVersion, GroupVersionKind, object};
use serde_json::{Value, json};

pub use self::served::served;

use self::absent::Absent;
use self::graph::{Graph, Item};
use self::plan::{FOREGROUND, ORPHAN, Owner, Plan, plan};
use crate::cluster::Cluster;
use crate::error::Error;

/// How long an object waits for the caches of its owners and dependents.
const SYNC_RECHECK: Duration = Duration::from_millis(200);

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue<Item> = WorkQueue::new("garbagecollector", Backoff::default());
    let graph = Arc::new(Graph::new(cluster.clone(), queue.clone()));
    let following = tokio::spawn(graph.clone().follow_served());
    let collector = Collector {
        recorder: cluster.recorder("garbage-collector-controller"),
        cluster: cluster.clone(),
        graph,
        absent: Absent::default(),
    };
    cluster
        .drive("garbagecollector", queue, collector, Vec::new())
        .await;
    following.abort();
}

struct Collector {
    cluster: Cluster,
    graph: Arc<Graph>,
    recorder: EventRecorder,
    absent: Absent,
}

impl Reconciler for Collector {
    type Key = Item;
    type Error = Error;

    async fn reconcile(&self, item: &Item) -> Result<Outcome, Error> {
        let Some(cached) = self.graph.get(item) else {
            return Ok(Outcome::Done);
        };
        if cached.is_terminating() {
            let waits = cached.has_finalizer(FOREGROUND) || cached.has_finalizer(ORPHAN);
            return if waits {
                self.terminating(item).await
            } else {
                Ok(Outcome::Done)
            };
        }
        if self.is_fine(&cached) {
            return Ok(Outcome::Done);
        }
        if !self.graph.is_complete() {
            return Ok(Outcome::RequeueAfter(SYNC_RECHECK));
        }
        self.orphaned(item).await
    }
}

impl Collector {
    /// Whether every owner is there and stays, as the caches show.
    fn is_fine(&self, object: &Object) -> bool {
        object.owner_references().iter().all(|owner| {
            let found = self.graph.owner(owner, object.namespace());
            found.is_some_and(|owner| !is_waiting(&owner))
        })
    }

    /// Looks at an object whose owners may be gone.
    async fn orphaned(&self, item: &Item) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let object = api.get_metadata_opt(&item.resource, &item.key).await?;
        let Some(object) = object.filter(|object| !object.is_terminating()) else {
            return Ok(Outcome::Done);
        };
        let owners = object.owner_references();
        if owners.is_empty() {
            return Ok(Outcome::Done);
        }
        let mut states = Vec::with_capacity(owners.len());
        for owner in owners {
            let state = self.state_of(item, &owner, &object).await?;
            states.push((owner, state));
        }
        match plan(&states) {
            Plan::Keep => Ok(Outcome::Done),
            Plan::Forget(gone) => {
                let keep = |owner: &Value| !gone.iter().any(|uid| owner["uid"] == uid.as_str());
                self.edit_owners(item, &object, |owners| owners.retain(keep))
                    .await
            }
            Plan::Delete { foreground } => self.delete(item, object, foreground).await,
        }
    }

    /// What has become of an owner.
    async fn state_of(
        &self,
        item: &Item,
        owner: &OwnerReference,
        object: &Object,
    ) -> Result<Owner, Error> {
        let namespace = object.namespace();
        if let Some(found) = self.graph.owner(owner, namespace) {
            // What is there may go at any time, and wakes its dependents when it does.
            if !is_waiting(&found) {
                return Ok(Owner::There);
            }
        }
        if self.absent.has(&owner.uid) {
            return Ok(Owner::Gone);
        }
        let Ok(version) = GroupVersion::parse(&owner.api_version) else {
            return Ok(Owner::Unknown);
        };
        let kind = GroupVersionKind::new(version.group, version.version, &owner.kind);
        let resource = match self.graph.discovery().resolve(&kind).await {
            Ok(resource) => resource,
            // A kind nobody serves: whether its objects exist cannot be known, so nothing is deleted.
            Err(controller::Error::NoSuchKind { .. }) => return Ok(Owner::Unknown),
            Err(error) if error.is_not_found() => return Ok(Owner::Unknown),
            Err(error) => return Err(error.into()),
        };
        let key = match (resource.namespaced, namespace) {
            (true, Some(namespace)) => ObjectKey::new(namespace, &owner.name),
            (true, None) => {
                self.tell_wrong_namespace(item, object, owner);
                return Ok(Owner::Unknown);
            }
            (false, _) => ObjectKey::cluster(&owner.name),
        };
        let api = self.cluster.api();
        let found = api.get_metadata_opt(&resource, &key).await?;
        Ok(match found.filter(|found| found.uid() == owner.uid) {
            Some(found) if is_waiting(&found) => Owner::WaitsForDependents,
            Some(_) => Owner::There,
            None => {
                let elsewhere = self.graph.same_kind(owner).into_iter();
                if elsewhere.flatten().any(|other| other.uid() == owner.uid) {
                    self.tell_wrong_namespace(item, object, owner);
                }
                self.absent.add(&owner.uid);
                Owner::Gone
            }
        })
    }

    fn tell_wrong_namespace(&self, item: &Item, object: &Object, owner: &OwnerReference) {
        let namespace = object.namespace().unwrap_or_default();
        let text = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        // Metadata alone does not say what it is of.
        let mut named = object.value().clone();
        named["apiVersion"] = json!(item.resource.api_version());
        named["kind"] = json!(*item.resource.kind);
        let object = Object::new(named);
        self.recorder
            .warning(&object, "OwnerRefInvalidNamespace", text);
    }

    async fn delete(
        &self,
        item: &Item,
        object: Object,
        foreground: bool,
    ) -> Result<Outcome, Error> {
        let dependents = self.graph.dependents(object.uid());
        let waits = foreground && !dependents.is_empty();
        if waits
            && dependents
                .iter()
                .any(|(_, dependent)| is_waiting(dependent))
        {
            // It may wait for one that waits for it: then nobody waits for this one.
            let unblock = |owners: &mut Vec<Value>| {
                for owner in owners {
                    owner["blockOwnerDeletion"] = json!(false);
                }
            };
            self.edit_owners(item, &object, unblock).await?;
        }
        let policy = if waits || object.has_finalizer(FOREGROUND) {
            "Foreground"
        } else if object.has_finalizer(ORPHAN) {
            "Orphan"
        } else {
            "Background"
        };
        let options = DeleteOptions {
            propagation_policy: Some(policy),
            ..DeleteOptions::of_uid(object.uid())
        };
        let api = self.cluster.api();
        match api.delete(&item.resource, &item.key, &options).await {
            // Another object has the name: this one is gone.
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|_| Outcome::Done).map_err(Error::from),
        }
    }

    /// Changes the owners of an object as it is on the server.
    async fn edit_owners(
        &self,
        item: &Item,
        object: &Object,
        edit: impl Fn(&mut Vec<Value>),
    ) -> Result<Outcome, Error> {
        let mut owners = object::owner_references(object.value()).to_vec();
        edit(&mut owners);
        if owners == object::owner_references(object.value()) {
            return Ok(Outcome::Done);
        }
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "ownerReferences": owners,
        }});
        let api = self.cluster.api();
        let outcome = api
            .merge_patch(&item.resource, &item.key, Subresource::None, &patch)
            .await;
        match outcome {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|_| Outcome::Done).map_err(Error::from),
        }
    }

    /// Looks at an object that waits for its dependents.
    async fn terminating(&self, item: &Item) -> Result<Outcome, Error> {
        if !self.graph.is_complete() {
            // What is not followed yet may hold dependents.
            return Ok(Outcome::RequeueAfter(SYNC_RECHECK));
        }
        let api = self.cluster.api();
        let object = api.get_metadata_opt(&item.resource, &item.key).await?;
        let Some(object) = object.filter(Object::is_terminating) else {
            return Ok(Outcome::Done);
        };
        let dependents = self.graph.dependents(object.uid());
        if object.has_finalizer(ORPHAN) {
            for (own, _) in &dependents {
                if self.let_go(own, object.uid()).await? == Outcome::Requeue {
                    return Ok(Outcome::Requeue);
                }
            }
            return self.release(item, &object, ORPHAN).await;
        }
        if !object.has_finalizer(FOREGROUND) {
            return Ok(Outcome::Done);
        }
        let blocks = |dependent: &Object| {
            let owners = dependent.owner_references();
            let own = |owner: &OwnerReference| owner.uid == object.uid();
            owners.iter().any(|o| own(o) && o.block_owner_deletion)
        };
        let mut waiting = false;
        for (own, dependent) in dependents.into_iter().filter(|(_, d)| blocks(d)) {
            // Its end wakes this object again.
            waiting = true;
            if !dependent.is_terminating() {
                self.graph.queue().add(own);
            }
        }
        if waiting {
            Ok(Outcome::Done)
        } else {
            self.release(item, &object, FOREGROUND).await
        }
    }

    /// Takes an owner from a dependent that stays.
    async fn let_go(&self, item: &Item, owner: &str) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let object = api.get_metadata_opt(&item.resource, &item.key).await?;
        let Some(object) = object else {
            return Ok(Outcome::Done);
        };
        self.edit_owners(item, &object, |owners| {
            owners.retain(|one| one["uid"] != owner);
        })
        .await
    }

    async fn release(&self, item: &Item, object: &Object, name: &str) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        match finalizer::remove(api, &item.resource, object, name).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|()| Outcome::Done).map_err(Error::from),
        }
    }
}

/// Whether an object is going and waits for its dependents.
fn is_waiting(object: &Object) -> bool {
    object.is_terminating() && object.has_finalizer(FOREGROUND)
}
