//! The verbs, one file each.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod update;
mod watch;

pub use create::{create, create_object};
pub use delete::{DeleteOptions, delete, delete_collection, delete_object};
pub use get::{get, render, render_value};
pub use list::list;
pub use patch::patch;
pub use update::update;
pub use watch::watch;
