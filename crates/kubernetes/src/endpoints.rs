//! Endpoints: what endpoint slices were before; some still read them.

mod plan;

use controller::{
    Backoff, DeleteOptions, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, enqueue,
};

use self::plan::plan;
use crate::cluster::Cluster;
use crate::endpoint_slice::trigger::Triggers;
use crate::endpoint_slice::{COST, selected, selector, services_of};
use crate::error::Error;
use crate::pace::Pace;
use crate::resources;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("endpoint", Backoff::default());
    let services = cluster.informer(&resources::services());
    let pods = cluster.informer(&resources::pods());
    let endpoints = cluster.informer(&resources::endpoints());
    pods.add_namespace_index();
    let _service_handler = services.add_handler(enqueue::object(&queue));
    let of_services = services.clone();
    let _pod_handler = pods.add_handler(enqueue::mapped(&queue, move |pod| {
        services_of(&of_services, pod)
    }));
    let _endpoints_handler = endpoints.add_handler(enqueue::object(&queue));
    let informers = vec![services.clone(), pods.clone(), endpoints.clone()];
    let reconciler = AllEndpoints {
        recorder: cluster.recorder("endpoint-controller"),
        cluster: cluster.clone(),
        services,
        pods,
        endpoints,
        triggers: Triggers::default(),
        pace: Pace::default(),
    };
    cluster
        .drive("endpoint", queue, reconciler, informers)
        .await;
}

struct AllEndpoints {
    cluster: Cluster,
    services: Informer,
    pods: Informer,
    endpoints: Informer,
    recorder: EventRecorder,
    triggers: Triggers,
    pace: Pace,
}

impl Reconciler for AllEndpoints {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let present = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            self.triggers.forget(key);
            self.pace.forget(key);
            if let Some(left) = present.filter(|left| plan::is_managed(left)) {
                return self.remove_leftover(key, &left).await;
            }
            return Ok(Outcome::Done);
        };
        let Some(selector) = selector(&service) else {
            return Ok(Outcome::Done);
        };
        if let Some(left) = self.pace.left(key) {
            return Ok(Outcome::RequeueAfter(left));
        }
        let pods = selected(&self.pods, key.namespace().unwrap_or_default(), &selector);
        self.pace.note(key, pods.len() * COST);
        let trigger = self.triggers.since_last(&service, &pods);
        let Some(wanted) = plan(&service, &pods, present.as_deref(), trigger) else {
            return Ok(Outcome::Done);
        };
        let (is_new, resource) = (present.is_none(), resources::endpoints());
        if is_new && service.is_terminating() {
            return Ok(Outcome::Done);
        }
        let outcome = if is_new {
            api.create(&resource, &wanted).await
        } else {
            api.update(&resource, &wanted).await
        };
        match outcome {
            Ok(_) => Ok(Outcome::Done),
            // The newer state is on its way.
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(Outcome::Requeue),
            // The namespace is going.
            Err(error) if is_new && error.is_forbidden() => Ok(Outcome::Done),
            Err(error) => {
                let (reason, verb) = if is_new {
                    ("FailedToCreateEndpoint", "create endpoint for service")
                } else {
                    ("FailedToUpdateEndpoint", "update endpoint")
                };
                let text = format!("Failed to {verb} {key}: {}", error.message());
                self.recorder.warning(&Object::new(wanted), reason, text);
                Err(error.into())
            }
        }
    }
}

impl AllEndpoints {
    /// Endpoints go with their Service; nothing but their name ties them to it.
    async fn remove_leftover(&self, key: &ObjectKey, left: &Object) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        // The Service may be younger than what the cache shows.
        if api
            .get_metadata_opt(&resources::services(), key)
            .await?
            .is_some()
        {
            return Ok(Outcome::Done);
        }
        let options = DeleteOptions::of_uid(left.uid());
        match api.delete(&resources::endpoints(), key, &options).await {
            Err(error) if error.is_conflict() => Ok(Outcome::Requeue),
            outcome => outcome.map(|_| Outcome::Done).map_err(Error::from),
        }
    }
}
