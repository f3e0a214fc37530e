//! What all controllers share: the client, the informers, the event recorder and the clock.

use std::sync::Arc;

use controller::{
    Api, Clock, Controller, EventRecorder, Informer, InformerOptions, Informers, Reconciler,
    Resource, SystemClock, WorkQueue, format_time,
};
use tokio_util::sync::CancellationToken;

/// Parallel workers of a controller.
const WORKERS: usize = 5;

/// One cluster, as a controller sees it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    api: Api,
    informers: Informers,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// A cluster behind a client, read through informers of its own or through given ones.
    pub fn new(
        client: kube::Client,
        informers: Option<Informers>,
        shutdown: CancellationToken,
    ) -> Self {
        let api = Api::new(client);
        let informers = informers.unwrap_or_else(|| Informers::new(api.clone(), shutdown.clone()));
        Self {
            api,
            informers,
            clock: Arc::new(SystemClock),
            shutdown,
        }
    }

    /// Requests.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// All informers.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// The informer of a resource.
    pub fn informer(&self, resource: &Resource) -> Informer {
        self.informers
            .informer(resource, InformerOptions::default())
    }

    /// A recorder of events.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        // The task that sends the events ends with the cluster.
        let (recorder, _sending) =
            EventRecorder::new(self.api().clone(), component, self.shutdown.clone());
        recorder
    }

    /// Now.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Now, as it is written into objects.
    pub fn timestamp(&self) -> String {
        format_time(self.now())
    }

    /// Ends when the cluster goes.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Runs a reconciler once its informers are in sync.
    pub async fn drive<R: Reconciler>(
        &self,
        name: &str,
        queue: WorkQueue<R::Key>,
        reconciler: R,
        informers: Vec<Informer>,
    ) {
        Controller::new(name, queue, reconciler)
            .workers(WORKERS)
            .wait_for(informers)
            .run(self.shutdown.clone())
            .await;
    }
}
