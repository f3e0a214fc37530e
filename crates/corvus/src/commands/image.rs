//! `corvus image`: this program as a container image.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::image::{File, Image};

/// The arguments of `corvus image`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus image --to corvus.tar && docker load -i corvus.tar
  corvus image --name registry.example/corvus:1 --to - | ctr -n k8s.io images import -
  corvus image --to corvus.tar && skopeo copy oci-archive:corvus.tar docker://registry.example/corvus:1

The program is /corvus in the image, started as `corvus run` unless a command is given.")]
pub struct Arguments {
    /// The name of the image, with its tag.
    #[arg(long, default_value = concat!("corvus:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The file to write, an OCI archive; it must not be there yet. `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Writes an image of this program.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let files = File::of_this_program()?;
    let image = Image::new(&arguments.name, &files)?;
    let summary = if arguments.to == Path::new("-") {
        image
            .write(io::stdout().lock())
            .context("writing the image")?
    } else {
        write(&image, &arguments.to)?
    };
    for file in &files {
        eprintln!("{:>10}  {}", file.bytes.len(), file.path.display());
    }
    eprintln!(
        "{} is {}, {} bytes packed",
        arguments.name, summary.digest, summary.compressed_bytes
    );
    Ok(())
}

fn write(image: &Image, to: &Path) -> anyhow::Result<crate::image::Summary> {
    if to.exists() {
        bail!(
            "{} is there already: name another file with --to",
            to.display()
        );
    }
    // An image has the name it was asked for once it is whole.
    let unfinished = to.with_extension("unfinished");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&unfinished)
        .map(BufWriter::new)
        .and_then(|mut file| {
            let summary = image.write(&mut file)?;
            file.flush()?;
            std::fs::rename(&unfinished, to)?;
            Ok(summary)
        });
    written.with_context(|| {
        // What is half there is of no use; that it cannot be removed changes nothing.
        let _ = std::fs::remove_file(&unfinished);
        format!("writing {}", to.display())
    })
}
