//! Chores of the project: `cargo xtask ci | tidy | gen`.
fn main() {}
