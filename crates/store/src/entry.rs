//! Entries, their documents and their revisions.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The number of a change: one counter for the whole store, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The bytes of an entry before its revision is known, with the one place where the revision is to
/// be written in decimal. So an object can hold its own `resourceVersion` without being encoded
/// twice.
#[derive(Debug, Clone)]
pub struct Document {
    head: Vec<u8>,
    gap: Option<usize>,
}

impl Document {
    /// A document that does not hold its revision.
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self {
            head: bytes,
            gap: None,
        }
    }

    /// A document in which the revision is to be inserted at byte `gap`.
    ///
    /// # Panics
    /// If `gap` is beyond the end.
    pub fn with_gap(bytes: Vec<u8>, gap: usize) -> Self {
        assert!(gap <= bytes.len(), "the gap lies within the document");
        Self {
            head: bytes,
            gap: Some(gap),
        }
    }

    /// The bytes without the revision, and where it goes.
    pub(crate) fn parts(&self) -> (&[u8], Option<usize>) {
        (&self.head, self.gap)
    }

    /// Bytes without the revision.
    pub fn len(&self) -> usize {
        self.head.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The final bytes.
    pub fn finish(self, revision: Revision) -> Bytes {
        let Some(gap) = self.gap else {
            return Bytes::from(self.head);
        };
        let digits = revision.to_string();
        let mut bytes = Vec::with_capacity(self.head.len() + digits.len());
        bytes.extend_from_slice(&self.head[..gap]);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(&self.head[gap..]);
        Bytes::from(bytes)
    }
}

/// One version of one key. Immutable, and shared by everyone who reads it.
pub struct Entry {
    key: Arc<str>,
    created: Revision,
    revision: Revision,
    bytes: Bytes,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Entry {
    /// One version of a key.
    pub fn new(key: Arc<str>, created: Revision, revision: Revision, bytes: Bytes) -> Self {
        Self {
            key,
            created,
            revision,
            bytes,
            attachment: OnceLock::new(),
        }
    }

    /// The key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The revision at which the key came to be.
    pub fn created(&self) -> Revision {
        self.created
    }

    /// The revision of this version.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The document.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The parsed form of the document, made by `parse` when it is first asked for and kept.
    ///
    /// `None` where an earlier caller attached another type: a store has one kind of attachment.
    pub fn attachment<T: Any + Send + Sync>(&self, parse: impl FnOnce(&Bytes) -> T) -> Option<&T> {
        self.attachment
            .get_or_init(|| Box::new(parse(&self.bytes)))
            .downcast_ref()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_written_into_the_gap() {
        let document = Document::with_gap(br#"{"rv":""}"#.to_vec(), 7);
        assert_eq!(document.finish(Revision(42)).as_ref(), br#"{"rv":"42"}"#);
        assert_eq!(
            Document::plain(b"x".to_vec()).finish(Revision(1)).as_ref(),
            b"x"
        );
    }

    #[test]
    fn an_entry_is_parsed_once() {
        let entry = Entry::new(
            "/k".into(),
            Revision(1),
            Revision(1),
            Bytes::from_static(b"7"),
        );
        let parse = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(entry.attachment(parse), Some(&"7".to_owned()));
        assert_eq!(entry.attachment(|_| String::new()), Some(&"7".to_owned()));
        assert_eq!(entry.attachment(|_| 1_u8), None);
    }
}
