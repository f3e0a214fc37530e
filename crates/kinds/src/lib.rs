//! What the API server knows of each built-in kind beyond its schema.
//!
//! A kind's [`Behaviour`] is a table of pure functions: defaults, what a write may set, validation,
//! the cells of its table. The API server calls them at fixed points of a write; a kind that has
//! nothing to say at a point leaves the default there.
//!
//! ```text
//! create:  decode, default, prepare_create, (admission), validate_create, store
//! update:  decode, default, prepare_update, (admission), validate_update, store
//! status:  decode, default, prepare_status, (admission), validate_status, store
//! ```
//!
//! Modules are named after API groups and kinds, and every kind's has the same outline: one
//! `pub const BEHAVIOUR`, and the functions it names, in the order of the pipeline. Checks read
//! objects through `at`, which knows where it is; defaults write them through `edit`.
//!
//! Left out on purpose: anything that looks at other objects (that is admission, or a controller),
//! and custom resources (their definition is data).

mod admissionregistration;
mod age;
mod apiregistration;
mod apps;
mod at;
mod autoscaling;
mod batch;
mod behaviour;
mod cell;
mod certificates;
mod check;
mod columns;
mod convert;
mod coordination;
mod core;
pub mod demand;
mod devices;
mod discovery;
mod edit;
pub mod features;
mod flowcontrol;
mod networking;
mod policy;
pub mod quota;
mod rbac;
mod registry;
mod resources;
mod scheduling;
mod storage;
mod warnings;

pub use admissionregistration::webhook::check_client as check_webhook_client;
pub use age::age;
pub use batch::schedule::{Schedule, is_zone};
pub use behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule, Subresource};
pub use columns::{Column, columns};
pub use convert::convert;
pub use core::pod::quality_class as pod_quality_class;
pub use registry::{behaviour, deprecation};
pub use warnings::{deletion_warning, finalizer_warnings, warnings};
