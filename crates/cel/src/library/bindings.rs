//! `cel.bind`, `cel.block`, and comprehensions with two variables.

use crate::env::Library;
use crate::parse::macros;

pub fn bindings() -> Library {
    Library::new("bindings").macro_rules(macros::bindings())
}

pub fn blocks() -> Library {
    Library::new("blocks").macro_rules(macros::blocks())
}

pub fn two_variable_comprehensions() -> Library {
    Library::new("two-variable-comprehensions").macro_rules(macros::two_variables())
}
