//! kro's own libraries.

mod condition;
mod digest;
mod json;
mod lists;
mod maps;
mod omit;
mod random;

use cel::Library;

pub use self::condition::condition_type;
pub use self::omit::Omit;

/// All of them.
pub fn libraries() -> Vec<Library> {
    vec![
        random::library(),
        maps::library(),
        json::library(),
        digest::library(),
        lists::library(),
        omit::library(),
        condition::library(),
    ]
}
