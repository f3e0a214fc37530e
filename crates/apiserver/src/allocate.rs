//! Cluster IPs and node ports of Services.
//!
//! Both are taken from a range and must be unique, so they are handed out by the server itself when a
//! Service is written, as upstream does. What is taken is known from the store; a reservation that is
//! not followed by a write is given back.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use model::{FieldError, FieldPath, Status, object};
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use store::{ListOptions, Store};

use crate::catalog::Definition;
use crate::envelope;

/// Hands out addresses and ports.
pub struct Allocator {
    first: u32,
    count: u32,
    node_ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<u16>,
}

/// What a write has taken; given back when dropped without [`Reservation::keep`].
#[must_use]
pub struct Reservation {
    taken: Arc<Mutex<Taken>>,
    addresses: Vec<u32>,
    ports: Vec<u16>,
}

impl Reservation {
    /// The write has happened.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

impl Allocator {
    /// An allocator over a range such as `10.96.0.0/16`, knowing what the store's Services have.
    pub fn new(
        range: &str,
        node_ports: RangeInclusive<u16>,
        store: &dyn Store,
    ) -> Result<Self, String> {
        let (first, count) = parse_range(range)?;
        let mut taken = Taken::default();
        // The network's own address, and the one of the `kubernetes` Service's range end.
        taken.addresses.insert(first);
        taken.addresses.insert(first + count - 1);
        let prefix = envelope::key_prefix("", "services", None);
        let listing = store
            .list(&prefix, &ListOptions::default())
            .map_err(|e| e.to_string())?;
        for entry in &listing.entries {
            if let Ok(service) = envelope::decode(entry) {
                note(&mut taken, &service);
            }
        }
        Ok(Self {
            first,
            count,
            node_ports,
            taken: Arc::new(Mutex::new(taken)),
        })
    }

    /// The first address of the range: the `kubernetes` Service's.
    pub fn first_address(&self) -> String {
        Ipv4Addr::from(self.first + 1).to_string()
    }

    /// Fills in what a new or changed Service needs; anything else passes untouched.
    pub fn reserve(
        &self,
        definition: &Definition,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        let mut reservation = Reservation {
            taken: self.taken.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        let gvr = &definition.gvr;
        if gvr.resource != "services" || !gvr.group.is_empty() {
            return Ok(reservation);
        }
        let mut own = Taken::default();
        if let Some(old) = old {
            note(&mut own, old);
        }
        let name = object::name(service).to_owned();
        let refuse = |error: FieldError| Err(Status::invalid("", "Service", &name, &[error]));
        let kind = object::text(service, &["spec", "type"]).to_owned();
        if kind != "ExternalName" {
            let wanted = object::text(service, &["spec", "clusterIP"]).to_owned();
            if wanted.is_empty() {
                // As upstream: every dry run shows the same address.
                match self.free_address(dry_run, &mut reservation) {
                    Some(address) => set_address(service, &address),
                    None => return refuse(internal("clusterIPs", "range is full")),
                }
            } else if wanted != "None"
                && let Err(why) = self.take_address(&wanted, &own, &mut reservation)
            {
                let path = FieldPath::new("spec.clusterIPs");
                return refuse(FieldError::invalid(&path, json!([wanted]), why));
            }
        }
        // A load balancer can do without the ports it does not ask for.
        let spec = |field: &str| object::at(service, &["spec", field]);
        let wants_ports = kind == "NodePort"
            || (kind == "LoadBalancer"
                && spec("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
        let wants_health_check =
            kind == "LoadBalancer" && spec("externalTrafficPolicy") == Some(&json!("Local"));
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            self.reserve_ports(service, wants_ports, &own, &mut reservation)
                .map_err(|error| Status::invalid("", "Service", &name, &[error]))?;
        }
        if wants_health_check {
            let wanted = object::number(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
            let path = FieldPath::new("spec.healthCheckNodePort");
            let number = self
                .reserve_port(&path, wanted, &own, &mut reservation)
                .map_err(|error| Status::invalid("", "Service", &name, &[error]))?;
            object::child_mut(service, "spec")
                .insert("healthCheckNodePort".to_owned(), json!(number));
        }
        Ok(reservation)
    }

    /// Gives back what a Service had and has no more; `new` is none for a deleted one.
    pub fn release(&self, old: &Value, new: Option<&Value>) {
        let (mut gone, mut kept) = (Taken::default(), Taken::default());
        note(&mut gone, old);
        if let Some(new) = new {
            note(&mut kept, new);
        }
        gone.addresses
            .retain(|address| !kept.addresses.contains(address));
        gone.ports.retain(|port| !kept.ports.contains(port));
        let mut taken = self.taken.lock();
        for address in gone.addresses {
            taken.addresses.remove(&address);
        }
        for port in gone.ports {
            taken.ports.remove(&port);
        }
    }

    fn free_address(&self, lowest: bool, reservation: &mut Reservation) -> Option<String> {
        let mut taken = self.taken.lock();
        if taken.addresses.len() >= self.count as usize {
            return None;
        }
        let start = if lowest {
            0
        } else {
            rand::rng().random_range(0..self.count)
        };
        let free = (0..self.count)
            .map(|offset| self.first + (start + offset) % self.count)
            .find(|address| !taken.addresses.contains(address))?;
        taken.addresses.insert(free);
        reservation.addresses.push(free);
        Some(Ipv4Addr::from(free).to_string())
    }

    fn take_address(
        &self,
        text: &str,
        own: &Taken,
        reservation: &mut Reservation,
    ) -> Result<(), String> {
        let Ok(address) = text.parse::<Ipv4Addr>().map(u32::from) else {
            return Ok(());
        };
        if own.addresses.contains(&address) {
            return Ok(());
        }
        if address < self.first || address >= self.first + self.count {
            return Err(format!(
                "failed to allocate IP {text}: the provided network does not match the current range"
            ));
        }
        if self.taken.lock().addresses.insert(address) {
            reservation.addresses.push(address);
            Ok(())
        } else {
            Err(format!(
                "failed to allocate IP {text}: provided IP is already allocated"
            ))
        }
    }

    fn reserve_ports(
        &self,
        service: &mut Value,
        wants_all: bool,
        own: &Taken,
        reservation: &mut Reservation,
    ) -> Result<(), FieldError> {
        let ports = service
            .pointer_mut("/spec/ports")
            .and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let wanted = object::number(port, &["nodePort"]).unwrap_or(0);
            if wanted == 0 && !wants_all {
                continue;
            }
            let path = FieldPath::new("spec.ports").index(index).child("nodePort");
            let number = self.reserve_port(&path, wanted, own, reservation)?;
            port["nodePort"] = json!(number);
        }
        Ok(())
    }

    /// Takes the wanted port, or (for 0) any free one.
    fn reserve_port(
        &self,
        path: &FieldPath,
        wanted: i64,
        own: &Taken,
        reservation: &mut Reservation,
    ) -> Result<u16, FieldError> {
        let mut taken = self.taken.lock();
        let number = if wanted == 0 {
            let free = free_port(&taken, &self.node_ports);
            free.ok_or_else(|| internal("ports", "range is full"))?
        } else {
            let (low, high) = (self.node_ports.start(), self.node_ports.end());
            u16::try_from(wanted)
                .ok()
                .filter(|port| self.node_ports.contains(port))
                .ok_or_else(|| {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {low}-{high}"
                    );
                    FieldError::invalid(path, wanted, why)
                })?
        };
        if own.ports.contains(&number) {
            return Ok(number);
        }
        if !taken.ports.insert(number) {
            let why = "provided port is already allocated";
            return Err(FieldError::invalid(path, wanted, why));
        }
        reservation.ports.push(number);
        Ok(number)
    }
}

fn internal(field: &str, why: &str) -> FieldError {
    FieldError::internal(
        &FieldPath::new(format!("spec.{field}")),
        format!("failed to allocate: {why}"),
    )
}

fn free_port(taken: &Taken, range: &RangeInclusive<u16>) -> Option<u16> {
    let count = range.end() - range.start() + 1;
    let start = rand::rng().random_range(0..count);
    (0..count)
        .map(|offset| range.start() + (start + offset) % count)
        .find(|port| !taken.ports.contains(port))
}

fn set_address(service: &mut Value, address: &str) {
    let spec = object::child_mut(service, "spec");
    spec.insert("clusterIP".to_owned(), json!(address));
    spec.insert("clusterIPs".to_owned(), json!([address]));
}

fn note(taken: &mut Taken, service: &Value) {
    if let Ok(address) = object::text(service, &["spec", "clusterIP"]).parse::<Ipv4Addr>() {
        taken.addresses.insert(address.into());
    }
    let health_check = object::number(service, &["spec", "healthCheckNodePort"]);
    if let Some(port) = health_check.and_then(|port| u16::try_from(port).ok()) {
        taken.ports.insert(port);
    }
    for port in object::list(service, &["spec", "ports"]) {
        if let Some(port) = object::number(port, &["nodePort"]).and_then(|p| u16::try_from(p).ok())
        {
            taken.ports.insert(port);
        }
    }
}

fn parse_range(text: &str) -> Result<(u32, u32), String> {
    let bad = || format!("service range {text:?} is not an IPv4 range such as 10.96.0.0/16");
    let (address, bits) = text.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let bits: u32 = bits.parse().map_err(|_| bad())?;
    if !(8..=30).contains(&bits) {
        return Err(format!(
            "service range {text:?}: the prefix must have 8 to 30 bits"
        ));
    }
    let count = 1_u32 << (32 - bits);
    Ok((u32::from(address) & !(count - 1), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn addresses_are_unique_and_come_back() {
        let store = store::memory();
        let allocator = Allocator::new("10.0.0.0/29", 30000..=30001, &store).expect("a range");
        let catalog = Catalog::built_in();
        let definition = catalog.get("", "v1", "services").expect("built in");
        let mut given = BTreeSet::new();
        for _ in 0..6 {
            let mut service = json!({"spec": {"type": "ClusterIP"}});
            allocator
                .reserve(definition, &mut service, None, false)
                .expect("free")
                .keep();
            given.insert(object::text(&service, &["spec", "clusterIP"]).to_owned());
        }
        assert_eq!(given.len(), 6);
        let mut service = json!({"spec": {"type": "ClusterIP"}});
        assert!(
            allocator
                .reserve(definition, &mut service, None, false)
                .is_err(),
            "the range is full"
        );
        allocator.release(&json!({"spec": {"clusterIP": "10.0.0.3"}}), None);
        drop(
            allocator
                .reserve(definition, &mut service, None, false)
                .expect("one is free"),
        );
        let mut again = json!({"spec": {"type": "ClusterIP"}});
        allocator
            .reserve(definition, &mut again, None, false)
            .expect("it was given back")
            .keep();
        assert_eq!(again["spec"]["clusterIP"], "10.0.0.3");
    }

    #[test]
    fn node_ports_stay_in_their_range() {
        let store = store::memory();
        let allocator = Allocator::new("10.0.0.0/24", 30000..=30001, &store).expect("a range");
        let catalog = Catalog::built_in();
        let definition = catalog.get("", "v1", "services").expect("built in");
        let mut service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}});
        assert!(
            allocator
                .reserve(definition, &mut service, None, false)
                .is_err()
        );
        let mut service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}});
        allocator
            .reserve(definition, &mut service, None, false)
            .expect("two are free")
            .keep();
    }
}
