//! Keeps the inventory on the instance ahead of what is applied.

use controller::{ApplyOptions, ObjectKey};
use serde_json::json;

use super::{Instance, InstanceError};
use crate::applyset::Inventory;
use crate::build::{Graph, Node, NodeKind};
use crate::keys;

/// The places of this run's objects, and what the instance says.
pub(super) struct Batch {
    /// Where this run's objects are.
    pub current: Inventory,
    /// What is written on the instance.
    written: Inventory,
    /// Whether what is written is complete and right.
    is_intact: bool,
}

impl Batch {
    pub fn new(instance: &Instance<'_>) -> Self {
        let object = &instance.object;
        Self {
            current: Inventory::default(),
            written: Inventory::read_lenient(object),
            is_intact: Inventory::read(object, &instance.applyset).is_ok(),
        }
    }

    /// Adds the objects of a resource.
    pub fn add<'k>(
        &mut self,
        instance: &Instance<'_>,
        node: &Node,
        keys: impl Iterator<Item = &'k ObjectKey>,
    ) {
        let group_kind = node.resource.group_kind();
        for key in keys {
            self.current
                .add(&group_kind, key.namespace(), instance.namespace());
        }
    }

    /// All places that may hold members.
    pub fn written(&self) -> &Inventory {
        &self.written
    }

    /// Writes the inventory if a place is new or somebody damaged it.
    ///
    /// When it must be written, kinds that are certain to come are written along, which saves a write for each.
    pub async fn write_if_grown(
        &mut self,
        instance: &Instance<'_>,
        graph: &Graph,
    ) -> Result<(), InstanceError> {
        let wanted = self.written.union(&self.current);
        if self.is_intact && wanted == self.written {
            return Ok(());
        }
        self.write(instance, wanted.union(&certain(graph))).await
    }

    /// Writes the inventory if somebody damaged it, even if there is nothing to apply: without it, deletion is blocked.
    pub async fn repair(&mut self, instance: &Instance<'_>) -> Result<(), InstanceError> {
        if self.is_intact {
            return Ok(());
        }
        self.write(instance, self.written.clone()).await
    }

    /// Writes what is left after everything else was pruned.
    pub async fn shrink(&mut self, instance: &Instance<'_>) -> Result<(), InstanceError> {
        if self.written == self.current {
            return Ok(());
        }
        self.write(instance, self.current.clone()).await
    }

    async fn write(
        &mut self,
        instance: &Instance<'_>,
        wanted: Inventory,
    ) -> Result<(), InstanceError> {
        let mut metadata = json!({
            "name": instance.object.name(),
            "labels": {keys::APPLYSET_ID: instance.applyset},
            "annotations": wanted.annotations(&instance.applyset),
        });
        if let Some(namespace) = instance.object.namespace() {
            metadata["namespace"] = namespace.into();
        }
        let resource = &instance.id.resource;
        let patch = json!({"apiVersion": resource.api_version(), "kind": &*resource.kind, "metadata": metadata});
        let options = ApplyOptions::force(keys::MANAGER_APPLYSET_PARENT);
        instance
            .context
            .api
            .apply(resource, &patch, &options)
            .await?;
        self.written = wanted;
        self.is_intact = true;
        Ok(())
    }
}

/// The kinds of resources that nothing can leave out.
fn certain(graph: &Graph) -> Inventory {
    let mut inventory = Inventory::default();
    let mut is_certain = vec![false; graph.nodes.len()];
    for node in graph.order.iter().copied() {
        let this = &graph.nodes[node];
        let of_certain = this
            .dependencies
            .iter()
            .all(|dependency| is_certain[*dependency]);
        is_certain[node] = this.include_when.is_empty() && of_certain;
        if is_certain[node] && this.kind == NodeKind::Resource {
            inventory.add(&this.resource.group_kind(), None, "");
        }
    }
    inventory
}
