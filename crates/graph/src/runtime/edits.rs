//! What happens to a template after its values are in their places: fields go, and keys get their names.
//!
//! It goes from the end: what is below a place comes before the place itself, and elements of lists before those in
//! front of them, so that no edit moves what another is about.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::build::TemplateKey;
use crate::expression::{EvalFailure, Evaluated};
use crate::keys::RESERVED_PREFIXES;
use crate::nearest::suggestion;
use crate::simple_schema::json_kind;
use crate::template::{FieldPath, Step};

/// Edits by place.
#[derive(Default)]
pub(super) struct Edits<'t>(BTreeMap<&'t FieldPath, Edit>);

enum Edit {
    Remove,
    Rename(String),
}

impl<'t> Edits<'t> {
    /// Leaves out what is at a place.
    pub fn remove(&mut self, path: &'t FieldPath) {
        self.0.insert(path, Edit::Remove);
    }

    /// Gives a key its name; without one there is no entry.
    pub fn rename(&mut self, key: &'t TemplateKey, name: Evaluated) -> Result<(), EvalFailure> {
        let name = match name {
            Evaluated::Value(Value::Null) | Evaluated::Omit => {
                self.remove(&key.path);
                return Ok(());
            }
            Evaluated::Value(Value::String(name)) => name,
            Evaluated::Value(other) => {
                let found = json_kind(&other);
                return Err(failure(
                    &key.path,
                    &format!("must be a string, got {found}"),
                ));
            }
        };
        check(key, &name).map_err(|message| failure(&key.path, &message))?;
        if !matches!(self.0.get(&key.path), Some(Edit::Remove)) {
            self.0.insert(&key.path, Edit::Rename(name));
        }
        Ok(())
    }

    /// Does it all.
    pub fn carry_out(self, object: &mut Value) -> Result<(), EvalFailure> {
        // Which key of the template became which.
        let mut renamed: BTreeMap<(&[Step], String), &FieldPath> = BTreeMap::new();
        for (path, edit) in self.0.into_iter().rev() {
            let Some((last, parents)) = path.steps().split_last() else {
                continue;
            };
            let parent = parents
                .iter()
                .try_fold(&mut *object, |value, step| match step {
                    Step::Field(name) => value.get_mut(name),
                    Step::Index(index) => value.get_mut(index),
                });
            match (parent, last, edit) {
                (Some(Value::Object(fields)), Step::Field(name), Edit::Remove) => {
                    fields.remove(name);
                }
                (Some(Value::Array(items)), Step::Index(index), Edit::Remove)
                    if *index < items.len() =>
                {
                    items.remove(*index);
                }
                (Some(Value::Object(fields)), Step::Field(written), Edit::Rename(name)) => {
                    let value = fields.remove(written).unwrap_or_default();
                    let other = renamed.insert((parents, name.clone()), path);
                    if other.is_some() || fields.contains_key(&name) {
                        let other = other.and_then(|path| path.steps().last());
                        let other = match other {
                            Some(Step::Field(written)) => written,
                            _ => &name,
                        };
                        let message = format!("is {name:?}, and so is the key {other:?} beside it");
                        return Err(failure(path, &message));
                    }
                    fields.insert(name, value);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn failure(path: &FieldPath, message: &str) -> EvalFailure {
    let written = match path.steps().last() {
        Some(Step::Field(name)) => name.clone(),
        _ => String::new(),
    };
    EvalFailure::Failed {
        source_text: written,
        message: format!("the key at path \"{path}\" {message}"),
    }
}

/// Whether a key may have this name.
fn check(key: &TemplateKey, name: &str) -> Result<(), String> {
    if let Some(known) = key
        .fields
        .as_ref()
        .filter(|known| !known.iter().any(|n| n == name))
    {
        let hint = suggestion(name, known.iter().map(String::as_str));
        let listed = known.join(", ");
        return Err(format!(
            "is {name:?}, which is no field there{hint}; there are {listed}"
        ));
    }
    let is_metadata = ["labels", "annotations"]
        .iter()
        .any(|map| key.path.starts_with(&["metadata", map]));
    let reserved = RESERVED_PREFIXES
        .iter()
        .find(|prefix| name.starts_with(**prefix));
    match reserved.filter(|_| is_metadata) {
        Some(prefix) => Err(format!(
            "is {name:?}; keys with prefix \"{prefix}\" are reserved for internal use"
        )),
        None => Ok(()),
    }
}
