//! What is in the image: this program, the libraries it is loaded with, and the roots that TLS judges others by.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Where the program is in the image.
pub const PROGRAM: &str = "/corvus";
/// Where the program looks for certificate authorities.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where systems keep them.
const ROOTS_OF_SYSTEMS: [&str; 3] = [
    ROOTS,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// A file of the image.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Its absolute path in the image.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub executable: bool,
}

impl File {
    fn read(from: &Path, path: &Path, executable: bool) -> anyhow::Result<Self> {
        let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            executable,
        })
    }

    /// Everything this program needs to run, itself first.
    ///
    /// # Errors
    ///
    /// The program or a library of it cannot be read or found.
    pub fn of_this_program() -> anyhow::Result<Vec<Self>> {
        let program = std::env::current_exe().context("finding the file of this program")?;
        let mut files = vec![Self::read(&program, Path::new(PROGRAM), true)?];
        for library in libraries(&program)? {
            files.push(Self::read(&library, &library, true)?);
        }
        if let Some(roots) = ROOTS_OF_SYSTEMS
            .iter()
            .find(|path| Path::new(path).exists())
        {
            files.push(Self::read(Path::new(roots), Path::new(ROOTS), false)?);
        }
        Ok(files)
    }
}

/// The libraries the loader finds for a program, the loader among them. As `ldd` does, the loader is asked, which then
/// does not start the program.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let answer = Command::new(program)
        .arg("version")
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .with_context(|| format!("asking for the libraries of {}", program.display()))?;
    parse(&String::from_utf8_lossy(&answer.stdout))
}

/// Reads lines such as `libc.so.6 => /lib/libc.so.6 (0x7f...)` and `/lib64/ld-linux-x86-64.so.2 (0x7f...)`. What a
/// program without libraries prints of itself has no such lines.
fn parse(answer: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in answer.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or(("", line));
        if place == "not found" {
            bail!("the library {name} of this program is not on this machine");
        }
        if let Some((path, _)) = place.split_once(" (0x").filter(|_| place.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_the_loader_names() {
        let answer = "\tlinux-vdso.so.1 (0x00007f1db00f1000)\n\
            \tlibc.so.6 => /lib/x/libc.so.6 (0x00007f1dad73e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1db00f3000)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(answer).unwrap(), expected.map(PathBuf::from));
        assert!(
            parse("corvus 0.1.0 (Kubernetes API 1.36)\n")
                .unwrap()
                .is_empty()
        );
        let missing = parse("\tlibm.so.6 => not found\n").unwrap_err();
        assert!(missing.to_string().contains("libm.so.6"), "{missing}");
    }
}
