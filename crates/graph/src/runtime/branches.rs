//! Branches that are not taken (gate `PartialDependencies`, kro's KREP-018).
//!
//! What only branches read is shown to expressions as unknown until it is settled. An expression that has a value all the
//! same did not need it; one that has none says what it needs, and then that is waited for, or, if that is left out, so is
//! the resource. CEL's own evaluation thereby says which branch is taken.

use std::collections::BTreeSet;

use super::{Binding, NodeState, Pass, Step};
use crate::expression::EvalFailure;

impl Pass<'_> {
    /// The variables among these that no value may be made of: not settled, or left out.
    pub(super) fn unsettled(&self, among: &BTreeSet<usize>) -> Vec<Binding<'_>> {
        let unsettled = among
            .iter()
            .filter(|node| self.states[**node] != NodeState::Synced);
        unsettled
            .map(|node| Binding::unknown(&self.graph.nodes[*node].id))
            .collect()
    }

    /// What becomes of a resource that needs these.
    pub(super) fn held_up_by(&self, names: &[String]) -> Step {
        if self.needs_skipped(names) {
            return Step::Skip;
        }
        let name = names.first().map_or("", String::as_str);
        Step::Blocked(format!("waiting for dependency \"{name}\" to be ready"))
    }

    fn needs_skipped(&self, names: &[String]) -> bool {
        let positions = names.iter().filter_map(|name| self.graph.position(name));
        positions
            .into_iter()
            .any(|node| self.states[node] == NodeState::Skipped)
    }
}

/// The failures of a template's fields. One that needs what is left out decides over all others, one that needs what is
/// not settled comes next: neither depends on the order of the fields.
#[derive(Default)]
pub(super) struct Failures {
    unsettled: Option<EvalFailure>,
    other: Option<EvalFailure>,
}

impl Failures {
    /// Notes a failure, or gives it back if it decides.
    pub fn add(&mut self, pass: &Pass<'_>, failure: EvalFailure) -> Result<(), EvalFailure> {
        let place = match &failure {
            EvalFailure::Unsettled { names, .. } if pass.needs_skipped(names) => {
                return Err(failure);
            }
            EvalFailure::Unsettled { .. } => &mut self.unsettled,
            _ => &mut self.other,
        };
        place.get_or_insert(failure);
        Ok(())
    }

    /// What is to be told.
    pub fn first(self) -> Result<(), EvalFailure> {
        self.unsettled.or(self.other).map_or(Ok(()), Err)
    }
}
