//! Which resources there are to follow.

use std::collections::BTreeSet;

use controller::{Api, Error as ApiError, Resource};
use model::object;
use serde_json::Value;

/// The resources that can be listed, watched and deleted, as far as the server tells.
#[derive(Debug, Default)]
pub struct Served {
    /// The resources.
    pub resources: Vec<Resource>,
    /// Groups whose resources these are.
    pub groups: Vec<String>,
    /// Groups whose resources could not be read, and why.
    pub unknown: Vec<(String, ApiError)>,
}

impl Served {
    /// Whether a resource is served, for all that is known.
    pub fn may_have(&self, resource: &Resource, known: &BTreeSet<Resource>) -> bool {
        known.contains(resource)
            || self
                .unknown
                .iter()
                .any(|(group, _)| **group == *resource.group)
    }
}

/// Every resource that can be listed, watched and deleted; a group that cannot be read hides no other.
pub async fn served(api: &Api) -> Result<Served, ApiError> {
    let mut served = Served::default();
    let groups = api.get_path("/apis").await?;
    let core = (String::new(), "v1".to_owned(), "/api/v1".to_owned());
    let named = object::list(&groups, &["groups"]).iter().map(|group| {
        let version = object::text(group, &["preferredVersion", "groupVersion"]);
        let name = object::text(group, &["name"]);
        (
            name.to_owned(),
            version.to_owned(),
            format!("/apis/{version}"),
        )
    });
    for (group, version, path) in std::iter::once(core).chain(named) {
        match api.get_path(&path).await {
            Ok(list) => {
                served.resources.extend(of_version(&version, &list));
                served.groups.push(group);
            }
            // A group that has gone in the meantime.
            Err(error) if error.is_not_found() => {}
            Err(error) => served.unknown.push((group, error)),
        }
    }
    // The same events are served by two groups.
    served
        .resources
        .retain(|resource| &*resource.group != "events.k8s.io");
    Ok(served)
}

fn of_version(api_version: &str, list: &Value) -> Vec<Resource> {
    let wanted = ["delete", "list", "watch"];
    object::list(list, &["resources"])
        .iter()
        .filter(|resource| {
            let verbs = object::list(resource, &["verbs"]);
            wanted.iter().all(|verb| verbs.iter().any(|v| v == verb))
        })
        .map(|resource| {
            let (name, kind) = (
                object::text(resource, &["name"]),
                object::text(resource, &["kind"]),
            );
            if resource.get("namespaced") == Some(&Value::Bool(true)) {
                Resource::namespaced(api_version, name, kind)
            } else {
                Resource::cluster(api_version, name, kind)
            }
        })
        .collect()
}
