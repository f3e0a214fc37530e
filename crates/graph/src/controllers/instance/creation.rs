//! Writes objects, also those that may only be made or only be changed.
//!
//! Applying makes what is absent and takes over what is there; the server has no way to ask for one of the two. So what
//! must not exist yet is created, which fails if somebody else was faster, and what must exist is applied with the uid
//! that was looked at. What was created is applied afterwards, so that its fields are ours as those of every other child:
//! a field that leaves the template leaves the object. What is left of the creation in `managedFields` would hold on
//! to it, and is taken away. All of that is looked at after every apply, so it is made good after a crash in between.

use controller::{ApplyOptions, Error, Object, Subresource};
use serde_json::{Value, json};

use super::Instance;
use super::apply::Item;
use crate::build::Node;
use crate::keys;
use crate::lifecycle::{Adoption, Policy, Update};

/// Whether an object that is absent may only be created.
pub(super) fn must_be_new(policy: Policy) -> bool {
    policy.adoption == Adoption::CreateOnly || policy.update == Update::Never
}

/// Applies one object; `live` is what was found of it. Fails with `AlreadyExists` if it had to be new and is not.
pub(super) async fn write(
    instance: &Instance<'_>,
    node: &Node,
    item: &Item,
    live: Option<&Object>,
) -> Result<Object, Error> {
    let api = &instance.context.api;
    let manager = keys::MANAGER_APPLYSET;
    let uid = match live {
        None if must_be_new(item.policy) => {
            let made = api
                .create_as(&node.resource, &item.desired, manager)
                .await?;
            Some(made.uid().to_owned())
        }
        Some(live) if item.policy.adoption != Adoption::AdoptOrCreate => {
            Some(live.uid().to_owned())
        }
        _ => None,
    };
    let options = ApplyOptions::force(manager);
    let written = match uid {
        None => api.apply(&node.resource, &item.desired, &options).await?,
        Some(uid) => {
            let mut body = item.desired.clone();
            body["metadata"]["uid"] = uid.into();
            api.apply(&node.resource, &body, &options).await?
        }
    };
    let Some(patch) = without_creation(&written, manager) else {
        return Ok(written);
    };
    api.json_patch(&node.resource, &item.key, Subresource::None, &patch)
        .await
}

/// The patch that leaves only what was applied of what a manager owns; `None` if that is so.
fn without_creation(object: &Object, manager: &str) -> Option<Value> {
    let mut entries = object.value()["metadata"]["managedFields"]
        .as_array()?
        .clone();
    let count = entries.len();
    entries.retain(|entry| {
        entry["manager"] != manager
            || entry["operation"] != "Update"
            || entry
                .get("subresource")
                .is_some_and(|subresource| subresource != "")
    });
    (entries.len() < count).then(|| {
        json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version()},
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_managers_own_creation_is_taken_away() {
        let entry = |manager: &str, operation: &str, subresource: &str| json!({"manager": manager, "operation": operation, "subresource": subresource});
        let others = [
            entry("us", "Apply", ""),
            entry("us", "Update", "status"),
            entry("them", "Update", ""),
        ];
        let object = |entries: &[Value]| {
            Object::new(json!({"metadata": {"resourceVersion": "7", "managedFields": entries}}))
        };
        assert_eq!(without_creation(&object(&others), "us"), None);
        assert_eq!(without_creation(&Object::new(json!({})), "us"), None);
        let mut entries = others.to_vec();
        entries.insert(1, json!({"manager": "us", "operation": "Update"}));
        let patch = without_creation(&object(&entries), "us").expect("a patch");
        assert_eq!(patch[0]["value"], json!(others));
        assert_eq!(patch[1]["value"], "7");
    }
}
