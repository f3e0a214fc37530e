//! The verbs, one file each.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod update;
mod watch;

pub use create::{create, place};
pub use delete::{DeleteOptions, delete, delete_collection, delete_object};
pub use get::{get, metadata_only};
pub use list::list;
pub use patch::{patch, patch_error};
pub use update::update;
pub use watch::watch;
