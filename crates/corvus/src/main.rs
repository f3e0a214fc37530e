//! The `corvus` command: composes, runs and hosts Kubernetes workloads.
//!
//! Only wiring lives here. Each command is a file of [`commands`]; [`plane`] puts a control plane
//! together out of the crates.

mod commands;
mod plane;

use std::process::ExitCode;

/// A server makes and drops small objects all day; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run()
}
