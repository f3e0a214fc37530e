//! ResourceGraphDefinitions: SimpleSchema, templates, graphs and their controllers.
//!
//! A ResourceGraphDefinition declares an API and the resources behind it. This crate turns one into a [`Graph`]
//! ([`build`]), generates the CustomResourceDefinition of the API ([`crd`]), and runs instances of it ([`start`]). It is a
//! drop-in for kro's `kro.run/v1alpha1`: names, labels, conditions and messages are the same.
//!
//! ```text
//!  spec --simple_schema--> schema --crd--> CustomResourceDefinition
//!    |                        |
//!    '--template, build (CEL)-+--> Graph --runtime--> what to apply, what is ready, the status
//! ```
//!
//! Everything but the `controllers` is pure: it neither reads nor writes a cluster.

pub mod applyset;
mod build;
pub mod compatibility;
pub mod conditions;
mod contribution;
mod controllers;
pub mod crd;
pub mod dag;
pub mod diagram;
mod expression;
mod external_fields;
mod features;
pub mod hash;
pub mod keys;
mod kinds;
mod lifecycle;
mod managed_resources;
pub mod manifests;
mod nearest;
mod plural;
mod propagation;
pub mod render;
mod rgd;
pub mod runtime;
pub mod simple_schema;
mod tally;
pub mod template;

pub use build::{
    BuildError, BuildOptions, FieldValue, Graph, Handling, Iterator, Node, NodeKind, Rollout,
    StatusField, TemplateField, TemplateKey, TextPart, build, read_spec, required_kinds,
};
pub use controllers::{GraphControllers, Metrics, Options, StartError, start};
pub use expression::{EvalFailure, Evaluated, Expression};
pub use external_fields::ExternalField;
pub use features::{Feature, Features};
pub use kinds::{Definitions, Kind, KindResolver, OfflineKinds, kinds_of_crd};
pub use lifecycle::{Adoption, Deletion, Lifecycle, Policy, Update};
pub use plural::plural;
pub use rgd::{
    ExternalMetadata, ExternalRef, GraphSpec, ResourceSpec, SchemaMetadata, SchemaSpec, Scope,
};
