//! Lengths of time on the command line, as upstream's flags have them.

pub use model::parse_duration as parse;
