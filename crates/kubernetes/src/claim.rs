//! Who owns what: owners adopt what fits their selector and has no owner, and release what no longer fits.
//!
//! Shared by every controller whose objects are found by labels. An owner that is being deleted adopts nothing, and before
//! the first adoption of a pass the server is asked whether the owner is still the one the cache knows.

use std::sync::Arc;

use controller::{Error, Informer, Object, Resource, Subresource, index, owner};
use model::{LabelSelector, object};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// The index of objects without a managing owner, by namespace.
const ORPHANS: &str = "orphans";

/// Adds the indexes that [`Claim::of`] needs.
pub fn add_indexes(children: &Informer) {
    children.add_owner_index();
    children.add_index(ORPHANS, |object| {
        if object.controller_of().is_some() {
            return Vec::new();
        }
        object.namespace().map(str::to_owned).into_iter().collect()
    });
}

/// An owner who claims.
pub struct Claim<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The owner.
    pub owner: &'a Object,
    /// The owner's resource.
    pub resource: &'a Resource,
    /// What it selects.
    pub selector: &'a LabelSelector,
}

impl Claim<'_> {
    /// The owner's objects. `may_adopt` looks at an orphan that fits the selector.
    pub async fn of(
        &self,
        children: &Informer,
        may_adopt: impl Fn(&Object) -> bool,
    ) -> Result<Vec<Arc<Object>>, Error> {
        let mut claimed = Vec::new();
        let mut first_failure = None;
        for child in children.by_index(index::CONTROLLER_UID, self.owner.uid()) {
            if self.fits(&child) || self.owner.is_terminating() {
                claimed.push(child);
            } else if !child.is_terminating()
                && let Err(error) = self.release(children.resource(), &child).await
            {
                first_failure.get_or_insert(error);
            }
        }
        let mut may_own = None;
        for orphan in children.by_index(ORPHANS, self.owner.namespace().unwrap_or_default()) {
            if self.owner.is_terminating()
                || orphan.is_terminating()
                || !self.fits(&orphan)
                || !may_adopt(&orphan)
            {
                continue;
            }
            let alive = match may_own {
                Some(alive) => alive,
                None => *may_own.insert(self.is_alive().await?),
            };
            if !alive {
                break;
            }
            match self.adopt(children.resource(), &orphan).await {
                Ok(Some(adopted)) => claimed.push(Arc::new(adopted)),
                Ok(None) => {}
                Err(error) => drop(first_failure.get_or_insert(error)),
            }
        }
        first_failure.map_or(Ok(claimed), Err)
    }

    fn fits(&self, child: &Object) -> bool {
        self.selector.matches(object::labels(child.value()))
    }

    /// Whether the server still has this very owner, and it is to stay.
    async fn is_alive(&self) -> Result<bool, Error> {
        let api = self.cluster.api();
        let found = api
            .get_metadata_opt(self.resource, &self.owner.key())
            .await?;
        Ok(found.is_some_and(|found| found.uid() == self.owner.uid() && !found.is_terminating()))
    }

    async fn adopt(&self, children: &Resource, child: &Object) -> Result<Option<Object>, Error> {
        let mut owners = object::owner_references(child.value()).to_vec();
        owners.push(owner::reference(self.owner, true));
        self.patch_owners(children, child, owners).await
    }

    async fn release(&self, children: &Resource, child: &Object) -> Result<(), Error> {
        let mut owners = object::owner_references(child.value()).to_vec();
        owners.retain(|owner| object::text(owner, &["uid"]) != self.owner.uid());
        self.patch_owners(children, child, owners).await.map(drop)
    }

    /// Replaces the owners, unless the object is gone or somebody else's by now. A conflict is an error: tried again.
    async fn patch_owners(
        &self,
        children: &Resource,
        child: &Object,
        owners: Vec<Value>,
    ) -> Result<Option<Object>, Error> {
        let patch = json!({"metadata": {
            "uid": child.uid(),
            "resourceVersion": child.resource_version(),
            "ownerReferences": owners,
        }});
        let (api, key) = (self.cluster.api(), child.key());
        let patched = api.merge_patch(children, &key, Subresource::None, &patch);
        match patched.await {
            Ok(patched) => Ok(Some(patched)),
            Err(error) if error.is_not_found() || error.is_invalid() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
