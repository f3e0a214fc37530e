//! Volumes and claims under faults: no volume has two claims, none is lost, what is asked for is made, grows and goes.

mod common;

use common::objects::{CLAIMS, condition};
use common::{Harness, NAMESPACE, Setup, each_seed};
use controller::{Object, ObjectKey, Resource, Subresource};
use serde_json::{Value, json};

const CONTROLLERS: &[&str] = &[
    "persistentvolumebinder",
    "localpathprovisioner",
    "persistentvolumeclaimprotection",
    "persistentvolumeprotection",
];

fn volumes() -> Resource {
    Resource::cluster("v1", "persistentvolumes", "PersistentVolume")
}

fn classes() -> Resource {
    Resource::cluster("storage.k8s.io/v1", "storageclasses", "StorageClass")
}

fn class(name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "corvus.dev/local-path", "volumeBindingMode": mode, "allowVolumeExpansion": true,
    })
}

fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    })
}

fn volume(name: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
            "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
        },
    })
}

fn phase(object: &Object) -> &str {
    object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

async fn all_volumes(h: &Harness) -> Vec<Object> {
    h.api
        .list(&volumes(), &Default::default())
        .await
        .expect("a list")
        .items
}

/// No two claims have one volume.
fn one_claim_a_volume(world: &common::recorder::World) -> Result<(), String> {
    let named = |claim: &Object| {
        let name = claim.pointer("/spec/volumeName").and_then(Value::as_str);
        name.map(str::to_owned)
    };
    let mut names: Vec<String> = world
        .all("persistentvolumeclaims")
        .filter_map(|claim| named(claim))
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    if names.len() == all {
        Ok(())
    } else {
        Err("two claims have one volume".to_owned())
    }
}

#[test]
fn claims_share_no_volume_whatever_goes_wrong() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.always(one_claim_a_volume);
        for number in 0..4 {
            h.create(
                &volumes(),
                &volume(&format!("v{number}"), &format!("{}Gi", number + 1)),
            )
            .await;
        }
        for number in 0..5 {
            h.create(&CLAIMS(), &claim(&format!("c{number}"), "", "1Gi"))
                .await;
        }
        h.until("some are bound", |w| {
            w.all("persistentvolumeclaims")
                .filter(|c| phase(c) == "Bound")
                .count()
                >= 2
        })
        .await;
        h.restart().await;
        h.calm();
        h.until("all but one are bound", |w| {
            w.all("persistentvolumeclaims")
                .filter(|c| phase(c) == "Bound")
                .count()
                == 4
        })
        .await;
        testkit::eventually("all volumes are bound", || async {
            let all = all_volumes(&h).await;
            all.iter().all(|v| phase(v) == "Bound").then_some(())
        })
        .await;
        h.at_rest().await;
        // What a claim leaves behind is kept; one of the five has nothing to leave.
        let bound = h.recorder.with(|w| {
            let mut claims = w.all("persistentvolumeclaims");
            claims
                .find(|c| phase(c) == "Bound")
                .map(|c| c.name().to_owned())
        });
        h.delete(&CLAIMS(), &bound.expect("four are bound")).await;
        testkit::eventually("a volume is released", || async {
            let all = all_volumes(&h).await;
            all.iter()
                .any(|volume| phase(volume) == "Released")
                .then_some(())
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn volumes_are_made_grow_and_go() {
    each_seed(3, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&classes(), &class("local", "Immediate")).await;
        h.create(&CLAIMS(), &claim("data", "local", "1Gi")).await;
        h.until("it is bound", |w| {
            w.get("persistentvolumeclaims", "data")
                .is_some_and(|c| phase(c) == "Bound")
        })
        .await;
        assert_eq!(all_volumes(&h).await.len(), 1, "one volume is made");
        let larger = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
        h.patch(&CLAIMS(), "data", &larger).await;
        h.restart().await;
        h.until("it has grown", |w| {
            w.get("persistentvolumeclaims", "data")
                .is_some_and(|claim| {
                    claim.pointer("/status/capacity/storage") == Some(&json!("3Gi"))
                        && condition(claim, "Resizing").is_none()
                })
        })
        .await;
        let all = all_volumes(&h).await;
        assert_eq!(
            all[0].pointer("/spec/capacity/storage"),
            Some(&json!("3Gi"))
        );
        h.delete(&CLAIMS(), "data").await;
        h.calm();
        testkit::eventually("the volume goes with its claim", || async {
            all_volumes(&h).await.is_empty().then_some(())
        })
        .await;
        h.at_rest().await;
    });
}

#[test]
fn a_late_volume_is_made_where_it_is_needed() {
    each_seed(2, |seed| async move {
        let h = Harness::start(Setup::faulty(seed, CONTROLLERS)).await;
        h.create(&classes(), &class("late", "WaitForFirstConsumer"))
            .await;
        h.create(&CLAIMS(), &claim("data", "late", "1Gi")).await;
        h.until("it waits", |w| {
            w.get("persistentvolumeclaims", "data")
                .is_some_and(|c| phase(c) == "Pending")
        })
        .await;
        assert!(all_volumes(&h).await.is_empty());
        // The scheduler's part.
        let chosen =
            json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-1"}}});
        let key = ObjectKey::new(NAMESPACE, "data");
        let patched = h
            .api
            .merge_patch(&CLAIMS(), &key, Subresource::None, &chosen)
            .await;
        patched.expect("a claim");
        h.calm();
        h.until("it is bound", |w| {
            w.get("persistentvolumeclaims", "data")
                .is_some_and(|c| phase(c) == "Bound")
        })
        .await;
        let all = all_volumes(&h).await;
        let node = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0";
        assert_eq!(all[0].pointer(node), Some(&json!("node-1")));
        h.at_rest().await;
    });
}
