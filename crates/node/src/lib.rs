//! Nodes.
//!
//! [`virtual_nodes`] are nodes without a machine: they take Pods through the phases a kubelet reports
//! and run nothing. They say so in their names, labels and annotations, so that nobody mistakes them
//! for real ones.

pub mod virtual_nodes;
