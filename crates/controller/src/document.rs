//! A JSON document that is held as a tree, or folded: as its text, until somebody looks at it.
//!
//! A tree takes several times the memory of its text, and the text twice that of its packed form. Caches
//! of many objects, of which few are looked at at a time, keep them folded; looking at a folded document
//! reads it once and keeps the tree beside the text for as long as that copy lives.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

/// A document in either form.
#[derive(Clone, Debug)]
pub struct Document {
    /// Invariant: where there is no text there is a tree.
    tree: OnceLock<Value>,
    /// Packed.
    text: Option<Arc<[u8]>>,
}

impl Document {
    /// A document held as a tree.
    pub fn new(value: Value) -> Self {
        Self {
            tree: OnceLock::from(value),
            text: None,
        }
    }

    /// The tree.
    pub fn value(&self) -> &Value {
        self.tree.get_or_init(|| {
            // Written from a tree a while ago, so it can be read.
            let unpack = |text: &Arc<[u8]>| lz4_flex::decompress_size_prepended(text).ok();
            let text = self.text.as_ref().and_then(unpack);
            text.and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default()
        })
    }

    /// The tree, for keeps.
    pub fn into_value(self) -> Value {
        self.value();
        self.tree.into_inner().unwrap_or_default()
    }

    /// Whether the tree takes memory.
    pub fn is_open(&self) -> bool {
        self.tree.get().is_some()
    }

    /// The same document, folded.
    pub fn folded(&self) -> Self {
        let text = self
            .text
            .clone()
            // A tree with strings as keys can always be written.
            .or_else(|| {
                let text = serde_json::to_vec(self.value()).ok()?;
                Some(lz4_flex::compress_prepend_size(&text).into())
            });
        match text {
            Some(text) => Self {
                tree: OnceLock::new(),
                text: Some(text),
            },
            None => self.clone(),
        }
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::new(Value::Null)
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folding_loses_nothing() {
        let open = Document::new(json!({"a": [1, "x", null], "b": {"c": 1.5}}));
        let folded = open.folded();
        assert!(open.is_open() && !folded.is_open());
        assert_eq!(folded, open);
        assert!(folded.is_open(), "who looks at it opens it");
        assert!(!folded.folded().is_open(), "and a copy can be folded again");
        assert_eq!(folded.folded().into_value(), open.into_value());
    }
}
