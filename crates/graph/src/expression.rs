//! Compiled expressions, and what their evaluation can end in.

use std::collections::BTreeSet;

use cel::{Activation, Env, EvalError, Program, Type};
use serde_json::Value;
use thiserror::Error;

use crate::tally;

/// An expression, ready to be evaluated.
#[derive(Clone, Debug)]
pub struct Expression {
    source: String,
    program: Program,
    roots: BTreeSet<String>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvalFailure {
    /// Something it reads is not there yet.
    #[error("expression {source_text:?} waits for data: {message}")]
    Pending {
        /// The expression.
        source_text: String,
        /// What is missing.
        message: String,
    },
    /// It reads resources that were declared unknown to it: [`crate::runtime`] knows why.
    #[error("expression {source_text:?} reads what is not settled: {}", names.join(", "))]
    Unsettled {
        /// The expression.
        source_text: String,
        /// The variables.
        names: Vec<String>,
    },
    /// It cannot have a value.
    #[error("expression {source_text:?} failed: {message}")]
    Failed {
        /// The expression.
        source_text: String,
        /// Why.
        message: String,
    },
}

impl EvalFailure {
    /// Whether waiting may help.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }
}

/// The value of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// A value.
    Value(Value),
    /// `omit()`: the field is to be left out.
    Omit,
}

impl Expression {
    /// Compiles `source`; the error carries position and excerpt.
    pub fn compile(env: &Env, source: &str) -> Result<Self, cel::CompileError> {
        let program = env.compile(source)?.without_types();
        let roots = roots(program.references());
        Ok(Self {
            source: source.to_owned(),
            program,
            roots,
        })
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value.
    pub fn result_type(&self) -> &Type {
        self.program.result_type()
    }

    /// The variables it reads.
    pub fn roots(&self) -> &BTreeSet<String> {
        &self.roots
    }

    /// The raw value.
    pub(crate) fn evaluate<'a>(
        &'a self,
        variables: &'a Activation<'a>,
    ) -> Result<cel::Value<'a>, EvalFailure> {
        tally::global()
            .count(|| self.program.eval(variables))
            .map_err(|error| self.failure(&error))
    }

    /// The value as JSON.
    pub fn evaluate_json(&self, variables: &Activation<'_>) -> Result<Evaluated, EvalFailure> {
        let value = self.evaluate(variables)?;
        match cel_kube::to_json(&value) {
            Ok(cel_kube::Converted::Value(value)) => Ok(Evaluated::Value(value)),
            Ok(cel_kube::Converted::Omit) => Ok(Evaluated::Omit),
            Err(error) => Err(EvalFailure::Failed {
                source_text: self.source.clone(),
                message: error.to_string(),
            }),
        }
    }

    fn failure(&self, error: &EvalError) -> EvalFailure {
        let source_text = self.source.clone();
        let message = error.message().to_owned();
        if !error.unknowns().is_empty() {
            let names = error.unknowns().iter();
            let names = names.map(|attribute| attribute.variable.clone()).collect();
            return EvalFailure::Unsettled { source_text, names };
        }
        if is_pending(error) {
            EvalFailure::Pending {
                source_text,
                message,
            }
        } else {
            EvalFailure::Failed {
                source_text,
                message,
            }
        }
    }
}

/// What kro tells by the text of the error: a missing key, field, variable or element may come yet.
fn is_pending(error: &EvalError) -> bool {
    use cel::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NoSuchKey
            | ErrorKind::NoSuchField
            | ErrorKind::NoSuchAttribute
            | ErrorKind::IndexOutOfBounds
    )
}

/// The variables among references.
pub(crate) fn roots(references: &cel::References) -> BTreeSet<String> {
    references
        .identifiers
        .iter()
        .map(|identifier| identifier.name.clone())
        .collect()
}
