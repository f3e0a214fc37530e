//! `cargo xtask ci`: what a contributor runs before a change, and what CI runs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The steps, cheapest first; the last is the README's test command.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    (
        "tidy",
        &["run", "--quiet", "--package", "xtask", "--", "tidy"],
    ),
    (
        "generated files",
        &[
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--",
            "gen",
            "--check",
        ],
    ),
    (
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    ),
    ("docs", &["doc", "--workspace", "--no-deps", "--quiet"]),
    ("tests", &["test", "--workspace"]),
];

/// Runs every step and stops at the first that fails.
pub fn run() -> Result<()> {
    for (name, arguments) in STEPS {
        println!("ci: {name}: cargo {}", arguments.join(" "));
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO"));
        command.args(*arguments);
        if *name == "docs" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        let status = command
            .status()
            .with_context(|| format!("starting cargo for {name}"))?;
        if !status.success() {
            bail!("ci: {name} failed");
        }
        println!("ci: {name}: ok, {} s", start.elapsed().as_secs());
    }
    Ok(())
}
