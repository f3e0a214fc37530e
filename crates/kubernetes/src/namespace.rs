//! Namespaces: a namespace that is being deleted takes everything in it along.
//!
//! Pods go first, so that nothing they rely on goes before them; then everything else that can be deleted. The namespace
//! goes when nothing is left. What is left waits for finalizers, and the conditions say so in upstream's words; while Pods
//! are left they say that too, where upstream says nothing.

use std::time::Duration;

use controller::{
    Backoff, DeleteOptions, Error as ApiError, Event, Informer, ListOptions, Object, ObjectKey,
    Outcome, Reconciler, Resource, WorkQueue,
};
use model::object;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::garbage_collector::served;
use crate::resources;

/// How often a namespace with something left is looked at again. Its Pods wake it as they go; of other things the
/// finalizers take their time.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(250),
    max: Duration::from_secs(15),
};

/// How long a deleted namespace is left alone, so that writes that were let in before have come to an
/// end. Upstream waits five seconds, as its servers learn of the deletion one after another.
const SETTLE: Duration = Duration::from_millis(200);

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("namespace", BACKOFF);
    let namespaces = cluster.informer(&resources::namespaces());
    let pods = cluster.informer(&resources::pods());
    let later = queue.clone();
    let _handler = namespaces.add_handler(move |event| {
        let namespace = event.object();
        let news = match event {
            // The conditions are this controller's own.
            Event::Updated { old, new } => !old.is_terminating() || old.spec() != new.spec(),
            _ => true,
        };
        if namespace.is_terminating() && news {
            later.add_after(namespace.key(), SETTLE);
        }
    });
    let (known, woken) = (namespaces.clone(), queue.clone());
    let _pod_handler = pods.add_handler(move |event| {
        let namespace = ObjectKey::cluster(event.object().namespace().unwrap_or_default());
        let going = || {
            known
                .get(&namespace)
                .is_some_and(|found| found.is_terminating())
        };
        if matches!(event, Event::Deleted(_)) && going() {
            woken.add(namespace);
        }
    });
    let reconciler = Namespaces {
        cluster: cluster.clone(),
    };
    let informers: Vec<Informer> = vec![namespaces, pods];
    cluster
        .drive("namespace", queue, reconciler, informers)
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
    /// Groups whose resources are not known, and why.
    undiscovered: Vec<(String, String)>,
    /// What could not be deleted, and why.
    failures: Vec<String>,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.undiscovered.is_empty() && self.failures.is_empty()
    }

    fn note(&mut self, resource: &Resource, rest: &[Object]) {
        if rest.is_empty() {
            return;
        }
        // Upstream's form, with its dot also for the core group.
        let name = format!("{}.{}", resource.plural, resource.group);
        self.objects.push((name, rest.len()));
        for finalizer in rest.iter().flat_map(Object::finalizers) {
            match self
                .finalizers
                .iter_mut()
                .find(|(name, _)| name == finalizer)
            {
                Some((_, count)) => *count += 1,
                None => self.finalizers.push((finalizer.to_owned(), 1)),
            }
        }
    }
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
        if !left.is_nothing() {
            return Ok(Outcome::Requeue);
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
        match api.put_path(&path, &finalized).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|_| Outcome::Done).map_err(Error::from),
        }
    }
}

impl Namespaces {
    /// Deletes all there is, and says what is left.
    async fn empty(&self, namespace: &str) -> Result<Left, Error> {
        let mut left = Left::default();
        let served = served(self.cluster.api()).await?;
        for (group, error) in served.unknown {
            left.undiscovered.push((group, error.message()));
        }
        let (pods, others): (Vec<Resource>, Vec<Resource>) = served
            .resources
            .into_iter()
            .filter(|resource| resource.namespaced)
            .partition(|resource| resource.group.is_empty() && &*resource.plural == "pods");
        for resource in &pods {
            self.empty_of(namespace, resource, &mut left).await;
        }
        if !left.objects.is_empty() || !left.failures.is_empty() {
            return Ok(left);
        }
        for resource in &others {
            self.empty_of(namespace, resource, &mut left).await;
        }
        Ok(left)
    }

    async fn empty_of(&self, namespace: &str, resource: &Resource, left: &mut Left) {
        match self.delete_all(namespace, resource).await {
            Ok(rest) => left.note(resource, &rest),
            // A custom resource whose definition is going too.
            Err(error) if error.is_not_found() => {}
            Err(error) => left.failures.push(error.message()),
        }
    }

    /// Deletes all objects of a resource; returns those that are there still.
    async fn delete_all(
        &self,
        namespace: &str,
        resource: &Resource,
    ) -> Result<Vec<Object>, ApiError> {
        let api = self.cluster.api();
        let options = ListOptions {
            namespace: Some(namespace.to_owned()),
            metadata_only: true,
            ..ListOptions::default()
        };
        let present = api.list(resource, &options).await?.items;
        if present.is_empty() {
            return Ok(present);
        }
        // What is going already needs no second request.
        if present.iter().all(Object::is_terminating) {
            return Ok(present);
        }
        let background = DeleteOptions::default();
        api.delete_collection(resource, &options, &background)
            .await?;
        Ok(api.list(resource, &options).await?.items)
    }

    async fn report(&self, namespace: &Value, left: &Left) -> Result<(), Error> {
        let now = self.cluster.timestamp();
        let mut new = namespace.clone();
        let mut changed = false;
        for condition in conditions(left) {
            let mut status = Value::Object(object::child_mut(&mut new, "status").clone());
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
    let discovery = if left.undiscovered.is_empty() {
        make(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        )
    } else {
        let groups: Vec<String> = left
            .undiscovered
            .iter()
            .map(|(group, why)| format!("{group}: {why}"))
            .collect();
        let text = format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
            groups.len(),
            groups.join(", ")
        );
        make(
            "NamespaceDeletionDiscoveryFailure",
            true,
            "DiscoveryFailed",
            &text,
        )
    };
    let deletion = if left.failures.is_empty() {
        make(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        )
    } else {
        let mut failures = left.failures.clone();
        failures.sort();
        let text = format!(
            "Failed to delete all resource types, {} remaining: {}",
            failures.len(),
            failures.join(", ")
        );
        make(
            "NamespaceDeletionContentFailure",
            true,
            "ContentDeletionFailed",
            &text,
        )
    };
    vec![
        discovery,
        make(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        deletion,
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
            undiscovered: vec![("example.com".to_owned(), "gone".to_owned())],
            failures: vec!["b".to_owned(), "a".to_owned()],
        };
        let texts: Vec<Value> = conditions(&left)
            .iter()
            .map(|condition| json!(condition.message))
            .collect();
        assert_eq!(
            texts[0],
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: example.com: gone"
        );
        assert_eq!(
            texts[2],
            "Failed to delete all resource types, 2 remaining: a, b"
        );
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
