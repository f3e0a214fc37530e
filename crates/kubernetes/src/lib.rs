//! Kubernetes' own controllers and the scheduler.
//!
//! Each controller is a module of one outline: a header that says what it brings about, `start`, which
//! wires informers to a queue, a reconciler that reads the caches and acts, and pure functions that
//! decide. They reach the cluster through `kube::Client` alone, so they run inside `corvus up` and
//! against any other API server alike.
//!
//! [`run`] runs those that a [`Selection`] names, as `kube-controller-manager --controllers` does.

mod autoscaler;
mod claim;
mod cluster;
mod cluster_role_aggregation;
mod creation;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod error;
mod garbage_collector;
mod history;
mod job;
mod local_path;
mod namespace;
mod node_affinity;
mod node_ipam;
mod node_lifecycle;
mod pace;
mod persistent_volume;
mod pod;
mod pod_control;
mod pod_gc;
mod policy_type_checking;
mod protection;
mod replica_set;
mod resource_quota;
mod resources;
mod root_ca;
mod scheduler;
mod selection;
mod service_account;
mod service_cidr;
mod settled;
mod stateful_set;
mod taint_eviction;
mod taints;
mod token_cleaner;
mod ttl_after_finished;

pub use cluster::Cluster;
pub use error::Error;
pub use node_ipam::{MaskSizes, NodeCidrs, NodeCidrsError};
pub use node_lifecycle::NodeLifecycleSettings;
pub use pod::{is_active, is_ready};
pub use scheduler::{
    Attempt, AttemptObserver, AttemptOutcome, ConfigurationError, SchedulerConfiguration,
};
pub use selection::{Selection, UnknownController};

use std::time::Duration;

use controller::Informers;
use protection::Protected;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers are run with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which of them.
    pub selection: Selection,
    /// Whether the `maxUnavailable` of a stateful set counts (the feature `MaxUnavailableStatefulSet`).
    pub stateful_set_max_unavailable: bool,
    /// Whether autoscalers may scale to zero and back (the feature `HPAScaleToZero`).
    pub hpa_scale_to_zero: bool,
    /// The certificate (PEM) of the authority that signed the API server's, to be told to every
    /// namespace; none leaves that to others.
    pub root_certificate: Option<String>,
    /// How the scheduler is set up.
    pub scheduler: SchedulerConfiguration,
    /// Who is told of the scheduler's attempts.
    pub attempts: AttemptObserver,
    /// How often autoscalers look at the load; upstream's 15 seconds otherwise.
    pub autoscaler_sync_period: Option<Duration>,
    /// How long tokens in Secrets may lie unused before they are marked, and then deleted; upstream's year otherwise.
    pub token_clean_up_period: Option<Duration>,
    /// The ranges nodes get their Pods' addresses from; none leaves that to others.
    pub node_cidrs: Option<NodeCidrs>,
    /// When nodes are lost, and how fast Pods leave lost ones.
    pub node_lifecycle: NodeLifecycleSettings,
    /// What to read through, where others read the same; otherwise the controllers have their own.
    pub informers: Option<Informers>,
}

/// Runs the selected controllers until `shutdown`; returns when all have ended.
pub async fn run(client: kube::Client, options: &Options, shutdown: CancellationToken) {
    let informers = options.informers.clone();
    let cluster = Cluster::new(client, informers, shutdown.clone());
    let mut running = JoinSet::new();
    for name in options.selection.names() {
        let cluster = cluster.clone();
        match name {
            "namespace" => running.spawn(namespace::run(cluster)),
            "serviceaccount" => running.spawn(service_account::run(cluster)),
            "garbagecollector" => running.spawn(garbage_collector::run(cluster)),
            "replicaset" => running.spawn(replica_set::run(cluster, &replica_set::REPLICA_SETS)),
            "replicationcontroller" => running.spawn(replica_set::run(
                cluster,
                &replica_set::REPLICATION_CONTROLLERS,
            )),
            "statefulset" => {
                let max_unavailable = options.stateful_set_max_unavailable;
                running.spawn(stateful_set::run(cluster, max_unavailable))
            }
            "daemonset" => running.spawn(daemon_set::run(cluster)),
            "deployment" => running.spawn(deployment::run(cluster)),
            "job" => running.spawn(job::run(cluster)),
            "cronjob" => running.spawn(cron_job::run(cluster)),
            "horizontalpodautoscaler" => {
                let (period, to_zero) = (options.autoscaler_sync_period, options.hpa_scale_to_zero);
                running.spawn(autoscaler::run(cluster, period, to_zero))
            }
            "ttlafterfinished" => running.spawn(ttl_after_finished::run(cluster)),
            "endpoints" => running.spawn(endpoints::run(cluster)),
            "endpointslicemirroring" => running.spawn(endpoint_slice_mirroring::run(cluster)),
            "endpointslice" => running.spawn(endpoint_slice::run(cluster)),
            "disruption" => running.spawn(disruption::run(cluster)),
            "localpathprovisioner" => running.spawn(local_path::run(cluster)),
            "persistentvolumebinder" => running.spawn(persistent_volume::run(cluster)),
            "validatingadmissionpolicystatus" => running.spawn(policy_type_checking::run(cluster)),
            "clusterroleaggregation" => running.spawn(cluster_role_aggregation::run(cluster)),
            "legacyserviceaccounttokencleaner" => {
                running.spawn(token_cleaner::run(cluster, options.token_clean_up_period))
            }
            "resourcequota" => running.spawn(resource_quota::run(cluster)),
            "rootcacertificatepublisher" => {
                running.spawn(root_ca::run(cluster, options.root_certificate.clone()))
            }
            "nodelifecycle" => running.spawn(node_lifecycle::run(cluster, options.node_lifecycle)),
            "nodeipam" => {
                // As upstream, nodes get no ranges unless that is asked for.
                let Some(settings) = options.node_cidrs.clone() else {
                    continue;
                };
                running.spawn(node_ipam::run(cluster, settings))
            }
            "tainteviction" => running.spawn(taint_eviction::run(cluster)),
            "podgarbagecollector" => running.spawn(pod_gc::run(cluster)),
            "servicecidr" => running.spawn(service_cidr::run(cluster)),
            "persistentvolumeclaimprotection" => {
                running.spawn(protection::run(cluster, Protected::Claims))
            }
            "persistentvolumeprotection" => {
                running.spawn(protection::run(cluster, Protected::Volumes))
            }
            "volumeattributesclassprotection" => {
                running.spawn(protection::run(cluster, Protected::AttributesClasses))
            }
            "scheduler" => {
                let (setup, attempts) = (options.scheduler.clone(), options.attempts.clone());
                running.spawn(scheduler::run(cluster, setup, attempts))
            }
            other => {
                tracing::error!(other, "a controller has a name and no code");
                continue;
            }
        };
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended");
        }
    }
    // Informers of others go on.
    if options.informers.is_none() {
        cluster.informers().stopped().await;
    }
}
