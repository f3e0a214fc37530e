//! The `corvus` command.
fn main() {}
