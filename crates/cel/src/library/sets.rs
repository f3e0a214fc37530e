//! `sets.contains`, `sets.equivalent`, `sets.intersects`.

use super::list;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::eval::Context;
use crate::types::Type;
use crate::value::{List, Value};

pub fn library() -> Library {
    let lists = || [Type::list(Type::Param(0)), Type::list(Type::Param(0))];
    let product = |arguments: &[Value<'_>], _: &Value<'_>| {
        crate::cost::size(&arguments[0]) * crate::cost::size(&arguments[1])
    };
    Library::new("sets")
        .function(
            Function::new("sets.contains")
                .global(
                    "list_sets_contains_list",
                    lists(),
                    Type::Bool,
                    |context, arguments| {
                        contains(context, list(arguments, 0)?, list(arguments, 1)?).map(Value::Bool)
                    },
                )
                .cost(product),
        )
        .function(
            Function::new("sets.equivalent")
                .global(
                    "list_sets_equivalent_list",
                    lists(),
                    Type::Bool,
                    |context, arguments| {
                        let (a, b) = (list(arguments, 0)?, list(arguments, 1)?);
                        Ok(Value::Bool(
                            contains(context, a, b)? && contains(context, b, a)?,
                        ))
                    },
                )
                .cost(product),
        )
        .function(
            Function::new("sets.intersects")
                .global(
                    "list_sets_intersects_list",
                    lists(),
                    Type::Bool,
                    |context, arguments| {
                        let all = list(arguments, 0)?;
                        for element in list(arguments, 1)?.iter() {
                            if holds(context, all, &element?)? {
                                return Ok(Value::Bool(true));
                            }
                        }
                        Ok(Value::Bool(false))
                    },
                )
                .cost(product),
        )
}

/// Whether every element of `part` is in `all`.
fn contains(context: &mut Context<'_>, all: &List<'_>, part: &List<'_>) -> Result<bool, EvalError> {
    for element in part.iter() {
        if !holds(context, all, &element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(
    context: &mut Context<'_>,
    all: &List<'_>,
    element: &Value<'_>,
) -> Result<bool, EvalError> {
    for candidate in all.iter() {
        context.visit(1)?;
        if context.equal(&candidate?, element)? {
            return Ok(true);
        }
    }
    Ok(false)
}
