//! Schemas of objects: what fields there are, and what follows from that.
//!
//! One compiled form, [`Schema`], serves two sources: the structural schemas of custom resource
//! definitions, and the tables of the built-in types, which are generated from a running server and
//! parsed one definition at a time, when first asked for.
//!
//! * Built-in objects pass through Go structs upstream, and it shows: [`decode`] checks types and
//!   drops what a struct has no field for, [`encode`] writes what Go's encoder would, and
//!   [`strict_errors`] finds unknown and duplicate fields in the sender's bytes.
//! * Custom resources are [`coerce_metadata`]d, [`prune`]d, [`default`]ed and [`validate`]d.
//! * [`check_structural`] judges the schema of a definition itself.
//! * [`openapi`] publishes either kind.
//!
//! Left out on purpose: CEL rules are kept as data and evaluated elsewhere; defaults that Kubernetes
//! computes in code, and what values mean, belong to the kinds themselves (crate `kinds`).

mod built_in;
mod compile;
mod decode;
mod default;
mod encode;
mod formats;
mod metadata;
mod node;
pub mod openapi;
mod prune;
mod strict;
mod structural;
mod time;
mod validate;

pub use built_in::definition_json;
pub use decode::{decode, unknown_fields};
pub use default::default;
pub use encode::{encode, encode_unstored};
pub use metadata::coerce_metadata;
pub use node::{
    Additional, Field, GoField, Keywords, ListType, MapType, Node, Patch, Schema, Special,
    ValueType,
};
pub use prune::prune;
pub use strict::{duplicate_fields, strict_errors};
pub use structural::{
    Judgement, check_structural, field_path, is_structural, judge, unknown_formats,
};
pub use validate::{embedded, validate, validate_at, validate_update};

/// No object or schema may nest deeper: recursion over them is bounded by this. Upstream's JSON
/// reader has the far larger bound of 10 000; no real object comes near either.
pub const MAX_DEPTH: usize = 128;

/// What can go wrong. The texts are the API server's, without what it puts around them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value does not fit the Go type of its field.
    #[error("{0}")]
    Decode(String),
    /// Metadata of a custom resource or embedded resource that is not metadata.
    #[error("{0}")]
    Metadata(String),
    /// An object or a schema that nests too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A schema that cannot be compiled.
    #[error("{path}: {detail}")]
    Schema {
        /// Where in the schema.
        path: String,
        /// What is wrong there.
        detail: String,
    },
}
