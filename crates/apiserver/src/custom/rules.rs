//! `x-kubernetes-validations`: CEL rules in the schema of a custom resource.
//!
//! A schema's rules become a tree of the same shape with only the branches that have rules. A rule that
//! names `oldSelf` is a transition rule: it is asked where the value had a counterpart before.
//!
//! * `define` judges the rules of a new definition, and what they may cost;
//! * `compile` makes a program of one rule;
//! * `run` asks them of an object.

mod compile;
mod define;
mod run;

pub use define::{Known, check_definition};

use std::collections::BTreeMap;

use cel::Type;
use model::{FieldError, object};
use serde_json::Value;

use self::compile::{Expressions, Rule};

/// Deepest schema; the structural checks allow no deeper one.
const DEPTH_MAX: usize = 128;
const RULES: &str = "x-kubernetes-validations";

/// The compiled rules of a schema.
pub struct Rules(Option<Node>);

/// The rules at one place of the schema and below it.
#[derive(Default)]
struct Node {
    rules: Vec<Rule>,
    /// The JSON type, for messages.
    kind: String,
    self_type: Option<Type>,
    properties: BTreeMap<String, Node>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    /// The keys of a list of type `map`, by which its items are told apart.
    keys: Vec<String>,
}

/// What the rules say of an object.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong.
    pub errors: Vec<FieldError>,
    /// What is wrong in parts that have not changed, which is only worth a warning.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Compiles the rules of a schema that has been checked. One that does not compile any more is an
    /// error of every object it is asked of.
    pub fn compile(document: &Value) -> Self {
        Self(walk(document, true, 0))
    }

    /// What the rules say of an object.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Verdict {
        self.0
            .as_ref()
            .map(|node| run::run(node, object, old))
            .unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

fn walk(schema: &Value, is_root: bool, depth: usize) -> Option<Node> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut node = Node {
        kind: object::text(schema, &["type"]).to_owned(),
        keys: object::list(schema, &["x-kubernetes-list-map-keys"])
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        ..Node::default()
    };
    let rules = object::list(schema, &[RULES]);
    if !rules.is_empty() {
        let expressions = Expressions::of(schema, is_root);
        node.self_type = expressions
            .as_ref()
            .ok()
            .map(|found| found.self_type.clone());
        node.rules = rules
            .iter()
            .map(|rule| Rule::new(rule, schema, expressions.as_ref()))
            .collect();
    }
    for (name, property) in members(schema, "properties") {
        if let Some(child) = walk(property, false, depth + 1) {
            node.properties.insert(name.clone(), child);
        }
    }
    let below = |name: &str| {
        let schema = schema.get(name).filter(|schema| schema.is_object())?;
        walk(schema, false, depth + 1).map(Box::new)
    };
    node.items = below("items");
    node.additional = below("additionalProperties");
    let is_empty = node.rules.is_empty()
        && node.properties.is_empty()
        && node.items.is_none()
        && node.additional.is_none();
    (!is_empty).then_some(node)
}

/// The members of a map in a schema.
fn members<'a>(
    schema: &'a Value,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    schema
        .get(name)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FieldPath;
    use serde_json::json;

    fn rules(schema: &Value) -> Rules {
        Rules::compile(schema)
    }

    fn check(schema: &Value, object: Value, old: Option<Value>, expect: &[&str]) {
        let errors = rules(schema).check(&object, old.as_ref()).errors;
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expect);
    }

    fn schema(rule: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {"replicas": {"type": "integer"}, "max": {"type": "integer"}},
            "x-kubernetes-validations": [rule],
        }}})
    }

    #[test]
    fn a_rule_that_does_not_hold_is_an_error() {
        let rule = schema(json!({"rule": "self.replicas <= self.max", "message": "too many"}));
        check(&rule, json!({"spec": {"replicas": 1, "max": 2}}), None, &[]);
        check(
            &rule,
            json!({"spec": {"replicas": 3, "max": 2}}),
            None,
            &["spec: Invalid value: too many"],
        );
        let plain = schema(
            json!({"rule": "self.replicas > 0", "messageExpression": "'got ' + string(self.replicas)"}),
        );
        check(
            &plain,
            json!({"spec": {"replicas": 0}}),
            None,
            &["spec: Invalid value: got 0"],
        );
    }

    #[test]
    fn transition_rules_need_a_past() {
        let rule = schema(json!({"rule": "self.replicas >= oldSelf.replicas"}));
        check(&rule, json!({"spec": {"replicas": 1}}), None, &[]);
        check(
            &rule,
            json!({"spec": {"replicas": 1}}),
            Some(json!({"spec": {"replicas": 2}})),
            &["spec: Invalid value: failed rule: self.replicas >= oldSelf.replicas"],
        );
    }

    #[test]
    fn rules_are_checked_when_they_are_defined() {
        let errors = |rule: Value| {
            let path = FieldPath::new("s");
            let errors = check_definition(&schema(rule), &path, &[], Known::default());
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(errors(json!({"rule": "self.replicas +"})).contains("compilation failed"));
        assert!(errors(json!({"rule": "self.replicas"})).contains("must evaluate to a bool"));
        let unused = json!({"rule": "self.replicas > 0", "optionalOldSelf": true});
        assert!(errors(unused).contains("may not be set if oldSelf is not used in rule"));
        let dear =
            json!({"rule": "self.replicas > 0", "messageExpression": "'x' + string(self.max)"});
        assert!(errors(dear).contains("estimated messageExpression cost exceeds budget"));
        assert_eq!(errors(json!({"rule": "self.replicas > 0"})), "");
    }
}
