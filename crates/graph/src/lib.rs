//! ResourceGraphDefinitions: SimpleSchema, templates, graphs and their controllers.

pub mod applyset;
pub mod compatibility;
pub mod conditions;
pub mod crd;
pub mod dag;
pub mod hash;
pub mod keys;
mod nearest;
mod plural;
pub mod rgd;
pub mod simple_schema;
pub mod template;

pub use plural::plural;
