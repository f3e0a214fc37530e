//! The embedded engine: one redb file that holds the live entries.
//!
//! The file is a snapshot that is always current, not a log: each batch overwrites the entries it
//! changes in one transaction. History is for watchers and lives in memory; after a restart a watch
//! from an older revision is told that it is too old, and lists again, as Kubernetes clients do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::committer::Log;
use crate::entry::{Entry, Revision};
use crate::index::{Event, EventKind, Index};
use crate::local::LocalStore;
use crate::{Error, Result};

/// Key to created revision, revision and document.
const ENTRIES: TableDefinition<&str, (u64, u64, &[u8])> = TableDefinition::new("entries");
/// Named numbers: `revision`, `format`.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The format this program writes.
const FORMAT: u64 = 1;
/// The engine's page cache. Small: reads are answered from the index, never from the file.
const CACHE_BYTES: usize = 8 << 20;

/// How to open an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The file; made where it is missing. Its folder must exist.
    pub path: PathBuf,
}

/// Opens or creates an embedded store and reads all of it into memory.
///
/// Fails with [`Error::InUse`] where another process has it open.
pub fn open_embedded(options: &EmbeddedOptions) -> Result<LocalStore> {
    let path = &options.path;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::InUse(path.display().to_string()),
            other => disk("open")(other),
        })?;
    prepare(&database, path)?;
    let index = load(&database)?;
    LocalStore::durable(index, File { database })
}

fn disk<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Disk {
        operation,
        message: error.to_string(),
    }
}

/// Makes the tables and checks the format.
fn prepare(database: &Database, path: &Path) -> Result<()> {
    let transaction = database.begin_write().map_err(disk("open"))?;
    {
        transaction.open_table(ENTRIES).map_err(disk("open"))?;
        let mut numbers = transaction.open_table(NUMBERS).map_err(disk("open"))?;
        let found = numbers
            .get("format")
            .map_err(disk("open"))?
            .map(|value| value.value());
        match found {
            Some(FORMAT) => return Ok(()),
            Some(found) => {
                let path = path.display().to_string();
                return Err(Error::Format {
                    path,
                    found,
                    expected: FORMAT,
                });
            }
            None => {
                numbers.insert("format", FORMAT).map_err(disk("open"))?;
            }
        }
    }
    transaction.commit().map_err(disk("open"))
}

fn load(database: &Database) -> Result<Index> {
    let transaction = database.begin_read().map_err(disk("load"))?;
    let numbers = transaction.open_table(NUMBERS).map_err(disk("load"))?;
    let revision = numbers
        .get("revision")
        .map_err(disk("load"))?
        .map_or(0, |value| value.value());
    let mut index = Index::at(Revision(revision));
    let entries = transaction.open_table(ENTRIES).map_err(disk("load"))?;
    for item in entries.iter().map_err(disk("load"))? {
        let (key, value) = item.map_err(disk("load"))?;
        let (created, revision, document) = value.value();
        index.load(Entry::new(
            Arc::from(key.value()),
            Revision(created),
            Revision(revision),
            Bytes::copy_from_slice(document),
        ));
    }
    Ok(index)
}

struct File {
    database: Database,
}

impl Log for File {
    fn append(&mut self, batch: &[Arc<Event>]) -> Result<()> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let mut transaction = self.database.begin_write().map_err(disk("begin"))?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(disk("begin"))?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(disk("write"))?;
            for event in batch {
                let entry = &event.entry;
                let key: &str = entry.key();
                if event.kind == EventKind::Deleted {
                    entries.remove(key).map_err(disk("write"))?;
                } else {
                    let value = (
                        entry.created().0,
                        entry.revision().0,
                        entry.bytes().as_ref(),
                    );
                    entries.insert(key, value).map_err(disk("write"))?;
                }
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(disk("write"))?;
            numbers
                .insert("revision", last.revision().0)
                .map_err(disk("write"))?;
        }
        transaction.commit().map_err(disk("commit"))
    }
}
