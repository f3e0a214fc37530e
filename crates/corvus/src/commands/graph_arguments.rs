//! kro's flags, for the controllers of ResourceGraphDefinitions.
//!
//! All flags of kro's controller are taken, so that the arguments of its chart keep working. Where Corvus needs no such
//! setting, a flag that is given says so at the start and changes nothing.

use std::time::Duration;

use graph::{Features, Options};

use super::duration;

/// Settings of the controllers of ResourceGraphDefinitions.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Graphs")]
#[group(id = "graph-controllers")]
pub struct Arguments {
    /// Let the CustomResourceDefinition, and with it all instances, go when a ResourceGraphDefinition
    /// is deleted.
    #[arg(long)]
    pub allow_crd_deletion: bool,
    /// ResourceGraphDefinitions reconciled at the same time [default: 4].
    #[arg(long, value_name = "N", value_parser = workers)]
    pub resource_graph_definition_concurrent_reconciles: Option<usize>,
    /// GraphRevisions reconciled at the same time [default: 4].
    #[arg(long, value_name = "N", value_parser = workers)]
    pub graph_revision_concurrent_reconciles: Option<usize>,
    /// Instances reconciled at the same time [default: 16].
    #[arg(long, value_name = "N", value_parser = workers)]
    pub dynamic_controller_concurrent_reconciles: Option<usize>,
    /// Objects of one collection applied at the same time [default: 20].
    #[arg(long, value_name = "N", value_parser = workers)]
    pub apply_concurrency: Option<usize>,
    /// The first pause after a reconcile failed [default: 200ms].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub dynamic_controller_rate_limiter_min_delay: Option<Duration>,
    /// The longest pause after a reconcile failed [default: 1000s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub dynamic_controller_rate_limiter_max_delay: Option<Duration>,
    /// How often a failing instance is tried again before it waits for a change [default: always].
    #[arg(long, value_name = "N")]
    pub dynamic_controller_default_queue_max_retries: Option<u32>,
    /// When to try again after an object could not be applied [default: 3s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub instance_requeue_interval: Option<Duration>,
    /// Most objects of a collection [default: 1000].
    #[arg(long, value_name = "N")]
    pub rgd_max_collection_size: Option<usize>,
    /// Most dimensions of a collection [default: 10].
    #[arg(long, value_name = "N")]
    pub rgd_max_collection_dimension_size: Option<usize>,
    /// GraphRevisions kept of each ResourceGraphDefinition; 0 keeps all [default: 5].
    #[arg(long, value_name = "N")]
    pub rgd_max_graph_revisions: Option<usize>,
    #[command(flatten)]
    unneeded: Unneeded,
}

/// Flags of kro that change nothing here.
#[derive(clap::Args, Debug, Clone, Default)]
#[group(id = "unneeded")]
struct Unneeded {
    #[arg(long, hide = true)]
    dynamic_controller_rate_limiter_rate_limit: Option<String>,
    #[arg(long, hide = true)]
    dynamic_controller_rate_limiter_burst_limit: Option<String>,
    #[arg(long, hide = true)]
    dynamic_controller_default_resync_period: Option<String>,
    #[arg(long, hide = true)]
    rgd_progress_requeue_delay: Option<String>,
    #[arg(long, hide = true)]
    cel_cost_limit: Option<String>,
    #[arg(long, hide = true)]
    client_qps: Option<String>,
    #[arg(long, hide = true)]
    client_burst: Option<String>,
    #[arg(long, hide = true)]
    graceful_shutdown_timeout: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_controller_warmup: Option<String>,
    #[arg(long, hide = true)]
    pprof_bind_address: Option<String>,
    #[arg(long, hide = true)]
    zap_log_level: Option<String>,
    #[arg(long, hide = true)]
    zap_encoder: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    zap_devel: Option<String>,
    #[arg(long, hide = true)]
    zap_stacktrace_level: Option<String>,
    #[arg(long, hide = true)]
    zap_time_encoding: Option<String>,
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a number of at least 1".to_owned()),
    }
}

impl Arguments {
    /// What the controllers make of the flags.
    pub fn options(&self, features: Features) -> Options {
        let mut options = Options {
            allow_crd_deletion: self.allow_crd_deletion,
            ..Options::default()
        };
        options.build.features = features;
        set(
            &mut options.rgd_workers,
            self.resource_graph_definition_concurrent_reconciles,
        );
        set(
            &mut options.revision_workers,
            self.graph_revision_concurrent_reconciles,
        );
        set(
            &mut options.instance_workers,
            self.dynamic_controller_concurrent_reconciles,
        );
        set(&mut options.apply_concurrency, self.apply_concurrency);
        set(
            &mut options.backoff.base,
            self.dynamic_controller_rate_limiter_min_delay,
        );
        set(
            &mut options.backoff.max,
            self.dynamic_controller_rate_limiter_max_delay,
        );
        set(
            &mut options.max_retries,
            self.dynamic_controller_default_queue_max_retries,
        );
        set(&mut options.retry_interval, self.instance_requeue_interval);
        set(
            &mut options.pass.max_collection_size,
            self.rgd_max_collection_size,
        );
        set(
            &mut options.build.max_dimensions,
            self.rgd_max_collection_dimension_size,
        );
        set(
            &mut options.max_graph_revisions,
            self.rgd_max_graph_revisions,
        );
        options
    }

    /// Tells of flags that were given and change nothing.
    pub fn tell_unneeded(&self) {
        for (flag, why) in self.unneeded.given() {
            tracing::warn!("--{flag} changes nothing here: {why}");
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl Unneeded {
    /// The flags that were given, each with the reason why it is not needed.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        const QUEUE: &str = "instances are queued when something changes, and only failures wait";
        const REQUESTS: &str =
            "requests are few, and the server's own flow control says when they are too many";
        const LOG: &str = "--log and CORVUS_LOG say what is logged";
        let flags = [
            (
                "dynamic-controller-rate-limiter-rate-limit",
                QUEUE,
                &self.dynamic_controller_rate_limiter_rate_limit,
            ),
            (
                "dynamic-controller-rate-limiter-burst-limit",
                QUEUE,
                &self.dynamic_controller_rate_limiter_burst_limit,
            ),
            (
                "dynamic-controller-default-resync-period",
                "watches are resumed where they ended, so nothing is missed",
                &self.dynamic_controller_default_resync_period,
            ),
            (
                "rgd-progress-requeue-delay",
                "definitions wait for events",
                &self.rgd_progress_requeue_delay,
            ),
            (
                "cel-cost-limit",
                "every evaluation of an expression has a limit",
                &self.cel_cost_limit,
            ),
            ("client-qps", REQUESTS, &self.client_qps),
            ("client-burst", REQUESTS, &self.client_burst),
            (
                "graceful-shutdown-timeout",
                "an interrupted reconcile is taken up where it was",
                &self.graceful_shutdown_timeout,
            ),
            (
                "enable-controller-warmup",
                "caches are read as soon as the lease is held",
                &self.enable_controller_warmup,
            ),
            (
                "pprof-bind-address",
                "profiles are taken with perf",
                &self.pprof_bind_address,
            ),
            ("zap-log-level", LOG, &self.zap_log_level),
            ("zap-encoder", LOG, &self.zap_encoder),
            ("zap-devel", LOG, &self.zap_devel),
            ("zap-stacktrace-level", LOG, &self.zap_stacktrace_level),
            ("zap-time-encoding", LOG, &self.zap_time_encoding),
        ];
        flags
            .into_iter()
            .filter(|(_, _, given)| given.is_some())
            .map(|(flag, why, _)| (flag, why))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        graph: Arguments,
    }

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        let words = std::iter::once("corvus").chain(line.split_whitespace());
        Program::try_parse_from(words).map(|program| program.graph)
    }

    #[test]
    fn what_the_chart_of_kro_passes_is_understood() {
        let line = "--resource-graph-definition-concurrent-reconciles 1 --graph-revision-concurrent-reconciles 2 \
            --dynamic-controller-concurrent-reconciles 3 --zap-log-level info --zap-encoder console --zap-devel=false \
            --graceful-shutdown-timeout 60s --instance-requeue-interval 5s --dynamic-controller-default-resync-period 36000 \
            --dynamic-controller-default-queue-max-retries 20 --dynamic-controller-rate-limiter-min-delay 100ms \
            --dynamic-controller-rate-limiter-max-delay 1000s --client-qps 100 --client-burst 150 \
            --dynamic-controller-rate-limiter-rate-limit 10 --dynamic-controller-rate-limiter-burst-limit 100 \
            --rgd-max-collection-size 7 --rgd-max-collection-dimension-size 8 --rgd-max-graph-revisions 9 \
            --rgd-progress-requeue-delay 3s --allow-crd-deletion --enable-controller-warmup \
            --apply-concurrency 4 --cel-cost-limit 1000000";
        let arguments = read(line).expect("kro's arguments");
        let options = arguments.options(Features::default());
        assert!(options.allow_crd_deletion);
        assert_eq!(options.rgd_workers, 1);
        assert_eq!(options.revision_workers, 2);
        assert_eq!(options.instance_workers, 3);
        assert_eq!(options.retry_interval, Duration::from_secs(5));
        assert_eq!(options.max_retries, 20);
        assert_eq!(options.backoff.base, Duration::from_millis(100));
        assert_eq!(options.pass.max_collection_size, 7);
        assert_eq!(options.build.max_dimensions, 8);
        assert_eq!(options.max_graph_revisions, 9);
        let unneeded: Vec<&str> = arguments.unneeded.given().map(|(flag, _)| flag).collect();
        assert_eq!(options.apply_concurrency, 4);
        assert_eq!(unneeded.len(), 12, "{unneeded:?}");
    }

    #[test]
    fn nobody_working_is_refused() {
        assert!(read("--dynamic-controller-concurrent-reconciles 0").is_err());
        assert!(read("--instance-requeue-interval soon").is_err());
    }
}
