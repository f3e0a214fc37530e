//! Regular expressions in RE2's syntax, as Go reads it.
//!
//! The `regex` crate has RE2's guarantees but another language: patterns are read here, by Go's rules, and
//! written in the crate's syntax. See [`translate`].

mod translate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::translate::{RegexError, translate};
use crate::error::EvalError;

/// A compiled regular expression.
pub type Regex = regex::Regex;

/// Memory of one compiled expression.
const COMPILED_BYTES_MAX: usize = 10 << 20;

/// Patterns kept compiled per environment.
const CACHED_PATTERNS_MAX: usize = 256;

/// Checks a pattern without compiling it.
pub fn validate(pattern: &str) -> Result<(), RegexError> {
    translate(pattern).map(drop)
}

/// Compiles a pattern in RE2's syntax.
pub fn compile(pattern: &str) -> Result<Regex, RegexError> {
    let translated = translate(pattern)?;
    regex::RegexBuilder::new(&translated)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RegexError::TooLarge,
            other => RegexError::Invalid {
                what: "expression".to_owned(),
                pattern: first_line(&other.to_string()),
            },
        })
}

fn first_line(text: &str) -> String {
    text.lines()
        .next_back()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Patterns that are only known while evaluating, compiled once.
#[derive(Debug, Default)]
pub struct RegexCache(Mutex<HashMap<Arc<str>, Regex>>);

impl RegexCache {
    /// The compiled pattern.
    pub fn get(&self, pattern: &str) -> Result<Regex, EvalError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = lock().get(pattern) {
            return Ok(regex.clone());
        }
        let regex = compile(pattern).map_err(|error| EvalError::invalid(error.to_string()))?;
        let mut cached = lock();
        if cached.len() >= CACHED_PATTERNS_MAX {
            // Starting over is simple and rare: programs hold their constant patterns themselves.
            cached.clear();
        }
        cached.insert(pattern.into(), regex.clone());
        Ok(regex)
    }
}
