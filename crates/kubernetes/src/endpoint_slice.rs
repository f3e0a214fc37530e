//! Endpoint slices: where the Pods behind a Service are.

mod plan;

use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, Informer, Object, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue,
    index,
};
use model::{LabelSelector, object};
use serde_json::Value;

use self::plan::{Change, plan};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// The label that leads from a slice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("endpointslice", Backoff::default());
    let services = cluster.informer(&resources::services());
    let pods = cluster.informer(&resources::pods());
    let slices = cluster.informer(&resources::endpoint_slices());
    pods.add_namespace_index();
    slices.add_label_index(SERVICE_NAME);
    let _service_handler = services.add_handler(enqueue::object(&queue));
    let of_services = services.clone();
    let _pod_handler = pods.add_handler(enqueue::mapped(&queue, move |pod| {
        services_of(&of_services, pod)
    }));
    let _slice_handler = slices.add_handler(enqueue::mapped(&queue, |slice| {
        let name = slice
            .label(SERVICE_NAME)
            .filter(|_| plan::is_managed(slice));
        let key = name.map(|name| ObjectKey::new(slice.namespace().unwrap_or_default(), name));
        key.into_iter().collect()
    }));
    let informers = vec![services.clone(), pods.clone(), slices.clone()];
    let reconciler = EndpointSlices {
        cluster: cluster.clone(),
        services,
        pods,
        slices,
    };
    cluster
        .drive("endpointslice", queue, reconciler, informers)
        .await;
}

/// The Services that select a Pod.
fn services_of(services: &Informer, pod: &Object) -> Vec<ObjectKey> {
    let labels = object::labels(pod.value());
    services
        .list_namespace(pod.namespace().unwrap_or_default())
        .iter()
        .filter(|service| selector(service).is_some_and(|selector| selector.matches(labels)))
        .map(|service| service.key())
        .collect()
}

/// A Service's selector; one without selects nothing and looks after its endpoints itself.
fn selector(service: &Object) -> Option<LabelSelector> {
    if object::text(service.value(), &["spec", "type"]) == "ExternalName" {
        return None;
    }
    let labels = service
        .get(&["spec", "selector"])
        .and_then(Value::as_object)?;
    let pairs = labels
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    (!labels.is_empty()).then(|| LabelSelector::from_labels(pairs))
}

struct EndpointSlices {
    cluster: Cluster,
    services: Informer,
    pods: Informer,
    slices: Informer,
}

impl Reconciler for EndpointSlices {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let namespace = key.namespace().unwrap_or_default();
        let present: Vec<Arc<Object>> = self
            .slices
            .by_index(&index::label(SERVICE_NAME), &key.name)
            .into_iter()
            .filter(|slice| slice.namespace() == Some(namespace) && plan::is_managed(slice))
            .collect();
        // Without its Service a slice goes by its owner reference.
        let Some(service) = self
            .services
            .get(key)
            .filter(|service| !service.is_terminating())
        else {
            return Ok(Outcome::Done);
        };
        let Some(selector) = selector(&service) else {
            return Ok(Outcome::Done);
        };
        let pods: Vec<Arc<Object>> = self
            .pods
            .by_index(index::NAMESPACE, namespace)
            .into_iter()
            .filter(|pod| selector.matches(object::labels(pod.value())))
            .collect();
        let api = self.cluster.api();
        for change in plan(&service, &pods, &present) {
            let outcome = match change {
                Change::Create(slice) => api
                    .create(&resources::endpoint_slices(), &slice)
                    .await
                    .map(drop),
                Change::Update(slice) => api
                    .update(&resources::endpoint_slices(), &slice)
                    .await
                    .map(drop),
                Change::Delete(key) => {
                    let options = DeleteOptions::default();
                    api.delete(&resources::endpoint_slices(), &key, &options)
                        .await
                        .map(drop)
                }
            };
            match outcome {
                // The newer state is on its way through the informers.
                Err(error) if error.is_conflict() || error.is_not_found() => {
                    return Ok(Outcome::Requeue);
                }
                // The namespace is going.
                Err(error) if error.is_forbidden() => {}
                outcome => outcome?,
            }
        }
        Ok(Outcome::Done)
    }
}
