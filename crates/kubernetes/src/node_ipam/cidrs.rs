//! The ranges of Pods' addresses and the blocks nodes have of them. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Sizes of nodes' blocks, as bits of the prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaskSizes {
    /// `--node-cidr-mask-size`: of a cluster of one family.
    pub one: Option<u8>,
    /// `--node-cidr-mask-size-ipv4`.
    pub ipv4: Option<u8>,
    /// `--node-cidr-mask-size-ipv6`.
    pub ipv6: Option<u8>,
}

/// Upstream's sizes where nothing is said.
const IPV4_MASK: u8 = 24;
const IPV6_MASK: u8 = 64;
/// As upstream, a range of IPv6 is cut into no more than so many bits' worth of blocks.
const IPV6_BITS: u8 = 16;

/// From which ranges nodes get their blocks, and how large these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCidrs {
    ranges: Vec<Range>,
    /// What is kept free for Services.
    services: Vec<Network>,
}

/// What is wrong with ranges or sizes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeCidrsError {
    /// Not a range.
    #[error("--cluster-cidr: {0:?} is no range of addresses, such as 10.244.0.0/16")]
    Cidr(String),
    /// More than one, and not one of each family.
    #[error("--cluster-cidr: give one range, or one of IPv4 and one of IPv6")]
    NotDualStack,
    /// A flag that does not go with the ranges.
    #[error("usage of {flag} is not allowed {with}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// With what.
        with: &'static str,
    },
    /// Blocks that are larger than the range, or too small.
    #[error(
        "the blocks of nodes (/{mask}) do not fit into {range}: use a prefix of {least} to {most} bits"
    )]
    Mask {
        /// The size asked for.
        mask: u8,
        /// The range.
        range: String,
        /// The smallest prefix that fits.
        least: u8,
        /// The largest one.
        most: u8,
    },
}

impl NodeCidrs {
    /// Reads ranges as `--cluster-cidr` has them, sizes, and the ranges of Services, which are left free.
    pub fn parse(cidrs: &str, sizes: MaskSizes, services: &str) -> Result<Self, NodeCidrsError> {
        let read = |text: &str| {
            let text = text.trim();
            Network::parse(text).ok_or_else(|| NodeCidrsError::Cidr(text.to_owned()))
        };
        let networks = cidrs.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
        let is_dual = match networks.as_slice() {
            [_] => false,
            [one, other] if one.bits != other.bits => true,
            _ => return Err(NodeCidrsError::NotDualStack),
        };
        let forbidden = |flag, with| Err(NodeCidrsError::Flag { flag, with });
        let is_ipv6 = networks.iter().all(|network| network.bits == 128);
        match sizes {
            MaskSizes { one: Some(_), .. } if is_dual => {
                return forbidden("--node-cidr-mask-size", "with dual-stack clusters");
            }
            MaskSizes {
                one: Some(_),
                ipv4,
                ipv6,
            } if ipv4.or(ipv6).is_some() => {
                return forbidden(
                    "--node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6",
                    "if --node-cidr-mask-size is set",
                );
            }
            MaskSizes { ipv4: Some(_), .. } if is_ipv6 => {
                let with = "for a single-stack IPv6 cluster";
                return forbidden("--node-cidr-mask-size-ipv4", with);
            }
            MaskSizes { ipv6: Some(_), .. } if !is_dual && !is_ipv6 => {
                let with = "for a single-stack IPv4 cluster";
                return forbidden("--node-cidr-mask-size-ipv6", with);
            }
            _ => {}
        }
        let cut = |network: &Network| {
            let mask = match (sizes.one, network.bits) {
                (Some(one), _) => one,
                (None, 32) => sizes.ipv4.unwrap_or(IPV4_MASK),
                (None, _) => sizes.ipv6.unwrap_or(IPV6_MASK),
            };
            Range::new(*network, mask)
        };
        Ok(Self {
            ranges: networks.iter().map(cut).collect::<Result<_, _>>()?,
            services: services
                .split(',')
                .filter_map(|s| Network::parse(s.trim()))
                .collect(),
        })
    }
}

/// A network: its first address as a number, and its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: u128,
    prefix: u8,
    /// 32 or 128.
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (number, bits): (_, u8) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let host = bits.checked_sub(prefix).map(u32::from)?;
        let first = number
            .checked_shr(host)
            .unwrap_or(0)
            .checked_shl(host)
            .unwrap_or(0);
        Some(Self {
            first,
            prefix,
            bits,
        })
    }

    fn last(&self) -> u128 {
        let host = u32::from(self.bits - self.prefix);
        self.first | 1_u128.checked_shl(host).map_or(u128::MAX, |size| size - 1)
    }

    fn text(&self) -> String {
        let address = match u32::try_from(self.first) {
            Ok(first) if self.bits == 32 => IpAddr::V4(Ipv4Addr::from(first)),
            _ => IpAddr::V6(Ipv6Addr::from(self.first)),
        };
        format!("{address}/{}", self.prefix)
    }
}

/// A range and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    network: Network,
    mask: u8,
}

/// Blocks of a range by number, the first and the last.
type Span = (u64, u64);

impl Range {
    fn new(network: Network, mask: u8) -> Result<Self, NodeCidrsError> {
        let least = network.prefix;
        let most = match network.bits {
            32 => 32,
            bits => bits.min(least.saturating_add(IPV6_BITS)),
        };
        if (least..=most).contains(&mask) {
            return Ok(Self { network, mask });
        }
        let range = network.text();
        Err(NodeCidrsError::Mask {
            mask,
            range,
            least,
            most,
        })
    }

    /// How many blocks there are: 2^32 at most.
    fn count(&self) -> u64 {
        1 << (self.mask - self.network.prefix)
    }

    fn block(&self, number: u64) -> Network {
        let host = u32::from(self.network.bits - self.mask);
        Network {
            // A single block may be the whole space of addresses.
            first: self.network.first | u128::from(number).checked_shl(host).unwrap_or(0),
            prefix: self.mask,
            bits: self.network.bits,
        }
    }

    /// The blocks a network lies in.
    fn span(&self, network: &Network) -> Option<Span> {
        let (own, other) = (&self.network, network);
        if own.bits != other.bits || other.last() < own.first || own.last() < other.first {
            return None;
        }
        let host = u32::from(own.bits - self.mask);
        let number = |address: u128| {
            let within = address.clamp(own.first, own.last()) - own.first;
            u64::try_from(within.checked_shr(host).unwrap_or(0)).unwrap_or(u64::MAX)
        };
        Some((number(other.first), number(other.last())))
    }
}

/// No block is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to allocate cidr from cluster cidr at idx:{0}: CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"
)]
pub struct Full(pub usize);

/// Who has which blocks.
#[derive(Debug)]
pub struct Blocks {
    ranges: Vec<Taken>,
    by_node: HashMap<String, Vec<Span>>,
}

#[derive(Debug)]
struct Taken {
    range: Range,
    /// How many hold exactly these.
    spans: BTreeMap<Span, usize>,
    next: u64,
}

impl Taken {
    fn take(&mut self, span: Span) {
        *self.spans.entry(span).or_default() += 1;
    }

    fn give_back(&mut self, span: Span) {
        if let Some(holders) = self.spans.get_mut(&span) {
            *holders -= 1;
            if *holders == 0 {
                self.spans.remove(&span);
            }
        }
    }

    /// The first block from `from` on that nobody has.
    fn free(&self, from: u64) -> Option<u64> {
        let mut free = from;
        for (first, last) in self.spans.keys() {
            if *first > free {
                break;
            }
            free = free.max(last.saturating_add(1));
        }
        (free < self.range.count()).then_some(free)
    }
}

impl Blocks {
    /// Nobody has any, but for Services.
    pub fn new(settings: NodeCidrs) -> Self {
        let NodeCidrs { ranges, services } = settings;
        let taken = |range: Range| {
            let kept = services.iter().filter_map(|network| range.span(network));
            Taken {
                range,
                spans: kept.map(|span| (span, 1)).collect(),
                next: 0,
            }
        };
        Self {
            ranges: ranges.into_iter().map(taken).collect(),
            by_node: HashMap::new(),
        }
    }

    /// A node has these, whoever gave them to it.
    pub fn occupy(&mut self, node: &str, cidrs: &[String]) -> Result<(), String> {
        let mut spans = Vec::with_capacity(cidrs.len());
        for (at, cidr) in cidrs.iter().enumerate() {
            let Some(network) = Network::parse(cidr) else {
                return Err(format!("failed to parse node {node}, CIDR {cidr}"));
            };
            let Some(taken) = self.ranges.get(at) else {
                return Err(format!(
                    "node:{node} has an allocated cidr: {cidr} at index:{at} that does not exist in cluster cidrs configuration"
                ));
            };
            let Some(span) = taken.range.span(&network) else {
                let range = taken.range.network.text();
                return Err(format!(
                    "failed to mark cidr[{cidr}] at idx [{at}] as occupied for node: {node}: cidr {cidr} is out the range of cluster cidr {range}"
                ));
            };
            spans.push(span);
        }
        if self.by_node.get(node) != Some(&spans) {
            self.release(node);
            self.hold(node, spans);
        }
        Ok(())
    }

    fn hold(&mut self, node: &str, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        for (taken, span) in self.ranges.iter_mut().zip(&spans) {
            taken.take(*span);
        }
        self.by_node.insert(node.to_owned(), spans);
    }

    /// Blocks for a node, one of each range; the same as before until the node is released.
    pub fn allocate(&mut self, node: &str) -> Result<Vec<String>, Full> {
        if !self.by_node.contains_key(node) {
            let mut spans = Vec::with_capacity(self.ranges.len());
            for (at, taken) in self.ranges.iter().enumerate() {
                let found = taken.free(taken.next).or_else(|| taken.free(0));
                let number = found.ok_or(Full(at))?;
                spans.push((number, number));
            }
            for (taken, (number, _)) in self.ranges.iter_mut().zip(&spans) {
                taken.next = (number + 1) % taken.range.count();
            }
            self.hold(node, spans);
        }
        let spans = self.by_node.get(node).into_iter().flatten();
        let blocks = self.ranges.iter().zip(spans);
        Ok(blocks
            .map(|(taken, (number, _))| taken.range.block(*number).text())
            .collect())
    }

    /// A node is gone.
    pub fn release(&mut self, node: &str) {
        let spans = self.by_node.remove(node).unwrap_or_default();
        for (taken, span) in self.ranges.iter_mut().zip(spans) {
            taken.give_back(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(cidrs: &str, one: Option<u8>, services: &str) -> Blocks {
        let sizes = MaskSizes {
            one,
            ..MaskSizes::default()
        };
        Blocks::new(NodeCidrs::parse(cidrs, sizes, services).expect(cidrs))
    }

    #[test]
    fn nodes_get_blocks_in_turn() {
        let mut blocks = blocks("10.244.0.0/22", None, "");
        let mut check = |node: &str, expect: &str| {
            let found = blocks.allocate(node).map(|cidrs| cidrs.join(","));
            assert_eq!(
                found.unwrap_or_else(|full| full.to_string()),
                expect,
                "{node}"
            );
        };
        check("a", "10.244.0.0/24");
        check("b", "10.244.1.0/24");
        check("a", "10.244.0.0/24");
        check("c", "10.244.2.0/24");
        check("d", "10.244.3.0/24");
        check(
            "e",
            "failed to allocate cidr from cluster cidr at idx:0: CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range",
        );
        blocks.release("b");
        assert_eq!(blocks.allocate("e"), Ok(vec!["10.244.1.0/24".to_owned()]));
    }

    #[test]
    fn what_nodes_have_already_is_theirs() {
        let mut blocks = blocks("10.0.0.0/8", Some(16), "10.0.0.0/15");
        let owned = |cidr: &str| vec![cidr.to_owned()];
        assert_eq!(blocks.occupy("wide", &owned("10.2.0.0/15")), Ok(()));
        assert_eq!(blocks.occupy("narrow", &owned("10.4.7.0/24")), Ok(()));
        assert_eq!(blocks.allocate("new"), Ok(owned("10.5.0.0/16")));
        let check = |blocks: &mut Blocks, cidr: &str, expect: &str| {
            let error = blocks.occupy("odd", &owned(cidr)).expect_err(cidr);
            assert!(error.contains(expect), "{error}");
        };
        check(&mut blocks, "nonsense", "failed to parse");
        check(
            &mut blocks,
            "172.16.0.0/24",
            "is out the range of cluster cidr 10.0.0.0/8",
        );
        let two = [owned("10.9.0.0/16"), owned("fd00::/64")].concat();
        assert!(blocks.occupy("odd", &two).is_err());
    }

    #[test]
    fn both_families() {
        let mut blocks = blocks("10.244.0.0/16,fd00:10:244::/56", None, "fd00:10:244::/108");
        let expect = ["10.244.0.0/24", "fd00:10:244:1::/64"].map(str::to_owned);
        assert_eq!(blocks.allocate("n"), Ok(expect.to_vec()));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let sizes = |one, ipv4, ipv6| MaskSizes { one, ipv4, ipv6 };
        let none = sizes(None, None, None);
        let check = |cidrs: &str, sizes: MaskSizes, expect: &str| {
            let error = NodeCidrs::parse(cidrs, sizes, "")
                .expect_err(cidrs)
                .to_string();
            assert_eq!(error, expect);
        };
        check(
            "10.0.0.0",
            none,
            "--cluster-cidr: \"10.0.0.0\" is no range of addresses, such as 10.244.0.0/16",
        );
        check(
            "10.0.0.0/16,10.1.0.0/16",
            none,
            "--cluster-cidr: give one range, or one of IPv4 and one of IPv6",
        );
        check(
            "10.0.0.0/16,fd00::/56",
            sizes(Some(24), None, None),
            "usage of --node-cidr-mask-size is not allowed with dual-stack clusters",
        );
        check(
            "10.0.0.0/16",
            sizes(None, None, Some(64)),
            "usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster",
        );
        check(
            "10.0.0.0/25",
            none,
            "the blocks of nodes (/24) do not fit into 10.0.0.0/25: use a prefix of 25 to 32 bits",
        );
        check(
            "fd00::/40",
            none,
            "the blocks of nodes (/64) do not fit into fd00::/40: use a prefix of 40 to 56 bits",
        );
    }

    proptest! {
        #[test]
        fn nobody_shares_a_block(steps in prop::collection::vec((0..12_u8, any::<bool>()), 0..60)) {
            let mut blocks = blocks("10.0.0.0/21", None, "10.0.2.0/24");
            let mut held: HashMap<u8, Vec<String>> = HashMap::new();
            for (node, releases) in steps {
                let name = node.to_string();
                if releases {
                    blocks.release(&name);
                    held.remove(&node);
                    continue;
                }
                match blocks.allocate(&name) {
                    Ok(cidrs) => {
                        prop_assert!(held.iter().all(|(other, theirs)| *other == node || *theirs != cidrs));
                        prop_assert_ne!(&cidrs[0], "10.0.2.0/24");
                        if let Some(before) = held.insert(node, cidrs.clone()) {
                            prop_assert_eq!(before, cidrs);
                        }
                    }
                    Err(full) => {
                        prop_assert_eq!(full, Full(0));
                        prop_assert_eq!(held.len(), 7);
                    }
                }
            }
        }
    }
}
