//! Addresses of simulated Pods and nodes: unique, and the same for as long as their owner lives.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// Who has which address of a range.
#[derive(Debug)]
pub struct Addresses {
    first: u32,
    count: u32,
    by_owner: HashMap<String, Ipv4Addr>,
    taken: HashSet<Ipv4Addr>,
    next: u32,
}

impl Addresses {
    /// For Pods: 10.128.0.0/9.
    pub fn of_pods() -> Self {
        Self::of_range(0x0a80_0000, 1 << 23)
    }

    /// For nodes: 10.64.0.0/12.
    pub fn of_nodes() -> Self {
        Self::of_range(0x0a40_0000, 1 << 20)
    }

    fn of_range(first: u32, count: u32) -> Self {
        Self {
            first,
            count,
            by_owner: HashMap::new(),
            taken: HashSet::new(),
            next: 0,
        }
    }

    /// Notes the address an owner has already.
    pub fn observe(&mut self, owner: &str, address: &str) {
        if self.by_owner.contains_key(owner) {
            return;
        }
        if let Ok(address) = address.parse() {
            self.taken.insert(address);
            self.by_owner.insert(owner.to_owned(), address);
        }
    }

    /// The address of an owner, a new one where it has none.
    pub fn of(&mut self, owner: &str) -> String {
        if let Some(address) = self.by_owner.get(owner) {
            return address.to_string();
        }
        let mut address = Ipv4Addr::from(self.first);
        for _ in 0..self.count {
            self.next = (self.next + 1) % self.count;
            address = Ipv4Addr::from(self.first + self.next);
            // No network and no broadcast addresses: people look at these.
            let last = address.octets()[3];
            if last != 0 && last != 255 && !self.taken.contains(&address) {
                break;
            }
        }
        self.taken.insert(address);
        self.by_owner.insert(owner.to_owned(), address);
        address.to_string()
    }

    /// Takes the address of an owner that is gone back.
    pub fn release(&mut self, owner: &str) {
        if let Some(address) = self.by_owner.remove(owner) {
            self.taken.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_stay() {
        let mut addresses = Addresses::of_pods();
        addresses.observe("old", "10.128.0.1");
        let first = addresses.of("a");
        assert_eq!(first, "10.128.0.2");
        assert_eq!(addresses.of("a"), first);
        assert_ne!(addresses.of("b"), first);
        addresses.release("a");
        assert_ne!(addresses.of("c"), "10.128.0.1");
        assert_eq!(Addresses::of_nodes().of("n"), "10.64.0.1");
    }
}
