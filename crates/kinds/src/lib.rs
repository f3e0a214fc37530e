//! What the API server knows of each built-in kind: defaults, validation, what a write may change, table cells.
