//! The embedded engine: one redb file that holds the live entries.
//!
//! The file is a snapshot that is always current, not a log: each batch overwrites the entries it
//! changes in one transaction. History is for watchers and lives in memory; after a restart a watch
//! from an older revision is told that it is too old, and lists again, as Kubernetes clients do.
//!
//! Nothing that was damaged on disk is served: every entry has a checksum, and one [`Digest`] over all of
//! them, kept with the revision, tells whether entries are missing. Opening checks both and names the file
//! and the key.
//!
//! A write the disk refuses (no space, say) fails, and so do those after it, until the disk takes
//! writes again; reads go on. See [`File`].

mod file;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::entry::{Entry, Revision};
use crate::index::Index;
use crate::local::LocalStore;
use crate::{Error, Result};
use file::File;

/// Key to created revision, revision, checksum and document.
const ENTRIES: TableDefinition<&str, (u64, u64, u32, &[u8])> = TableDefinition::new("entries");
/// Named numbers: `revision`, `format`, `digest`.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The format this program writes.
const FORMAT: u64 = 2;

/// How to open an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The file; made where it is missing. Its folder must exist.
    pub path: PathBuf,
}

/// Opens or creates an embedded store and reads all of it into memory.
///
/// Fails with [`Error::InUse`] where another process has it open, and with [`Error::Corrupt`] where
/// what is in the file is not what was written.
pub fn open_embedded(options: &EmbeddedOptions) -> Result<LocalStore> {
    let path = options.path.clone();
    // The engine meets damaged pages with a panic now and then.
    let opened = std::panic::catch_unwind(|| {
        let file = File::open(path)?;
        let index = load(&file)?;
        Ok((file, index))
    });
    match opened {
        Ok(outcome) => {
            let (mut file, index) = outcome?;
            file.digest = digest_of(&index);
            LocalStore::durable(index, file)
        }
        Err(_) => Err(corrupt(&options.path, "its pages cannot be read")),
    }
}

fn disk<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Disk {
        operation,
        message: error.to_string(),
    }
}

fn corrupt(path: &Path, what: impl Into<String>) -> Error {
    Error::Corrupt {
        path: path.display().to_string(),
        what: what.into(),
    }
}

/// The checksum of an entry: of all that is stored of it.
fn checksum(entry: &Entry) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(entry.key().as_bytes());
    sum.update(&entry.created().0.to_le_bytes());
    sum.update(&entry.revision().0.to_le_bytes());
    sum.update(entry.bytes());
    sum.finalize()
}

/// A number over all entries that changes with each of them: what is missing shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    /// What one entry adds. Spread over all bits, so that sums tell entries apart.
    fn part(entry: &Entry) -> u64 {
        let seed = (u64::from(checksum(entry)) << 32) ^ entry.revision().0;
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ seed
    }

    fn add(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_add(Self::part(entry));
    }

    fn remove(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_sub(Self::part(entry));
    }
}

fn digest_of(index: &Index) -> Digest {
    let mut digest = Digest::default();
    for entry in index.all() {
        digest.add(entry);
    }
    digest
}

/// Reads everything, and checks it.
fn load(file: &File) -> Result<Index> {
    let path = &file.path;
    let database = file.database()?;
    let bad = |error: redb::StorageError| corrupt(path, error.to_string());
    let transaction = database.begin_read().map_err(disk("load"))?;
    let numbers = transaction
        .open_table(NUMBERS)
        .map_err(|error| corrupt(path, error.to_string()))?;
    let number = |name: &str| -> Result<u64> {
        Ok(numbers.get(name).map_err(bad)?.map_or(0, |n| n.value()))
    };
    let mut index = Index::at(Revision(number("revision")?));
    let entries = transaction
        .open_table(ENTRIES)
        .map_err(|error| corrupt(path, error.to_string()))?;
    for item in entries.iter().map_err(bad)? {
        let (key, value) = item.map_err(bad)?;
        let (created, revision, sum, document) = value.value();
        let entry = Entry::new(
            key.value().into(),
            Revision(created),
            Revision(revision),
            Bytes::copy_from_slice(document),
        );
        if checksum(&entry) != sum {
            let key = key.value();
            return Err(corrupt(path, format!("the entry {key} is damaged")));
        }
        index.load(entry);
    }
    if digest_of(&index).0 != number("digest")? {
        return Err(corrupt(path, "entries are missing or out of date"));
    }
    Ok(index)
}
