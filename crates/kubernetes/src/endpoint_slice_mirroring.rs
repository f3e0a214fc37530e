//! Mirrors Endpoints that somebody writes by hand into endpoint slices, for those who read only slices.
//!
//! Only of Services without a selector: those with one have slices of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use controller::{
    Backoff, DeleteOptions, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler,
    WorkQueue, enqueue, index, owner,
};
use model::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::creation::create_named;
use crate::endpoint_slice::{SERVICE_NAME, selector, trigger};
use crate::error::Error;
use crate::resources;
use crate::settled::Settled;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Most addresses of a subset that are mirrored, as upstream.
const ADDRESSES_MAX: usize = 1000;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("endpointslicemirroring", Backoff::default());
    let services = cluster.informer(&resources::services());
    let endpoints = cluster.informer(&resources::endpoints());
    let slices = cluster.informer(&resources::endpoint_slices());
    slices.add_label_index(SERVICE_NAME);
    slices.add_owner_index();
    let _service_handler = services.add_handler(enqueue::object(&queue));
    let _endpoints_handler = endpoints.add_handler(enqueue::object(&queue));
    let _slice_handler = slices.add_handler(enqueue::mapped(&queue, |slice| {
        let name = slice.label(SERVICE_NAME).filter(|_| is_mirror(slice));
        let key = name.map(|name| ObjectKey::new(slice.namespace().unwrap_or_default(), name));
        key.into_iter().collect()
    }));
    let informers = vec![services.clone(), endpoints.clone(), slices.clone()];
    let reconciler = Mirrors {
        recorder: cluster.recorder("endpoint-slice-mirroring-controller"),
        cluster: cluster.clone(),
        services,
        endpoints,
        slices,
        settled: Settled::default(),
    };
    let name = "endpointslicemirroring";
    cluster.drive(name, queue, reconciler, informers).await;
}

fn is_mirror(slice: &Object) -> bool {
    slice.label(MANAGED_BY) == Some(MANAGER)
}

struct Mirrors {
    cluster: Cluster,
    services: Informer,
    endpoints: Informer,
    slices: Informer,
    recorder: EventRecorder,
    settled: Settled,
}

/// What to write.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: Vec<Value>,
    update: Vec<Value>,
    delete: Vec<ObjectKey>,
    /// Addresses that are none.
    invalid: usize,
    /// Addresses that are too many.
    skipped: usize,
}

/// Whether Endpoints are to be mirrored.
fn wants_mirror(endpoints: &Object, service: &Object) -> bool {
    let skips = endpoints.label(SKIP) == Some("true") || endpoints.annotation(LEADER).is_some();
    !skips && selector(service).is_none()
}

/// Compares the mirrors there are with those there should be. Pure.
fn plan(endpoints: &Object, present: &[Arc<Object>]) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    for subset in object::list(endpoints.value(), &["subsets"]) {
        let ports: Vec<Value> = object::list(subset, &["ports"]).iter().map(port).collect();
        let lists = [("addresses", true), ("notReadyAddresses", false)];
        let all = lists.into_iter().flat_map(|(name, ready)| {
            object::list(subset, &[name])
                .iter()
                .map(move |address| (address, ready))
        });
        let mut count = 0;
        for (address, ready) in all {
            let Ok(ip) = object::text(address, &["ip"]).parse::<IpAddr>() else {
                plan.invalid += 1;
                continue;
            };
            if count == ADDRESSES_MAX {
                plan.skipped += 1;
                continue;
            }
            count += 1;
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let slice = wanted
                .entry(key(family, &ports))
                .or_insert_with(|| mirror(endpoints, family, &ports));
            if let Some(list) = slice["endpoints"].as_array_mut() {
                list.push(endpoint(address, ip, ready));
            }
        }
    }
    let mut spare = Vec::new();
    for slice in present {
        let family = object::text(slice.value(), &["addressType"]);
        match wanted.remove(&key(family, object::list(slice.value(), &["ports"]))) {
            Some(slice_wanted) => plan.update.extend(changed(slice, slice_wanted)),
            None => spare.push(slice),
        }
    }
    for slice_wanted in wanted.into_values() {
        let fits =
            |slice: &&&Arc<Object>| slice.value()["addressType"] == slice_wanted["addressType"];
        // A slice that would go takes what would need a new one.
        match spare.iter().find(fits).map(|slice| (*slice).clone()) {
            Some(slice) => {
                spare.retain(|other| other.key() != slice.key());
                plan.update.extend(changed(&slice, slice_wanted));
            }
            None if endpoints.is_terminating() => {}
            None => plan.create.push(slice_wanted),
        }
    }
    plan.delete = spare.into_iter().map(|slice| slice.key()).collect();
    plan
}

fn key(family: &str, ports: &[Value]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|port| self::port(port).to_string())
        .collect();
    texts.sort();
    format!("{family} {}", texts.join(","))
}

fn port(port: &Value) -> Value {
    let mut made = json!({
        "name": object::text(port, &["name"]),
        "port": port["port"],
        "protocol": object::text(port, &["protocol"]),
    });
    if let Some(protocol) = port.get("appProtocol").filter(|value| !value.is_null()) {
        made["appProtocol"] = protocol.clone();
    }
    made
}

fn endpoint(address: &Value, ip: IpAddr, ready: bool) -> Value {
    let mut made = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    for field in ["targetRef", "nodeName", "hostname"] {
        if let Some(value) = address.get(field).filter(|value| !value.is_null()) {
            made[field] = value.clone();
        }
    }
    made
}

fn mirror(endpoints: &Object, family: &str, ports: &[Value]) -> Value {
    let copied = |pairs: &mut dyn Iterator<Item = (&str, &str)>| -> Map<String, Value> {
        pairs
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect()
    };
    let mut labels = copied(&mut endpoints.labels());
    labels.insert(SERVICE_NAME.to_owned(), json!(endpoints.name()));
    labels.insert(MANAGED_BY.to_owned(), json!(MANAGER));
    let mut annotations = copied(&mut endpoints.annotations());
    annotations.retain(|key, _| key != trigger::ANNOTATION && key != LAST_APPLIED);
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", endpoints.name()),
            "namespace": endpoints.namespace(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner::reference(endpoints, true)],
        },
        "addressType": family,
        "ports": ports,
        "endpoints": [],
    })
}

/// A slice with other content, where it differs.
fn changed(slice: &Object, wanted: Value) -> Option<Value> {
    let mut new = slice.value().clone();
    for field in ["ports", "endpoints"] {
        let empty = |value: Option<&Value>| {
            value.is_none_or(|value| value.as_array().is_none_or(Vec::is_empty))
        };
        if !(empty(new.get(field)) && empty(wanted.get(field))) {
            new[field] = wanted[field].clone();
        }
    }
    for field in ["labels", "annotations", "ownerReferences"] {
        let value = &wanted["metadata"][field];
        let none = value.as_object().is_some_and(Map::is_empty);
        if !(none && object::at(&new, &["metadata", field]).is_none()) {
            new["metadata"][field] = value.clone();
        }
    }
    (new != *slice.value()).then_some(new)
}

impl Reconciler for Mirrors {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let api = self.cluster.api();
        let mut present = self.slices.by_index(&index::label(SERVICE_NAME), &key.name);
        present.retain(|slice| slice.namespace() == key.namespace() && is_mirror(slice));
        let (endpoints, service) = (self.endpoints.get(key), self.services.get(key));
        let both = endpoints.zip(service);
        let wanted = both.filter(|(endpoints, service)| wants_mirror(endpoints, service));
        let decided = match &wanted {
            Some((endpoints, _)) => {
                let own = LabelSelector::from_labels([(SERVICE_NAME, key.name.as_str())]);
                if !self.settled.is(api, endpoints, &own, &self.slices).await? {
                    return Ok(Outcome::Requeue);
                }
                self.tell(endpoints, plan(endpoints, &present))
            }
            None => {
                self.settled.forget(key);
                Plan {
                    delete: present.iter().map(|slice| slice.key()).collect(),
                    ..Plan::default()
                }
            }
        };
        match self.carry_out(key, decided).await {
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Outcome::Requeue),
            // The namespace is going.
            Err(error) if error.is_forbidden() => Ok(Outcome::Done),
            outcome => outcome.map(|()| Outcome::Done).map_err(Error::from),
        }
    }
}

impl Mirrors {
    fn tell(&self, endpoints: &Object, plan: Plan) -> Plan {
        if plan.invalid > 0 {
            let text = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                plan.invalid
            );
            self.recorder.warning(endpoints, "InvalidIPAddress", text);
        }
        if plan.skipped > 0 {
            let text = format!(
                "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                plan.skipped + plan.invalid
            );
            self.recorder
                .warning(endpoints, "TooManyAddressesToMirror", text);
        }
        plan
    }

    async fn carry_out(&self, key: &ObjectKey, plan: Plan) -> Result<(), controller::Error> {
        let (api, slices) = (self.cluster.api(), resources::endpoint_slices());
        for slice in plan.create {
            let outcome = create_named(api, &slices, slice).await;
            self.settled.note(key, &outcome);
            outcome?;
        }
        for slice in plan.update {
            let outcome = api.update(&slices, &slice).await;
            self.settled.note(key, &outcome);
            outcome?;
        }
        for slice in plan.delete {
            api.delete(&slices, &slice, &DeleteOptions::default())
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(subsets: Value) -> Object {
        Object::new(json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "db", "namespace": "n", "uid": "e", "labels": {"l": "1"},
                "annotations": {LAST_APPLIED: "x", "a": "1"},
            },
            "subsets": subsets,
        }))
    }

    #[test]
    fn endpoints_are_mirrored_by_family_and_ports() {
        let port = json!({"name": "sql", "port": 5432, "protocol": "TCP"});
        let written = endpoints(json!([{
            "addresses": [{"ip": "10.0.0.1", "hostname": "a"}, {"ip": "fd00::1"}, {"ip": "nonsense"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [port],
        }]));
        let made = plan(&written, &[]);
        assert_eq!((made.create.len(), made.invalid), (2, 1));
        let slice = &made.create[0];
        assert_eq!(slice["ports"], json!([port]));
        assert_eq!(
            slice["endpoints"],
            json!([
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hostname": "a"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            ])
        );
        assert_eq!(slice["metadata"]["annotations"], json!({"a": "1"}));
        let present: Vec<Arc<Object>> = made
            .create
            .iter()
            .enumerate()
            .map(|(number, slice)| {
                let mut slice = slice.clone();
                slice["metadata"]["name"] = json!(format!("db-{number}"));
                Arc::new(Object::new(slice))
            })
            .collect();
        let same = plan(&written, &present);
        assert_eq!(
            (same.create.len(), same.update.len(), same.delete.len()),
            (0, 0, 0)
        );
        // Another port: the slice that is there takes it.
        let other = endpoints(
            json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}]),
        );
        let moved = plan(&other, &present);
        assert_eq!((moved.create.len(), moved.update.len()), (0, 1));
        assert_eq!(moved.delete, [present[1].key()]);
    }

    #[test]
    fn some_endpoints_are_left_alone() {
        let service = |selector: Value| Object::new(json!({"spec": {"selector": selector}}));
        let plain = endpoints(json!([]));
        assert!(wants_mirror(&plain, &service(Value::Null)));
        assert!(!wants_mirror(&plain, &service(json!({"a": "b"}))));
        let mut skipped = plain.value().clone();
        skipped["metadata"]["labels"][SKIP] = json!("true");
        assert!(!wants_mirror(&Object::new(skipped), &service(Value::Null)));
    }
}
