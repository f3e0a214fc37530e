//! What variables are worth.

use std::sync::Arc;

use controller::Object;
use serde_json::Value;

use super::desired::DesiredError;
use super::{NodeState, Observation, Pass, Readiness, Step};
use crate::build::Node;

impl Pass<'_> {
    /// The value of a variable; a list if it is repeated.
    pub(super) fn value_of(&self, node: &Node) -> Step {
        let unsettled = self.unsettled(&node.branch_dependencies);
        let value = if node.kind.is_list() {
            self.expand(node, &unsettled, |variables| {
                Ok(self.resolve(node, variables)?)
            })
            .map(Value::Array)
        } else {
            self.resolve(node, &unsettled).map_err(DesiredError::from)
        };
        match value {
            Ok(value) => Step::Value(value),
            Err(DesiredError::Eval(failure)) => self.give_up(node, "variable", &failure),
            Err(DesiredError::Other(message)) => Step::Fail(message),
        }
    }

    /// Takes the value of a variable as what was found of it, and notes where that leaves it.
    pub fn learn(&mut self, node: usize, value: Value) {
        let observation = if self.graph().nodes[node].kind.is_list() {
            Observation::Many {
                items: Arc::new(value),
                complete: true,
            }
        } else {
            Observation::One(Arc::new(Object::new(value)))
        };
        self.observe(node, observation);
        self.settle(node);
    }

    /// Notes where a resource stands by what was found of it.
    pub fn settle(&mut self, node: usize) {
        let state = match self.readiness(node) {
            Readiness::Ready => NodeState::Synced,
            Readiness::Waiting(reason) => NodeState::Waiting(reason),
            Readiness::Failed(message) => NodeState::Error(message),
        };
        self.set_state(node, state);
    }
}
