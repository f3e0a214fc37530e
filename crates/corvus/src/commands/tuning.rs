//! Flags of single controllers, as kube-controller-manager has them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kubernetes::{MaskSizes, NodeCidrs, NodeLifecycleSettings};

use super::duration::parse as duration;

/// How some of the controllers work.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Single controllers")]
#[group(id = "single-controllers")]
pub struct Arguments {
    /// How often autoscalers look at the load [default: 15s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub horizontal_pod_autoscaler_sync_period: Option<Duration>,
    /// How long tokens in Secrets may lie unused before they are marked as invalid, and as long again before they are deleted
    /// [default: 8760h].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub legacy_service_account_token_clean_up_period: Option<Duration>,
    /// Give every node a range of addresses for its Pods [default: true with `corvus up`].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allocate_node_cidrs: Option<bool>,
    /// The range nodes get theirs from; two of different families with a comma between them for dual-stack Pods
    /// [default with `corvus up`: 10.128.0.0/9, in blocks of 20 bits].
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// The size of a node's range in a cluster of one family, as bits of its prefix [default: 24 of IPv4, 64 of IPv6].
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size: Option<u8>,
    /// The size of a node's range of IPv4 [default: 24].
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// The size of a node's range of IPv6 [default: 64].
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// How long a node may be silent before it is `NotReady`; several times what its Lease lasts between renewals
    /// [default: 50s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub node_monitor_grace_period: Option<Duration>,
    /// How long a node that has never said anything may be silent [default: 1m].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub node_startup_grace_period: Option<Duration>,
    /// From how many lost nodes Pods are driven in a second, in each zone [default: 0.1].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub node_eviction_rate: Option<f64>,
    /// The same, in a large zone of which much is lost [default: 0.01].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub secondary_node_eviction_rate: Option<f64>,
    /// Zones of more nodes are large; from small ones of which much is lost no Pods are driven [default: 50].
    #[arg(long, value_name = "NODES")]
    pub large_cluster_size_threshold: Option<usize>,
    /// From which share of lost nodes on much of a zone is lost; three at least [default: 0.55].
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    pub unhealthy_zone_threshold: Option<f64>,
}

/// A number that is not less than 0.
fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "write a number such as 0.1".to_owned())
}

/// What nodes of a cluster of one's own get where nothing is said: 2,048 ranges, each for more Pods than a node takes.
const OWN_RANGE: &str = "10.128.0.0/9";
const OWN_MASK: u8 = 20;

impl Arguments {
    /// What the controllers are told, by these flags and by the features that are on.
    pub fn controllers(&self) -> kubernetes::Options {
        kubernetes::Options {
            stateful_set_max_unavailable: kinds::features::stateful_set_max_unavailable(),
            hpa_scale_to_zero: kinds::features::hpa_scale_to_zero(),
            autoscaler_sync_period: self.horizontal_pod_autoscaler_sync_period,
            token_clean_up_period: self.legacy_service_account_token_clean_up_period,
            node_lifecycle: self.node_lifecycle(),
            ..kubernetes::Options::default()
        }
    }

    /// When nodes are lost, and how fast Pods leave lost ones.
    fn node_lifecycle(&self) -> NodeLifecycleSettings {
        let usual = NodeLifecycleSettings::default();
        NodeLifecycleSettings {
            node_monitor_grace_period: self
                .node_monitor_grace_period
                .unwrap_or(usual.node_monitor_grace_period),
            node_startup_grace_period: self
                .node_startup_grace_period
                .unwrap_or(usual.node_startup_grace_period),
            node_eviction_rate: self.node_eviction_rate.unwrap_or(usual.node_eviction_rate),
            secondary_node_eviction_rate: self
                .secondary_node_eviction_rate
                .unwrap_or(usual.secondary_node_eviction_rate),
            large_cluster_size_threshold: self
                .large_cluster_size_threshold
                .unwrap_or(usual.large_cluster_size_threshold),
            unhealthy_zone_threshold: self
                .unhealthy_zone_threshold
                .unwrap_or(usual.unhealthy_zone_threshold),
        }
    }

    fn mask_sizes(&self) -> MaskSizes {
        MaskSizes {
            one: self.node_cidr_mask_size,
            ipv4: self.node_cidr_mask_size_ipv4,
            ipv6: self.node_cidr_mask_size_ipv6,
        }
    }

    /// The ranges of nodes in a cluster of one's own, whose Services have others.
    pub fn own_node_cidrs(&self, services: &str) -> anyhow::Result<Option<NodeCidrs>> {
        if self.allocate_node_cidrs == Some(false) {
            return Ok(None);
        }
        let mut sizes = self.mask_sizes();
        let cidrs = self.cluster_cidr.as_deref().unwrap_or(OWN_RANGE);
        if self.cluster_cidr.is_none() && sizes == MaskSizes::default() {
            sizes.one = Some(OWN_MASK);
        }
        let parsed = NodeCidrs::parse(cidrs, sizes, services);
        parsed.map(Some).context("--allocate-node-cidrs")
    }

    /// The ranges of nodes in a cluster of others.
    pub fn node_cidrs(&self) -> anyhow::Result<Option<NodeCidrs>> {
        if self.allocate_node_cidrs != Some(true) {
            return Ok(None);
        }
        let Some(cidrs) = &self.cluster_cidr else {
            bail!(
                "--allocate-node-cidrs: name the range of the cluster's Pods with --cluster-cidr"
            );
        };
        let parsed = NodeCidrs::parse(cidrs, self.mask_sizes(), "");
        parsed.map(Some).context("--allocate-node-cidrs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_asked_for() {
        let none = Arguments::default();
        assert!(
            none.own_node_cidrs("10.96.0.0/12")
                .is_ok_and(|own| own.is_some())
        );
        assert!(none.node_cidrs().is_ok_and(|theirs| theirs.is_none()));
        let off = Arguments {
            allocate_node_cidrs: Some(false),
            ..Arguments::default()
        };
        assert!(off.own_node_cidrs("").is_ok_and(|own| own.is_none()));
        let on = Arguments {
            allocate_node_cidrs: Some(true),
            ..Arguments::default()
        };
        let error = on.node_cidrs().expect_err("no range");
        assert!(error.to_string().ends_with("--cluster-cidr"), "{error}");
        let small = Arguments {
            node_cidr_mask_size: Some(8),
            ..Arguments::default()
        };
        let error = format!("{:#}", small.own_node_cidrs("").expect_err("too large"));
        assert!(error.contains("use a prefix of 9 to 32 bits"), "{error}");
    }
}
