//! What becomes of a claim or a volume. Pure.

use std::sync::Arc;

use controller::{Object, ObjectKey};
use model::{LabelSelector, Quantity, object};
use serde_json::Value;

/// A claim has been bound once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Who made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Who is asked for a volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The node a volume is needed on.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What to do about a claim.
#[derive(Debug)]
pub enum ClaimPlan {
    /// Nothing.
    Keep,
    /// Bind it to this volume, or finish that.
    Bind(Arc<Object>),
    /// Nothing can be done; why.
    Wait {
        /// Whether it is a warning.
        warning: bool,
        /// A word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// It is bound once a Pod needs it.
    WaitForPods,
    /// Give it this class.
    Class(String),
    /// Ask this provisioner for a volume.
    Provision(String),
    /// Its volume is gone.
    Lost {
        /// A word.
        reason: &'static str,
        /// A sentence.
        message: &'static str,
    },
}

/// What to do about a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum VolumePlan {
    /// Nothing.
    Keep,
    /// It is in this phase.
    Phase(&'static str),
    /// It is of no use any more.
    Failed {
        /// A word.
        reason: &'static str,
        /// A sentence.
        message: &'static str,
    },
    /// Its claim has another volume; `forget` the claim, or only which of its name it was.
    Unbind {
        /// Whether this controller chose the claim.
        forget: bool,
    },
    /// The claim of this name cannot have it.
    Mismatch(String),
}

/// The claim a volume is meant for.
pub fn claim_ref(volume: &Object) -> Option<&Value> {
    volume
        .get(&["spec", "claimRef"])
        .filter(|own| own.is_object())
}

/// The key of that claim.
pub fn claim_key(volume: &Object) -> Option<ObjectKey> {
    let own = claim_ref(volume)?;
    let text = |name: &str| object::text(own, &[name]).to_owned();
    Some(ObjectKey::new(text("namespace"), text("name")))
}

/// Whether a volume is meant for a claim; it may not know yet which of that name.
pub fn names_claim(volume: &Object, claim: &Object) -> bool {
    claim_ref(volume).is_some_and(|own| {
        let uid = object::text(own, &["uid"]);
        object::text(own, &["name"]) == claim.name()
            && Some(object::text(own, &["namespace"])) == claim.namespace()
            && (uid.is_empty() || uid == claim.uid())
    })
}

/// The class of a volume or claim; an annotation was the way to name it once.
pub fn class(object: &Object) -> &str {
    object
        .annotation(BETA_CLASS)
        .unwrap_or_else(|| object::text(object.value(), &["spec", "storageClassName"]))
}

/// An amount of storage.
pub fn size(object: &Object, path: &[&str]) -> Quantity {
    let text = object::text(object.value(), path);
    text.parse().unwrap_or_else(|_| Quantity::from_units(0))
}

fn capacity(volume: &Object) -> Quantity {
    size(volume, &["spec", "capacity", "storage"])
}

fn mode(object: &Object) -> &str {
    match object::text(object.value(), &["spec", "volumeMode"]) {
        "" => "Filesystem",
        mode => mode,
    }
}

/// Why a volume does not do for a claim.
fn mismatch(volume: &Object, claim: &Object) -> Option<&'static str> {
    let modes = |object: &Object| object::list(object.value(), &["spec", "accessModes"]).to_vec();
    let attributes = |object: &Object| {
        object::text(object.value(), &["spec", "volumeAttributesClassName"]).to_owned()
    };
    let offered = modes(volume);
    if capacity(volume) < size(claim, &["spec", "resources", "requests", "storage"]) {
        Some("requested PV is too small")
    } else if class(volume) != class(claim) {
        Some("storageClassName does not match")
    } else if attributes(volume) != attributes(claim) {
        Some("volumeAttributesClassName does not match")
    } else if mode(volume) != mode(claim) {
        Some("incompatible volumeMode")
    } else if !modes(claim).iter().all(|wanted| offered.contains(wanted)) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn fits(volume: &Object, claim: &Object) -> bool {
    let selector = claim
        .get(&["spec", "selector"])
        .filter(|own| own.is_object());
    let selected = selector.is_none_or(|selector| {
        LabelSelector::from_object(Some(selector))
            .is_ok_and(|selector| selector.matches(object::labels(volume.value())))
    });
    // What a volume cannot be used for, it may still be meant for.
    let phase = object::text(volume.status(), &["phase"]);
    let free = claim_ref(volume).is_none() && !matches!(phase, "Released" | "Failed" | "Pending");
    !volume.is_terminating()
        && (names_claim(volume, claim) || (free && selected))
        && mismatch(volume, claim).is_none()
}

/// The volume a claim gets: the one meant for it, else the smallest that fits.
fn choose(volumes: Vec<Arc<Object>>, claim: &Object, only_meant: bool) -> Option<Arc<Object>> {
    volumes
        .into_iter()
        .filter(|volume| fits(volume, claim) && (!only_meant || names_claim(volume, claim)))
        .min_by(|a, b| {
            names_claim(b, claim)
                .cmp(&names_claim(a, claim))
                .then_with(|| capacity(a).cmp(&capacity(b)))
                .then_with(|| a.name().cmp(b.name()))
        })
}

/// Decides about a claim. `requested` is the volume it names.
pub fn claim(
    claim: &Object,
    class_of: Option<&Object>,
    requested: Option<&Object>,
    default_class: impl Fn() -> Option<String>,
    volumes: impl Fn() -> Vec<Arc<Object>>,
) -> ClaimPlan {
    let named = !object::text(claim.value(), &["spec", "volumeName"]).is_empty();
    if claim.annotation(BIND_COMPLETED).is_some() {
        return bound_claim(claim, named, requested);
    }
    if claim.is_terminating() {
        return ClaimPlan::Keep;
    }
    if named {
        return requested_volume(claim, requested);
    }
    let late = class_of.is_some_and(|class| {
        object::text(class.value(), &["volumeBindingMode"]) == "WaitForFirstConsumer"
    });
    if let Some(volume) = choose(volumes(), claim, late) {
        return ClaimPlan::Bind(volume);
    }
    let unsaid = claim
        .get(&["spec", "storageClassName"])
        .is_none_or(Value::is_null)
        && claim.annotation(BETA_CLASS).is_none();
    if let Some(default) = default_class().filter(|_| unsaid) {
        return ClaimPlan::Class(default);
    }
    if late && claim.annotation(SELECTED_NODE).is_none() {
        return ClaimPlan::WaitForPods;
    }
    let wait = |warning, reason, message: String| ClaimPlan::Wait {
        warning,
        reason,
        message,
    };
    match class_of {
        _ if class(claim).is_empty() => {
            let text = "no persistent volumes available for this claim and no storage class is set";
            wait(false, "FailedBinding", text.to_owned())
        }
        None => {
            let text = format!("storageclass.storage.k8s.io {:?} not found", class(claim));
            wait(true, "ProvisioningFailed", text)
        }
        Some(class) => match object::text(class.value(), &["provisioner"]) {
            NO_PROVISIONER => {
                let text = "storageclass provisioner \"kubernetes.io/no-provisioner\" does not make volumes";
                wait(true, "ProvisioningFailed", text.to_owned())
            }
            provisioner => ClaimPlan::Provision(provisioner.to_owned()),
        },
    }
}

fn bound_claim(claim: &Object, named: bool, volume: Option<&Object>) -> ClaimPlan {
    let lost = |reason, message| ClaimPlan::Lost { reason, message };
    let Some(volume) = volume else {
        let message = if named {
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        } else {
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        };
        return lost("ClaimLost", message);
    };
    if claim_ref(volume).is_none() || names_claim(volume, claim) {
        ClaimPlan::Bind(Arc::new(volume.clone()))
    } else {
        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
        lost("ClaimMisbound", message)
    }
}

fn requested_volume(claim: &Object, volume: Option<&Object>) -> ClaimPlan {
    let Some(volume) = volume else {
        return ClaimPlan::Keep;
    };
    let wait = |reason, message| ClaimPlan::Wait {
        warning: true,
        reason,
        message,
    };
    if names_claim(volume, claim) {
        return ClaimPlan::Bind(Arc::new(volume.clone()));
    }
    if claim_ref(volume).is_some() {
        let text = format!(
            "volume {:?} already bound to a different claim.",
            volume.name()
        );
        return wait("FailedBinding", text);
    }
    match mismatch(volume, claim) {
        Some(why) => {
            let text = format!("Cannot bind to requested volume {:?}: {why}", volume.name());
            wait("VolumeMismatch", text)
        }
        None => ClaimPlan::Bind(Arc::new(volume.clone())),
    }
}

/// Decides about a volume and the claim it is meant for.
pub fn volume(volume: &Object, claim: Option<&Object>) -> VolumePlan {
    let Some(own) = claim_ref(volume) else {
        return VolumePlan::Phase("Available");
    };
    if object::text(own, &["uid"]).is_empty() {
        return VolumePlan::Phase("Available");
    }
    let Some(claim) = claim else {
        return released(volume);
    };
    match object::text(claim.value(), &["spec", "volumeName"]) {
        "" if mode(volume) != mode(claim) => VolumePlan::Mismatch(claim.name().to_owned()),
        // Its claim is about to say so.
        "" => VolumePlan::Keep,
        name if name == volume.name() => VolumePlan::Phase("Bound"),
        _ => {
            let made = volume.annotation(PROVISIONED_BY).is_some();
            if made && reclaims(volume) == "Delete" {
                return released(volume);
            }
            let forget = volume.annotation(BOUND_BY_CONTROLLER).is_some();
            VolumePlan::Unbind { forget }
        }
    }
}

fn reclaims(volume: &Object) -> &str {
    object::text(volume.value(), &["spec", "persistentVolumeReclaimPolicy"])
}

fn released(volume: &Object) -> VolumePlan {
    match object::text(volume.status(), &["phase"]) {
        "Failed" => VolumePlan::Keep,
        "Released" if reclaims(volume) == "Recycle" => VolumePlan::Failed {
            reason: "VolumeFailedRecycle",
            message: "No recycler plugin found for the volume!",
        },
        _ => VolumePlan::Phase("Released"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new_volume(name: &str, size: &str, spec: Value) -> Arc<Object> {
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        object["spec"]["capacity"] = json!({"storage": size});
        object["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
        Arc::new(Object::new(object))
    }

    fn new_claim(spec: Value, annotations: Value) -> Object {
        let mut claim = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            claim["spec"][key] = value.clone();
        }
        Object::new(claim)
    }

    #[test]
    fn the_smallest_volume_that_fits_is_taken() {
        let claim = new_claim(json!({}), json!({}));
        let other = json!({"claimRef": {"name": "x", "namespace": "n"}});
        let volumes = vec![
            new_volume("big", "9Gi", json!({})),
            new_volume("small", "1Gi", json!({})),
            new_volume("fit", "3Gi", json!({})),
            new_volume("classy", "2Gi", json!({"storageClassName": "a"})),
            new_volume("taken", "2Gi", other),
        ];
        let name = |volumes, meant| choose(volumes, &claim, meant).map(|v| v.name().to_owned());
        assert_eq!(name(volumes.clone(), false).as_deref(), Some("fit"));
        assert_eq!(name(volumes, true), None);
        let meant = json!({"claimRef": {"name": "c", "namespace": "n"}});
        let volumes = vec![
            new_volume("fit", "3Gi", json!({})),
            new_volume("meant", "9Gi", meant),
        ];
        assert_eq!(name(volumes.clone(), false).as_deref(), Some("meant"));
        assert_eq!(name(volumes, true).as_deref(), Some("meant"));
        assert_eq!(name(vec![], false), None);
    }

    #[test]
    fn a_claim_gets_what_its_class_says() {
        let class = |mode: &str, provisioner: &str| {
            Object::new(
                json!({"metadata": {"name": "k"}, "volumeBindingMode": mode, "provisioner": provisioner}),
            )
        };
        let check = |spec: Value,
                     annotations: Value,
                     class: Option<Object>,
                     default: Option<&str>,
                     expect: &str| {
            let default = || default.map(str::to_owned);
            let found = claim(
                &new_claim(spec, annotations),
                class.as_ref(),
                None,
                default,
                Vec::new,
            );
            let found = format!("{found:?}");
            assert!(found.contains(expect), "{found} is not {expect}");
        };
        let (own, none) = (json!({"storageClassName": "k"}), json!({}));
        check(
            own.clone(),
            none.clone(),
            Some(class("Immediate", "p")),
            None,
            r#"Provision("p")"#,
        );
        check(
            own.clone(),
            none.clone(),
            Some(class("WaitForFirstConsumer", "p")),
            None,
            "WaitForPods",
        );
        let chosen = json!({SELECTED_NODE: "node"});
        check(
            own.clone(),
            chosen,
            Some(class("WaitForFirstConsumer", "p")),
            None,
            r#"Provision("p")"#,
        );
        check(own, none.clone(), None, Some("d"), "not found");
        check(none.clone(), none.clone(), None, Some("d"), r#"Class("d")"#);
        check(
            none.clone(),
            none.clone(),
            None,
            None,
            "no storage class is set",
        );
        check(
            json!({"storageClassName": ""}),
            none,
            None,
            Some("d"),
            "no storage class is set",
        );
    }

    #[test]
    fn a_bound_claim_may_lose_its_volume() {
        let completed = json!({BIND_COMPLETED: "yes"});
        let check = |spec: Value, volume: Option<Arc<Object>>, expect: &str| {
            let claim = new_claim(spec, completed.clone());
            let found = super::claim(&claim, None, volume.as_deref(), || None, Vec::new);
            let found = format!("{found:?}");
            assert!(found.contains(expect), "{found}");
        };
        let named = json!({"volumeName": "v"});
        check(named.clone(), None, "lost its PersistentVolume");
        check(json!({}), None, "lost reference");
        let other = json!({"claimRef": {"name": "c", "namespace": "n", "uid": "older"}});
        check(
            named.clone(),
            Some(new_volume("v", "2Gi", other)),
            "ClaimMisbound",
        );
        check(named, Some(new_volume("v", "2Gi", json!({}))), "Bind");
    }

    #[test]
    fn a_volume_follows_its_claim() {
        let check =
            |own: Value, more: Value, phase: &str, claim: Option<Value>, expect: VolumePlan| {
                let mut spec = more;
                spec["claimRef"] = own;
                let mut object = new_volume("v", "2Gi", spec).value().clone();
                object["status"] = json!({"phase": phase});
                let claim = claim.map(|spec| new_claim(spec, json!({})));
                assert_eq!(volume(&Object::new(object), claim.as_ref()), expect);
            };
        let own = || json!({"name": "c", "namespace": "n", "uid": "u"});
        check(
            Value::Null,
            json!({}),
            "",
            None,
            VolumePlan::Phase("Available"),
        );
        check(
            json!({"name": "c", "namespace": "n"}),
            json!({}),
            "",
            None,
            VolumePlan::Phase("Available"),
        );
        check(
            own(),
            json!({}),
            "",
            Some(json!({"volumeName": "v"})),
            VolumePlan::Phase("Bound"),
        );
        check(own(), json!({}), "", Some(json!({})), VolumePlan::Keep);
        check(
            own(),
            json!({}),
            "Bound",
            None,
            VolumePlan::Phase("Released"),
        );
        check(
            own(),
            json!({}),
            "Bound",
            Some(json!({"volumeName": "w"})),
            VolumePlan::Unbind { forget: false },
        );
        let recycle = json!({"persistentVolumeReclaimPolicy": "Recycle"});
        let failed = VolumePlan::Failed {
            reason: "VolumeFailedRecycle",
            message: "No recycler plugin found for the volume!",
        };
        check(own(), recycle, "Released", None, failed);
    }
}
