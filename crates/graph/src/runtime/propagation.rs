//! Which objects of a resource may be changed now.

use cel::{Activation, Value as CelValue};
use controller::Object;
use serde_json::Value;

use super::{Binding, Pass, Readiness};
use crate::build::{EACH_VARIABLE, Node, NodeKind};
use crate::expression::{EvalFailure, Evaluated, Expression};
use crate::propagation::{self, INDEX};

/// An object a resource stands for, as it is; as it would be made if it does not exist.
#[derive(Clone, Debug)]
pub struct Member {
    /// The object.
    pub object: Value,
    /// Whether it exists and its `readyWhen` holds.
    pub is_ready: bool,
    /// Whether it was last written as it should be now.
    pub is_updated: bool,
    /// Whether it has to be written.
    pub is_due: bool,
}

/// Whether an object may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    #[default]
    Open,
    /// Not now: an expression does not hold, or waits for data.
    Closed(String),
    /// An expression failed.
    Failed(String),
}

impl Pass<'_> {
    /// Whether an object of a resource is ready by itself.
    pub fn is_member_ready(&self, node: usize, object: &Object) -> bool {
        let this = &self.graph().nodes[node];
        let name = if this.kind == NodeKind::Collection {
            EACH_VARIABLE
        } else {
            &this.id
        };
        Self::all_hold(this, &[Binding::raw(name, object.value())]) == Readiness::Ready
    }

    /// Which of the objects of a resource may be written, in order: one that may counts as updated and not yet ready for
    /// those after it, so that a step is never taken twice.
    pub fn gates(&self, node: usize, members: Vec<Member>) -> Vec<Gate> {
        let this = &self.graph().nodes[node];
        if this.handling.propagate_when.is_empty() || !members.iter().any(|member| member.is_due) {
            return vec![Gate::Open; members.len()];
        }
        let facts = |member: &Member| (member.is_due, member.is_updated);
        let facts: Vec<(bool, bool)> = members.iter().map(facts).collect();
        let marked = members.into_iter().map(|mut member| {
            propagation::mark(&mut member.object, member.is_ready, member.is_updated);
            member.object
        });
        let mut objects = Value::Array(marked.collect());
        let dimensions = self.dimensions(this, &[]).unwrap_or_default();
        let mut gates = Vec::with_capacity(facts.len());
        for (index, (is_due, was_updated)) in facts.into_iter().enumerate() {
            let gate = if is_due {
                self.gate(this, index, &objects, &chosen(&dimensions, index))
            } else {
                Gate::Open
            };
            if is_due && !was_updated && gate == Gate::Open {
                propagation::mark(&mut objects[index], false, true);
            }
            gates.push(gate);
        }
        gates
    }

    fn gate(&self, node: &Node, index: usize, objects: &Value, iterators: &[&Value]) -> Gate {
        for condition in &node.handling.propagate_when {
            let mut variables = Activation::new();
            self.bind(condition, &mut variables);
            let place = i64::try_from(index).unwrap_or(i64::MAX);
            variables.bind(INDEX, CelValue::Int(place));
            if node.kind == NodeKind::Collection {
                variables.bind_typed(&node.id, objects, &node.list_type);
                variables.bind_typed(EACH_VARIABLE, &objects[index], &node.object_type);
            } else {
                variables.bind_typed(&node.id, &objects[index], &node.object_type);
            }
            for (iterator, value) in node.for_each.iter().zip(iterators) {
                match iterator.list.result_type().element() {
                    Some(ty) => variables.bind_typed(&iterator.name, value, ty),
                    None => variables.bind_json(&iterator.name, value),
                };
            }
            match verdict(condition, &variables) {
                Gate::Open => {}
                closed => return described(node, &objects[index], closed),
            }
        }
        Gate::Open
    }
}

pub(super) fn verdict(condition: &Expression, variables: &Activation<'_>) -> Gate {
    match condition.evaluate_json(variables) {
        Ok(Evaluated::Value(Value::Bool(true))) => Gate::Open,
        Ok(_) => Gate::Closed(condition.source().to_owned()),
        Err(EvalFailure::Pending { message, .. }) => {
            Gate::Closed(format!("{} ({message})", condition.source()))
        }
        Err(failure) => Gate::Failed(failure.to_string()),
    }
}

/// Says whose gate it is.
fn described(node: &Node, object: &Value, gate: Gate) -> Gate {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let of = if node.kind == NodeKind::Collection {
        format!("\"{}\" for {} \"{name}\"", node.id, node.resource.kind)
    } else {
        format!("\"{}\"", node.id)
    };
    match gate {
        Gate::Open => Gate::Open,
        Gate::Closed(why) => Gate::Closed(format!("waiting for propagateWhen of {of}: {why}")),
        Gate::Failed(why) => Gate::Failed(format!("resource {of}: propagateWhen: {why}")),
    }
}

/// The values of the iterators for an item; the first dimension is the outermost loop.
fn chosen(dimensions: &[Vec<Value>], number: usize) -> Vec<&Value> {
    let mut rest = number;
    let inner_first = dimensions.iter().rev().map(|values| {
        let size = values.len().max(1);
        let value = values.get(rest % size).unwrap_or(&Value::Null);
        rest /= size;
        value
    });
    let mut values: Vec<&Value> = inner_first.collect();
    values.reverse();
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_have_the_values_they_were_made_from() {
        let dimensions = [
            vec![json!("a"), json!("b")],
            vec![json!(1), json!(2), json!(3)],
        ];
        let check = |number: usize, expect: [Value; 2]| {
            assert_eq!(
                chosen(&dimensions, number),
                expect.iter().collect::<Vec<_>>()
            );
        };
        check(0, [json!("a"), json!(1)]);
        check(2, [json!("a"), json!(3)]);
        check(3, [json!("b"), json!(1)]);
        check(5, [json!("b"), json!(3)]);
        assert_eq!(chosen(&[Vec::new()], 0), [&Value::Null]);
    }
}
