//! The controllers on a whole in-process cluster.

#![expect(clippy::unwrap_used, reason = "tests")]

mod autoscaling;
mod basics;
mod clouds;
mod conservative;
mod deletion_safety;
mod examples;
mod faults;
mod features;
mod lifecycle_races;
mod lifecycles;
mod load;
mod managed_resources;
mod our_examples;
mod propagation;
mod proposals;
mod published;
mod quarrels;
mod rollouts;
mod safety;
mod world;
