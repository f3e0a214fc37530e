//! Asking rules of an object, within a budget.

use std::sync::Arc;

use cel::{Activation, ErrorKind, EvalError, Limits, Program, Value as Cel};
use cel_kube::{PER_CALL_LIMIT, RUNTIME_COST_BUDGET};
use model::{FieldError, FieldErrorKind, FieldPath};
use serde_json::Value;

use super::compile::Rule;
use super::{Node, Verdict};

/// Longest text of a message expression, as upstream.
const MESSAGE_BYTES_MAX: usize = 5 << 10;

/// Asks every rule of an object.
pub fn run(node: &Node, object: &Value, old: Option<&Value>) -> Verdict {
    let mut run = Run {
        budget: RUNTIME_COST_BUDGET,
        is_over: false,
        verdict: Verdict::default(),
    };
    let past = Past {
        counterpart: old,
        around: old.map(|old| (object, old)),
    };
    run.visit(node, object, past, &FieldPath::root());
    run.verdict
}

/// What was there before.
#[derive(Clone, Copy)]
struct Past<'a> {
    /// The old value itself, where there is one that is the same.
    counterpart: Option<&'a Value>,
    /// The nearest value around it that has a counterpart, now and then.
    around: Option<(&'a Value, &'a Value)>,
}

impl<'a> Past<'a> {
    fn below(self, value: &'a Value, old: Option<&'a Value>) -> Self {
        let around = match self.counterpart {
            Some(counterpart) => Some((value, counterpart)),
            None => self.around,
        };
        Self {
            counterpart: old,
            around,
        }
    }

    /// Whether nothing has changed here: what is wrong was wrong before.
    fn is_unchanged(self, value: &Value) -> bool {
        match (self.counterpart, self.around) {
            (Some(old), _) => old == value,
            (None, Some((now, then))) => now == then,
            (None, None) => false,
        }
    }
}

/// One check of one object.
struct Run {
    budget: u64,
    /// Nothing more is asked.
    is_over: bool,
    verdict: Verdict,
}

impl Run {
    fn visit<'a>(&mut self, node: &Node, value: &'a Value, past: Past<'a>, path: &FieldPath) {
        if value.is_null() || self.is_over {
            return;
        }
        for rule in &node.rules {
            if self.is_over {
                return;
            }
            self.ask(rule, node, value, past, path);
        }
        if let Value::Object(members) = value {
            for (name, member) in members {
                let old = past.counterpart.and_then(|old| old.get(name));
                let past = past.below(value, old);
                if let Some(child) = &node.additional {
                    self.visit(child, member, past, &path.key(name));
                }
                if let Some(child) = node.properties.get(name) {
                    self.visit(child, member, past, &path.child(name));
                }
            }
        }
        if let (Value::Array(items), Some(child)) = (value, &node.items) {
            for (index, item) in items.iter().enumerate() {
                let old = past
                    .counterpart
                    .and_then(|old| counterpart(node, item, old));
                self.visit(child, item, past.below(value, old), &path.index(index));
            }
        }
    }

    fn ask(&mut self, rule: &Rule, node: &Node, value: &Value, past: Past<'_>, path: &FieldPath) {
        let old = past.counterpart.filter(|old| !old.is_null());
        if rule.is_transition && !rule.has_optional_old && old.is_none() {
            return;
        }
        let program = match (&rule.program, &node.self_type) {
            (Ok(program), Some(_)) => program,
            (Err(why), _) => return self.refuse(node, path, format!("rule compile error: {why}")),
            (Ok(_), None) => return,
        };
        let variables = bind(rule, node, value, old);
        let Ok(outcome) = self.evaluate(program, &variables) else {
            self.is_over = true;
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            return self.refuse(node, path, why.to_owned());
        };
        match outcome {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => self.does_not_hold(rule, value, past, &variables, node, path),
            Err(error) => self.failed(rule, node, path, &error),
        }
    }

    /// Evaluates within the budget; an error where the budget does not suffice.
    fn evaluate<'v>(
        &mut self,
        program: &'v Program,
        variables: &'v Activation<'v>,
    ) -> Result<Result<Cel<'v>, EvalError>, ()> {
        if self.budget == 0 {
            return Err(());
        }
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            ..Limits::DEFAULT
        };
        let outcome = program.eval_with(variables, &limits, None);
        self.budget = self.budget.checked_sub(outcome.cost).ok_or(())?;
        Ok(outcome.result)
    }

    fn refuse(&mut self, node: &Node, path: &FieldPath, why: String) {
        let error = FieldError::invalid(path, node.kind.clone(), why);
        self.verdict.errors.push(error);
    }

    fn failed(&mut self, rule: &Rule, node: &Node, path: &FieldPath, error: &EvalError) {
        let shown = rule.shown();
        let why = match error.kind() {
            ErrorKind::NoSuchOverload => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            ),
            ErrorKind::CostLimit => {
                self.is_over = true;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                )
            }
            _ => format!("{error} evaluating rule: {shown}"),
        };
        self.refuse(node, path, why);
    }

    fn does_not_hold(
        &mut self,
        rule: &Rule,
        value: &Value,
        past: Past<'_>,
        variables: &Activation<'_>,
        node: &Node,
        path: &FieldPath,
    ) {
        let path = match &rule.path {
            Some(below) => path.child(below),
            None => path.clone(),
        };
        let detail = match self.message(rule, variables) {
            Ok(detail) => detail,
            Err(why) => {
                self.is_over = true;
                return self.refuse(node, &path, why);
            }
        };
        // As upstream: what has members is not printed.
        let shown = (!value.is_object() && !value.is_array()).then(|| value.clone());
        let error = FieldError {
            path,
            kind: rule.reason,
            value: shown,
            printed: None,
            detail: if rule.reason == FieldErrorKind::Duplicate {
                String::new()
            } else {
                detail
            },
        };
        if !rule.is_transition && past.is_unchanged(value) {
            self.verdict.warnings.push(error.to_string());
        } else {
            self.verdict.errors.push(error);
        }
    }

    /// What a rule that does not hold says; an error where saying it costs too much.
    fn message(&mut self, rule: &Rule, variables: &Activation<'_>) -> Result<String, String> {
        if let Some(program) = &rule.message_program {
            match self.evaluate(program, variables) {
                Err(()) => {
                    return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned());
                }
                Ok(Err(error)) if error.kind() == ErrorKind::CostLimit => {
                    return Err(format!(
                        "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                        rule.message_source
                    ));
                }
                Ok(Ok(Cel::String(text))) => {
                    let text: &str = &text;
                    let text = text.trim();
                    let fits = text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                    if fits && !text.is_empty() {
                        return Ok(text.to_owned());
                    }
                }
                Ok(_) => {}
            }
        }
        Ok(if rule.message.is_empty() {
            format!("failed rule: {}", rule.text)
        } else {
            rule.message.clone()
        })
    }
}

fn bind<'a>(
    rule: &Rule,
    node: &'a Node,
    value: &'a Value,
    old: Option<&'a Value>,
) -> Activation<'a> {
    let mut variables = Activation::new();
    let Some(self_type) = &node.self_type else {
        return variables;
    };
    variables.bind_typed("self", value, self_type);
    if rule.has_optional_old {
        let old = old.and_then(|old| Cel::from_typed(old, self_type).ok());
        variables.bind("oldSelf", Cel::Optional(old.map(Arc::new)));
    } else if let Some(old) = old {
        variables.bind_typed("oldSelf", old, self_type);
    }
    variables
}

/// The item of the old list that is the same by its keys.
fn counterpart<'a>(node: &Node, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if node.keys.is_empty() {
        return None;
    }
    let same = |other: &&Value| node.keys.iter().all(|key| other.get(key) == item.get(key));
    old.as_array()?.iter().find(same)
}
