//! Namespaces: a namespace that is being deleted takes everything in it along.
//!
//! Everything that can be deleted is deleted; the namespace goes when nothing is left. What is left
//! waits for finalizers, and the conditions say so, as upstream's do.

use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Error as ApiError, ListOptions, ObjectKey, Outcome, Reconciler,
    Resource, WorkQueue,
};
use model::object;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// How often a namespace with something left is looked at again; most of the time the objects that
/// go wake it sooner.
const RECHECK: Duration = Duration::from_millis(250);

/// How long a deleted namespace is left alone, so that writes that were let in before have come to an
/// end. Upstream waits five seconds, as its servers learn of the deletion one after another.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("namespace", Backoff::default());
    let informer = cluster.informer(&resources::namespaces());
    let later = queue.clone();
    let _handler = informer.add_handler(move |event| {
        let namespace = event.object();
        if namespace.is_terminating() {
            later.add_after(namespace.key(), SETTLE);
        }
    });
    let reconciler = Namespaces {
        cluster: cluster.clone(),
    };
    cluster
        .drive("namespace", queue, reconciler, vec![informer])
        .await;
}

struct Namespaces {
    cluster: Cluster,
}

/// What is left in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// Resources with the number of their objects.
    objects: Vec<(String, usize)>,
    /// Finalizers with the number of objects that wait for them.
    finalizers: Vec<(String, usize)>,
}

impl Reconciler for Namespaces {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let Some(namespace) = api.get_opt(&resources::namespaces(), key).await? else {
            return Ok(Outcome::Done);
        };
        let held = object::list(namespace.value(), &["spec", "finalizers"]);
        if !namespace.is_terminating() || !held.iter().any(|f| f == "kubernetes") {
            return Ok(Outcome::Done);
        }
        let left = self.empty(&key.name).await?;
        self.report(namespace.value(), &left).await?;
        if !left.objects.is_empty() {
            return Ok(Outcome::RequeueAfter(RECHECK));
        }
        let mut finalized = namespace.into_value();
        let rest: Vec<Value> = object::list(&finalized, &["spec", "finalizers"])
            .iter()
            .filter(|finalizer| *finalizer != "kubernetes")
            .cloned()
            .collect();
        object::metadata_mut(&mut finalized).remove("resourceVersion");
        object::child_mut(&mut finalized, "spec").insert("finalizers".to_owned(), rest.into());
        let path = format!("/api/v1/namespaces/{}/finalize", key.name);
        match put(self.cluster.api(), &path, &finalized).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            outcome => outcome.map(|()| Outcome::Done).map_err(Error::from),
        }
    }
}

async fn put(api: &controller::Api, path: &str, value: &Value) -> Result<(), ApiError> {
    api.put_path(path, value).await.map(drop)
}

impl Namespaces {
    /// Deletes all there is, and says what is left.
    async fn empty(&self, namespace: &str) -> Result<Left, Error> {
        let api = self.cluster.api();
        let mut left = Left::default();
        for resource in self.resources().await? {
            let options = ListOptions {
                namespace: Some(namespace.to_owned()),
                metadata_only: true,
                ..ListOptions::default()
            };
            let list = match api.list(&resource, &options).await {
                Ok(list) => list,
                // A custom resource whose definition is going too.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            if list.items.is_empty() {
                continue;
            }
            let background = DeleteOptions::default();
            api.delete_collection(&resource, &options, &background)
                .await
                .or_else(|error| {
                    if error.is_not_found() {
                        Ok(())
                    } else {
                        Err(error)
                    }
                })?;
            let rest = match api.list(&resource, &options).await {
                Ok(list) => list.items,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            if rest.is_empty() {
                continue;
            }
            left.objects.push((
                // Upstream's form, with its dot also for the core group.
                format!("{}.{}", resource.plural, resource.group),
                rest.len(),
            ));
            for finalizer in rest.iter().flat_map(controller::Object::finalizers) {
                match left
                    .finalizers
                    .iter_mut()
                    .find(|(name, _)| name == finalizer)
                {
                    Some((_, count)) => *count += 1,
                    None => left.finalizers.push((finalizer.to_owned(), 1)),
                }
            }
        }
        Ok(left)
    }

    /// Every resource whose objects live in namespaces and can be listed and deleted.
    async fn resources(&self) -> Result<Vec<Resource>, Error> {
        crate::garbage_collector::deletable(self.cluster.api())
            .await
            .map(|all| {
                all.into_iter()
                    .filter(|resource| resource.namespaced)
                    .collect()
            })
            .map_err(Error::from)
    }

    async fn report(&self, namespace: &Value, left: &Left) -> Result<(), Error> {
        let now = self.cluster.timestamp();
        let mut new = namespace.clone();
        let mut changed = false;
        for condition in conditions(left) {
            let status = Value::Object(object::child_mut(&mut new, "status").clone());
            let mut status = status;
            changed |= controller::condition::set(&mut status, &condition, &now);
            new["status"] = status;
        }
        if changed {
            let outcome = self
                .cluster
                .api()
                .update_status(&resources::namespaces(), &new)
                .await;
            match outcome {
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }
}

/// The conditions of a namespace that is going.
fn conditions(left: &Left) -> Vec<controller::condition::Condition> {
    let finalizers: Vec<String> = left
        .finalizers
        .iter()
        .map(|(name, n)| format!("{name} in {n} resource instances"))
        .collect();
    let make = |name: &str, status: bool, reason: &str, message: &str| {
        controller::condition::Condition::new(name, status, reason, message)
    };
    let content = if left.objects.is_empty() {
        make(
            "NamespaceContentRemaining",
            false,
            "ContentRemoved",
            "All content successfully removed",
        )
    } else {
        let mut names: Vec<String> = left
            .objects
            .iter()
            // As upstream: a resource of the core has a group all the same, the empty one.
            .map(|(name, n)| {
                let dot = if name.contains('.') { "" } else { "." };
                format!("{name}{dot} has {n} resource instances")
            })
            .collect();
        names.sort();
        make(
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            &format!("Some resources are remaining: {}", names.join(", ")),
        )
    };
    let finalizers = if left.finalizers.is_empty() {
        make(
            "NamespaceFinalizersRemaining",
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        )
    } else {
        make(
            "NamespaceFinalizersRemaining",
            true,
            "SomeFinalizersRemain",
            &format!(
                "Some content in the namespace has finalizers remaining: {}",
                finalizers.join(", ")
            ),
        )
    };
    vec![
        make(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        make(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        make(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        content,
        finalizers,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_name_what_is_left() {
        let left = Left {
            objects: vec![("pods".to_owned(), 2)],
            finalizers: vec![("example.com/x".to_owned(), 2)],
        };
        let texts: Vec<Value> = conditions(&left)
            .iter()
            .map(|condition| json!(condition.message))
            .collect();
        assert_eq!(
            texts[3],
            "Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            texts[4],
            "Some content in the namespace has finalizers remaining: example.com/x in 2 resource instances"
        );
    }
}
