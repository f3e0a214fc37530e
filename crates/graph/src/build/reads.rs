//! How a resource reads others: always, only in branches that may not be taken, or later.
//!
//! Without the gate `PartialDependencies` every read counts as one that is always needed, as in kro (KREP-018 is the
//! proposal). What only deferred fields read (gate `DeferredFields`) is waited for by nothing.

use std::collections::BTreeSet;

use super::parse::{self, ParsedResource};

/// What the expressions of a resource read, by name.
#[derive(Debug, Default)]
pub(super) struct Reads {
    always: BTreeSet<String>,
    in_branches: BTreeSet<String>,
    later: BTreeSet<String>,
}

impl Reads {
    /// Adds an expression that reads `roots`; with `by_branch` its branches count.
    pub fn add(&mut self, source: &str, roots: BTreeSet<String>, by_branch: bool) {
        if !by_branch {
            self.always.extend(roots);
            return;
        }
        let always = match parse::parse(source) {
            Ok(ast) => {
                let reads = ast.references().reads.iter();
                let always = reads.filter(|read| !read.conditional);
                always.map(|read| read.root.clone()).collect()
            }
            Err(_) => roots.clone(),
        };
        self.in_branches.extend(roots.difference(&always).cloned());
        self.always.extend(always);
    }

    /// Adds the expression of a deferred field.
    pub fn add_later(&mut self, roots: BTreeSet<String>) {
        self.later.extend(roots);
    }

    /// Adds what another part of the resource reads.
    pub fn extend(&mut self, other: &Self) {
        self.always.extend(other.always.iter().cloned());
        self.in_branches.extend(other.in_branches.iter().cloned());
    }

    pub fn contains(&self, name: &str) -> bool {
        [&self.always, &self.in_branches, &self.later]
            .iter()
            .any(|names| names.contains(name))
    }
}

/// Notes which resources `resource` depends on, and how.
pub(super) fn note(resource: &mut ParsedResource, ids: &[&str], all: &Reads, include_when: &Reads) {
    let positions = |holds: &dyn Fn(&str) -> bool| -> BTreeSet<usize> {
        let places = ids.iter().enumerate().filter(|(_, id)| holds(id));
        places.map(|(position, _)| position).collect()
    };
    let needs =
        |reads: &Reads, id: &str| reads.always.contains(id) || reads.in_branches.contains(id);
    let branch_only = |reads: &Reads, id: &str| needs(reads, id) && !reads.always.contains(id);
    resource.dependencies = positions(&|id| needs(all, id));
    resource.branch_dependencies = positions(&|id| branch_only(all, id));
    resource.soft_dependencies = positions(&|id| all.later.contains(id) && !needs(all, id));
    resource.include_dependencies = positions(&|id| needs(include_when, id));
    resource.include_branches = positions(&|id| branch_only(include_when, id));
}
