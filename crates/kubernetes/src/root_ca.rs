//! The cluster's authority, told to every namespace: a ConfigMap `kube-root-ca.crt`, which Pods mount to
//! know whom they talk to.

use controller::{
    Backoff, Informer, InformerOptions, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue,
};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Runs the controller; without a certificate there is nothing to tell.
pub async fn run(cluster: Cluster, certificate: Option<String>) {
    let Some(certificate) = certificate else {
        tracing::info!("no root certificate was given: kube-root-ca.crt is left to others");
        return;
    };
    let queue: WorkQueue = WorkQueue::new("rootca", Backoff::default());
    let namespaces = cluster.informer(&resources::namespaces());
    let maps = maps(&cluster);
    let _namespace_handler = namespaces.add_handler(enqueue::object(&queue));
    let _map_handler = maps.add_handler(enqueue::mapped(&queue, |map| {
        let namespace = map.namespace().filter(|_| map.name() == NAME);
        namespace.map(ObjectKey::cluster).into_iter().collect()
    }));
    let reconciler = Publisher {
        cluster: cluster.clone(),
        certificate,
    };
    cluster
        .drive("rootca", queue, reconciler, vec![namespaces, maps])
        .await;
}

/// Only the ConfigMaps of this name: there may be very many others.
fn maps(cluster: &Cluster) -> Informer {
    let options = InformerOptions {
        field_selector: Some(format!("metadata.name={NAME}")),
        ..InformerOptions::default()
    };
    cluster
        .informers()
        .informer(&resources::config_maps(), options)
}

struct Publisher {
    cluster: Cluster,
    certificate: String,
}

/// What the ConfigMap holds.
fn data(certificate: &str) -> Value {
    json!({"ca.crt": certificate})
}

impl Reconciler for Publisher {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let cluster = &self.cluster;
        let namespace = cluster.informer(&resources::namespaces()).get(key);
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_terminating()) else {
            return Ok(Outcome::Done);
        };
        let maps = resources::config_maps();
        let own = ObjectKey::new(namespace.name(), NAME);
        let data = data(&self.certificate);
        let Some(current) = self::maps(cluster).get(&own) else {
            let wanted = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": NAME,
                    "namespace": namespace.name(),
                    "annotations": {"kubernetes.io/description": DESCRIPTION},
                },
                "data": data,
            });
            return match cluster.api().create(&maps, &wanted).await {
                Ok(_) => Ok(Outcome::Done),
                // Made by somebody else, or the namespace is going: both end well.
                Err(error)
                    if error.is_already_exists()
                        || error.is_not_found()
                        || error.is_forbidden() =>
                {
                    Ok(Outcome::Done)
                }
                Err(error) => Err(error.into()),
            };
        };
        if current.value().get("data") != Some(&data) {
            let mut wanted = current.value().clone();
            wanted["data"] = data;
            cluster.api().update(&maps, &wanted).await?;
        }
        Ok(Outcome::Done)
    }
}
