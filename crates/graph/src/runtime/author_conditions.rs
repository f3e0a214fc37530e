//! Conditions that the author of a graph defines.
//!
//! Where there are any, they are all that users see; kro's own exist only for `runtime.condition(schema, ...)`.

use std::collections::BTreeSet;

use cel::Activation;
use serde_json::{Value, json};

use super::{Observation, Pass};
use crate::build::SCHEMA_VARIABLE;
use crate::conditions::{ConditionSet, INSTANCE_CONDITIONS};
use crate::expression::{EvalFailure, Expression};

/// What an expression says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorCondition {
    /// Which condition.
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word, or empty.
    pub reason: String,
    /// For humans, or empty.
    pub message: String,
}

/// What all expressions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorConditions {
    /// In the order of declaration.
    pub conditions: Vec<AuthorCondition>,
    /// Whether an expression has no value yet, or none at all: what was written before stays.
    pub is_incomplete: bool,
    /// Whether an expression failed, which is an error of the graph.
    pub is_degraded: bool,
}

impl Pass<'_> {
    /// Evaluates the author's conditions; `own` are kro's of this pass.
    pub fn author_conditions(&self, own: &ConditionSet) -> AuthorConditions {
        let mut instance = self.instance.clone();
        instance["status"] = json!({"conditions": own.to_value()});
        let mut result = AuthorConditions::default();
        for expression in &self.graph.conditions {
            match self.evaluate_conditions(expression, &instance) {
                Ok(conditions) => result.conditions.extend(conditions),
                Err(failure) => {
                    result.is_incomplete = true;
                    result.is_degraded |= !failure.is_pending();
                }
            }
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<String> = result
            .conditions
            .iter()
            .filter(|condition| !seen.insert(condition.type_.as_str()))
            .map(|condition| condition.type_.clone())
            .collect();
        if !twice.is_empty() {
            // Which of them is meant cannot be told, so none is.
            result
                .conditions
                .retain(|condition| !twice.contains(&condition.type_));
            result.is_incomplete = true;
            result.is_degraded = true;
        }
        result
    }

    fn evaluate_conditions(
        &self,
        expression: &Expression,
        instance: &Value,
    ) -> Result<Vec<AuthorCondition>, EvalFailure> {
        let mut variables = Activation::new();
        for name in expression.roots() {
            let node = self.graph.position(name);
            match node.and_then(|node| Some((node, self.observed[node].as_ref()?))) {
                Some((node, Observation::One(object))) => {
                    variables.bind_typed(name, object.value(), &self.graph.nodes[node].object_type);
                }
                Some((node, Observation::Many { items, .. })) => {
                    variables.bind_typed(name, items, &self.graph.nodes[node].list_type);
                }
                None if name == SCHEMA_VARIABLE => {
                    variables.bind_json(name, instance);
                }
                None => {}
            }
        }
        let value = expression.evaluate(&variables)?;
        let malformed = |message: &str| EvalFailure::Failed {
            source_text: expression.source().to_owned(),
            message: message.to_owned(),
        };
        let items = match &value {
            cel::Value::List(list) => list.to_vec().map_err(|error| malformed(error.message()))?,
            single => vec![single.clone()],
        };
        items
            .iter()
            .map(|item| {
                read(item)
                    .ok_or_else(|| malformed("expected a condition made by runtime.newCondition"))
            })
            .collect()
    }
}

fn read(value: &cel::Value<'_>) -> Option<AuthorCondition> {
    let cel::Value::Object(object) = value else {
        return None;
    };
    if object.object_type().name() != "kro.run.Condition" {
        return None;
    }
    let text = |name: &str| object.get(name)?.ok()?.as_str().map(str::to_owned);
    Some(AuthorCondition {
        type_: text("type")?,
        status: text("status")?,
        reason: text("reason")?,
        message: text("message")?,
    })
}

impl AuthorConditions {
    /// The list as it is to be written, given the one that is there.
    pub fn merge(&self, current: &Value, generation: i64, now: &str) -> Value {
        let current = current.as_array().map_or(&[][..], Vec::as_slice);
        let present = |type_: &str| current.iter().find(|condition| condition["type"] == type_);
        let mut list: Vec<Value> = self
            .conditions
            .iter()
            .map(|condition| {
                let since = present(&condition.type_)
                    .filter(|known| known["status"] == condition.status.as_str())
                    .and_then(|known| known["lastTransitionTime"].as_str())
                    .unwrap_or(now);
                let mut value = json!({
                    "type": condition.type_,
                    "status": condition.status,
                    "lastTransitionTime": since,
                    "observedGeneration": generation,
                });
                for (key, text) in [
                    ("reason", &condition.reason),
                    ("message", &condition.message),
                ] {
                    if !text.is_empty() {
                        value[key] = text.as_str().into();
                    }
                }
                value
            })
            .collect();
        if self.is_incomplete {
            let kept = current.iter().filter(|known| {
                let type_ = known["type"].as_str().unwrap_or_default();
                let replaced = self
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == type_);
                !replaced && !INSTANCE_CONDITIONS.dependents.contains(&type_)
            });
            list.extend(kept.cloned());
        }
        Value::Array(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_with_the_status_and_unknown_ones_stay() {
        let condition = |type_: &str, status: &str| AuthorCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            ..AuthorCondition::default()
        };
        let current = json!([
            {"type": "A", "status": "True", "lastTransitionTime": "t0"},
            {"type": "B", "status": "True", "lastTransitionTime": "t0"},
            {"type": "C", "status": "True", "lastTransitionTime": "t0"},
            {"type": "ResourcesReady", "status": "True", "lastTransitionTime": "t0"},
        ]);
        let conditions = AuthorConditions {
            conditions: vec![condition("B", "False"), condition("A", "True")],
            is_incomplete: true,
            is_degraded: false,
        };
        let merged = conditions.merge(&current, 2, "t1");
        let shown: Vec<String> = merged
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                format!(
                    "{} {} {}",
                    c["type"].as_str().unwrap(),
                    c["status"].as_str().unwrap(),
                    c["lastTransitionTime"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(shown, ["B False t1", "A True t0", "C True t0"]);
    }
}
