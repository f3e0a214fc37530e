//! `x-kubernetes-validations`: CEL rules in the schema of a custom resource.
//!
//! A schema's rules become a tree of the same shape with only the branches that have rules. A rule that
//! names `oldSelf` is a transition rule: it is asked where the value had a counterpart before.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Activation, Env, Limits, Program, Type, Value as Cel};
use model::{FieldError, FieldErrorKind, FieldPath, object};
use serde_json::{Value, json};

/// Cost of one rule's call, as upstream.
const CALL_COST_MAX: u64 = 1_000_000;
/// Cost of all rules of one object, as upstream.
const OBJECT_COST_MAX: u64 = 10_000_000;
/// Deepest schema; the structural checks allow no deeper one.
const DEPTH_MAX: usize = 128;
/// Longest text of a message expression, as upstream.
const MESSAGE_BYTES_MAX: usize = 5 << 10;

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

struct Rule {
    program: Program,
    text: String,
    message: String,
    message_program: Option<Program>,
    reason: FieldErrorKind,
    path: Option<String>,
    /// Whether the rule compares with the old value, and whether it is asked without one.
    transition: bool,
    optional_old: bool,
}

/// A rule that cannot be compiled: which member is wrong, and the error.
struct Defect {
    error: FieldError,
}

impl Rules {
    /// Compiles the rules of a schema that has been checked.
    pub fn compile(document: &Value) -> Result<Self, String> {
        let mut defects = Vec::new();
        let node = walk(document, &FieldPath::root(), true, 0, &mut defects);
        match defects.into_iter().next() {
            Some(defect) => Err(defect.error.to_string()),
            None => Ok(Self(node)),
        }
    }

    /// Everything that is wrong with the rules of a schema at `path`.
    pub fn check_definition(document: &Value, path: &FieldPath) -> Vec<FieldError> {
        let mut defects = Vec::new();
        walk(document, path, true, 0, &mut defects);
        defects.into_iter().map(|defect| defect.error).collect()
    }

    /// Everything that is wrong with an object by its rules.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Some(node) = &self.0 else {
            return Vec::new();
        };
        let mut run = Run {
            budget: OBJECT_COST_MAX,
            errors: Vec::new(),
        };
        run.visit(node, object, old, &FieldPath::root());
        run.errors
    }
}

fn walk(
    schema: &Value,
    path: &FieldPath,
    root: bool,
    depth: usize,
    defects: &mut Vec<Defect>,
) -> Option<Node> {
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
    let rules = object::list(schema, &["x-kubernetes-validations"]);
    if !rules.is_empty() {
        compile_rules(schema, rules, path, root, &mut node, defects);
    }
    let below = |name: &str| -> FieldPath { path.child(name) };
    for (name, property) in object::at(schema, &["properties"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = below("properties").key(name);
        if let Some(child) = walk(property, &path, false, depth + 1, defects) {
            node.properties.insert(name.clone(), child);
        }
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        node.items = walk(items, &below("items"), false, depth + 1, defects).map(Box::new);
    }
    if let Some(values) = schema
        .get("additionalProperties")
        .filter(|values| values.is_object())
    {
        let path = below("additionalProperties");
        node.additional = walk(values, &path, false, depth + 1, defects).map(Box::new);
    }
    let empty = node.rules.is_empty()
        && node.properties.is_empty()
        && node.items.is_none()
        && node.additional.is_none();
    (!empty).then_some(node)
}

fn compile_rules(
    schema: &Value,
    rules: &[Value],
    path: &FieldPath,
    root: bool,
    node: &mut Node,
    defects: &mut Vec<Defect>,
) {
    let path = path.child("x-kubernetes-validations");
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    let declared = if root || embedded {
        cel_kube::declare_resource("__type_self", schema, &cel_kube::no_refs)
    } else {
        cel_kube::declare("__type_self", schema, &cel_kube::no_refs)
    };
    let self_type = match declared {
        Ok(self_type) => self_type,
        Err(error) => {
            let error = FieldError::invalid(&path, json!(null), error.to_string());
            defects.push(Defect { error });
            return;
        }
    };
    for (index, rule) in rules.iter().enumerate() {
        match compile_rule(rule, &self_type, &path.index(index)) {
            Ok(rule) => node.rules.push(rule),
            Err(error) => defects.push(Defect { error: *error }),
        }
    }
    node.self_type = Some(self_type);
}

/// A rule as upstream prints it in errors: its fields in the order of the Go struct.
fn print(rule: &Value) -> String {
    let text = |name: &str| Value::from(object::text(rule, &[name])).to_string();
    let option = |name: &str| rule.get(name).cloned().unwrap_or_default().to_string();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        option("reason"),
        text("fieldPath"),
        option("optionalOldSelf"),
    )
}

fn compile_rule(rule: &Value, self_type: &Type, path: &FieldPath) -> Result<Rule, Box<FieldError>> {
    let text = |name: &str| object::text(rule, &[name]);
    let optional_old = rule.get("optionalOldSelf") == Some(&Value::Bool(true));
    let source = text("rule");
    if source.trim().is_empty() {
        return Err(Box::new(FieldError::required(
            &path.child("rule"),
            "rule is not specified",
        )));
    }
    let bad = |member: &str, why: String| {
        let error = FieldError::invalid(&path.child(member), rule.clone(), why);
        Box::new(error.printed_as(print(rule)))
    };
    let env = environment(self_type, optional_old).map_err(|why| bad("rule", why))?;
    let program = env
        .compile(source)
        .map_err(|error| bad("rule", format!("compilation failed: {error}")))?;
    if *program.result_type() != Type::Bool && !program.result_type().is_dyn() {
        return Err(bad(
            "rule",
            "cel expression must evaluate to a bool".to_owned(),
        ));
    }
    let transition = program.references().uses("oldSelf");
    if rule.get("optionalOldSelf").is_some() && !transition {
        let path = path.child("optionalOldSelf");
        let why = "may not be set if oldSelf is not used in rule";
        return Err(Box::new(FieldError::invalid(
            &path,
            rule["optionalOldSelf"].clone(),
            why,
        )));
    }
    let message_source = text("messageExpression");
    let message_program = if message_source.is_empty() {
        None
    } else {
        let compiled = env.compile(message_source).map_err(|error| {
            bad(
                "messageExpression",
                format!("messageExpression compilation failed: {error}"),
            )
        })?;
        if *compiled.result_type() != Type::String && !compiled.result_type().is_dyn() {
            let why = "messageExpression must evaluate to a string";
            return Err(bad("messageExpression", why.to_owned()));
        }
        Some(compiled)
    };
    let field = text("fieldPath");
    Ok(Rule {
        program,
        text: source.to_owned(),
        message: text("message").to_owned(),
        message_program,
        reason: match text("reason") {
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            _ => FieldErrorKind::Invalid,
        },
        path: (!field.is_empty()).then(|| field.to_owned()),
        transition,
        optional_old,
    })
}

fn environment(self_type: &Type, optional_old: bool) -> Result<Env, String> {
    let old = if optional_old {
        Type::optional(self_type.clone())
    } else {
        self_type.clone()
    };
    cel_kube::kubernetes_env()
        .extend()
        .variable("self", self_type.clone())
        .variable("oldSelf", old)
        .build()
        .map_err(|error| error.to_string())
}

/// One check of one object.
struct Run {
    budget: u64,
    errors: Vec<FieldError>,
}

impl Run {
    fn visit(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath) {
        if value.is_null() || self.budget == 0 {
            return;
        }
        if let Some(self_type) = &node.self_type {
            for rule in &node.rules {
                self.ask(rule, node, self_type, value, old, path);
            }
        }
        if let Value::Object(members) = value {
            for (name, member) in members {
                let old = old.and_then(|old| old.get(name));
                if let Some(child) = node.properties.get(name) {
                    self.visit(child, member, old, &path.child(name));
                } else if let Some(child) = &node.additional {
                    self.visit(child, member, old, &path.key(name));
                }
            }
        }
        if let (Value::Array(items), Some(child)) = (value, &node.items) {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| counterpart(node, item, old));
                self.visit(child, item, old, &path.index(index));
            }
        }
    }

    fn ask(
        &mut self,
        rule: &Rule,
        node: &Node,
        self_type: &Type,
        value: &Value,
        old: Option<&Value>,
        path: &FieldPath,
    ) {
        if rule.transition && !rule.optional_old && old.is_none() {
            return;
        }
        let mut variables = Activation::new();
        variables.bind_typed("self", value, self_type);
        match (old, rule.optional_old) {
            (Some(old), false) => {
                variables.bind_typed("oldSelf", old, self_type);
            }
            (old, true) => {
                let old = old.and_then(|old| Cel::from_typed(old, self_type).ok());
                let old = old.map(Arc::new);
                variables.bind("oldSelf", Cel::Optional(old));
            }
            (None, false) => {}
        }
        let limits = Limits {
            cost: CALL_COST_MAX.min(self.budget),
            ..Limits::DEFAULT
        };
        let outcome = rule.program.eval_with(&variables, &limits, None);
        self.budget = self.budget.saturating_sub(outcome.cost);
        let failure = match outcome.result {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => self.message(rule, &variables),
            Err(error) => {
                let text = format!("rule: {}", rule.text);
                format!("{error} evaluating {text}")
            }
        };
        let place = match &rule.path {
            Some(below) => {
                FieldPath::new(format!("{}{below}", path.as_str()).trim_start_matches('.'))
            }
            None => path.clone(),
        };
        // As upstream: the type stands for the value.
        let shown = json!(node.kind);
        self.errors.push(FieldError {
            path: place,
            kind: rule.reason,
            value: Some(shown),
            printed: None,
            detail: failure,
        });
    }

    /// What a rule that does not hold says.
    fn message(&mut self, rule: &Rule, variables: &Activation<'_>) -> String {
        if let Some(program) = &rule.message_program {
            let limits = Limits {
                cost: CALL_COST_MAX.min(self.budget),
                ..Limits::DEFAULT
            };
            let outcome = program.eval_with(variables, &limits, None);
            self.budget = self.budget.saturating_sub(outcome.cost);
            if let Ok(Cel::String(text)) = outcome.result {
                let text: &str = &text;
                let text = text.trim();
                let fits = text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                if fits && !text.is_empty() {
                    return text.to_owned();
                }
            }
        }
        if rule.message.is_empty() {
            format!("failed rule: {}", rule.text.trim())
        } else {
            rule.message.clone()
        }
    }
}

/// The item of the old list that is the same by its keys.
fn counterpart<'a>(node: &Node, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if node.keys.is_empty() {
        return None;
    }
    let same = |other: &&Value| node.keys.iter().all(|key| other.get(key) == item.get(key));
    old.as_array()?.iter().find(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(schema: &Value) -> Rules {
        Rules::compile(schema).expect("compiles")
    }

    fn check(schema: &Value, object: Value, old: Option<Value>, expect: &[&str]) {
        let errors = rules(schema).check(&object, old.as_ref());
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
            &["spec: Invalid value: \"object\": too many"],
        );
        let plain = schema(
            json!({"rule": "self.replicas > 0", "messageExpression": "'got ' + string(self.replicas)"}),
        );
        check(
            &plain,
            json!({"spec": {"replicas": 0}}),
            None,
            &["spec: Invalid value: \"object\": got 0"],
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
            &["spec: Invalid value: \"object\": failed rule: self.replicas >= oldSelf.replicas"],
        );
    }

    #[test]
    fn rules_are_checked_when_they_are_defined() {
        let errors = |rule: Value| {
            let path = FieldPath::new("s");
            let errors = Rules::check_definition(&schema(rule), &path);
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(errors(json!({"rule": "self.replicas +"})).contains("compilation failed"));
        assert!(errors(json!({"rule": "self.replicas"})).contains("must evaluate to a bool"));
        assert!(errors(json!({"rule": ""})).contains("rule is not specified"));
        assert_eq!(errors(json!({"rule": "self.replicas > 0"})), "");
    }
}
