//! Backups: everything as of one revision, written while the store goes on.
//!
//! A backup is a stream, so that it can be sent to where there is space: a first line that says what it
//! is, then entry after entry with its checksum, then an end that says how many there were. What was cut
//! off or damaged on the way is refused when it is restored.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::embedded::{EmbeddedOptions, open_embedded};
use crate::entry::{Entry, Revision};
use crate::{Error, Result};

/// The first line.
const HEADER: &[u8] = b"corvus backup 1\n";
/// Longest key and document a backup may hold: far more than the API server lets through.
const KEY_BYTES_MAX: u32 = 4 << 10;
const DOCUMENT_BYTES_MAX: u32 = 64 << 20;

/// Everything in a store as of one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// All live entries.
    pub entries: Vec<Arc<Entry>>,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Disk {
        operation: "backup",
        message: error.to_string(),
    }
}

fn damaged(what: impl Into<String>) -> Error {
    Error::Corrupt {
        path: "backup".to_owned(),
        what: what.into(),
    }
}

/// One entry as it stands in a backup.
fn frame(entry: &Entry) -> Vec<u8> {
    let (key, document) = (entry.key().as_bytes(), entry.bytes());
    let mut frame = Vec::with_capacity(key.len() + document.len() + 28);
    frame.extend_from_slice(&(key.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(document.len() as u32).to_le_bytes());
    frame.extend_from_slice(&entry.created().0.to_le_bytes());
    frame.extend_from_slice(&entry.revision().0.to_le_bytes());
    frame.extend_from_slice(key);
    frame.extend_from_slice(document);
    let sum = crc32fast::hash(&frame);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame
}

/// The pieces of a backup, in order.
pub fn pieces(snapshot: Snapshot) -> impl Iterator<Item = Bytes> + Send {
    let Snapshot { revision, entries } = snapshot;
    let mut head = HEADER.to_vec();
    head.extend_from_slice(&revision.0.to_le_bytes());
    // An entry without a key ends the backup; its document says how many came before.
    let count = (entries.len() as u64).to_le_bytes().to_vec();
    let end = Entry::new("".into(), revision, revision, Bytes::from(count));
    std::iter::once(Bytes::from(head)).chain(
        entries
            .into_iter()
            .chain(std::iter::once(Arc::new(end)))
            .map(|entry| Bytes::from(frame(&entry))),
    )
}

/// Writes a backup.
pub fn write(snapshot: Snapshot, out: &mut impl Write) -> Result<()> {
    for piece in pieces(snapshot) {
        out.write_all(&piece).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

fn read_exact(from: &mut impl Read, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)
        .map_err(|error| damaged(format!("it ends too early: {error}")))?;
    Ok(bytes)
}

fn number(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// Reads a backup, and checks all of it.
pub fn read(from: &mut impl Read) -> Result<Snapshot> {
    let head = read_exact(from, HEADER.len() + 8)?;
    let (line, rest) = head.split_at(HEADER.len());
    if line != HEADER {
        return Err(damaged("it does not begin as a backup does"));
    }
    let revision = Revision(number(rest));
    let mut entries = Vec::new();
    loop {
        let mut frame = read_exact(from, 24)?;
        let (key, document) = (number(&frame[..4]) as u32, number(&frame[4..8]) as u32);
        if key > KEY_BYTES_MAX || document > DOCUMENT_BYTES_MAX {
            return Err(damaged(format!("entry {} is damaged", entries.len())));
        }
        frame.extend(read_exact(from, key as usize + document as usize)?);
        let sum = read_exact(from, 4)?;
        if u64::from(crc32fast::hash(&frame)) != number(&sum) {
            return Err(damaged(format!("entry {} is damaged", entries.len())));
        }
        let (created, at) = (number(&frame[8..16]), number(&frame[16..24]));
        let document = Bytes::from(frame.split_off(24 + key as usize));
        if key == 0 {
            return if number(&document) == entries.len() as u64 && at == revision.0 {
                Ok(Snapshot { revision, entries })
            } else {
                Err(damaged("entries are missing"))
            };
        }
        let key = std::str::from_utf8(&frame[24..]).map_err(|_| damaged("a key is no text"))?;
        entries.push(Arc::new(Entry::new(
            key.into(),
            Revision(created),
            Revision(at),
            document,
        )));
    }
}

/// Makes an embedded store of a backup. The file must not be there yet.
pub fn restore(from: &mut impl Read, path: &Path) -> Result<Revision> {
    if path.exists() {
        return Err(failed(format!(
            "{} is there already: restore to a path where nothing is",
            path.display()
        )));
    }
    let snapshot = read(from)?;
    let revision = snapshot.revision;
    let options = EmbeddedOptions {
        path: path.to_owned(),
    };
    let store = open_embedded(&options)?;
    store.import(snapshot)?;
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let entry = |key: &str, revision| {
            let text = Bytes::from(format!("document of {key}"));
            Arc::new(Entry::new(
                key.into(),
                Revision(1),
                Revision(revision),
                text,
            ))
        };
        Snapshot {
            revision: Revision(9),
            entries: vec![entry("//pods/a", 3), entry("//pods/b", 7)],
        }
    }

    #[test]
    fn a_backup_comes_back_as_it_was_or_not_at_all() {
        let mut written = Vec::new();
        write(snapshot(), &mut written).expect("to memory");
        let again = read(&mut written.as_slice()).expect("whole");
        assert_eq!(again.revision, Revision(9));
        assert_eq!(again.entries.len(), 2);
        assert_eq!(again.entries[1].bytes(), snapshot().entries[1].bytes());
        for length in 0..written.len() {
            assert!(read(&mut &written[..length]).is_err(), "cut at {length}");
        }
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 0x10;
            assert!(read(&mut damaged.as_slice()).is_err(), "flipped at {at}");
        }
    }
}
