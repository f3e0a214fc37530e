//! Endpoints and endpoint slices under faults: they name every Pod once, follow what changes, and go with the Service.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::kubelet::Act;
use common::objects::{DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES, workload};
use common::recorder::World;
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{Object, Subresource};
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &[
    "deployment",
    "replicaset",
    "endpoints",
    "endpointslice",
    "endpointslicemirroring",
    "garbagecollector",
];

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    })
}

fn list<'a>(object: &'a Object, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The Pods the slices name, each as often as they do.
fn named(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world
        .all("endpointslices")
        .flat_map(|slice| list(slice, "/endpoints"))
        .map(|endpoint| {
            endpoint["targetRef"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

fn running(world: &World) -> Vec<String> {
    world.pods().map(|pod| pod.name().to_owned()).collect()
}

/// Gives Pods addresses, as the harness' kubelets do not.
async fn give_addresses(h: &Harness, known: &mut BTreeSet<String>) {
    let names: Vec<String> = h.recorder.with(running);
    for name in names {
        if !known.insert(name.clone()) {
            continue;
        }
        let ip = format!("10.9.{}.{}", known.len() / 200, known.len() % 200 + 1);
        let patch = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        let key = controller::ObjectKey::new(NAMESPACE, &name);
        let patched = h
            .api
            .merge_patch(&PODS(), &key, Subresource::Status, &patch)
            .await;
        // It may be gone by now.
        drop(patched);
    }
}

#[test]
fn slices_follow_pods_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let (mut known, seen) = (BTreeSet::new(), |w: &World| named(w) == running(w));
        h.create(&SERVICES(), &service("web")).await;
        h.create(
            &DEPLOYMENTS(),
            &workload("Deployment", "web", &json!({"replicas": 6})),
        )
        .await;
        h.until("six run", |w| {
            w.pods().filter(|p| common::objects::is_ready(p)).count() == 6
        })
        .await;
        give_addresses(&h, &mut known).await;
        h.until("all are named", seen).await;
        h.restart().await;
        h.patch(&DEPLOYMENTS(), "web", &json!({"spec": {"replicas": 2}}))
            .await;
        h.until("two are named", |w| w.pods().count() == 2 && seen(w))
            .await;
        h.calm();
        h.until("the Endpoints say the same", |w| {
            let endpoints = w.get("endpoints", "web");
            endpoints.is_some_and(|endpoints| list(endpoints, "/subsets/0/addresses").len() == 2)
        })
        .await;
        h.until("one slice has them all", |w| {
            w.all("endpointslices").count() == 1
        })
        .await;
        h.at_rest().await;
        h.kubelet.set(Arc::new(|_| Act::Unready));
        h.delete(&SERVICES(), "web").await;
        h.until("all goes with the Service", |w| {
            w.all("endpointslices").count() == 0 && w.all("endpoints").count() == 0
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn what_others_do_to_slices_is_undone() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&SERVICES(), &service("web")).await;
        h.until("there is a slice", |w| w.all("endpointslices").count() == 1)
            .await;
        let slice = h.recorder.with(|w| {
            let slice = w.all("endpointslices").next();
            slice.map(|slice| slice.name().to_owned())
        });
        let slice = slice.expect("there is one");
        let foreign = json!({"endpoints": [{"addresses": ["10.9.9.9"]}]});
        h.patch(&ENDPOINT_SLICES(), &slice, &foreign).await;
        h.until("it names nobody again", |w| {
            w.all("endpointslices")
                .all(|slice| list(slice, "/endpoints").is_empty())
        })
        .await;
        h.delete(&ENDPOINT_SLICES(), &slice).await;
        h.calm();
        h.until("there is another", |w| {
            w.all("endpointslices").count() == 1
                && w.all("endpointslices").all(|other| other.name() != slice)
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn endpoints_by_hand_are_mirrored() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        let mut open = service("db");
        open["spec"]["selector"] = Value::Null;
        h.create(&SERVICES(), &open).await;
        let by_hand = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db", "namespace": NAMESPACE},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 5432}]}],
        });
        h.create(&ENDPOINTS(), &by_hand).await;
        let mirrored = |address: &'static str| {
            move |w: &World| {
                let slices: Vec<_> = w.all("endpointslices").collect();
                slices.len() == 1
                    && slices[0].pointer("/endpoints/0/addresses/0") == Some(&json!(address))
            }
        };
        h.until("it is mirrored", mirrored("10.0.0.1")).await;
        h.restart().await;
        let moved =
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 5433}]}]});
        h.patch(&ENDPOINTS(), "db", &moved).await;
        h.until("the mirror follows", mirrored("10.0.0.2")).await;
        h.calm();
        h.delete(&ENDPOINTS(), "db").await;
        h.until("it goes, too", |w| w.all("endpointslices").count() == 0)
            .await;
        h.at_rest().await;
    });
}

#[test]
fn hints_share_endpoints_by_zone_whatever_goes_wrong() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        for number in 0..3 {
            let zone = json!({"metadata": {"labels": {
                "topology.kubernetes.io/zone": format!("zone-{number}"),
            }}});
            h.patch(&NODES(), &format!("node-{number}"), &zone).await;
        }
        let mut near = service("web");
        near["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto"});
        h.create(&SERVICES(), &near).await;
        let web = workload("Deployment", "web", &json!({"replicas": 6}));
        h.create(&DEPLOYMENTS(), &web).await;
        h.until("six run", |w| {
            w.pods().filter(|p| common::objects::is_ready(p)).count() == 6
        })
        .await;
        give_addresses(&h, &mut BTreeSet::new()).await;
        h.until("every zone has its share", |w| {
            hints(w) == [("zone-0", 2), ("zone-1", 2), ("zone-2", 2)].map(owned)
        })
        .await;
        h.restart().await;
        // A zone without nodes sends no traffic.
        let out = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let key = controller::ObjectKey::cluster("node-2");
        let patched = h
            .api
            .merge_patch(&NODES(), &key, Subresource::Status, &out)
            .await;
        patched.expect("a node");
        h.until("the others share", |w| {
            hints(w) == [("zone-0", 3), ("zone-1", 3)].map(owned)
        })
        .await;
        let off =
            json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": null}}});
        h.patch(&SERVICES(), "web", &off).await;
        h.until("there are no hints", |w| hints(w).is_empty()).await;
        h.calm();
        h.at_rest().await;
    });
}

fn owned((zone, count): (&str, usize)) -> (String, usize) {
    (zone.to_owned(), count)
}

/// For how many endpoints each zone is hinted.
fn hints(world: &World) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for endpoint in world
        .all("endpointslices")
        .flat_map(|slice| list(slice, "/endpoints"))
    {
        if let Some(zone) = endpoint["hints"]["forZones"][0]["name"].as_str() {
            *counts.entry(zone.to_owned()).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}
