//! What becomes of an object, from what has become of its owners. Pure.

use controller::OwnerReference;

/// The finalizer of an object that waits for its dependents to go.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to stay.
pub const ORPHAN: &str = "orphan";

/// What has become of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is there and stays.
    There,
    /// It is there and waits until its dependents are gone.
    WaitsForDependents,
    /// It is not there, or another object has its name.
    Gone,
    /// It cannot be known.
    Unknown,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// The object goes; `foreground` where its owner waits for it, so that it waits for its own.
    Delete {
        /// Whether the owner waits.
        foreground: bool,
    },
    /// The object stays with the owners it has left; these uids lead nowhere.
    Forget(Vec<String>),
}

/// Decides.
pub fn plan(owners: &[(OwnerReference, Owner)]) -> Plan {
    let is = |state: Owner| owners.iter().any(|(_, found)| *found == state);
    if is(Owner::There) || is(Owner::Unknown) {
        let leaving = |(_, found): &&(OwnerReference, Owner)| {
            matches!(found, Owner::Gone | Owner::WaitsForDependents)
        };
        let uids: Vec<String> = owners
            .iter()
            .filter(leaving)
            .map(|(owner, _)| owner.uid.clone())
            .collect();
        return if uids.is_empty() {
            Plan::Keep
        } else {
            Plan::Forget(uids)
        };
    }
    Plan::Delete {
        foreground: is(Owner::WaitsForDependents),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::Object;
    use serde_json::json;

    fn check(states: &[Owner], expect: &Plan) {
        let references: Vec<_> = (0..states.len())
            .map(
                |i| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": format!("u{i}")}),
            )
            .collect();
        let object = Object::new(json!({"metadata": {"ownerReferences": references}}));
        let owners: Vec<_> = object
            .owner_references()
            .into_iter()
            .zip(states.iter().copied())
            .collect();
        assert_eq!(&plan(&owners), expect, "{states:?}");
    }

    #[test]
    fn an_object_goes_with_the_last_of_its_owners() {
        check(&[Owner::Gone], &Plan::Delete { foreground: false });
        check(
            &[Owner::Gone, Owner::Gone],
            &Plan::Delete { foreground: false },
        );
        check(&[Owner::There], &Plan::Keep);
        check(
            &[Owner::Gone, Owner::There],
            &Plan::Forget(vec!["u0".to_owned()]),
        );
        check(
            &[Owner::WaitsForDependents],
            &Plan::Delete { foreground: true },
        );
        check(&[Owner::Unknown], &Plan::Keep);
    }
}
