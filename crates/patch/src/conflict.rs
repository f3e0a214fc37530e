//! Conflicts of an apply with the owners of fields, and how they are told.

use std::collections::BTreeMap;

use crate::Error;
use crate::field_set::FieldSet;
use crate::managed::Owner;
use crate::path::PathElement;

/// A field somebody else owns, as a cause of the `Status` (reason `FieldManagerConflict`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The field: `.data.x`.
    pub field: String,
    /// Who owns it: `conflict with "alice"`.
    pub message: String,
}

/// What each owner has at stake.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conflicts(pub(crate) Vec<(Owner, FieldSet)>);

impl Conflicts {
    /// Leaves out what is in `allowed`.
    pub(crate) fn without(mut self, allowed: &FieldSet) -> Self {
        for (_, set) in &mut self.0 {
            *set = set.difference(allowed);
        }
        self.0.retain(|(_, set)| !set.is_empty());
        self
    }
}

pub(crate) fn path_text(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl From<Conflicts> for Error {
    fn from(conflicts: Conflicts) -> Self {
        let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (owner, set) in &conflicts.0 {
            let paths = by_owner.entry(owner.to_string()).or_default();
            set.for_each(&mut |path| paths.push(path_text(path)));
        }
        let causes: Vec<Conflict> = by_owner
            .iter()
            .flat_map(|(owner, paths)| paths.iter().map(move |path| (owner, path)))
            .map(|(owner, path)| Conflict {
                field: path.clone(),
                message: format!("conflict with {owner}"),
            })
            .collect();
        let message = if let [one] = causes.as_slice() {
            let Conflict { field, message } = one;
            format!("Apply failed with 1 conflict: {message}: {field}")
        } else {
            let lists: Vec<String> = by_owner
                .iter()
                .map(|(owner, paths)| format!("conflicts with {owner}:\n- {}", paths.join("\n- ")))
                .collect();
            let count = causes.len();
            format!("Apply failed with {count} conflicts: {}", lists.join("\n"))
        };
        Self::Conflicts { message, causes }
    }
}
