//! `cargo xtask gen`: committed tables made from the facts in `../shared/data`.
//!
//! Every generator has a write and a check mode; the check fails where a committed file differs from
//! what would be written, and says so by name where the facts are not there to compare with.

mod columns;
mod resources;
mod schemas;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Whether to write the files or only compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Write what has changed.
    Write,
    /// Fail on what has changed.
    Check,
}

/// Runs every generator.
pub fn run(root: &Path, mode: Mode) -> Result<()> {
    let data = root.join("../shared/data/kubernetes-1.36");
    if !data.is_dir() {
        println!("gen: SKIPPED, shared/data/kubernetes-1.36 is not beside this checkout");
        return Ok(());
    }
    let read = |name: &str| -> Result<serde_json::Value> {
        let path = data.join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let table = resources::generate(&read("resources.json")?)?;
    put(
        root,
        "crates/model/src/resources/generated.rs",
        table.as_bytes(),
        mode,
    )?;
    let texts = fs::read_to_string(root.join(columns::TEXTS)).context(columns::TEXTS)?;
    let columns = columns::generate(&read("tables.json")?, &texts)?;
    put(
        root,
        "crates/kinds/src/columns/generated.rs",
        columns.as_bytes(),
        mode,
    )?;
    let facts = fs::read_to_string(root.join(schemas::FACTS)).context(schemas::FACTS)?;
    let (definitions, kinds) = schemas::generate(&read("schemas.json")?, &facts)?;
    put(root, schemas::DEFINITIONS, definitions.as_bytes(), mode)?;
    put(root, schemas::KINDS, kinds.as_bytes(), mode)
}

/// Writes one generated file, or compares it.
fn put(root: &Path, name: &str, content: &[u8], mode: Mode) -> Result<()> {
    let path = root.join(name);
    if fs::read(&path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    match mode {
        Mode::Check => bail!("{name} is not what `cargo xtask gen` writes: run it and commit"),
        Mode::Write => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, content)?;
            println!("gen: wrote {name}");
            Ok(())
        }
    }
}
