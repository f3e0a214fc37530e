//! Addresses of simulated nodes and Pods: unique, and the same for as long as their owner lives.
//!
//! A Pod's addresses come from the ranges its node has (`spec.podCIDRs`), so several servers never give the same one; a node
//! without ranges gives out those of a pool that only its server knows. Nodes' own addresses may be chosen by two servers at
//! once: then the node whose name comes later takes another.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, and who has which.
#[derive(Debug, Clone)]
struct Range {
    first: u128,
    /// How many there are.
    count: u128,
    is_ipv4: bool,
    owners: HashMap<IpAddr, BTreeSet<String>>,
    next: u128,
}

impl Range {
    fn new(first: u128, count: u128, is_ipv4: bool) -> Self {
        Self {
            first,
            count,
            is_ipv4,
            owners: HashMap::new(),
            next: 0,
        }
    }

    /// Reads a range such as `10.244.1.0/24`.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let (first, bits, is_ipv4) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, true),
            IpAddr::V6(address) => (u128::from(address), 128, false),
        };
        let host: u32 = bits - Some(prefix).filter(|prefix| *prefix <= bits)?;
        let count = 1_u128.checked_shl(host).unwrap_or(u128::MAX);
        let first = first
            .checked_shr(host)
            .unwrap_or(0)
            .checked_shl(host)
            .unwrap_or(0);
        Some(Self::new(first, count, is_ipv4))
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        match u32::try_from(number) {
            Ok(number) if self.is_ipv4 => Ipv4Addr::from(number).into(),
            _ => Ipv6Addr::from(number).into(),
        }
    }

    /// An address nobody has. The network's own, its router's and, of IPv4, the last one are not given out.
    fn free(&mut self) -> Option<IpAddr> {
        const RESERVED: u128 = 2;
        let usable = self
            .count
            .saturating_sub(RESERVED + u128::from(self.is_ipv4));
        // Of one more than are taken, one is free.
        let enough = usable.min(self.owners.len() as u128 + 1);
        for _ in 0..enough {
            let address = self.address(RESERVED + self.next % usable);
            self.next = (self.next + 1) % usable;
            if !self.owners.contains_key(&address) {
                return Some(address);
            }
        }
        None
    }

    fn note(&mut self, owner: &str, address: IpAddr) {
        self.owners
            .entry(address)
            .or_default()
            .insert(owner.to_owned());
    }

    fn release(&mut self, owner: &str, address: IpAddr) {
        if let Some(owners) = self.owners.get_mut(&address) {
            owners.remove(owner);
            if owners.is_empty() {
                self.owners.remove(&address);
            }
        }
    }
}

/// The addresses of nodes: 10.64.0.0/12.
#[derive(Debug)]
pub struct NodeAddresses {
    range: Range,
    by_node: HashMap<String, IpAddr>,
}

impl Default for NodeAddresses {
    fn default() -> Self {
        Self {
            range: Range::new(0x0a40_0000, 1 << 20, true),
            by_node: HashMap::new(),
        }
    }
}

impl NodeAddresses {
    /// Notes the address a node has, whosever it is.
    pub fn observe(&mut self, node: &str, address: &str) {
        let Ok(address) = address.parse() else {
            return;
        };
        if self.by_node.get(node) != Some(&address) {
            self.release(node);
            self.range.note(node, address);
            self.by_node.insert(node.to_owned(), address);
        }
    }

    /// The address of a node of this server; a new one where it has none, or another has the older right to it.
    pub fn of(&mut self, node: &str) -> String {
        if let Some(address) = self.by_node.get(node).copied() {
            let owners = self.range.owners.get(&address);
            let first = owners.and_then(BTreeSet::first);
            if first.is_none_or(|first| first == node) {
                return address.to_string();
            }
            self.release(node);
        }
        // There are more addresses than nodes in any cluster; if not, some share.
        let free = self.range.free();
        let address = free.unwrap_or_else(|| self.range.address(0));
        self.range.note(node, address);
        self.by_node.insert(node.to_owned(), address);
        address.to_string()
    }

    /// Takes the address of a node that is gone back.
    pub fn release(&mut self, node: &str) {
        if let Some(address) = self.by_node.remove(node) {
            self.range.release(node, address);
        }
    }
}

/// The addresses of Pods.
#[derive(Debug)]
pub struct PodAddresses {
    by_node: HashMap<String, OnNode>,
    /// For nodes without ranges: 10.80.0.0/12.
    pool: Range,
}

#[derive(Debug, Default)]
struct OnNode {
    cidrs: Vec<String>,
    ranges: Vec<Range>,
    pods: HashMap<String, Vec<IpAddr>>,
}

impl Default for PodAddresses {
    fn default() -> Self {
        Self {
            by_node: HashMap::new(),
            pool: Range::new(0x0a50_0000, 1 << 20, true),
        }
    }
}

impl PodAddresses {
    /// A node has these ranges.
    pub fn set_ranges(&mut self, node: &str, cidrs: Vec<String>) {
        let on_node = self.by_node.entry(node.to_owned()).or_default();
        if on_node.cidrs == cidrs {
            return;
        }
        on_node.ranges = cidrs.iter().filter_map(|cidr| Range::parse(cidr)).collect();
        on_node.cidrs = cidrs;
        for (pod, addresses) in &on_node.pods {
            for (range, address) in on_node.ranges.iter_mut().zip(addresses) {
                range.note(pod, *address);
            }
        }
    }

    /// Notes the addresses a Pod has already.
    pub fn observe<'a>(&mut self, node: &str, pod: &str, addresses: impl Iterator<Item = &'a str>) {
        let on_node = self.by_node.entry(node.to_owned()).or_default();
        if on_node.pods.contains_key(pod) {
            return;
        }
        let addresses: Vec<IpAddr> = addresses.filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            return;
        }
        let ranges = match on_node.ranges.as_mut_slice() {
            [] => std::slice::from_mut(&mut self.pool),
            ranges => ranges,
        };
        for (range, address) in ranges.iter_mut().zip(&addresses) {
            range.note(pod, *address);
        }
        on_node.pods.insert(pod.to_owned(), addresses);
    }

    /// The addresses of a Pod, one of each of its node's ranges; `None` where a range is used up.
    pub fn of(&mut self, node: &str, pod: &str) -> Option<Vec<String>> {
        let on_node = self.by_node.entry(node.to_owned()).or_default();
        if !on_node.pods.contains_key(pod) {
            let ranges = match on_node.ranges.as_mut_slice() {
                [] => std::slice::from_mut(&mut self.pool),
                ranges => ranges,
            };
            let free = ranges.iter_mut().map(Range::free);
            let addresses = free.collect::<Option<Vec<IpAddr>>>()?;
            for (range, address) in ranges.iter_mut().zip(&addresses) {
                range.note(pod, *address);
            }
            on_node.pods.insert(pod.to_owned(), addresses);
        }
        let addresses = on_node.pods.get(pod)?;
        Some(addresses.iter().map(IpAddr::to_string).collect())
    }

    /// Takes the addresses of a Pod that has ended or is gone back.
    pub fn release(&mut self, node: &str, pod: &str) {
        let Some(on_node) = self.by_node.get_mut(node) else {
            return;
        };
        for address in on_node.pods.remove(pod).unwrap_or_default() {
            for range in &mut on_node.ranges {
                range.release(pod, address);
            }
            self.pool.release(pod, address);
        }
    }

    /// Forgets the ranges of a node that is gone; its Pods go one by one.
    pub fn forget(&mut self, node: &str) {
        if let Some(on_node) = self.by_node.get_mut(node) {
            on_node.ranges.clear();
            on_node.cidrs.clear();
            if on_node.pods.is_empty() {
                self.by_node.remove(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_several_servers_differ() {
        let mut addresses = NodeAddresses::default();
        assert_eq!(addresses.of("b"), "10.64.0.2");
        assert_eq!(addresses.of("b"), "10.64.0.2");
        // Another server has chosen the same for its own.
        addresses.observe("c", "10.64.0.2");
        assert_eq!(addresses.of("b"), "10.64.0.2");
        addresses.observe("a", "10.64.0.2");
        assert_eq!(addresses.of("b"), "10.64.0.3");
        addresses.release("a");
        assert_eq!(addresses.of("d"), "10.64.0.4");
    }

    fn of(addresses: &mut PodAddresses, node: &str, pod: &str) -> String {
        addresses
            .of(node, pod)
            .map_or("none".to_owned(), |found| found.join(","))
    }

    #[test]
    fn pods_have_addresses_of_their_node() {
        let mut addresses = PodAddresses::default();
        let both = ["10.244.3.0/24", "fd00:3::/64"].map(str::to_owned);
        addresses.observe("n", "old", ["10.244.3.2", "fd00:3::2"].into_iter());
        addresses.set_ranges("n", both.to_vec());
        let mut check = |node: &str, pod: &str, expect: &str| {
            assert_eq!(of(&mut addresses, node, pod), expect, "{node}/{pod}");
        };
        check("n", "old", "10.244.3.2,fd00:3::2");
        check("n", "a", "10.244.3.3,fd00:3::3");
        check("n", "b", "10.244.3.4,fd00:3::4");
        check("n", "a", "10.244.3.3,fd00:3::3");
        check("plain", "a", "10.80.0.2");
        check("other", "b", "10.80.0.3");
    }

    #[test]
    fn a_range_may_be_used_up() {
        let mut addresses = PodAddresses::default();
        addresses.set_ranges("n", vec!["10.0.0.8/29".to_owned()]);
        let all: BTreeSet<String> = (0..5)
            .map(|pod| of(&mut addresses, "n", &pod.to_string()))
            .collect();
        assert_eq!(all.len(), 5);
        assert!(
            all.contains("10.0.0.10") && all.contains("10.0.0.14"),
            "{all:?}"
        );
        assert_eq!(of(&mut addresses, "n", "late"), "none");
        addresses.release("n", "2");
        assert_eq!(of(&mut addresses, "n", "late"), "10.0.0.12");
        // One that leaves no room, and one that is none.
        for cidr in ["10.0.0.1/32", "::/0", "255.255.255.255/8", "10.0.0.0/33"] {
            let mut addresses = PodAddresses::default();
            addresses.set_ranges("n", vec![cidr.to_owned()]);
            let expect = match cidr {
                "10.0.0.1/32" => "none",
                "::/0" => "::2",
                "255.255.255.255/8" => "255.0.0.2",
                _ => "10.80.0.2",
            };
            assert_eq!(of(&mut addresses, "n", "a"), expect, "{cidr}");
        }
    }
}
