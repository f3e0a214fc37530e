//! The `corvus` command: composes, runs and hosts Kubernetes workloads.
//!
//! Only wiring lives here. Each command is a file of [`commands`]; [`plane`] puts a control plane
//! together out of the crates.

mod commands;
mod image;
mod monitoring;
mod plane;

use std::process::ExitCode;

/// A server makes and drops small objects all day; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    commands::run()
}

/// `corvus ... | head` closes the pipe before everything is printed, which is no fault of anybody: the
/// program ends as others do that are told by a signal.
fn end_quietly_when_nobody_reads() {
    /// What a shell reports of a program that `SIGPIPE` has ended.
    const ENDED_BY_PIPE: i32 = 128 + 13;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>();
        if message.is_some_and(|text| text.contains("Broken pipe (os error 32)")) {
            std::process::exit(ENDED_BY_PIPE);
        }
        report(panic);
    }));
}
