//! Single decisions about slices, and whole histories of them.

use proptest::prelude::*;

use super::*;

fn service(more: Value) -> Object {
    let mut spec = json!({
        "selector": {"a": "b"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
        "ports": [{"port": 80, "targetPort": "http"}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    Object::new(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"l": "1"}}, "spec": spec,
    }))
}

fn pod(number: usize, status: &str) -> Arc<Object> {
    let name = format!("p{number:03}");
    Arc::new(Object::new(json!({
        "metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"nodeName": "node", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running", "podIP": "10.1.0.1",
            "podIPs": [{"ip": format!("10.1.{}.{}", number / 200, number % 200)}, {"ip": format!("fd00::{number:x}")}],
            "conditions": [{"type": "Ready", "status": status}],
        },
    })))
}

fn node(name: &str) -> Option<Arc<Object>> {
    let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z"}}});
    (name == "node").then(|| Arc::new(Object::new(node)))
}

fn decide(service: &Object, pods: &[Arc<Object>], present: &[Arc<Object>]) -> Vec<Change> {
    let scene = Scene {
        service,
        pods,
        node: &node,
        trigger: None,
        zones: None,
    };
    plan(&scene, present)
}

/// The slices once the changes are made.
fn carry_out(changes: Vec<Change>, present: &mut Vec<Arc<Object>>, made: &mut usize) {
    for change in changes {
        match change {
            Change::Create(mut slice) => {
                *made += 1;
                slice["metadata"]["name"] = json!(format!("web-{made}"));
                present.push(Arc::new(Object::new(slice)));
            }
            Change::Update(slice) => {
                let slice = Object::new(slice);
                present.retain(|other| other.name() != slice.name());
                present.push(Arc::new(slice));
            }
            Change::Delete(key) => present.retain(|other| other.key() != key),
        }
    }
}

#[test]
fn a_service_gets_a_slice_and_keeps_it() {
    let service = service(json!({}));
    let (mut present, mut made) = (Vec::new(), 0);
    carry_out(
        decide(&service, &[pod(1, "True")], &[]),
        &mut present,
        &mut made,
    );
    let slice = present[0].value().clone();
    assert_eq!(
        slice["ports"],
        json!([{"name": "", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        slice["endpoints"],
        json!([{
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node", "zone": "z",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p001", "uid": "p001"},
        }])
    );
    assert_eq!(slice["metadata"]["labels"]["l"], "1");
    assert_eq!(decide(&service, &[pod(1, "True")], &present), []);
    // Without endpoints the slice stays, and says so.
    carry_out(decide(&service, &[], &present), &mut present, &mut made);
    assert_eq!(
        (made, present[0].value()["endpoints"].clone()),
        (1, Value::Null)
    );
    assert_eq!(decide(&service, &[], &present), []);
}

#[test]
fn every_family_has_slices_of_its_own() {
    let both = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let (mut present, mut made) = (Vec::new(), 0);
    carry_out(
        decide(&both, &[pod(1, "True")], &[]),
        &mut present,
        &mut made,
    );
    let types: Vec<&Value> = present
        .iter()
        .map(|slice| &slice.value()["addressType"])
        .collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
    assert_eq!(
        present[1].value()["endpoints"][0]["addresses"],
        json!(["fd00::1"])
    );
    let one = service(json!({}));
    let changes = decide(&one, &[pod(1, "True")], &present);
    assert_eq!(changes, [Change::Delete(present[1].key())]);
}

#[test]
fn endpoints_say_whether_they_serve() {
    let conditions = |more: Value, pod: Arc<Object>| {
        let changes = decide(&service(more), &[pod], &[]);
        let [Change::Create(slice)] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        let conditions = &slice["endpoints"][0]["conditions"];
        ["ready", "serving", "terminating"].map(|name| conditions[name] == true)
    };
    let mut leaving = pod(1, "True").value().clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let leaving = Arc::new(Object::new(leaving));
    assert_eq!(
        conditions(json!({}), pod(1, "False")),
        [false, false, false]
    );
    assert_eq!(conditions(json!({}), leaving.clone()), [false, true, true]);
    let publish = json!({"publishNotReadyAddresses": true});
    assert_eq!(
        conditions(publish.clone(), pod(1, "False")),
        [true, false, false]
    );
    assert_eq!(conditions(publish, leaving), [true, true, true]);
}

#[test]
fn traffic_can_be_kept_close() {
    let close = service(json!({"trafficDistribution": "PreferSameZone"}));
    let (mut present, mut made) = (Vec::new(), 0);
    carry_out(
        decide(&close, &[pod(1, "True")], &[]),
        &mut present,
        &mut made,
    );
    let hints = &present[0].value()["endpoints"][0]["hints"];
    assert_eq!(*hints, json!({"forZones": [{"name": "z"}]}));
    carry_out(
        decide(&service(json!({})), &[pod(1, "True")], &present),
        &mut present,
        &mut made,
    );
    assert!(present[0].value()["endpoints"][0].get("hints").is_none());
}

#[test]
fn a_slice_of_an_older_service_is_not_taken_over() {
    let (mut present, mut made) = (Vec::new(), 0);
    carry_out(
        decide(&service(json!({})), &[pod(1, "True")], &[]),
        &mut present,
        &mut made,
    );
    let mut newer = service(json!({})).value().clone();
    newer["metadata"]["uid"] = json!("newer");
    let changes = decide(&Object::new(newer), &[pod(1, "True")], &present);
    assert!(
        matches!(changes.as_slice(), [Change::Create(_), Change::Delete(_)]),
        "{changes:?}"
    );
}

proptest! {
    /// Whatever comes and goes: every Pod is in one slice, no slice is too full, and what has not changed is not written.
    #[test]
    fn slices_hold_every_pod_once(steps in prop::collection::vec(prop::collection::btree_set(0..260_usize, 0..230), 1..6)) {
        let service = service(json!({}));
        let (mut present, mut made) = (Vec::new(), 0);
        for wanted in steps {
            let pods: Vec<_> = wanted.iter().map(|number| pod(*number, "True")).collect();
            let changes = decide(&service, &pods, &present);
            carry_out(changes, &mut present, &mut made);
            let mut found = Vec::new();
            for slice in &present {
                let endpoints = object::list(slice.value(), &["endpoints"]);
                prop_assert!(endpoints.len() <= ENDPOINTS_MAX);
                prop_assert!(!endpoints.is_empty() || present.len() == 1);
                found.extend(endpoints.iter().map(|e| object::text(e, &["targetRef", "name"]).to_owned()));
            }
            found.sort();
            let names: Vec<String> = pods.iter().map(|pod| pod.name().to_owned()).collect();
            prop_assert_eq!(found, names);
            prop_assert_eq!(decide(&service, &pods, &present), []);
        }
    }

    #[test]
    fn one_new_pod_writes_one_slice(count in 1..250_usize) {
        let service = service(json!({}));
        let (mut present, mut made) = (Vec::new(), 0);
        let pods: Vec<_> = (0..=count).map(|number| pod(number, "True")).collect();
        carry_out(decide(&service, &pods[..count], &[]), &mut present, &mut made);
        prop_assert_eq!(decide(&service, &pods, &present).len(), 1);
    }
}
