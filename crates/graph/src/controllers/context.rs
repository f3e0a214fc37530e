//! What all controllers share.

use std::fmt;
use std::sync::Arc;

use controller::{
    Api, Backoff, Clock, Discovery, EventRecorder, Informer, InformerOptions, Informers, ObjectKey,
    Resource, SystemClock, WorkQueue,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::caches;
use super::cluster_kinds::ClusterKinds;
use super::metrics::WatchCounts;
use super::registry::Registry;
use super::rollout::Rollouts;
use super::serving::Serving;
use super::watches::Watches;
use crate::keys;

/// An instance of a generated kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceKey {
    pub resource: Resource,
    pub key: ObjectKey,
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.key)
    }
}

pub(crate) struct Context {
    pub api: Api,
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub discovery: Discovery,
    pub informers: Informers,
    pub kinds: ClusterKinds,
    pub registry: Registry,
    pub serving: Serving,
    pub rollouts: Rollouts,
    pub watches: Watches,
    pub rgds: Informer,
    pub revisions: Informer,
    pub crds: Informer,
    pub rgd_queue: WorkQueue,
    pub revision_queue: WorkQueue,
    pub instance_queue: WorkQueue<InstanceKey>,
    pub events: EventRecorder,
    /// Says when the controllers stop.
    pub shutdown: CancellationToken,
}

pub(crate) fn rgd_resource() -> Resource {
    let version = format!("{}/{}", keys::GROUP, keys::VERSION);
    Resource::cluster(
        &version,
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    )
}

pub(crate) fn revision_resource() -> Resource {
    let version = format!("{}/{}", keys::INTERNAL_GROUP, keys::VERSION);
    Resource::cluster(&version, "graphrevisions", "GraphRevision")
}

pub(crate) fn crd_resource() -> Resource {
    Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    )
}

impl Context {
    /// Also gives the task that writes Events, which ends with the shutdown.
    pub fn new(
        client: kube::Client,
        options: Options,
        shutdown: CancellationToken,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let api = Api::new(client);
        let (events, recorder) = EventRecorder::new(api.clone(), "kro", shutdown.clone());
        let informers = Informers::new(api.clone(), shutdown.clone());
        let discovery = Discovery::new(api.clone());
        let instance_queue = WorkQueue::new("instance", options.backoff);
        let context = Arc::new(Self {
            kinds: ClusterKinds::new(api.clone(), discovery.clone()),
            registry: Registry::new(options.metrics.clone()),
            rollouts: Rollouts::default(),
            serving: Serving::new(
                informers.clone(),
                instance_queue.clone(),
                options.metrics.clone(),
            ),
            watches: Watches::new(
                informers.clone(),
                instance_queue.clone(),
                options.sync_timeout,
                options.metrics.clone(),
            ),
            rgds: caches::rgds(&informers),
            revisions: caches::revisions(&informers),
            crds: informers.informer(&crd_resource(), InformerOptions::metadata_only()),
            rgd_queue: WorkQueue::new("resourcegraphdefinition", Backoff::default()),
            revision_queue: WorkQueue::new("graphrevision", Backoff::default()),
            clock: Arc::new(SystemClock),
            api,
            options,
            discovery,
            informers,
            instance_queue,
            events,
            shutdown,
        });
        let weak = Arc::downgrade(&context);
        context.options.metrics.count_watches_with(move || {
            weak.upgrade()
                .map_or_else(WatchCounts::default, |context| context.count_watches())
        });
        (context, recorder)
    }

    fn count_watches(&self) -> WatchCounts {
        let kinds = self.serving.len();
        let mut counts = WatchCounts {
            kinds,
            queued: self.instance_queue.len(),
            watches: kinds,
            ..WatchCounts::default()
        };
        self.watches.count(&mut counts);
        counts
    }
}
