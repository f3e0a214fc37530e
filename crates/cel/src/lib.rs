//! The Common Expression Language: parse, check, bound and evaluate.
