//! What kro's users have proposed, each behind its feature gate: what builds, what is refused, what a pass does.

#![expect(clippy::unwrap_used, reason = "tests")]

mod decorators;
mod deferred;
mod dynamic_keys;
mod partial;
mod support;
mod variables;
