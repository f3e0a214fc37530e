//! What is taken, as entries of the store: whoever writes the entry first has it, whichever server it asks.
//!
//! An address is an `IPAddress` object, as upstream's, which names the Service as its parent; a node port is an entry of
//! the server's own. A claim that was made for a Service that was never written is found by [`Claims::repair`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::object;
use serde_json::{Value, json};
use store::{Change, Error, Expect, ListOptions, Revision, Store, Write};

use super::range::Family;
use crate::envelope;

const ADDRESSES: (&str, &str) = ("networking.k8s.io", "ipaddresses");
/// Not a group anybody can ask for.
const PORTS: (&str, &str) = ("internal", "nodeports");

/// Something only one Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A cluster IP.
    Address(IpAddr),
    /// A node port.
    Port(u16),
}

impl Thing {
    fn key(self) -> Arc<str> {
        match self {
            Self::Address(address) => {
                envelope::key(ADDRESSES.0, ADDRESSES.1, None, &address.to_string())
            }
            Self::Port(port) => envelope::key(PORTS.0, PORTS.1, None, &port.to_string()),
        }
    }

    fn of_key(key: &str) -> Option<Self> {
        let name = envelope::name_of(key).1;
        if key.starts_with(&prefix(ADDRESSES)) {
            name.parse().ok().map(Self::Address)
        } else {
            name.parse().ok().map(Self::Port)
        }
    }
}

fn prefix((group, resource): (&str, &str)) -> String {
    envelope::key_prefix(group, resource, None)
}

/// Everything a Service has.
pub fn things_of(service: &Value) -> Vec<Thing> {
    let mut things = Vec::new();
    let addresses = object::list(service, &["spec", "clusterIPs"]).iter();
    let mut texts: Vec<&str> = addresses.filter_map(Value::as_str).collect();
    texts.push(object::text(service, &["spec", "clusterIP"]));
    for address in texts.into_iter().filter_map(|text| text.parse().ok()) {
        things.push(Thing::Address(address));
    }
    let health_check = object::number(service, &["spec", "healthCheckNodePort"]);
    let ports = object::list(service, &["spec", "ports"]).iter();
    let ports = ports.filter_map(|port| object::number(port, &["nodePort"]));
    for port in ports.chain(health_check) {
        // 0 asks for one.
        if let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) {
            things.push(Thing::Port(port));
        }
    }
    things.sort_unstable();
    things.dedup();
    things
}

/// Claims in a store.
#[derive(Clone)]
pub struct Claims {
    store: Arc<dyn Store>,
    clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

impl Claims {
    /// The claims of a store.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
    ) -> Self {
        Self { store, clock }
    }

    /// Whether something is taken, as far as is known here.
    pub fn is_taken(&self, thing: Thing) -> bool {
        self.store.get(&thing.key()).is_some()
    }

    /// How many addresses are taken, of any family.
    pub fn addresses(&self) -> usize {
        self.store.count(&prefix(ADDRESSES))
    }

    /// Takes something for a Service; none where somebody has it.
    pub async fn take(&self, thing: Thing, owner: &Owner) -> Result<Option<Claim>, Error> {
        let document = envelope::encode(&self.document(thing, owner));
        let document = document.map_err(|status| Error::Disk {
            operation: "encoding a claim",
            message: status.message,
        })?;
        let write = Write {
            key: thing.key(),
            expect: Expect::Absent,
            change: Change::Put(document),
        };
        match self.store.commit(write).await {
            Ok(entry) => Ok(Some(Claim {
                thing,
                revision: entry.revision(),
            })),
            Err(Error::Conflict { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn document(&self, thing: Thing, owner: &Owner) -> Value {
        let now = (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let parent = json!({
            "group": "", "resource": "services", "namespace": owner.namespace, "name": owner.name,
        });
        let mut metadata =
            json!({"creationTimestamp": now, "uid": uuid::Uuid::new_v4().to_string()});
        match thing {
            Thing::Address(address) => {
                metadata["name"] = json!(address.to_string());
                metadata["labels"] = json!({
                    "ipaddress.kubernetes.io/ip-family": Family::of(address).name(),
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                });
                json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                    "metadata": metadata, "spec": {"parentRef": parent},
                })
            }
            Thing::Port(port) => {
                metadata["name"] = json!(port.to_string());
                json!({"metadata": metadata, "spec": {"parentRef": parent}})
            }
        }
    }

    /// Gives back what a Service had.
    pub async fn give_back(&self, thing: Thing, owner: &Owner) {
        let Some(entry) = self.store.get(&thing.key()) else {
            return;
        };
        let Ok(document) = envelope::decode(&entry) else {
            return;
        };
        if Owner::of_claim(&document) == *owner {
            self.remove(thing, entry.revision()).await;
        }
    }

    /// Undoes a claim of this server.
    pub async fn undo(&self, claim: &Claim) {
        self.remove(claim.thing, claim.revision).await;
    }

    async fn remove(&self, thing: Thing, revision: Revision) {
        let key = thing.key();
        let Some(entry) = self.store.get(&key).filter(|e| e.revision() == revision) else {
            return;
        };
        let Ok(last) = envelope::decode(&entry).and_then(|last| envelope::encode(&last)) else {
            return;
        };
        let write = Write {
            key,
            expect: Expect::Revision(revision),
            change: Change::Delete(last),
        };
        match self.store.commit(write).await {
            Ok(_) | Err(Error::Conflict { .. }) => {}
            // The next repair finds it.
            Err(error) => tracing::warn!(%error, ?thing, "giving back"),
        }
    }

    /// Makes claims that are missing, and removes those that led nowhere when this was called before, too. Returns those
    /// that lead nowhere now.
    pub async fn repair(
        &self,
        suspects: &BTreeMap<Thing, Revision>,
    ) -> Result<BTreeMap<Thing, Revision>, Error> {
        let mut wanted: BTreeMap<Thing, Owner> = BTreeMap::new();
        let services = envelope::key_prefix("", "services", None);
        for entry in self.store.list(&services, &ListOptions::default())?.entries {
            if let Ok(service) = envelope::decode(&entry) {
                let owner = Owner::of_service(&service);
                let things = things_of(&service).into_iter();
                wanted.extend(things.map(|thing| (thing, owner.clone())));
            }
        }
        let mut left = BTreeMap::new();
        for kind in [ADDRESSES, PORTS] {
            for entry in self
                .store
                .list(&prefix(kind), &ListOptions::default())?
                .entries
            {
                let Some(thing) = Thing::of_key(entry.key()) else {
                    continue;
                };
                let is_ours = envelope::decode(&entry).is_ok_and(|document| {
                    object::text(&document, &["spec", "parentRef", "resource"]) == "services"
                });
                if wanted.remove(&thing).is_some() || !is_ours {
                    continue;
                }
                // A Service may be about to be written.
                if suspects.get(&thing) == Some(&entry.revision()) {
                    self.remove(thing, entry.revision()).await;
                } else {
                    left.insert(thing, entry.revision());
                }
            }
        }
        for (thing, owner) in wanted {
            self.take(thing, &owner).await?;
        }
        Ok(left)
    }
}

/// Whose a claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    namespace: String,
    name: String,
}

impl Owner {
    /// A Service.
    pub fn of_service(service: &Value) -> Self {
        Self {
            namespace: object::namespace(service).to_owned(),
            name: object::name(service).to_owned(),
        }
    }

    fn of_claim(document: &Value) -> Self {
        let text = |name: &str| object::text(document, &["spec", "parentRef", name]).to_owned();
        Self {
            namespace: text("namespace"),
            name: text("name"),
        }
    }
}

/// Something taken by this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is.
    pub thing: Thing,
    revision: Revision,
}
