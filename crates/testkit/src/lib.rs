//! In-process clusters for tests.
