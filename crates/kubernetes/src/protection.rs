//! Volumes, claims and attribute classes that are in use are not deleted: a finalizer holds each until
//! nothing refers to it.

use controller::{
    Backoff, Object, ObjectKey, Outcome, Reconciler, Resource, Subresource, WorkQueue, enqueue,
};
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// What is protected, by what, and from whom.
#[derive(Clone, Copy)]
pub enum Protected {
    /// Claims, from the Pods that mount them.
    Claims,
    /// Volumes, from the claims they are bound to.
    Volumes,
    /// Attribute classes, from claims and volumes that name them.
    AttributesClasses,
}

impl Protected {
    fn name(self) -> &'static str {
        match self {
            Self::Claims => "persistentvolumeclaimprotection",
            Self::Volumes => "persistentvolumeprotection",
            Self::AttributesClasses => "volumeattributesclassprotection",
        }
    }

    fn resource(self) -> Resource {
        match self {
            Self::Claims => resources::persistent_volume_claims(),
            Self::Volumes => resources::persistent_volumes(),
            Self::AttributesClasses => resources::volume_attributes_classes(),
        }
    }

    fn finalizer(self) -> &'static str {
        match self {
            Self::Claims => "kubernetes.io/pvc-protection",
            Self::Volumes => "kubernetes.io/pv-protection",
            Self::AttributesClasses => "kubernetes.io/vac-protection",
        }
    }

    /// The resources whose objects refer to what is protected.
    fn users(self) -> Vec<Resource> {
        match self {
            Self::Claims => vec![resources::pods()],
            Self::Volumes => Vec::new(),
            Self::AttributesClasses => vec![
                resources::persistent_volume_claims(),
                resources::persistent_volumes(),
            ],
        }
    }

    /// The protected objects a user refers to.
    fn referred(self, user: &Object) -> Vec<ObjectKey> {
        let value = user.value();
        match self {
            Self::Claims => claims_of(value)
                .filter_map(|claim| Some(ObjectKey::new(user.namespace()?, &claim)))
                .collect(),
            Self::Volumes => Vec::new(),
            Self::AttributesClasses => {
                let spec = object::text(value, &["spec", "volumeAttributesClassName"]);
                let current = object::text(value, &["status", "currentVolumeAttributesClassName"]);
                [spec, current]
                    .into_iter()
                    .filter(|name| !name.is_empty())
                    .map(ObjectKey::cluster)
                    .collect()
            }
        }
    }
}

/// The claims a Pod mounts, those made for its ephemeral volumes among them; none once it has ended.
fn claims_of(pod: &Value) -> impl Iterator<Item = String> {
    let ended = matches!(
        object::text(pod, &["status", "phase"]),
        "Failed" | "Succeeded"
    );
    let volumes = object::list(pod, &["spec", "volumes"]);
    volumes
        .iter()
        .filter(move |_| !ended)
        .filter_map(move |volume| {
            let named = object::text(volume, &["persistentVolumeClaim", "claimName"]);
            if !named.is_empty() {
                return Some(named.to_owned());
            }
            volume
                .get("ephemeral")
                .map(|_| format!("{}-{}", object::name(pod), object::text(volume, &["name"])))
        })
}

/// Runs one of the controllers.
pub async fn run(cluster: Cluster, protected: Protected) {
    let queue: WorkQueue = WorkQueue::new(protected.name(), Backoff::default());
    let own = cluster.informer(&protected.resource());
    let _own_handler = own.add_handler(enqueue::object(&queue));
    let mut informers = vec![own];
    let mut handlers = Vec::new();
    for resource in protected.users() {
        let users = cluster.informer(&resource);
        handlers.push(users.add_handler(enqueue::mapped(&queue, move |user| {
            protected.referred(user)
        })));
        informers.push(users);
    }
    let reconciler = Protection {
        cluster: cluster.clone(),
        protected,
    };
    cluster
        .drive(protected.name(), queue, reconciler, informers)
        .await;
}

struct Protection {
    cluster: Cluster,
    protected: Protected,
}

impl Protection {
    fn is_used(&self, found: &Object) -> bool {
        if matches!(self.protected, Protected::Volumes) {
            return object::text(found.value(), &["status", "phase"]) == "Bound";
        }
        let key = found.key();
        self.protected.users().iter().any(|resource| {
            let users = self.cluster.informer(resource).list();
            users
                .iter()
                .any(|user| self.protected.referred(user).contains(&key))
        })
    }
}

impl Reconciler for Protection {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let resource = self.protected.resource();
        let Some(found) = self.cluster.informer(&resource).get(key) else {
            return Ok(Outcome::Done);
        };
        let finalizer = self.protected.finalizer();
        let held = object::finalizers(found.value()).any(|own| own == finalizer);
        if held != found.is_terminating() || (held && self.is_used(&found)) {
            return Ok(Outcome::Done);
        }
        let finalizers: Vec<&str> = object::finalizers(found.value())
            .filter(|own| *own != finalizer)
            .chain((!held).then_some(finalizer))
            .collect();
        // The version guards: whoever came to use it in the meantime is seen in the next round.
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": object::resource_version(found.value()),
        }});
        let answer = self
            .cluster
            .api()
            .merge_patch(&resource, key, Subresource::None, &patch)
            .await;
        match answer {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_its_claims_until_it_has_ended() {
        let mut pod = json!({
            "metadata": {"name": "p"},
            "spec": {"volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "b", "ephemeral": {}},
                {"name": "d", "emptyDir": {}},
            ]},
        });
        assert_eq!(claims_of(&pod).collect::<Vec<_>>(), ["c", "p-b"]);
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(claims_of(&pod).count(), 0);
    }
}
