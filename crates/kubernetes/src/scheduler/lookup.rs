//! What the scheduler looks up beside nodes and Pods.

use std::sync::Arc;

use controller::{Informer, Object, ObjectKey};

use crate::cluster::Cluster;
use crate::resources;

type Found = Option<Arc<Object>>;

/// Objects by name. Implemented by informers, and by plain maps in tests.
pub trait Lookup: Send + Sync {
    /// The Services of a namespace.
    fn services(&self, namespace: &str) -> Vec<Arc<Object>>;
    /// A ReplicationController, ReplicaSet or StatefulSet.
    fn owner(&self, kind: &str, namespace: &str, name: &str) -> Found;
    /// A PersistentVolumeClaim.
    fn claim(&self, key: &ObjectKey) -> Found;
    /// A PersistentVolume.
    fn volume(&self, name: &str) -> Found;
    /// The PersistentVolumes of a class.
    fn volumes_of_class(&self, class: &str) -> Vec<Arc<Object>>;
    /// A StorageClass.
    fn storage_class(&self, name: &str) -> Found;
    /// What the storage drivers say of a node.
    fn csi_node(&self, name: &str) -> Found;
    /// A storage driver.
    fn csi_driver(&self, name: &str) -> Found;
    /// Where how much storage is left.
    fn capacities(&self) -> Vec<Arc<Object>>;
}

const BY_CLASS: &str = "storageClassName";

/// Looks up in informers.
pub struct Informed {
    /// Services.
    pub services: Informer,
    /// The three kinds of sets.
    pub sets: [Informer; 3],
    /// Claims.
    pub claims: Informer,
    /// Volumes.
    pub volumes: Informer,
    /// Storage classes.
    pub classes: Informer,
    /// CSINodes.
    pub csi_nodes: Informer,
    /// CSIDrivers.
    pub csi_drivers: Informer,
    /// CSIStorageCapacities.
    pub capacities: Informer,
}

impl Informed {
    /// The informers of a cluster.
    pub fn new(cluster: &Cluster) -> Self {
        let services = cluster.informer(&resources::services());
        services.add_namespace_index();
        let volumes = cluster.informer(&resources::persistent_volumes());
        volumes.add_index(BY_CLASS, |volume| {
            let class = model::object::text(volume.spec(), &["storageClassName"]);
            vec![class.to_owned()]
        });
        Self {
            services,
            sets: [
                cluster.informer(&resources::replication_controllers()),
                cluster.informer(&resources::replica_sets()),
                cluster.informer(&resources::stateful_sets()),
            ],
            claims: cluster.informer(&resources::persistent_volume_claims()),
            volumes,
            classes: cluster.informer(&resources::storage_classes()),
            csi_nodes: cluster.informer(&resources::csi_nodes()),
            csi_drivers: cluster.informer(&resources::csi_drivers()),
            capacities: cluster.informer(&resources::csi_storage_capacities()),
        }
    }

    /// All of them.
    pub fn informers(&self) -> Vec<Informer> {
        let single = [
            &self.services,
            &self.claims,
            &self.volumes,
            &self.classes,
            &self.csi_nodes,
            &self.csi_drivers,
            &self.capacities,
        ];
        single.into_iter().chain(&self.sets).cloned().collect()
    }
}

impl Lookup for Informed {
    fn services(&self, namespace: &str) -> Vec<Arc<Object>> {
        self.services
            .by_index(controller::index::NAMESPACE, namespace)
    }

    fn owner(&self, kind: &str, namespace: &str, name: &str) -> Found {
        let sets = self
            .sets
            .iter()
            .find(|sets| *sets.resource().kind == *kind)?;
        sets.get(&ObjectKey::new(namespace, name))
    }

    fn claim(&self, key: &ObjectKey) -> Found {
        self.claims.get(key)
    }

    fn volume(&self, name: &str) -> Found {
        self.volumes.get(&ObjectKey::cluster(name))
    }

    fn volumes_of_class(&self, class: &str) -> Vec<Arc<Object>> {
        self.volumes.by_index(BY_CLASS, class)
    }

    fn storage_class(&self, name: &str) -> Found {
        self.classes.get(&ObjectKey::cluster(name))
    }

    fn csi_node(&self, name: &str) -> Found {
        self.csi_nodes.get(&ObjectKey::cluster(name))
    }

    fn csi_driver(&self, name: &str) -> Found {
        self.csi_drivers.get(&ObjectKey::cluster(name))
    }

    fn capacities(&self) -> Vec<Arc<Object>> {
        self.capacities.list()
    }
}
