//! What kro's flags set.

use std::time::Duration;

use controller::Backoff;

use super::Metrics;
use crate::build::BuildOptions;
use crate::runtime::PassOptions;

/// Settings of the controllers; the defaults are kro's unless said otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--resource-graph-definition-concurrent-reconciles` (kro: 1).
    pub rgd_workers: usize,
    /// `--graph-revision-concurrent-reconciles` (kro: 1).
    pub revision_workers: usize,
    /// `--dynamic-controller-concurrent-reconciles` (kro: 1).
    pub instance_workers: usize,
    /// `--dynamic-controller-rate-limiter-min-delay` and `-max-delay`.
    pub backoff: Backoff,
    /// `--dynamic-controller-default-queue-max-retries` (kro: 20, after which an instance is stuck until something happens).
    pub max_retries: u32,
    /// `--instance-requeue-interval`: when to try again after an object could not be applied.
    pub retry_interval: Duration,
    /// `--rgd-max-graph-revisions`; 0 keeps all.
    pub max_graph_revisions: usize,
    /// `--allow-crd-deletion`.
    pub allow_crd_deletion: bool,
    /// `--apply-concurrency`: objects of one collection applied at the same time.
    pub apply_concurrency: usize,
    /// How long to wait for an informer's first list.
    pub sync_timeout: Duration,
    /// Where reconciles, builds and revisions are counted.
    pub metrics: Metrics,
    /// Limits and gates of builds.
    pub build: BuildOptions,
    /// Limits of reconciles.
    pub pass: PassOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rgd_workers: 4,
            revision_workers: 4,
            instance_workers: 16,
            backoff: Backoff {
                base: Duration::from_millis(200),
                max: Duration::from_secs(1000),
            },
            max_retries: u32::MAX,
            retry_interval: Duration::from_secs(3),
            max_graph_revisions: 5,
            allow_crd_deletion: false,
            apply_concurrency: 20,
            sync_timeout: Duration::from_secs(30),
            metrics: Metrics::default(),
            build: BuildOptions::default(),
            pass: PassOptions::default(),
        }
    }
}
