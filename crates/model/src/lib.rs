//! Kubernetes' nouns, free of IO and of any one object's behaviour.
//!
//! * [`GroupVersionKind`], [`GroupVersionResource`]...: what things are called;
//! * [`names`]: which strings may be names, labels and keys, with the API server's messages;
//! * [`LabelSelector`], [`FieldSelector`]: choosing among objects;
//! * [`Quantity`]: `100m`, `1Gi`, exact; [`parse_duration`]: `1m30s`;
//! * [`FieldError`] and [`Status`]: how Kubernetes says no;
//! * [`admission`]: what judges a write, and what it is asked;
//! * [`object`]: reading the common metadata of an object that is plain JSON;
//! * [`resources`]: the table of built-in resources, generated from a running server.
//!
//! Left out on purpose: what any one kind means (crate `kinds`), and how objects are stored or served.

pub mod admission;
mod duration;
mod field;
mod group;
pub mod names;
pub mod object;
mod quantity;
pub mod resources;
mod selector;
mod status;

pub use duration::parse_duration;
pub use field::{FieldError, FieldErrorKind, FieldPath, invalid_message};
pub use group::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use quantity::Quantity;
pub use selector::{FieldRequirement, FieldSelector, LabelRequirement, LabelSelector, Operator};
pub use status::{Reason, Status, StatusCause, StatusDetails};

/// What can go wrong when text from outside is read as one of Kubernetes' nouns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label or field selector that does not parse; the text is the API server's.
    #[error("{0}")]
    Selector(String),
    /// A quantity that does not parse; the text is the API server's.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Quantity,
    /// An `apiVersion` with more than one slash.
    #[error("unexpected GroupVersion string: {0}")]
    GroupVersion(String),
}
