//! The garbage collector: an object goes when the last of its owners has gone.
//!
//! It follows the metadata of every resource that can be deleted, and looks at three kinds of object:
//! one whose owners may be gone (it goes too, or loses the references that lead nowhere), one that
//! waits with `foregroundDeletion` until its dependents are gone, and one that waits with `orphan`
//! until its dependents no longer name it.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Api, Backoff, DeleteOptions, Discovery, Error as ApiError, Event, Informer, InformerOptions,
    Object, ObjectKey, Outcome, OwnerReference, Reconciler, Resource, Subresource, WorkQueue,
    finalizer, index,
};
use model::{GroupVersionKind, object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::plan::{FOREGROUND, ORPHAN, Owner, Plan, plan};
use crate::cluster::Cluster;
use crate::error::Error;

/// How often the set of resources is looked at, besides when a definition changes.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// How soon after a failure, and how often a single request is tried before that.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);
const DISCOVERY_ATTEMPTS: u32 = 3;

/// An object of any resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Item {
    resource: Resource,
    key: ObjectKey,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.key)
    }
}

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue<Item> = WorkQueue::new("garbagecollector", Backoff::default());
    let collector = Arc::new(Shared {
        discovery: Discovery::new(cluster.api().clone()),
        cluster: cluster.clone(),
        queue: queue.clone(),
        followed: Mutex::default(),
    });
    let following = tokio::spawn(follow_resources(collector.clone()));
    cluster
        .drive("garbagecollector", queue, Collector(collector), Vec::new())
        .await;
    following.abort();
}

/// Every resource that can be listed, watched and deleted.
pub async fn deletable(api: &Api) -> Result<Vec<Resource>, ApiError> {
    let mut resources = Vec::new();
    let core = get_patiently(api, "/api/v1").await?;
    resources.extend(of_version("v1", &core));
    let groups = get_patiently(api, "/apis").await?;
    for group in object::list(&groups, &["groups"]) {
        let version = object::text(group, &["preferredVersion", "groupVersion"]);
        match get_patiently(api, &format!("/apis/{version}")).await {
            Ok(list) => resources.extend(of_version(version, &list)),
            // A group that has gone in the meantime.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    // The same events are served by two groups.
    resources.retain(|resource| &*resource.group != "events.k8s.io");
    Ok(resources)
}

/// Reads a path; one failure among many requests is not to make all of them vain.
async fn get_patiently(api: &Api, path: &str) -> Result<Value, ApiError> {
    let mut attempt = 1;
    loop {
        match api.get_path(path).await {
            Err(error) if error.is_ambiguous() && attempt < DISCOVERY_ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

fn of_version(api_version: &str, list: &Value) -> Vec<Resource> {
    let wanted = ["delete", "list", "watch"];
    object::list(list, &["resources"])
        .iter()
        .filter(|resource| {
            let verbs = object::list(resource, &["verbs"]);
            wanted.iter().all(|verb| verbs.iter().any(|v| v == verb))
        })
        .map(|resource| {
            let (name, kind) = (
                object::text(resource, &["name"]),
                object::text(resource, &["kind"]),
            );
            if resource.get("namespaced") == Some(&Value::Bool(true)) {
                Resource::namespaced(api_version, name, kind)
            } else {
                Resource::cluster(api_version, name, kind)
            }
        })
        .collect()
}

struct Shared {
    cluster: Cluster,
    discovery: Discovery,
    queue: WorkQueue<Item>,
    /// The resources that are followed, each until it is served no more.
    followed: Mutex<BTreeMap<Resource, Informer>>,
}

/// Keeps the followed resources those that are served.
async fn follow_resources(shared: Arc<Shared>) {
    let definitions = Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    );
    let changed = Arc::new(tokio::sync::Notify::new());
    let informer = shared.cluster.informer(&definitions);
    let notify = changed.clone();
    let _handler = informer.add_handler(move |_| notify.notify_one());
    loop {
        let period = match deletable(shared.cluster.api()).await {
            Ok(resources) => {
                shared.follow(resources);
                DISCOVERY_PERIOD
            }
            Err(error) => {
                tracing::warn!(%error, "looking for resources to collect");
                DISCOVERY_RETRY
            }
        };
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(period) => {}
            () = shared.cluster.shutdown().cancelled() => return,
        }
    }
}

impl Shared {
    fn follow(self: &Arc<Self>, resources: Vec<Resource>) {
        let mut followed = self.followed.lock();
        // Events have no dependents and own nothing worth the traffic, as upstream has it.
        let wanted = |resource: &Resource| &*resource.plural != "events";
        followed.retain(|resource, _| resources.contains(resource));
        for resource in resources.into_iter().filter(wanted) {
            if followed.contains_key(&resource) {
                continue;
            }
            let options = InformerOptions::metadata_only();
            let informer = self.cluster.informers().informer(&resource, options);
            informer.add_owner_index();
            let (queue, own) = (self.queue.clone(), resource.clone());
            let shared = Arc::downgrade(self);
            informer
                .add_handler(move |event| {
                    if let (Event::Deleted(gone), Some(shared)) = (event, shared.upgrade()) {
                        for (resource, dependent) in shared.dependents(gone.uid()) {
                            queue.add(Item {
                                resource,
                                key: dependent.key(),
                            });
                        }
                    }
                    if is_of_interest(event) {
                        let key = event.object().key();
                        queue.add(Item {
                            resource: own.clone(),
                            key,
                        });
                    }
                })
                .forget();
            followed.insert(resource, informer);
        }
    }

    /// The dependents of an object.
    fn dependents(&self, uid: &str) -> Vec<(Resource, Arc<Object>)> {
        let followed = self.followed.lock();
        let of = |(resource, informer): (&Resource, &Informer)| {
            let found = informer.by_index(index::OWNER_UID, uid);
            found
                .into_iter()
                .map(|object| (resource.clone(), object))
                .collect::<Vec<_>>()
        };
        followed.iter().flat_map(of).collect()
    }
}

/// Whether an event may mean work: an object with owners, one that waits, or one that has gone.
fn is_of_interest(event: &Event) -> bool {
    let object = event.object();
    !matches!(event, Event::Deleted(_)) && !object::owner_references(object.value()).is_empty()
        || object.is_terminating()
            && (object.has_finalizer(FOREGROUND) || object.has_finalizer(ORPHAN))
}

struct Collector(Arc<Shared>);

impl Reconciler for Collector {
    type Key = Item;
    type Error = Error;

    async fn reconcile(&self, item: &Item) -> Result<Outcome, Error> {
        let api = self.0.cluster.api();
        let Some(object) = api.get_metadata_opt(&item.resource, &item.key).await? else {
            return Ok(Outcome::Done);
        };
        if object.is_terminating() {
            return self.terminating(item, &object).await;
        }
        let owners = object.owner_references();
        if owners.is_empty() {
            return Ok(Outcome::Done);
        }
        let mut states = Vec::with_capacity(owners.len());
        for owner in owners {
            let state = self.state_of(&owner, object.namespace()).await?;
            states.push((owner, state));
        }
        self.carry_out(item, &object, plan(&states)).await
    }
}

impl Collector {
    /// What has become of an owner.
    async fn state_of(
        &self,
        owner: &OwnerReference,
        namespace: Option<&str>,
    ) -> Result<Owner, Error> {
        let api_version =
            model::GroupVersion::parse(&owner.api_version).map_err(|error| Error::Object {
                kind: "OwnerReference",
                name: owner.name.clone(),
                why: error.to_string(),
            })?;
        let kind = GroupVersionKind::new(api_version.group, api_version.version, &owner.kind);
        let resource = match self.0.discovery.resolve(&kind).await {
            Ok(resource) => resource,
            // A kind nobody serves: whether its objects exist cannot be known, so nothing is deleted.
            Err(error) if error.is_not_found() => return Ok(Owner::Unknown),
            Err(error) => return Err(error.into()),
        };
        let key = match (resource.namespaced, namespace) {
            (true, Some(namespace)) => ObjectKey::new(namespace, &owner.name),
            (true, None) => return Ok(Owner::Gone),
            (false, _) => ObjectKey::cluster(&owner.name),
        };
        let found = self
            .0
            .cluster
            .api()
            .get_metadata_opt(&resource, &key)
            .await?;
        Ok(match found {
            Some(found) if found.uid() == owner.uid => {
                if found.is_terminating() && found.has_finalizer(FOREGROUND) {
                    Owner::WaitsForDependents
                } else {
                    Owner::There
                }
            }
            _ => Owner::Gone,
        })
    }

    async fn carry_out(&self, item: &Item, object: &Object, plan: Plan) -> Result<Outcome, Error> {
        let api = self.0.cluster.api();
        match plan {
            Plan::Keep => {}
            Plan::Delete { foreground } => {
                let has_dependents = !self.0.dependents(object.uid()).is_empty();
                let policy = if foreground && has_dependents {
                    "Foreground"
                } else {
                    "Background"
                };
                let options = DeleteOptions {
                    uid: Some(object.uid().to_owned()),
                    propagation_policy: Some(policy),
                    ..DeleteOptions::default()
                };
                match api.delete(&item.resource, &item.key, &options).await {
                    Err(error) if error.is_conflict() => return Ok(Outcome::Requeue),
                    outcome => drop(outcome?),
                }
            }
            Plan::Forget(gone) => {
                let owners: Vec<&Value> = object::owner_references(object.value())
                    .iter()
                    .filter(|owner| !gone.contains(&object::text(owner, &["uid"]).to_owned()))
                    .collect();
                self.set_owners(item, object, &json!(owners)).await?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn set_owners(&self, item: &Item, object: &Object, owners: &Value) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "ownerReferences": owners,
        }});
        let api = self.0.cluster.api();
        let outcome = api
            .merge_patch(&item.resource, &item.key, Subresource::None, &patch)
            .await;
        match outcome {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome.map(drop).map_err(Error::from),
        }
    }

    async fn terminating(&self, item: &Item, object: &Object) -> Result<Outcome, Error> {
        let api = self.0.cluster.api();
        let dependents = self.0.dependents(object.uid());
        if object.has_finalizer(ORPHAN) {
            for (resource, dependent) in &dependents {
                let own = Item {
                    resource: resource.clone(),
                    key: dependent.key(),
                };
                let owners: Vec<&Value> = object::owner_references(dependent.value())
                    .iter()
                    .filter(|owner| object::text(owner, &["uid"]) != object.uid())
                    .collect();
                self.set_owners(&own, dependent, &json!(owners)).await?;
            }
            return self.release(item, object, ORPHAN).await;
        }
        if !object.has_finalizer(FOREGROUND) {
            return Ok(Outcome::Done);
        }
        let mut waiting = false;
        for (resource, dependent) in &dependents {
            let blocks = dependent
                .owner_references()
                .iter()
                .any(|owner| owner.uid == object.uid() && owner.block_owner_deletion);
            // The cache may lag: only what is really there counts.
            let there = api.get_metadata_opt(resource, &dependent.key()).await?;
            if there.is_none_or(|there| there.uid() != dependent.uid()) {
                continue;
            }
            waiting |= blocks;
            if !dependent.is_terminating() {
                self.0.queue.add(Item {
                    resource: resource.clone(),
                    key: dependent.key(),
                });
            }
        }
        if waiting {
            return Ok(Outcome::RequeueAfter(Duration::from_millis(100)));
        }
        self.release(item, object, FOREGROUND).await
    }

    async fn release(&self, item: &Item, object: &Object, name: &str) -> Result<Outcome, Error> {
        let api = self.0.cluster.api();
        match finalizer::remove(api, &item.resource, object, name).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|()| Outcome::Done).map_err(Error::from),
        }
    }
}
