//! Programs: expressions ready to be evaluated, any number of times and from any number of threads.
//!
//! Lowering ([`lower`]) turns the syntax tree into [`node::Node`]s with everything resolved: local variables are slots, chains
//! of selections are one node, overloads are picked, constants are values.

mod fold;
mod lower;
pub(crate) mod node;

use std::fmt;
use std::sync::Arc;

use self::lower::Lowering;
use self::node::Node;
use crate::activation::Activation;
use crate::ast::Ast;
use crate::check::Checked;
use crate::env::Env;
use crate::error::{CompileError, EvalError};
use crate::eval::{Evaluator, Limits, Outcome};
use crate::references::References;
use crate::types::Type;
use crate::value::Value;

/// An expression ready to be evaluated. Cloning it copies a pointer.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

pub(crate) struct Inner {
    env: Env,
    ast: Ast,
    checked: Option<Checked>,
    result_type: Type,
    pub(crate) root: Node,
    /// How many slots local variables need at most.
    pub(crate) slots: usize,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("source", &self.source())
            .field("result_type", &self.0.result_type)
            .finish()
    }
}

impl Program {
    pub(crate) fn checked(env: &Env, checked: Checked) -> Result<Self, CompileError> {
        let (root, slots) = Lowering::run(env, &checked.ast, Some(&checked))?;
        let result_type = checked.result_type().clone();
        let ast = checked.ast.clone();
        Ok(Self(Arc::new(Inner {
            env: env.clone(),
            ast,
            checked: Some(checked),
            result_type,
            root,
            slots,
        })))
    }

    pub(crate) fn unchecked(env: &Env, ast: Ast) -> Result<Self, CompileError> {
        let (root, slots) = Lowering::run(env, &ast, None)?;
        Ok(Self(Arc::new(Inner {
            env: env.clone(),
            ast,
            checked: None,
            result_type: Type::Dyn,
            root,
            slots,
        })))
    }

    /// Without the types of its parts, which only estimates of costs need. Keeps them if the program was cloned before.
    #[must_use]
    pub fn without_types(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.checked = None;
        }
        self
    }

    /// The type of the result; `dyn` for unchecked programs.
    #[must_use]
    pub fn result_type(&self) -> &Type {
        &self.0.result_type
    }

    /// The text of the expression.
    #[must_use]
    pub fn source(&self) -> &str {
        self.0.ast.source()
    }

    /// The parsed expression.
    #[must_use]
    pub fn ast(&self) -> &Ast {
        &self.0.ast
    }

    /// The types of all nodes, if the program was checked.
    #[must_use]
    pub fn types(&self) -> Option<&Checked> {
        self.0.checked.as_ref()
    }

    /// The names, paths and functions the expression refers to.
    #[must_use]
    pub fn references(&self) -> &References {
        self.0.ast.references()
    }

    /// Evaluates within the default [`Limits`].
    ///
    /// ```
    /// use cel::{Activation, Env, Type, Value};
    /// let env = Env::standard().extend().variable("x", Type::Int).build()?;
    /// let program = env.compile("x * 2 + 1")?;
    /// let mut activation = Activation::new();
    /// activation.bind("x", Value::Int(20));
    /// assert_eq!(program.eval(&activation)?, Value::Int(41));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn eval<'a>(&'a self, activation: &'a Activation<'a>) -> Result<Value<'a>, EvalError> {
        Evaluator::new(&self.0, activation, &Limits::DEFAULT, None)
            .run()
            .result
    }

    /// Evaluates within the given limits; tells what it cost.
    ///
    /// ```
    /// use cel::{Activation, Env, ErrorKind, Limits};
    /// let program = Env::standard().compile("[1, 2, 3].map(x, x + 1).exists(x, x > 100)")?;
    /// let activation = Activation::new();
    /// let outcome = program.eval_with(&activation, &Limits::DEFAULT, None);
    /// assert!(outcome.cost > 10);
    /// let limits = Limits { cost: 10, ..Limits::DEFAULT };
    /// let error = program.eval_with(&activation, &limits, None).result.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::CostLimit);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn eval_with<'a>(
        &'a self,
        activation: &'a Activation<'a>,
        limits: &Limits,
        interrupted: Option<&dyn Fn() -> bool>,
    ) -> Outcome<'a> {
        Evaluator::new(&self.0, activation, limits, interrupted).run()
    }
}

impl Inner {
    pub(crate) fn env(&self) -> &Env {
        &self.env
    }
}
