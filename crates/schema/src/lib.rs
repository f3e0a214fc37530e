//! Structural and built-in schemas: prune, default, validate, publish.
