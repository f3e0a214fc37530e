//! Fields that are filled in later (gate `DeferredFields`, kro's KREP-019).
//!
//! As long as the data of a deferred field is missing, the object is made without it; an object that has it from before keeps
//! it ([`hold`]), so that a look at a moment when something else is not ready takes nothing away. Nothing that depends on
//! the resource waits for its deferred fields, only the instance as a whole does.

use std::sync::LazyLock;

use serde_json::Value;

use super::desired::DesiredError;
use super::{Binding, NodeState, Pass};
use crate::build::Node;
use crate::template::{FieldPath, Step as PathStep};

/// What stands for an object that was not found yet: `.?field` of it is none, other fields are missing data.
static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

/// A field that is left out until its data is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Which.
    pub path: FieldPath,
    /// What is missing.
    pub message: String,
    /// Whether it will come; not if it is read of a resource that is left out.
    pub is_awaited: bool,
}

impl Pass<'_> {
    /// The fields that are left out of each object of a resource.
    pub fn deferred(&self, node: usize) -> Vec<Vec<Deferred>> {
        let this = &self.graph().nodes[node];
        if !this.has_deferred_fields() {
            return Vec::new();
        }
        let unsettled = self.unsettled(&this.branch_dependencies);
        let of_one = |variables: &[Binding<'_>]| Ok(self.left_out(this, variables));
        let found: Result<Vec<_>, DesiredError> = if this.kind.is_repeated() {
            self.expand(this, &unsettled, of_one)
        } else {
            of_one(&unsettled).map(|fields| vec![fields])
        };
        // Without objects there are no fields of them.
        found.unwrap_or_default()
    }

    fn left_out(&self, node: &Node, variables: &[Binding<'_>]) -> Vec<Deferred> {
        let mut found = Vec::new();
        for field in node.fields.iter().filter(|field| field.is_deferred) {
            let variables = self.with_absent(node, variables);
            let Err(failure) = self.field_value(&field.value, &variables) else {
                continue;
            };
            let expressions = field.value.expressions();
            let roots = expressions
                .iter()
                .flat_map(|expression| expression.roots())
                .filter_map(|name| self.graph().position(name));
            let mut states = roots.map(|position| self.state(position));
            found.push(Deferred {
                path: field.path.clone(),
                message: failure.to_string(),
                is_awaited: !states.any(|state| *state == NodeState::Skipped),
            });
        }
        found
    }

    /// Why a resource that is otherwise done is not: the first of its fields that is still to be filled in.
    pub fn awaited_field(&self, node: usize) -> Option<String> {
        let all = self.deferred(node);
        let field = all.iter().flatten().find(|field| field.is_awaited)?;
        let id = &self.graph().nodes[node].id;
        Some(format!(
            "waiting for deferred field \"{}\" of \"{id}\": {}",
            field.path, field.message
        ))
    }

    /// The variables of a deferred field: with those that were not found yet.
    pub(super) fn with_absent<'b>(
        &'b self,
        node: &Node,
        variables: &[Binding<'b>],
    ) -> Vec<Binding<'b>> {
        let absent = node.soft_dependencies.iter().filter_map(|position| {
            let other = &self.graph().nodes[*position];
            let is_absent = self.observed[*position].is_none() && !other.kind.is_list();
            is_absent.then(|| Binding::typed(&other.id, &NOTHING, &other.object_type))
        });
        absent.chain(variables.iter().copied()).collect()
    }
}

/// Copies fields that `live` has and `desired` leaves out, so that applying `desired` does not take them away. Says whether
/// there were any.
pub fn hold(desired: &mut Value, live: &Value, fields: &[FieldPath]) -> bool {
    let mut held = false;
    for field in fields {
        held |= hold_one(desired, live, field.steps());
    }
    held
}

fn hold_one(desired: &mut Value, live: &Value, path: &[PathStep]) -> bool {
    match path {
        [PathStep::Field(name)] => {
            let (Some(fields), Some(value)) = (desired.as_object_mut(), live.get(name)) else {
                return false;
            };
            let is_missing = !fields.contains_key(name);
            if is_missing {
                fields.insert(name.clone(), value.clone());
            }
            is_missing
        }
        [PathStep::Field(name), rest @ ..] => match (desired.get_mut(name), live.get(name)) {
            (Some(desired), Some(live)) => hold_one(desired, live, rest),
            _ => false,
        },
        [PathStep::Index(index), rest @ ..] => {
            let Some(desired) = desired.get_mut(index) else {
                return false;
            };
            match counterpart(desired, live, *index) {
                Some(live) => hold_one(desired, live, rest),
                None => false,
            }
        }
        [] => false,
    }
}

/// The element of a live list that an element stands for: one that has the same in all its plain fields.
fn counterpart<'l>(element: &Value, live: &'l Value, index: usize) -> Option<&'l Value> {
    let plain: Vec<(&String, &Value)> = element
        .as_object()?
        .iter()
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .collect();
    let is_same = |other: &&Value| {
        plain
            .iter()
            .all(|(name, value)| other.get(name) == Some(value))
    };
    let elements = live.as_array()?;
    let same_place = elements.get(index).filter(is_same);
    if plain.is_empty() {
        return same_place;
    }
    same_place.or_else(|| elements.iter().find(is_same))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(desired: Value, live: &Value, path: &FieldPath, expect: Value) {
        let mut held = desired.clone();
        let changed = hold(&mut held, live, std::slice::from_ref(path));
        assert_eq!(held, expect);
        assert_eq!(changed, held != desired);
    }

    #[test]
    fn a_field_that_is_there_is_held() {
        let at = |names: &[&str]| {
            names
                .iter()
                .fold(FieldPath::root(), |path, name| path.field(name))
        };
        let spec = at(&["spec", "a"]);
        check(
            json!({"spec": {}}),
            &json!({"spec": {"a": 1, "b": 2}}),
            &spec,
            json!({"spec": {"a": 1}}),
        );
        check(
            json!({"spec": {"a": 3}}),
            &json!({"spec": {"a": 1}}),
            &spec,
            json!({"spec": {"a": 3}}),
        );
        check(
            json!({"spec": {}}),
            &json!({"spec": {}}),
            &spec,
            json!({"spec": {}}),
        );
        check(json!({}), &json!({"spec": {"a": 1}}), &spec, json!({}));
    }

    #[test]
    fn an_element_of_a_list_is_found_by_what_it_says() {
        let path = FieldPath::root().field("env").index(0).field("value");
        let desired = json!({"env": [{"name": "A"}]});
        let live = json!({"env": [{"name": "B", "value": "b"}, {"name": "A", "value": "a"}]});
        let held = json!({"env": [{"name": "A", "value": "a"}]});
        check(desired.clone(), &live, &path, held);
        let others = json!({"env": [{"name": "B", "value": "b"}]});
        check(desired.clone(), &others, &path, desired);
    }
}
