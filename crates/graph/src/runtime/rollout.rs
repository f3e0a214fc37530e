//! Which instances may move to a new revision of their definition.

use cel::{Activation, Value as CelValue};
use serde_json::Value;

use super::propagation::{Gate, Member, verdict};
use crate::build::Rollout;
use crate::propagation::{self, INDEX};

/// Which of the instances may move, in order: one that may counts as moved and not yet ready for those after it.
pub(crate) fn instance_gates(rollout: &Rollout, members: Vec<Member>) -> Vec<Gate> {
    let due: Vec<bool> = members.iter().map(|member| member.is_due).collect();
    let marked = members.into_iter().map(|mut member| {
        propagation::mark(&mut member.object, member.is_ready, member.is_updated);
        member.object
    });
    let mut objects = Value::Array(marked.collect());
    let mut gates = Vec::with_capacity(due.len());
    for (index, is_due) in due.into_iter().enumerate() {
        let gate = if is_due {
            gate(rollout, index, &objects)
        } else {
            Gate::Open
        };
        if is_due && gate == Gate::Open {
            propagation::mark(&mut objects[index], false, true);
        }
        gates.push(gate);
    }
    gates
}

fn gate(rollout: &Rollout, index: usize, objects: &Value) -> Gate {
    let mut variables = Activation::new();
    let place = i64::try_from(index).unwrap_or(i64::MAX);
    variables.bind(INDEX, CelValue::Int(place));
    variables.bind_typed(&rollout.plural, objects, &rollout.list_type);
    variables.bind_typed(&rollout.singular, &objects[index], &rollout.instance_type);
    let mut conditions = rollout.propagate_when.iter();
    let closed = conditions.find_map(|condition| match verdict(condition, &variables) {
        Gate::Open => None,
        closed => Some(closed),
    });
    closed.unwrap_or_default()
}
