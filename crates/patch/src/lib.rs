//! Changing an object: the four kinds of patch, and who owns which field.
//!
//! * [`JsonPatch`]: operations on paths;
//! * [`merge_patch`]: a partial object laid over the object;
//! * [`strategic_merge`]: the same, with lists merged as the built-in types say;
//! * [`apply`]: server-side apply, a partial object that states what its manager wants;
//! * [`merge_configuration`]: a partial object laid over the object as an apply does, without any bookkeeping;
//! * [`track_update`]: the bookkeeping of owned fields for every other write.
//!
//! All are pure functions over JSON; time comes from the caller. A [`FieldSet`] is a set of paths,
//! the currency of ownership.

mod apply;
mod configuration;
mod conflict;
mod field_set;
mod json_patch;
mod managed;
mod merge_patch;
mod path;
mod strategic;
mod typed;

pub use apply::{OneVersion, Versions, Write, apply, keep_timestamps, track_update};
pub use configuration::merge_configuration;
pub use conflict::Conflict;
pub use field_set::FieldSet;
pub use json_patch::JsonPatch;
pub use merge_patch::merge_patch;
pub use path::PathElement;
pub use strategic::strategic_merge;

/// Why a patch cannot be applied. The texts are the API server's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The patch is not of its format (HTTP 400).
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed and does not fit the object (HTTP 422, one text for all cases).
    #[error("the server rejected our request due to an error in our request")]
    Unprocessable,
    /// The patched object does not fit its type (HTTP 422, as the detail of field `patch`).
    #[error("{0}")]
    Unfit(String),
    /// What upstream has no better answer for than HTTP 500 without a reason: applied objects
    /// that do not fit the schema, directives that do not fit each other.
    #[error("{0}")]
    Internal(String),
    /// Others own fields that are to change (HTTP 409).
    #[error("{message}")]
    Conflicts {
        /// The message of the `Status`.
        message: String,
        /// One per field, for the causes of the `Status`.
        causes: Vec<Conflict>,
    },
}
