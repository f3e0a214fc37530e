//! `cargo xtask tidy`: the rules of the house that no other tool checks.
//!
//! * the layer rule: a crate depends only on its own or lower layers;
//! * every module opens with a `//!` header;
//! * no file is longer than [`LINES_MAX`] lines;
//! * no `todo!`, `unimplemented!` or `#[ignore]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The layers of the workspace, lowest first (see ARCHITECTURE.md). Support crates may use all.
const LAYERS: &[&[&str]] = &[
    &[
        "cel", "cel-kube", "model", "schema", "patch", "kinds", "protobuf",
    ],
    &["store", "pki", "controller"],
    &["apiserver"],
    &["kubernetes", "graph"],
    &["node"],
    &["corvus"],
    &["testkit", "bench", "xtask"],
];

/// Longest source file; generated ones are exempt.
const LINES_MAX: usize = 800;

/// Checks everything and lists all that is wrong.
pub fn run(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    check_layers(root, &mut problems)?;
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        if !name.contains("generated") {
            check_file(&name, &text, &mut problems);
        }
    }
    if problems.is_empty() {
        println!("tidy: ok");
        return Ok(());
    }
    bail!("tidy:\n  {}", problems.join("\n  "))
}

fn check_layers(root: &Path, problems: &mut Vec<String>) -> Result<()> {
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, crates)| crates.iter().map(move |name| (*name, layer)))
        .collect();
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let name = folder
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        let Some(&layer) = layer_of.get(name.as_str()) else {
            problems.push(format!(
                "crates/{name} has no layer: name it in xtask/src/tidy.rs"
            ));
            continue;
        };
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        // What tests use may come from above: only the ordinary dependencies make the layers.
        let ordinary = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for line in ordinary.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            match layer_of.get(dependency) {
                Some(&below) if below > layer => problems.push(format!(
                    "crates/{name} (layer {layer}) depends on {dependency} (layer {below}) above it"
                )),
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, problems: &mut Vec<String>) {
    if !text.starts_with("//!") {
        problems.push(format!(
            "{name} does not open with a `//!` header that says what it is for"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!(
            "{name} has {lines} lines, over {LINES_MAX}: split it by meaning"
        ));
    }
    if name.starts_with("xtask/") {
        return;
    }
    for banned in ["todo!(", "unimplemented!(", "#[ignore", "dbg!("] {
        for (index, line) in text.lines().enumerate() {
            if line.contains(banned) {
                problems.push(format!("{name}:{} has `{banned}`", index + 1));
            }
        }
    }
}

/// Every Rust file of the workspace.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|n| n != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
