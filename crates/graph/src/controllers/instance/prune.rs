//! Deletes members that the graph no longer asks for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use controller::{DeleteOptions, Error, ListOptions, Object, Resource};
use futures::future::join_all;
use serde_json::json;

use super::children::is_retained;
use super::wavefront::Run;
use super::{Instance, InstanceError, retention};
use crate::keys;
use crate::lifecycle::ORPHANED;

impl Run<'_> {
    /// Prunes, if and only if everything that should be is known and was applied.
    pub async fn prune(&mut self) -> Result<(), InstanceError> {
        if !self.is_complete() {
            return Ok(());
        }
        let kept: HashSet<&str> = self
            .applied
            .values()
            .map(|applied| applied.uid.as_str())
            .collect();
        let mut members = self.members().await?;
        // What was just applied may not have reached the cache yet.
        members.extend(self.unclaimed());
        let mut seen = HashSet::new();
        let mut orphans: BTreeMap<usize, Vec<(Resource, Arc<Object>)>> = BTreeMap::new();
        for (resource, member) in members {
            if !kept.contains(member.uid()) && seen.insert(member.uid().to_owned()) {
                orphans
                    .entry(self.place(&member))
                    .or_default()
                    .push((resource, member));
            }
        }
        // Later resources may use earlier ones, so they go first; those unknown to the graph before all.
        for wave in orphans.into_values().rev() {
            let deletions = wave
                .iter()
                .map(|(resource, orphan)| self.dispose(resource, orphan));
            for result in join_all(deletions).await {
                match result {
                    Ok(()) => {}
                    // Somebody made it anew; the next run decides about that one.
                    Err(error) if error.is_conflict() => self.prune_again = true,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if self.prune_again {
            Ok(())
        } else {
            self.batch.shrink(self.instance).await
        }
    }

    /// Deletes or releases; the cache may not know yet what was last applied.
    async fn dispose(&self, resource: &Resource, orphan: &Object) -> Result<(), Error> {
        let place = (resource.clone(), orphan.key());
        let known = self.memory.applied.get(&place);
        let known = known.filter(|known| known.uid == orphan.uid() && known.is_newer_than(orphan));
        if known.map_or_else(|| is_retained(orphan), |known| known.is_retained) {
            retention::release(self.instance, resource, orphan).await
        } else {
            delete(self.instance, resource, orphan).await
        }
    }

    /// What earlier runs applied and this one does not ask for.
    fn unclaimed(&self) -> Vec<(Resource, Arc<Object>)> {
        let remembered = self.memory.applied.iter();
        remembered
            .filter(|(place, _)| !self.claims.contains_key(place))
            .map(|((resource, key), applied)| {
                let mut metadata = json!({
                    "name": key.name, "uid": applied.uid, "labels": {keys::NODE_ID: applied.node},
                });
                if let Some(namespace) = key.namespace() {
                    metadata["namespace"] = namespace.into();
                }
                if applied.is_retained {
                    metadata["annotations"] = json!({keys::DELETION_POLICY: ORPHANED});
                }
                (
                    resource.clone(),
                    Arc::new(Object::new(json!({"metadata": metadata}))),
                )
            })
            .collect()
    }

    /// The place of a member in the order of creation; beyond all others if its resource is gone.
    fn place(&self, member: &Object) -> usize {
        let node = member
            .label(keys::NODE_ID)
            .and_then(|id| self.graph.position(id));
        let place = node.and_then(|node| self.graph.order.iter().position(|at| *at == node));
        place.unwrap_or(usize::MAX)
    }

    /// All members, of the kinds in the inventory.
    async fn members(&self) -> Result<Vec<(Resource, Arc<Object>)>, InstanceError> {
        let context = self.instance.context;
        let mut members = Vec::new();
        for (group, kind) in &self.batch.written().group_kinds {
            let used = self
                .graph
                .nodes
                .iter()
                .map(|node| &node.resource)
                .find(|resource| *resource.group == **group && *resource.kind == **kind);
            if let Some(resource) = used {
                let children = context.watches.children(resource).await?;
                let found = children.members(&self.instance.applyset).into_iter();
                members.extend(found.map(|member| (resource.clone(), member)));
            } else if let Some((resource, found)) = list_members(self.instance, group, kind).await?
            {
                members.extend(
                    found
                        .into_iter()
                        .map(|member| (resource.clone(), Arc::new(member))),
                );
            }
        }
        Ok(members)
    }
}

/// Lists the members of one kind on the server; `None` if the kind is no longer served.
pub(super) async fn list_members(
    instance: &Instance<'_>,
    group: &str,
    kind: &str,
) -> Result<Option<(Resource, Vec<Object>)>, Error> {
    let context = instance.context;
    let resource = match context.discovery.resolve_group_kind(group, kind).await {
        Ok(resource) => resource,
        Err(Error::NoSuchKind { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let options = ListOptions {
        label_selector: Some(format!("{}={}", keys::PART_OF, instance.applyset)),
        metadata_only: true,
        ..ListOptions::default()
    };
    match context.api.list(&resource, &options).await {
        Ok(list) => Ok(Some((resource, list.items))),
        // The definition went away between the two calls.
        Err(error) if error.is_not_found() => {
            context.discovery.invalidate(group);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Deletes exactly this object.
pub(super) async fn delete(
    instance: &Instance<'_>,
    resource: &Resource,
    object: &Object,
) -> Result<(), Error> {
    if object.is_terminating() {
        return Ok(());
    }
    // Said explicitly because the server's default for Jobs would leave their Pods behind.
    let options = DeleteOptions {
        propagation_policy: Some("Background"),
        ..DeleteOptions::of_uid(object.uid())
    };
    instance
        .context
        .api
        .delete(resource, &object.key(), &options)
        .await
        .map(drop)
}
