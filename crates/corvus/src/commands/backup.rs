//! `corvus backup` and `corvus restore`: everything a control plane keeps, in one file.
//!
//! A backup is taken from the running server, which goes on, and is of one revision. Restoring makes a new
//! store of it; certificates and tokens are files beside the store and are not part of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use futures::AsyncReadExt as _;
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::plane;

/// Where the server gives its backup.
const PATH: &str = "/corvus/backup";
/// Read from the server and written to the file in one piece.
const PIECE_BYTES: usize = 256 << 10;

/// The arguments of `corvus backup`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus backup --to cluster.backup
  corvus backup --kubeconfig /etc/corvus/kubeconfig --to cluster.backup")]
pub struct BackupArguments {
    /// The kubeconfig of an administrator of the control plane.
    #[arg(long, default_value = ".corvus/kubeconfig", value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// The arguments of `corvus restore`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corvus restore --from cluster.backup --data-dir new && corvus up --data-dir new")]
pub struct RestoreArguments {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The data directory to make; it must not have a store yet.
    #[arg(long, default_value = ".corvus", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Takes a backup of a running control plane.
pub fn backup(arguments: &BackupArguments) -> anyhow::Result<()> {
    let to = &arguments.to;
    if to.exists() {
        bail!(
            "{} is there already: name another file with --to",
            to.display()
        );
    }
    // A backup has the name it was asked for once it is whole.
    let unfinished = to.with_extension("unfinished");
    let taken = plane::runtime()?.block_on(fetch(&arguments.kubeconfig, &unfinished));
    let (revision, entries, bytes) = match taken.and_then(|()| check(&unfinished)) {
        Ok(found) => found,
        Err(error) => {
            // What is half there is of no use; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
    };
    std::fs::rename(&unfinished, to).with_context(|| to.display().to_string())?;
    println!(
        "{}: {entries} objects as of revision {revision}, {bytes} bytes",
        to.display()
    );
    Ok(())
}

async fn fetch(kubeconfig: &Path, to: &Path) -> anyhow::Result<()> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading the kubeconfig {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let url = config.cluster_url.to_string();
    let client = kube::Client::try_from(config)?;
    let request = Request::get(PATH).body(Vec::new())?;
    let stream = client
        .request_stream(request)
        .await
        .with_context(|| format!("asking {url} for a backup"))?;
    let mut stream = std::pin::pin!(stream);
    // It holds the cluster's Secrets.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| to.display().to_string())?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = stream
            .read(&mut piece)
            .await
            .context("reading the backup")?;
        if length == 0 {
            break;
        }
        file.write_all(&piece[..length])
            .with_context(|| to.display().to_string())?;
    }
    file.sync_all().with_context(|| to.display().to_string())
}

/// Reads a backup as restoring would.
fn check(path: &Path) -> anyhow::Result<(u64, usize, u64)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let bytes = file
        .metadata()
        .with_context(|| path.display().to_string())?
        .len();
    let snapshot = store::backup::read(&mut BufReader::new(file))?;
    Ok((snapshot.revision.0, snapshot.entries.len(), bytes))
}

/// Makes a data directory of a backup.
pub fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let from = &arguments.from;
    let file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let folder = &arguments.data_dir;
    // For nobody else's eyes, as `corvus up` makes it.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| folder.display().to_string())?;
    let path = folder.join(plane::STORE_FILE);
    let revision = match store::backup::restore(&mut BufReader::new(file), &path) {
        Ok(revision) => revision,
        // That a backup should be restored is no help here.
        Err(store::Error::Corrupt { what, .. }) => {
            bail!("{} is no whole backup: {what}", from.display())
        }
        Err(other) => return Err(other).with_context(|| format!("restoring {}", from.display())),
    };
    println!(
        "{} is as of revision {revision}; `corvus up --data-dir {}` serves it",
        path.display(),
        folder.display()
    );
    Ok(())
}
