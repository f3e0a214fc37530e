//! Deferred fields in a run: a resource that has some waits for what they read as long as that may still come in this run,
//! goes on without when nothing else can, and is filled in at the end with what came after it.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::wavefront::Run;
use crate::runtime::{NodeState, Step};

/// What a run knows of resources with deferred fields.
#[derive(Default)]
pub(super) struct Later {
    /// Those being applied or read.
    pub in_flight: BTreeSet<usize>,
    /// Those that go on with what there is.
    released: BTreeSet<usize>,
    /// Those that were filled in.
    filled_in: BTreeSet<usize>,
    /// What was applied of them.
    pub made: HashMap<usize, Vec<Value>>,
}

impl Run<'_> {
    /// Whether a resource should let others go first.
    pub(super) fn waits_softly(&self, node: usize, started: &[bool]) -> bool {
        let this = &self.graph.nodes[node];
        let is_done = |other: &usize| started[*other] && !self.later.in_flight.contains(other);
        !self.later.released.contains(&node) && !this.soft_dependencies.iter().all(is_done)
    }

    /// Lets one resource go on, if it must be without what it would wait for; false if there is none.
    ///
    /// Those that wait for nothing any more come first: what they read may have been settled without being run.
    pub(super) fn release_one(&mut self, started: &[bool]) -> bool {
        let held = |node: &usize| {
            let is_held = !started[*node] && !self.later.released.contains(node);
            is_held && !self.graph.nodes[*node].soft_dependencies.is_empty()
        };
        let held: Vec<usize> = self.graph.order.iter().copied().filter(held).collect();
        let mut free = held
            .iter()
            .filter(|node| !self.waits_softly(**node, started));
        let next = free.next().or(held.first()).copied();
        next.is_some_and(|node| self.later.released.insert(node))
    }

    /// Starts again what would now be made with other fields, each resource once; false if there is none.
    pub(super) fn fill_in(&mut self, started: &mut [bool]) -> bool {
        let mut any = false;
        for node in self.graph.order.iter().copied() {
            let Some(made) = self.later.made.get(&node) else {
                continue;
            };
            let is_same = match self.pass.step(node) {
                Step::Apply(objects) => objects == *made,
                Step::Fail(_) => false,
                _ => true,
            };
            if !is_same && self.later.filled_in.insert(node) {
                self.later.released.insert(node);
                started[node] = false;
                any = true;
            }
        }
        any
    }

    /// The instance is not done before all its fields are there, though nothing within it waits for them.
    pub(super) fn tell_awaited_fields(&mut self) {
        for node in 0..self.graph.nodes.len() {
            if *self.pass.state(node) == NodeState::Synced
                && let Some(reason) = self.pass.awaited_field(node)
            {
                self.pass.set_state(node, NodeState::Waiting(reason));
            }
        }
    }
}
