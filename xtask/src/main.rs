//! Chores of the project: `cargo xtask ci | tidy | gen [--check]`.

mod ci;
mod generate;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(&root()?),
        ["gen"] => generate::run(&root()?, generate::Mode::Write),
        ["gen", "--check"] => generate::run(&root()?, generate::Mode::Check),
        _ => bail!("usage: cargo xtask ci | tidy | gen [--check]"),
    }
}

/// The root of the workspace.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest
        .parent()
        .context("xtask lives one level below the root")?
        .to_owned())
}
