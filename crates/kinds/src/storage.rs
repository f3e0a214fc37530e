//! Kinds of the group `storage.k8s.io`.

pub mod attachment;
pub mod class;
pub mod csi;
