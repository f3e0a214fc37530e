//! Cluster IPs and node ports of Services.
//!
//! Both are taken from a range and must be unique, so they are handed out by the server itself when a Service is written,
//! as upstream does. What is taken is in the store ([`claims`]), so several servers on one store never give the same
//! twice; what was taken for a write that did not happen is given back.
//!
//! Left out: ranges from further ServiceCIDR objects.

mod claims;
mod families;
mod range;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use model::{FieldError, FieldPath, Status, object};
use rand::Rng as _;
use serde_json::{Value, json};
use store::Store;
use tokio_util::sync::CancellationToken;

use self::claims::{Claim, Claims, Owner, Thing, things_of};
use self::range::{Family, Range};
use crate::catalog::Definition;
use crate::server::Clock;

/// How often claims are compared with Services.
const REPAIR_PERIOD: Duration = Duration::from_mins(3);
/// Places tried at random before all are tried in turn.
const GUESSES: usize = 16;

/// Hands out addresses and ports.
pub struct Allocator {
    ranges: Vec<Range>,
    node_ports: RangeInclusive<u16>,
    claims: Claims,
}

/// What a write has taken; given back when dropped without [`Reservation::keep`].
#[must_use]
pub struct Reservation {
    claims: Claims,
    taken: Vec<Claim>,
}

impl Reservation {
    /// The write has happened.
    pub fn keep(mut self) {
        self.taken.clear();
    }

    /// The write has not happened: when this is done, everything is free for the next attempt.
    pub async fn give_back(mut self) {
        for claim in std::mem::take(&mut self.taken) {
            self.claims.undo(&claim).await;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() {
            return;
        }
        let claims = self.claims.clone();
        // Without a runtime the server is going; the next one repairs.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for claim in taken {
                    claims.undo(&claim).await;
                }
            });
        }
    }
}

/// One write that takes things.
struct Taking<'a> {
    allocator: &'a Allocator,
    owner: Owner,
    own: Vec<Thing>,
    dry_run: bool,
    reservation: Reservation,
}

impl Allocator {
    /// An allocator over ranges such as `10.96.0.0/16` or `10.96.0.0/16,fd00:10:96::/112`.
    pub fn new(
        ranges: &str,
        node_ports: RangeInclusive<u16>,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Self, String> {
        Ok(Self {
            ranges: Range::parse_all(ranges)?,
            node_ports,
            claims: Claims::new(store, clock),
        })
    }

    /// The first address of the first range: the `kubernetes` Service's.
    pub fn first_address(&self) -> String {
        self.ranges[0].address(0).to_string()
    }

    /// Makes sure that what Services have is taken: those of an older version of this program, of a backup.
    pub async fn prepare(&self) -> Result<(), store::Error> {
        self.claims.repair(&Default::default()).await.map(drop)
    }

    /// Compares claims with Services now and then.
    pub async fn keep_repaired(&self, shutdown: CancellationToken) {
        let mut suspects = Default::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(REPAIR_PERIOD) => {}
            }
            match self.claims.repair(&suspects).await {
                Ok(found) => suspects = found,
                Err(error) => tracing::warn!(%error, "comparing addresses and ports with Services"),
            }
        }
    }

    /// Settles which families of addresses a new or changed Service has; anything else passes untouched.
    pub fn settle(
        &self,
        definition: &Definition,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let external = object::text(service, &["spec", "type"]) == "ExternalName";
        if !is_service(definition) || external {
            return Ok(());
        }
        let configured: Vec<Family> = self.ranges.iter().map(|range| range.family).collect();
        families::settle(service, old, &configured).map_err(|errors| {
            let name = object::name(service).to_owned();
            Status::invalid("", "Service", &name, &errors)
        })
    }

    /// Fills in what a new or changed Service needs; anything else passes untouched.
    pub async fn reserve(
        &self,
        definition: &Definition,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        let mut taking = Taking {
            allocator: self,
            owner: Owner::of_service(service),
            own: old.map(things_of).unwrap_or_default(),
            dry_run,
            reservation: Reservation {
                claims: self.claims.clone(),
                taken: Vec::new(),
            },
        };
        if is_service(definition) {
            let outcome = taking.all(service).await;
            outcome.map_err(|failure| match failure {
                Failure::Invalid(error) => {
                    Status::invalid("", "Service", object::name(service), &[error])
                }
                Failure::Store(error) => crate::write::store_error(&error),
            })?;
        }
        Ok(taking.reservation)
    }

    /// Gives back what a Service had and has no more; `new` is none for a deleted one.
    pub async fn release(&self, old: &Value, new: Option<&Value>) {
        let kept = new.map(things_of).unwrap_or_default();
        let owner = Owner::of_service(old);
        for thing in things_of(old) {
            if !kept.contains(&thing) {
                self.claims.give_back(thing, &owner).await;
            }
        }
    }
}

fn is_service(definition: &Definition) -> bool {
    let gvr = &definition.gvr;
    gvr.resource == "services" && gvr.group.is_empty()
}

/// Why nothing is handed out.
enum Failure {
    Invalid(FieldError),
    Store(store::Error),
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}

impl Taking<'_> {
    async fn all(&mut self, service: &mut Value) -> Result<(), Failure> {
        let kind = object::text(service, &["spec", "type"]).to_owned();
        if kind != "ExternalName" {
            self.addresses(service).await?;
        }
        // A load balancer can do without the ports it does not ask for.
        let spec = |field: &str| object::at(service, &["spec", field]);
        let balances = kind == "LoadBalancer";
        let wants_ports = kind == "NodePort"
            || (balances && spec("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
        let wants_health_check = balances && spec("externalTrafficPolicy") == Some(&json!("Local"));
        if balances || kind == "NodePort" {
            self.ports(service, wants_ports).await?;
        }
        if wants_health_check {
            let wanted = object::number(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
            let path = FieldPath::new("spec.healthCheckNodePort");
            let number = self.port(&path, wanted).await?;
            object::child_mut(service, "spec")
                .insert("healthCheckNodePort".to_owned(), json!(number));
        }
        Ok(())
    }

    async fn addresses(&mut self, service: &mut Value) -> Result<(), Failure> {
        let primary = object::text(service, &["spec", "clusterIP"]).to_owned();
        if primary == "None" {
            return Ok(());
        }
        let mut wanted: Vec<String> = object::list(service, &["spec", "clusterIPs"])
            .iter()
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        if wanted.is_empty() && !primary.is_empty() {
            wanted.push(primary);
        }
        let mut families = families::named(service);
        if families.is_empty() {
            families.push(self.allocator.ranges[0].family);
        }
        let mut given = Vec::new();
        for (place, family) in families.into_iter().enumerate() {
            match wanted.get(place).filter(|address| !address.is_empty()) {
                Some(text) => {
                    self.address(text, &wanted).await?;
                    given.push(text.clone());
                }
                None => given.push(self.free_address(family).await?.to_string()),
            }
        }
        let spec = object::child_mut(service, "spec");
        spec.insert("clusterIP".to_owned(), json!(given[0]));
        spec.insert("clusterIPs".to_owned(), json!(given));
        Ok(())
    }

    /// Takes the address a Service asks for.
    async fn address(&mut self, text: &str, wanted: &[String]) -> Result<(), Failure> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return Ok(());
        };
        if self.own.contains(&Thing::Address(address)) {
            return Ok(());
        }
        let refuse = |why: &str| {
            let path = FieldPath::new("spec.clusterIPs");
            let why = format!("failed to allocate IP {text}: {why}");
            FieldError::invalid(&path, json!(wanted), why)
        };
        let fits = |range: &&Range| range.contains(address);
        if self.allocator.ranges.iter().find(fits).is_none() {
            return Err(refuse("the provided network does not match the current range").into());
        }
        if self.take(Thing::Address(address)).await? {
            Ok(())
        } else {
            Err(refuse("provided IP is already allocated").into())
        }
    }

    async fn free_address(&mut self, family: Family) -> Result<IpAddr, Failure> {
        let full = || internal("clusterIPs", "range is full");
        let ranges = &self.allocator.ranges;
        let range = *ranges
            .iter()
            .find(|range| range.family == family)
            .ok_or_else(full)?;
        let start = if self.dry_run {
            // As upstream: every dry run shows the same address.
            0
        } else {
            for _ in 0..GUESSES {
                let address = range.address(rand::rng().random_range(0..range.capacity()));
                if self.take(Thing::Address(address)).await? {
                    return Ok(address);
                }
            }
            rand::rng().random_range(0..range.capacity())
        };
        // A range that random guesses do not find a way into is nearly full; no further than it can be taken.
        let limit = range
            .capacity()
            .min(self.allocator.claims.addresses() as u128 + 1);
        for place in 0..range.capacity() {
            let address = range.address(start + place);
            if self.take(Thing::Address(address)).await? {
                return Ok(address);
            }
            if place > limit {
                break;
            }
        }
        Err(full().into())
    }

    async fn ports(&mut self, service: &mut Value, wants_all: bool) -> Result<(), Failure> {
        let ports = service
            .pointer_mut("/spec/ports")
            .and_then(Value::as_array_mut);
        // Ports of different protocols may share a number.
        let mut given: Vec<(i64, String)> = Vec::new();
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let wanted = object::number(port, &["nodePort"]).unwrap_or(0);
            if wanted == 0 && !wants_all {
                continue;
            }
            let protocol = object::text(port, &["protocol"]).to_owned();
            let shared = given
                .iter()
                .any(|(number, of)| *number == wanted && *of != protocol);
            let path = FieldPath::new("spec.ports").index(index).child("nodePort");
            if !shared {
                let number = self.port(&path, wanted).await?;
                port["nodePort"] = json!(number);
                given.push((i64::from(number), protocol));
            }
        }
        Ok(())
    }

    /// Takes the wanted port, or (for 0) any free one.
    async fn port(&mut self, path: &FieldPath, wanted: i64) -> Result<u16, Failure> {
        let range = self.allocator.node_ports.clone();
        if wanted == 0 {
            return self.free_port().await;
        }
        let (low, high) = (range.start(), range.end());
        let number = u16::try_from(wanted)
            .ok()
            .filter(|port| range.contains(port))
            .ok_or_else(|| {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {low}-{high}"
                );
                FieldError::invalid(path, wanted, why)
            })?;
        if self.own.contains(&Thing::Port(number)) || self.take(Thing::Port(number)).await? {
            return Ok(number);
        }
        let why = "provided port is already allocated";
        Err(FieldError::invalid(path, wanted, why).into())
    }

    async fn free_port(&mut self) -> Result<u16, Failure> {
        let range = self.allocator.node_ports.clone();
        let count = u32::from(range.end() - range.start()) + 1;
        let start = rand::rng().random_range(0..count);
        for offset in 0..count {
            let place = u16::try_from((start + offset) % count).unwrap_or(0);
            let number = range.start() + place;
            if self.take(Thing::Port(number)).await? {
                return Ok(number);
            }
        }
        Err(internal("ports", "range is full").into())
    }

    /// Takes something unless it is taken.
    async fn take(&mut self, thing: Thing) -> Result<bool, store::Error> {
        let claims = &self.allocator.claims;
        if claims.is_taken(thing) {
            return Ok(false);
        }
        if self.dry_run {
            return Ok(true);
        }
        let claim = claims.take(thing, &self.owner).await?;
        let taken = claim.is_some();
        self.reservation.taken.extend(claim);
        Ok(taken)
    }
}

fn internal(field: &str, why: &str) -> FieldError {
    FieldError::internal(
        &FieldPath::new(format!("spec.{field}")),
        format!("failed to allocate: {why}"),
    )
}

#[cfg(test)]
#[path = "allocate/tests.rs"]
mod tests;
