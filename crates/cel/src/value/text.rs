//! Strings and bytes, borrowed or shared.

use std::ops::Deref;
use std::sync::Arc;

/// A string that is borrowed from data or shared.
#[derive(Clone, Debug)]
pub enum Str<'a> {
    /// Borrowed from JSON data or from a program's constants.
    Borrowed(&'a str),
    /// Made by evaluation.
    Shared(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// Bytes that are borrowed or shared.
#[derive(Clone, Debug)]
pub enum Blob<'a> {
    /// Borrowed from data or from a program's constants.
    Borrowed(&'a [u8]),
    /// Made by evaluation.
    Shared(Arc<[u8]>),
}

impl Deref for Blob<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}
