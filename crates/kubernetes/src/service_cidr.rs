//! Ranges of Service addresses: a finalizer keeps each until no Service has an address in it that
//! lies in no other range.

use std::net::IpAddr;

use controller::condition::{self, Condition};
use controller::{Backoff, ObjectKey, Outcome, Reconciler, Subresource, WorkQueue, enqueue};
use model::object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("servicecidr", Backoff::default());
    let ranges = cluster.informer(&resources::service_cidrs());
    let services = cluster.informer(&resources::services());
    let _range_handler = ranges.add_handler(enqueue::object(&queue));
    // A Service that goes may be what a range waits for.
    let known = ranges.clone();
    let _service_handler = services.add_handler(enqueue::mapped(&queue, move |_| {
        let waiting = known.list();
        let waiting = waiting.iter().filter(|range| range.is_terminating());
        waiting.map(|range| range.key()).collect()
    }));
    let reconciler = Ranges {
        cluster: cluster.clone(),
    };
    cluster
        .drive("servicecidr", queue, reconciler, vec![ranges, services])
        .await;
}

struct Ranges {
    cluster: Cluster,
}

/// Whether a range such as `10.0.0.0/24` holds an address.
fn holds(range: &str, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, true),
        IpAddr::V6(address) => (u128::from(address), false),
    };
    let Some((base, length)) = range.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    let ((base, base_is_4), (address, is_4)) = (bits(base), bits(address));
    base_is_4 == is_4 && (length == 0 || (base ^ address) >> (128 - length.min(128)) == 0)
}

fn ranges_of(value: &Value) -> Vec<&str> {
    let list = object::list(value, &["spec", "cidrs"]);
    list.iter().filter_map(Value::as_str).collect()
}

/// Whether an address lies in `own` and in none of `others`.
fn depends_on(address: IpAddr, own: &Value, others: &[&Value]) -> bool {
    let within = |range: &Value| ranges_of(range).iter().any(|cidr| holds(cidr, address));
    within(own) && !others.iter().any(|other| within(other))
}

impl Ranges {
    fn is_used(&self, key: &ObjectKey, own: &Value) -> bool {
        let ranges = self.cluster.informer(&resources::service_cidrs()).list();
        let others: Vec<&Value> = ranges
            .iter()
            .filter(|range| range.key() != *key && !range.is_terminating())
            .map(|range| range.value())
            .collect();
        let services = self.cluster.informer(&resources::services()).list();
        services.iter().any(|service| {
            let addresses = object::list(service.value(), &["spec", "clusterIPs"]);
            addresses
                .iter()
                .filter_map(|address| address.as_str()?.parse().ok())
                .any(|address| depends_on(address, own, &others))
        })
    }

    async fn tell(&self, key: &ObjectKey, own: &Value, told: &Condition) -> Result<(), Error> {
        let mut status = own.get("status").cloned().unwrap_or_else(|| json!({}));
        if !condition::set(&mut status, told, &self.cluster.timestamp()) {
            return Ok(());
        }
        let patch = json!({"status": status});
        let ranges = resources::service_cidrs();
        let api = self.cluster.api();
        api.merge_patch(&ranges, key, Subresource::Status, &patch)
            .await?;
        Ok(())
    }

    async fn hold(&self, key: &ObjectKey, own: &Value, held: bool) -> Result<(), Error> {
        let finalizers: Vec<&str> = object::finalizers(own)
            .filter(|finalizer| *finalizer != FINALIZER)
            .chain(held.then_some(FINALIZER))
            .collect();
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": object::resource_version(own),
        }});
        let ranges = resources::service_cidrs();
        let api = self.cluster.api();
        api.merge_patch(&ranges, key, Subresource::None, &patch)
            .await?;
        Ok(())
    }
}

impl Reconciler for Ranges {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let range = self.cluster.informer(&resources::service_cidrs()).get(key);
        let Some(range) = range else {
            return Ok(Outcome::Done);
        };
        let own = range.value();
        let held = object::finalizers(own).any(|finalizer| finalizer == FINALIZER);
        let outcome = match (range.is_terminating(), held) {
            (false, false) => self.hold(key, own, true).await,
            (false, true) => {
                let ready = Condition::new("Ready", true, "", READY);
                self.tell(key, own, &ready).await
            }
            (true, true) if self.is_used(key, own) => {
                let going = Condition::new("Ready", false, "Terminating", IN_USE);
                self.tell(key, own, &going).await
            }
            (true, true) => self.hold(key, own, false).await,
            (true, false) => Ok(()),
        };
        match outcome {
            Err(Error::Api(error)) if error.is_not_found() => Ok(Outcome::Done),
            other => other.map(|()| Outcome::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_range_unless_another_has_it() {
        let range = |cidr: &str| json!({"spec": {"cidrs": [cidr]}});
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (own, wider) = (range("10.1.0.0/24"), range("10.1.0.0/16"));
        assert!(depends_on(address("10.1.0.7"), &own, &[]));
        assert!(!depends_on(address("10.1.0.7"), &own, &[&wider]));
        assert!(!depends_on(address("10.2.0.7"), &own, &[]));
        assert!(!depends_on(address("fd00::1"), &own, &[]));
        assert!(holds("fd00::/64", address("fd00::1")));
    }
}
