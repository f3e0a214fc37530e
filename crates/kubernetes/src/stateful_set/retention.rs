//! Whom the claims of a stateful set belong to: nobody, the set or the Pod, by the retention policy. Pure.
//!
//! What belongs to an owner goes with it: a claim to be deleted with the set belongs to the set, one to be deleted when the
//! set shrinks belongs to the Pod that goes. Claims that somebody else manages are left alone.

use controller::{Object, OwnerReference, owner};
use model::object;
use serde_json::Value;

use super::identity::{is_in_range, ordinal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    /// Whether claims go with the set.
    deletes_with_set: bool,
    /// Whether claims go with the Pods a smaller set does not need.
    deletes_with_pod: bool,
}

fn policy(set: &Object) -> Policy {
    let is_delete = |name: &str| {
        let path = ["spec", "persistentVolumeClaimRetentionPolicy", name];
        object::text(set.value(), &path) == "Delete"
    };
    Policy {
        deletes_with_set: is_delete("whenDeleted"),
        deletes_with_pod: is_delete("whenScaled"),
    }
}

fn is_named(reference: &OwnerReference, object: &Object) -> bool {
    reference.api_version == object.api_version()
        && reference.kind == object.kind()
        && reference.name == object.name()
}

fn owns(claim: &Object, owner: &Object) -> bool {
    claim
        .owner_references()
        .iter()
        .any(|reference| reference.uid == owner.uid())
}

/// Whether a claim names an earlier object of this name as its owner.
fn is_stale(claim: &Object, owner: &Object) -> bool {
    let references = claim.owner_references();
    let named = references
        .iter()
        .find(|reference| is_named(reference, owner));
    named.is_some_and(|reference| reference.uid != owner.uid())
}

/// Whether somebody else manages a claim that the policy is about.
pub fn has_other_controller(claim: &Object, set: &Object, pod: &Object) -> bool {
    let policy = policy(set);
    if !policy.deletes_with_set && !policy.deletes_with_pod {
        return false;
    }
    claim.owner_references().iter().any(|reference| {
        let own = [set, pod]
            .into_iter()
            .find(|owner| is_named(reference, owner));
        own.map_or(reference.controller, |owner| reference.uid != owner.uid())
    })
}

/// Who should manage a claim: the set and the Pod.
fn wanted(set: &Object, pod: &Object) -> (bool, bool) {
    let policy = policy(set);
    let goes = !ordinal(pod).is_some_and(|ordinal| is_in_range(set, ordinal));
    match (policy.deletes_with_set, policy.deletes_with_pod) {
        (by_set, false) => (by_set, false),
        (false, true) => (false, goes),
        (true, true) => (!goes, goes),
    }
}

/// Whether the owners of a claim are as the policy wants them, or none of our business.
pub fn is_up_to_date(claim: &Object, set: &Object, pod: &Object) -> bool {
    if is_stale(claim, set) || is_stale(claim, pod) {
        return true;
    }
    if has_other_controller(claim, set, pod) {
        return !owns(claim, set) && !owns(claim, pod);
    }
    let manages_not = claim.owner_references().iter().any(|reference| {
        (reference.uid == set.uid() || reference.uid == pod.uid()) && !reference.controller
    });
    !manages_not && (owns(claim, set), owns(claim, pod)) == wanted(set, pod)
}

/// The owner references of a claim as the policy wants them.
pub fn owners(claim: &Object, set: &Object, pod: &Object) -> Vec<Value> {
    let ours = |value: &Value| {
        let text = |name: &str| object::text(value, &[name]);
        [set, pod].iter().any(|owner| {
            text("apiVersion") == owner.api_version()
                && text("kind") == owner.kind()
                && text("name") == owner.name()
        })
    };
    let mut owners = object::owner_references(claim.value()).to_vec();
    owners.retain(|value| !ours(value));
    if !has_other_controller(claim, set, pod) {
        let (by_set, by_pod) = wanted(set, pod);
        if by_pod {
            owners.push(owner::reference(pod, true));
        }
        if by_set {
            owners.push(owner::reference(set, true));
        }
    }
    owners
}

/// Whether a claim is about to go with an earlier Pod of this name, so that a new one must wait.
pub fn blocks_creation(claim: &Object, set: &Object, pod: &Object) -> bool {
    policy(set).deletes_with_pod && is_stale(claim, pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(when_deleted: &str, when_scaled: &str) -> Object {
        Object::new(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web", "uid": "set"},
            "spec": {"replicas": 2, "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": when_deleted, "whenScaled": when_scaled}},
        }))
    }

    fn pod(ordinal: i64) -> Object {
        let name = format!("web-{ordinal}");
        Object::new(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": "pod"}}),
        )
    }

    fn claim(owners: &Value) -> Object {
        Object::new(json!({"metadata": {"name": "data-web-0", "ownerReferences": owners}}))
    }

    fn uids(owners: &[Value]) -> Vec<&str> {
        owners
            .iter()
            .map(|owner| object::text(owner, &["uid"]))
            .collect()
    }

    #[test]
    fn the_policy_says_who_owns_a_claim() {
        let check = |deleted, scaled, ordinal, expect: &[&str]| {
            let (set, pod, free) = (set(deleted, scaled), pod(ordinal), claim(&json!([])));
            let owners = owners(&free, &set, &pod);
            assert_eq!(uids(&owners), expect, "{deleted} {scaled} {ordinal}");
            assert_eq!(is_up_to_date(&free, &set, &pod), expect.is_empty());
            assert!(is_up_to_date(&claim(&json!(owners)), &set, &pod));
        };
        check("Retain", "Retain", 0, &[]);
        check("Retain", "Retain", 5, &[]);
        check("Delete", "Retain", 0, &["set"]);
        check("Delete", "Retain", 5, &["set"]);
        check("Retain", "Delete", 0, &[]);
        check("Retain", "Delete", 5, &["pod"]);
        check("Delete", "Delete", 0, &["set"]);
        check("Delete", "Delete", 5, &["pod"]);
    }

    #[test]
    fn claims_of_others_are_left_alone() {
        let (set, pod) = (set("Delete", "Delete"), pod(0));
        let other =
            json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true});
        let managed = claim(&json!([other]));
        assert!(is_up_to_date(&managed, &set, &pod));
        let both = claim(&json!([other, owner::reference(&set, true)]));
        assert!(!is_up_to_date(&both, &set, &pod));
        assert_eq!(uids(&owners(&both, &set, &pod)), ["x"]);
        let earlier = json!({"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "earlier", "controller": true});
        assert!(blocks_creation(&claim(&json!([earlier])), &set, &pod));
        assert!(is_up_to_date(&claim(&json!([earlier])), &set, &pod));
    }
}
