//! Names of the indexes most controllers want, and the functions behind them.

use crate::informer::Informer;
use crate::object::Object;

/// By the uid of every owner.
pub const OWNER_UID: &str = "owner-uid";
/// By the uid of the managing owner.
pub const CONTROLLER_UID: &str = "controller-uid";
/// By `spec.nodeName`.
pub const NODE_NAME: &str = "node-name";
/// By namespace.
pub const NAMESPACE: &str = "namespace";

/// The name of the index by one label's value.
pub fn label(key: &str) -> String {
    format!("label:{key}")
}

impl Informer {
    /// Adds the [`OWNER_UID`] and [`CONTROLLER_UID`] indexes.
    pub fn add_owner_index(&self) {
        self.add_index(OWNER_UID, |object| {
            object
                .owner_references()
                .into_iter()
                .map(|owner| owner.uid)
                .collect()
        });
        self.add_index(CONTROLLER_UID, |object| {
            object
                .controller_of()
                .map(|owner| owner.uid)
                .into_iter()
                .collect()
        });
    }

    /// Adds the [`NODE_NAME`] index.
    pub fn add_node_index(&self) {
        self.add_index(NODE_NAME, |object| {
            let name = object
                .pointer("/spec/nodeName")
                .and_then(|name| name.as_str());
            name.filter(|name| !name.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect()
        });
    }

    /// Adds the [`NAMESPACE`] index.
    pub fn add_namespace_index(&self) {
        self.add_index(NAMESPACE, |object: &Object| {
            object.namespace().map(str::to_owned).into_iter().collect()
        });
    }

    /// Adds the index by the value of one label, named [`label`]`(key)`.
    pub fn add_label_index(&self, key: &str) {
        let name = label(key);
        let key = key.to_owned();
        self.add_index(&name, move |object| {
            object.label(&key).map(str::to_owned).into_iter().collect()
        });
    }
}
