//! Optional values.

use std::sync::Arc;

use super::list;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::parse::macros;
use crate::types::Type;
use crate::value::Value;

fn t() -> Type {
    Type::Param(0)
}

fn inner<'v, 'a>(value: &'v Value<'a>) -> Result<Option<&'v Arc<Value<'a>>>, EvalError> {
    match value {
        Value::Optional(inner) => Ok(inner.as_ref()),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub fn library() -> Library {
    let optional = || Type::optional(t());
    Library::new("optionals")
        .macro_rules(macros::optionals())
        .named_type(Type::optional(Type::Dyn))
        .function(Function::new("optional.of").global(
            "optional_of",
            [t()],
            optional(),
            |_, arguments| Ok(Value::some(arguments[0].clone())),
        ))
        .function(Function::new("optional.ofNonZeroValue").global(
            "optional_ofNonZeroValue",
            [t()],
            optional(),
            |_, arguments| {
                let value = &arguments[0];
                Ok(if value.is_zero() {
                    Value::Optional(None)
                } else {
                    Value::some(value.clone())
                })
            },
        ))
        .function(
            Function::new("optional.none").global("optional_none", [], optional(), |_, _| {
                Ok(Value::Optional(None))
            }),
        )
        .function(Function::new("value").member(
            "optional_value",
            [optional()],
            t(),
            |_, arguments| {
                let value = inner(&arguments[0])?
                    .ok_or_else(|| EvalError::other("optional.none() dereference"))?;
                Ok((**value).clone())
            },
        ))
        .function(Function::new("hasValue").member(
            "optional_hasValue",
            [optional()],
            Type::Bool,
            |_, arguments| Ok(Value::Bool(inner(&arguments[0])?.is_some())),
        ))
        .function(Function::new("or").member(
            "optional_or_optional",
            [optional(), optional()],
            optional(),
            |_, arguments| {
                let chosen = if inner(&arguments[0])?.is_some() {
                    &arguments[0]
                } else {
                    &arguments[1]
                };
                Ok(chosen.clone())
            },
        ))
        .function(Function::new("orValue").member(
            "optional_orValue_value",
            [optional(), t()],
            t(),
            |_, arguments| {
                Ok(inner(&arguments[0])?
                    .map_or_else(|| arguments[1].clone(), |value| (**value).clone()))
            },
        ))
        .function(unwrap("optional.unwrap", false))
        .function(unwrap("unwrapOpt", true))
        .function(end("first", |length| (length > 0).then_some(0)))
        .function(end("last", |length| length.checked_sub(1)))
}

fn unwrap(name: &str, member: bool) -> Function {
    let parameters = [Type::list(Type::optional(t()))];
    let result = Type::list(t());
    let function = Function::new(name);
    if member {
        function.member(
            "optional_unwrapOpt",
            parameters,
            result,
            |context, arguments| {
                context.check_elements(list(arguments, 0)?.len())?;
                unwrapped(&arguments[0])
            },
        )
    } else {
        function.global(
            "optional_unwrap",
            parameters,
            result,
            |context, arguments| {
                context.check_elements(list(arguments, 0)?.len())?;
                unwrapped(&arguments[0])
            },
        )
    }
}

fn unwrapped<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    let Value::List(list) = value else {
        return Err(EvalError::no_such_overload());
    };
    let mut values = Vec::new();
    for element in list.iter() {
        values.extend(inner(&element?)?.map(|value| (**value).clone()));
    }
    Ok(Value::list(values))
}

fn end(name: &str, position: fn(usize) -> Option<usize>) -> Function {
    let id = format!("list_{name}");
    Function::new(name).member(
        &id,
        [Type::list(t())],
        Type::optional(t()),
        move |_, arguments| {
            let list = list(arguments, 0)?;
            match position(list.len()).and_then(|at| list.get(at)) {
                Some(value) => Ok(Value::some(value?)),
                None => Ok(Value::Optional(None)),
            }
        },
    )
}
