//! Evaluating the expressions of a policy for one request, within a budget.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cel::{Activation, EvalError, Limits, ObjectType, Opaque, Program, Type, Value};
use serde_json::Value as Json;

use super::environment::{VARIABLES, namespace_type, request_type};
use super::{Compiled, Compiler};
use crate::{
    AuthorizationAttributes, Authorizer, PER_CALL_LIMIT, authorizer_value, resource_check_value,
};

/// How many variables may wait for each other.
const VARIABLE_DEPTH_MAX: usize = 32;

/// What expressions see of a request.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The object; `null` where it is deleted.
    pub object: Arc<Json>,
    /// The object before; `null` where it is made.
    pub old_object: Arc<Json>,
    /// The AdmissionRequest, without its objects.
    pub request: Arc<Json>,
    /// The object's namespace; `null` where it has none.
    pub namespace_object: Arc<Json>,
    /// The parameter object; `null` where there is none.
    pub params: Arc<Json>,
    /// Who decides what may be done, and the request's own resource; for expressions that may ask.
    pub authorizer: Option<(Arc<dyn Authorizer>, AuthorizationAttributes)>,
}

impl Inputs {
    fn activation(&self) -> Activation<'_> {
        let mut activation = Activation::new();
        activation
            .bind_json("object", &self.object)
            .bind_json("oldObject", &self.old_object)
            .bind_json("params", &self.params)
            .bind_typed("request", &self.request, request_type())
            .bind_typed("namespaceObject", &self.namespace_object, namespace_type());
        if let Some((authorizer, resource)) = &self.authorizer {
            activation.bind("authorizer", authorizer_value(authorizer.clone()));
            activation.bind(
                "authorizer.requestResource",
                resource_check_value(authorizer.clone(), resource.clone()),
            );
        }
        activation
    }
}

/// Why an expression has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The budget is used up; nothing more is evaluated.
    #[error(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    )]
    Budget,
    /// The expression failed.
    #[error("expression '{expression}' resulted in error: {error}")]
    Evaluation {
        /// The expression.
        expression: String,
        /// Why.
        error: String,
    },
}

/// The expressions of one policy, for one request.
#[derive(Debug)]
pub struct Evaluation {
    inputs: Arc<Inputs>,
    variables: Arc<Variables>,
    budget: u64,
}

impl Evaluation {
    /// Begins with a budget.
    #[must_use]
    pub fn new(compiler: &Compiler, inputs: Inputs, budget: u64) -> Self {
        let inputs = Arc::new(inputs);
        Self {
            variables: Arc::new(Variables::new(compiler, inputs.clone())),
            inputs,
            budget,
        }
    }

    /// The same data and variables, with a budget of its own.
    #[must_use]
    pub fn with_budget(&self, budget: u64) -> Self {
        Self {
            inputs: self.inputs.clone(),
            variables: self.variables.clone(),
            budget,
        }
    }

    /// Evaluates one expression.
    pub fn run(&mut self, program: &Program) -> Result<Value<'static>, Failure> {
        let mut activation = self.inputs.activation();
        activation.bind("variables", Variables::value(&self.variables));
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            ..Limits::DEFAULT
        };
        let outcome = program.eval_with(&activation, &limits, None);
        let cost = outcome.cost.saturating_add(self.variables.take_cost());
        let result = outcome.result.and_then(Value::into_owned);
        if cost > self.budget {
            self.budget = 0;
            return Err(Failure::Budget);
        }
        self.budget -= cost;
        result.map_err(|error| Failure::Evaluation {
            expression: program.source().to_owned(),
            error: error.to_string(),
        })
    }
}

/// The variables of a policy, worked out when they are read.
struct Variables {
    programs: Arc<[(Arc<str>, Compiled)]>,
    inputs: Arc<Inputs>,
    ty: Arc<ObjectType>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Arc<str>, Result<Value<'static>, EvalError>>,
    /// What is being worked out now, outermost first.
    running: Vec<Arc<str>>,
    cost: u64,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.programs.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The value of `variables`: shows each variable as a field.
#[derive(Debug)]
struct Shown(Arc<Variables>);

impl Opaque for Shown {
    fn type_of(&self) -> Type {
        Type::Object(self.0.ty.clone())
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        let other = other.as_any().downcast_ref::<Self>();
        other.is_some_and(|other| Arc::ptr_eq(&self.0, &other.0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn field(&self, name: &str) -> Option<Result<Value<'static>, EvalError>> {
        let (name, compiled) = self.0.programs.iter().find(|(known, _)| **known == *name)?;
        Some(Variables::read(&self.0, name, compiled))
    }
}

impl Variables {
    fn new(compiler: &Compiler, inputs: Arc<Inputs>) -> Self {
        Self {
            programs: compiler.programs(),
            inputs,
            ty: Arc::new(ObjectType::new(VARIABLES).open()),
            state: Mutex::default(),
        }
    }

    fn value(this: &Arc<Self>) -> Value<'static> {
        Value::opaque(Shown(this.clone()))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_cost(&self) -> u64 {
        std::mem::take(&mut self.state().cost)
    }

    fn read(
        this: &Arc<Self>,
        name: &Arc<str>,
        compiled: &Compiled,
    ) -> Result<Value<'static>, EvalError> {
        let program = compiled.as_ref().map_err(|why| {
            EvalError::invalid(format!(
                "composited variable \"{name}\" fails to compile: {why}"
            ))
        })?;
        {
            let mut state = this.state();
            if let Some(known) = state.known.get(name) {
                return known.clone();
            }
            // A variable that hides one of its own name would wait for itself.
            if state.running.contains(name) || state.running.len() >= VARIABLE_DEPTH_MAX {
                return Err(EvalError::invalid(format!(
                    "composited variable \"{name}\" fails to evaluate: variables are nested too deeply"
                )));
            }
            state.running.push(name.clone());
        }
        let mut activation = this.inputs.activation();
        activation.bind("variables", Self::value(this));
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            ..Limits::DEFAULT
        };
        let outcome = program.eval_with(&activation, &limits, None);
        let result = outcome.result.and_then(Value::into_owned).map_err(|error| {
            EvalError::invalid(format!(
                "composited variable \"{name}\" fails to evaluate: {error}"
            ))
        });
        let mut state = this.state();
        state.running.pop();
        state.cost = state.cost.saturating_add(outcome.cost);
        state.known.insert(name.clone(), result.clone());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Declarations, Expect};
    use serde_json::json;

    fn inputs(object: Json) -> Inputs {
        let null = || Arc::new(Json::Null);
        Inputs {
            object: Arc::new(object),
            old_object: null(),
            request: Arc::new(json!({"operation": "CREATE", "userInfo": {"username": "jane"}})),
            namespace_object: Arc::new(json!({"metadata": {"name": "a", "labels": {"x": "y"}}})),
            params: null(),
            authorizer: None,
        }
    }

    fn check(variables: &[(&str, &str)], source: &str, expect: Result<bool, &str>) {
        let declarations = Declarations::default();
        let mut compiler = Compiler::with_variables();
        for (name, source) in variables {
            compiler
                .add_variable(name, source, declarations)
                .expect("compiles");
        }
        let program = compiler
            .compile(source, declarations, Expect::Bool)
            .unwrap_or_else(|error| panic!("{error}"));
        let object = json!({"data": {"a": "1", "b": "2"}});
        let mut evaluation = Evaluation::new(&compiler, inputs(object), 10_000);
        let found = evaluation.run(&program);
        let found = found.map(|value| value.as_bool().unwrap_or_default());
        assert_eq!(
            found.map_err(|error| error.to_string()),
            expect.map_err(str::to_owned)
        );
    }

    #[test]
    fn variables_are_worked_out_when_they_are_read() {
        let variables = [
            ("n", "size(object.data)"),
            ("twice", "variables.n * 2"),
            ("bad", "object.none.such"),
        ];
        check(&variables, "variables.twice == 4", Ok(true));
        check(
            &variables,
            "variables.n > 1 || variables.bad == 1",
            Ok(true),
        );
        check(
            &variables,
            "variables.bad == 1",
            Err(
                "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: none",
            ),
        );
    }

    #[test]
    fn the_request_and_the_namespace_have_types() {
        check(
            &[],
            "request.userInfo.username == 'jane' && namespaceObject.metadata.labels.x == 'y' && oldObject == null",
            Ok(true),
        );
        check(&[], "has(request.subResource)", Ok(false));
    }

    #[test]
    fn the_budget_ends() {
        check(
            &[("list", "lists.range(100)")],
            "variables.list.all(x, variables.list.all(y, x >= 0 && y >= 0))",
            Err(
                "validation failed due to running out of cost budget, no further validation rules will be run",
            ),
        );
    }
}
