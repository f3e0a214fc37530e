//! Addresses of simulated Pods: unique, and the same for a Pod as long as it lives.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// The range addresses are taken from: 10.128.0.0/9.
const FIRST: u32 = 0x0a80_0000;
const COUNT: u32 = 1 << 23;

/// Who has which address.
#[derive(Debug, Default)]
pub struct Addresses {
    by_pod: HashMap<String, Ipv4Addr>,
    taken: HashSet<Ipv4Addr>,
    next: u32,
}

impl Addresses {
    /// Notes the address a Pod has already.
    pub fn observe(&mut self, uid: &str, address: &str) {
        if let Ok(address) = address.parse() {
            self.taken.insert(address);
            self.by_pod.insert(uid.to_owned(), address);
        }
    }

    /// The address of a Pod, a new one where it has none.
    pub fn of(&mut self, uid: &str) -> String {
        if let Some(address) = self.by_pod.get(uid) {
            return address.to_string();
        }
        let mut address = Ipv4Addr::from(FIRST);
        for _ in 0..COUNT {
            self.next = (self.next + 1) % COUNT;
            address = Ipv4Addr::from(FIRST + self.next);
            // No network and no broadcast addresses: people look at these.
            let last = address.octets()[3];
            if last != 0 && last != 255 && !self.taken.contains(&address) {
                break;
            }
        }
        self.taken.insert(address);
        self.by_pod.insert(uid.to_owned(), address);
        address.to_string()
    }

    /// Takes the address of a Pod that is gone back.
    pub fn release(&mut self, uid: &str) {
        if let Some(address) = self.by_pod.remove(uid) {
            self.taken.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_stay() {
        let mut addresses = Addresses::default();
        addresses.observe("old", "10.128.0.1");
        let first = addresses.of("a");
        assert_eq!(first, "10.128.0.2");
        assert_eq!(addresses.of("a"), first);
        assert_ne!(addresses.of("b"), first);
        addresses.release("a");
        assert_ne!(addresses.of("c"), "10.128.0.1");
    }
}
