//! The file behind the embedded engine, and what becomes of it when the disk fails.
//!
//! redb takes no more writes after the disk has refused one, until it is opened anew. So a batch that
//! fails closes the file, and the next one opens it again. Whether the failed batch has reached the disk
//! after all shows then: if it has and was reported as failed, it is taken back first, as nobody has seen
//! it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, WriteTransaction,
};

use super::{Digest, ENTRIES, FORMAT, NUMBERS, checksum, corrupt, disk};
use crate::backup::Snapshot;
use crate::committer::Log;
use crate::entry::{Entry, Revision};
use crate::index::{Event, EventKind};
use crate::{Error, Result};

/// The engine's page cache. Small: reads are answered from the index, never from the file.
const CACHE_BYTES: usize = 8 << 20;

/// Opens the database of a path; tests put a failing disk in its place.
type Opener = Box<dyn Fn() -> std::result::Result<Database, DatabaseError> + Send>;

/// An open file, or one that waits to be opened again.
pub struct File {
    pub path: PathBuf,
    /// Over all entries that are acknowledged.
    pub digest: Digest,
    opener: Opener,
    database: Option<Database>,
    /// A batch that was reported as failed, of which nobody knows whether it is on disk.
    doubtful: Vec<Arc<Event>>,
}

impl File {
    /// Opens or makes a file.
    pub fn open(path: PathBuf) -> Result<Self> {
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == 0 => return Err(corrupt(&path, "it is empty")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path)?,
            _ => {}
        }
        let own = path.clone();
        Self::with_opener(
            path,
            Box::new(move || Database::builder().set_cache_size(CACHE_BYTES).create(&own)),
        )
    }

    /// Opens or makes a file that `opener` stands for.
    pub fn with_opener(path: PathBuf, opener: Opener) -> Result<Self> {
        let mut file = Self {
            path,
            digest: Digest::default(),
            opener,
            database: None,
            doubtful: Vec::new(),
        };
        file.reopen()?;
        file.prepare()?;
        Ok(file)
    }

    /// The open database.
    pub fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or_else(|| Error::Disk {
            operation: "open",
            message: "the file is closed after a failed write".to_owned(),
        })
    }

    fn reopen(&mut self) -> Result<()> {
        self.database = None;
        let path = self.path.display().to_string();
        self.database = Some((self.opener)().map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::InUse(path),
            DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
                corrupt(&self.path, what)
            }
            DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == std::io::ErrorKind::InvalidData
                    || error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                corrupt(&self.path, error.to_string())
            }
            DatabaseError::UpgradeRequired(version) => {
                corrupt(&self.path, format!("page format {version}"))
            }
            other => disk("open")(other),
        })?);
        Ok(())
    }

    /// Makes the tables and checks the format.
    fn prepare(&self) -> Result<()> {
        let transaction = self.database()?.begin_write().map_err(disk("open"))?;
        {
            transaction.open_table(ENTRIES).map_err(|error| {
                // Entries of another shape are of another format.
                self.format_error(&transaction)
                    .unwrap_or_else(|| disk("open")(error))
            })?;
            let mut numbers = transaction.open_table(NUMBERS).map_err(disk("open"))?;
            let found = numbers
                .get("format")
                .map_err(disk("open"))?
                .map(|value| value.value());
            match found {
                Some(FORMAT) => return Ok(()),
                Some(found) => return Err(self.other_format(found)),
                None => {
                    numbers.insert("format", FORMAT).map_err(disk("open"))?;
                }
            }
        }
        transaction.commit().map_err(disk("open"))
    }

    fn format_error(&self, transaction: &WriteTransaction) -> Option<Error> {
        let numbers = transaction.open_table(NUMBERS).ok()?;
        let found = numbers.get("format").ok()??.value();
        (found != FORMAT).then(|| self.other_format(found))
    }

    fn other_format(&self, found: u64) -> Error {
        Error::Format {
            path: self.path.display().to_string(),
            found,
            expected: FORMAT,
        }
    }

    /// Opens the file again after a failure, and settles what the failed batch has left.
    fn recover(&mut self) -> Result<()> {
        self.reopen()?;
        let doubtful = std::mem::take(&mut self.doubtful);
        if let Err(error) = self.take_back(&doubtful) {
            self.database = None;
            self.doubtful = doubtful;
            return Err(error);
        }
        tracing::info!(path = %self.path.display(), "the store takes writes again");
        Ok(())
    }

    fn revision_on_disk(&self) -> Result<Revision> {
        let transaction = self.database()?.begin_read().map_err(disk("recover"))?;
        let numbers = transaction.open_table(NUMBERS).map_err(disk("recover"))?;
        let found = numbers.get("revision").map_err(disk("recover"))?;
        Ok(Revision(found.map_or(0, |value| value.value())))
    }

    /// Undoes a batch where it is on disk: the last first.
    fn take_back(&self, batch: &[Arc<Event>]) -> Result<()> {
        let Some((first, last)) = batch.first().zip(batch.last()) else {
            return Ok(());
        };
        if self.revision_on_disk()? != last.revision() {
            return Ok(());
        }
        let before = Revision(first.revision().0 - 1);
        self.transact(before, self.digest, |entries| {
            for event in batch.iter().rev() {
                match &event.previous {
                    Some(previous) => put(entries, previous)?,
                    None => remove(entries, event.entry.key())?,
                }
            }
            Ok(())
        })
    }

    fn write(&self, batch: &[Arc<Event>], digest: Digest) -> Result<()> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        self.transact(last.revision(), digest, |entries| {
            for event in batch {
                match event.kind {
                    EventKind::Deleted => remove(entries, event.entry.key())?,
                    EventKind::Created | EventKind::Updated => put(entries, &event.entry)?,
                }
            }
            Ok(())
        })
    }

    fn transact(
        &self,
        revision: Revision,
        digest: Digest,
        change: impl FnOnce(&mut Entries<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.database()?.begin_write().map_err(disk("begin"))?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(disk("begin"))?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(disk("write"))?;
            change(&mut entries)?;
            let mut numbers = transaction.open_table(NUMBERS).map_err(disk("write"))?;
            for (name, number) in [("revision", revision.0), ("digest", digest.0)] {
                numbers.insert(name, number).map_err(disk("write"))?;
            }
        }
        transaction.commit().map_err(disk("commit"))
    }
}

/// Makes an empty store under another name and moves it into place, so that what is found at the path
/// was whole at some time.
fn make(path: &Path) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let problem = |error: std::io::Error| disk("create")(error);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(problem(error)),
        _ => {}
    }
    let own = unfinished.clone();
    let opener = move || Database::builder().set_cache_size(CACHE_BYTES).create(&own);
    drop(File::with_opener(unfinished.clone(), Box::new(opener))?);
    std::fs::rename(&unfinished, path).map_err(problem)?;
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or(Path::new("."))).map_err(problem)?;
    folder.sync_all().map_err(problem)
}

type Entries<'t> = redb::Table<'t, &'static str, (u64, u64, u32, &'static [u8])>;

fn put(entries: &mut Entries<'_>, entry: &Entry) -> Result<()> {
    let value = (
        entry.created().0,
        entry.revision().0,
        checksum(entry),
        entry.bytes().as_ref(),
    );
    entries
        .insert(&**entry.key(), value)
        .map_err(disk("write"))?;
    Ok(())
}

fn remove(entries: &mut Entries<'_>, key: &str) -> Result<()> {
    entries.remove(key).map_err(disk("write"))?;
    Ok(())
}

impl Log for File {
    fn import(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut digest = Digest::default();
        for entry in &snapshot.entries {
            digest.add(entry);
        }
        self.transact(snapshot.revision, digest, |entries| {
            for entry in &snapshot.entries {
                put(entries, entry)?;
            }
            Ok(())
        })?;
        self.digest = digest;
        Ok(())
    }

    fn probe(&mut self) -> Result<()> {
        if self.database.is_some() {
            return Ok(());
        }
        self.recover()?;
        let outcome = self
            .revision_on_disk()
            .and_then(|revision| self.transact(revision, self.digest, |_| Ok(())));
        if outcome.is_err() {
            self.database = None;
        }
        outcome
    }

    fn append(&mut self, batch: &[Arc<Event>]) -> Result<()> {
        if self.database.is_none() {
            self.recover()?;
        }
        let mut digest = self.digest;
        for event in batch {
            if let Some(previous) = &event.previous {
                digest.remove(previous);
            }
            if event.kind != EventKind::Deleted {
                digest.add(&event.entry);
            }
        }
        match self.write(batch, digest) {
            Ok(()) => {
                self.digest = digest;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a write was refused; reads go on");
                self.database = None;
                self.doubtful = batch.to_vec();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;
    use crate::entry::Document;
    use crate::local::LocalStore;
    use crate::{Change, Expect, Store, Write};

    /// A disk that has no space left when it is told so.
    #[derive(Debug)]
    struct Full {
        file: FileBackend,
        full: Arc<AtomicBool>,
    }

    impl Full {
        fn refuse(&self) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.refuse()?;
            self.file.set_len(length)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.refuse()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.refuse()?;
            self.file.write(offset, data)
        }
    }

    fn put(key: &str, text: &str) -> Write {
        Write {
            key: key.into(),
            expect: Expect::Absent,
            change: Change::Put(Document::plain(text.as_bytes().to_vec())),
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_until_it_has_space_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let full = Arc::new(AtomicBool::new(false));
        let opener = {
            let (path, full) = (path.clone(), full.clone());
            move || {
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)?;
                let backend = Full {
                    file: FileBackend::new(file)?,
                    full: full.clone(),
                };
                Database::builder().create_with_backend(backend)
            }
        };
        let file = File::with_opener(path.clone(), Box::new(opener)).expect("opens");
        let index = super::super::load(&file).expect("empty");
        let store = LocalStore::durable(index, file).expect("starts");
        let kept = store.commit(put("//pods/a", "1")).await.expect("space");
        store.health().await.expect("space");

        full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = store.commit(put("//pods/b", "2")).await;
            assert!(matches!(refused, Err(Error::Disk { .. })), "{refused:?}");
            assert!(store.health().await.is_err(), "the disk is still full");
        }
        assert_eq!(
            store.get("//pods/a").expect("reads go on").revision(),
            kept.revision()
        );
        assert!(store.get("//pods/b").is_none(), "what failed is not there");

        full.store(false, Ordering::SeqCst);
        store.health().await.expect("space again");
        let after = store
            .commit(put("//pods/c", "3"))
            .await
            .expect("space again");
        assert!(after.revision() > kept.revision());
        store.close();
        drop(store);

        let options = crate::EmbeddedOptions { path };
        let again = crate::open_embedded(&options).expect("intact");
        assert_eq!(again.get("//pods/a").expect("kept").bytes().as_ref(), b"1");
        assert_eq!(again.get("//pods/c").expect("kept").bytes().as_ref(), b"3");
        assert!(again.get("//pods/b").is_none());
    }
}
