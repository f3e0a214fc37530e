//! From kinds to served resources, learned from the cluster when first met.
//!
//! One group version is fetched on the first miss and kept; [`Discovery::invalidate`] forgets it (a
//! CustomResourceDefinition appeared or went away). A miss always asks the server again, so callers back off.

use std::collections::HashMap;
use std::sync::Arc;

use model::GroupVersionKind;
use parking_lot::RwLock;
use serde_json::Value;

use crate::api::Api;
use crate::error::Error;
use crate::resource::Resource;

type GroupVersion = (String, String);

/// A cache of the kinds the cluster serves.
#[derive(Clone)]
pub struct Discovery {
    api: Api,
    known: Arc<RwLock<HashMap<GroupVersion, Arc<[Resource]>>>>,
}

impl Discovery {
    /// Learns through `api`.
    pub fn new(api: Api) -> Self {
        Self {
            api,
            known: Arc::default(),
        }
    }

    /// The resource that serves a kind.
    pub async fn resolve(&self, wanted: &GroupVersionKind) -> Result<Resource, Error> {
        let GroupVersionKind {
            group,
            version,
            kind,
        } = wanted;
        if let Some(resource) = self.cached(group, version, kind) {
            return Ok(resource);
        }
        self.fetch(group, version).await?;
        self.cached(group, version, kind)
            .ok_or_else(|| Error::NoSuchKind {
                api_version: wanted.api_version(),
                kind: kind.to_owned(),
            })
    }

    /// The resource that serves `kind` in some version of the group: one that is known already, or the preferred one, or
    /// the first other one that has it.
    pub async fn resolve_group_kind(&self, group: &str, kind: &str) -> Result<Resource, Error> {
        let is = |resource: &Resource| &*resource.kind == kind;
        let found = self.in_any_version(group, is).await?;
        found.ok_or_else(|| Error::NoSuchKind {
            api_version: group.to_owned(),
            kind: kind.to_owned(),
        })
    }

    /// The resource of that plural name in some version of the group, as above; `None` where the cluster does not serve it.
    pub async fn resolve_group_resource(
        &self,
        group: &str,
        plural: &str,
    ) -> Result<Option<Resource>, Error> {
        self.in_any_version(group, |resource| &*resource.plural == plural)
            .await
    }

    async fn in_any_version(
        &self,
        group: &str,
        is: impl Fn(&Resource) -> bool,
    ) -> Result<Option<Resource>, Error> {
        if let Some(resource) = self.cached_in_any_version(group, &is) {
            return Ok(Some(resource));
        }
        for version in self.versions(group).await? {
            self.fetch(group, &version).await?;
            let found = self.cached_in_any_version(group, &is);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Forgets what is known about a group, in every version.
    pub fn invalidate(&self, group: &str) {
        self.known.write().retain(|(known, _), _| known != group);
    }

    fn cached(&self, group: &str, version: &str, kind: &str) -> Option<Resource> {
        let known = self.known.read();
        let resources = known.get(&(group.to_owned(), version.to_owned()))?;
        resources
            .iter()
            .find(|resource| &*resource.kind == kind)
            .cloned()
    }

    fn cached_in_any_version(
        &self,
        group: &str,
        is: impl Fn(&Resource) -> bool,
    ) -> Option<Resource> {
        let known = self.known.read();
        let in_group = known.iter().filter(|((known, _), _)| known == group);
        in_group
            .flat_map(|(_, resources)| resources.iter())
            .find(|resource| is(resource))
            .cloned()
    }

    /// The versions of a group, preferred first; empty when the cluster does not serve the group.
    async fn versions(&self, group: &str) -> Result<Vec<String>, Error> {
        if group.is_empty() {
            return Ok(vec!["v1".to_owned()]);
        }
        let document = match self.api.get_path(&format!("/apis/{group}")).await {
            Ok(document) => document,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let preferred = document.pointer("/preferredVersion/version");
        let all = document["versions"].as_array().into_iter().flatten();
        let mut versions: Vec<String> = preferred
            .into_iter()
            .chain(all.filter_map(|version| version.get("version")))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let mut seen = std::collections::HashSet::new();
        versions.retain(|version| seen.insert(version.clone()));
        Ok(versions)
    }

    async fn fetch(&self, group: &str, version: &str) -> Result<(), Error> {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let resources = match self.api.get_path(&path).await {
            Ok(document) => read_resources(group, version, &document),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let key = (group.to_owned(), version.to_owned());
        if resources.is_empty() {
            self.known.write().remove(&key);
        } else {
            self.known.write().insert(key, resources.into());
        }
        Ok(())
    }
}

/// Reads an `APIResourceList`, leaving out subresources.
fn read_resources(group: &str, version: &str, document: &Value) -> Vec<Resource> {
    let list = document["resources"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let plural = entry["name"].as_str()?;
            (!plural.contains('/')).then_some(Resource {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                kind: entry["kind"].as_str()?.into(),
                namespaced: entry["namespaced"].as_bool()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subresources_are_no_resources() {
        let document = json!({"resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
            {"name": "broken"},
        ]});
        let found = read_resources("apps", "v1", &document);
        assert_eq!(
            found,
            [Resource::namespaced("apps/v1", "deployments", "Deployment")]
        );
    }
}
