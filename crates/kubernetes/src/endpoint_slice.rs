//! Endpoint slices: where the Pods behind a Service are.
//!
//! Which endpoint traffic should go to is told by hints: [`hints`] gives those of the field `trafficDistribution`, [`topology`] those
//! of the annotation `service.kubernetes.io/topology-mode`, which comes first.

pub mod endpoint;
mod hints;
mod plan;
mod topology;
pub mod trigger;

use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, Event, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, enqueue, index,
};
use model::{LabelSelector, object};
use serde_json::Value;

use self::plan::{Change, Scene, notices, plan};
use self::topology::Zones;
use self::trigger::Triggers;
use crate::cluster::Cluster;
use crate::creation::create_named;
use crate::error::Error;
use crate::pace::Pace;
use crate::resources;
use crate::settled::Settled;

/// The label that leads from a slice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Delays after failures, as upstream.
const BACKOFF: Backoff = Backoff {
    base: std::time::Duration::from_millis(100),
    max: std::time::Duration::from_secs(100),
};

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("endpointslice", BACKOFF);
    let services = cluster.informer(&resources::services());
    let pods = cluster.informer(&resources::pods());
    let nodes = cluster.informer(&resources::nodes());
    let slices = cluster.informer(&resources::endpoint_slices());
    pods.add_namespace_index();
    pods.add_node_index();
    slices.add_label_index(SERVICE_NAME);
    slices.add_owner_index();
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
    let (on_nodes, of_services, woken) = (pods.clone(), services.clone(), queue.clone());
    let _node_handler = nodes.add_handler(move |event| {
        let moved = |old: &Object, new: &Object| old.label(ZONE) != new.label(ZONE);
        let shares = |node: &Object| {
            topology::share_of(node).map(|(zone, cpu)| (zone.map(str::to_owned), cpu))
        };
        if !matches!(event, Event::Updated { old, new } if shares(old) == shares(new)) {
            for service in of_services.list().iter().filter(|s| topology::is_asked(s)) {
                woken.add(service.key());
            }
        }
        if matches!(event, Event::Updated { old, new } if !moved(old, new)) {
            return;
        }
        for pod in on_nodes.by_index(index::NODE_NAME, event.object().name()) {
            for key in services_of(&of_services, &pod) {
                woken.add(key);
            }
        }
    });
    let informers = vec![
        services.clone(),
        pods.clone(),
        nodes.clone(),
        slices.clone(),
    ];
    let reconciler = EndpointSlices {
        recorder: cluster.recorder("endpoint-slice-controller"),
        cluster: cluster.clone(),
        services,
        pods,
        nodes,
        slices,
        triggers: Triggers::default(),
        settled: Settled::default(),
        pace: Pace::default(),
    };
    cluster
        .drive("endpointslice", queue, reconciler, informers)
        .await;
}

const ZONE: &str = "topology.kubernetes.io/zone";

/// The Services that select a Pod.
pub fn services_of(services: &Informer, pod: &Object) -> Vec<ObjectKey> {
    let labels = object::labels(pod.value());
    services
        .list_namespace(pod.namespace().unwrap_or_default())
        .iter()
        .filter(|service| selector(service).is_some_and(|selector| selector.matches(labels)))
        .map(|service| service.key())
        .collect()
}

/// A Service's selector; one without selects nothing and looks after its endpoints itself.
pub fn selector(service: &Object) -> Option<LabelSelector> {
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
    nodes: Informer,
    slices: Informer,
    recorder: EventRecorder,
    triggers: Triggers,
    settled: Settled,
    pace: Pace,
}

/// Endpoints cost more to look at than what most owners have.
pub const COST: usize = 10;

/// The Pods of a namespace that a selector fits.
pub fn selected(pods: &Informer, namespace: &str, selector: &LabelSelector) -> Vec<Arc<Object>> {
    let mut found = pods.by_index(index::NAMESPACE, namespace);
    found.retain(|pod| selector.matches(object::labels(pod.value())));
    found
}

impl Reconciler for EndpointSlices {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        // Without its Service a slice goes by its owner reference.
        let Some(service) = self.services.get(key) else {
            self.triggers.forget(key);
            self.settled.forget(key);
            self.pace.forget(key);
            return Ok(Outcome::Done);
        };
        let Some(selector) = selector(&service) else {
            return Ok(Outcome::Done);
        };
        if let Some(left) = self.pace.left(key) {
            return Ok(Outcome::RequeueAfter(left));
        }
        let own = LabelSelector::from_labels([(SERVICE_NAME, key.name.as_str())]);
        let api = self.cluster.api();
        if !self.settled.is(api, &service, &own, &self.slices).await? {
            return Ok(Outcome::Requeue);
        }
        let namespace = key.namespace().unwrap_or_default();
        let mut present = self.slices.by_index(&index::label(SERVICE_NAME), &key.name);
        present.retain(|slice| {
            slice.namespace() == Some(namespace)
                && plan::is_managed(slice)
                && !slice.is_terminating()
        });
        let pods = selected(&self.pods, namespace, &selector);
        self.pace.note(key, pods.len() * COST);
        let (changes, notices) = {
            let node = |name: &str| self.nodes.get(&ObjectKey::cluster(name));
            let scene = Scene {
                service: &service,
                pods: &pods,
                node: &node,
                trigger: self.triggers.since_last(&service, &pods),
                zones: topology::is_asked(&service)
                    .then(|| Zones::of(&self.nodes.list()))
                    .flatten(),
            };
            (plan(&scene, &present), notices(&scene, &present))
        };
        for change in changes {
            if let Err(error) = self.carry_out(key, change).await {
                // The newer state is on its way through the informers.
                if error.is_conflict() || error.is_not_found() {
                    return Ok(Outcome::Requeue);
                }
                // The namespace is going.
                if error.is_forbidden() {
                    return Ok(Outcome::Done);
                }
                let text = format!(
                    "Error updating Endpoint Slices for Service {key}: {}",
                    error.message()
                );
                self.recorder
                    .warning(&service, "FailedToUpdateEndpointSlices", text);
                return Err(error.into());
            }
        }
        for notice in notices {
            if notice.warning {
                self.recorder
                    .warning(&service, notice.reason, notice.message);
            } else {
                self.recorder
                    .normal(&service, notice.reason, notice.message);
            }
        }
        Ok(Outcome::Done)
    }
}

impl EndpointSlices {
    async fn carry_out(&self, key: &ObjectKey, change: Change) -> Result<(), controller::Error> {
        let (api, slices) = (self.cluster.api(), resources::endpoint_slices());
        let outcome = match change {
            Change::Create(slice) => create_named(api, &slices, slice).await,
            Change::Update(slice) => api.update(&slices, &slice).await,
            Change::Delete(slice) => {
                let deleted = api.delete(&slices, &slice, &DeleteOptions::default()).await;
                if deleted.is_err() {
                    self.settled.doubt(key);
                }
                return deleted.map(drop);
            }
        };
        self.settled.note(key, &outcome);
        outcome.map(drop)
    }
}
