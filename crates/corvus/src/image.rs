//! An image of this very program, as `corvus image` writes it.
//!
//! Needs no build tool and no base image: the program knows its own file, and its loader says which libraries that
//! takes. They make one layer; the archive is an OCI image layout that also has the index `docker load` reads.
//! The same program gives the same bytes, whenever it is asked.
//!
//! Left out: pushing to a registry, and images for another architecture than the program's own.

mod contents;
mod layout;

pub use contents::File;
pub use layout::{Image, Summary};
