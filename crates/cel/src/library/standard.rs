//! The functions and macros of the specification. Operators are built into the checker and the evaluator.

use super::{text, time};
use crate::cost;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::parse::macros;
use crate::types::Type;
use crate::value::Value;

pub fn library() -> Library {
    let mut library = Library::new("standard")
        .macro_rules(macros::standard())
        .function(size())
        .function(text_predicate(
            "startsWith",
            "starts_with_string",
            |text, part| text.starts_with(part),
        ))
        .function(text_predicate(
            "endsWith",
            "ends_with_string",
            |text, part| text.ends_with(part),
        ))
        .function(contains())
        .function(matches());
    for function in conversions() {
        library = library.function(function);
    }
    for function in time::accessors() {
        library = library.function(function);
    }
    for ty in [
        Type::Bool,
        Type::Int,
        Type::Uint,
        Type::Double,
        Type::String,
        Type::Bytes,
        Type::Duration,
        Type::Timestamp,
        Type::Null,
        Type::list(Type::Dyn),
        Type::map(Type::Dyn, Type::Dyn),
        Type::Type(None),
    ] {
        library = library.named_type(ty);
    }
    library
}

fn size() -> Function {
    let parameters = || {
        [
            ("bytes", Type::Bytes),
            ("list", Type::list(Type::Param(0))),
            ("map", Type::map(Type::Param(0), Type::Param(1))),
            ("string", Type::String),
        ]
    };
    let mut function = Function::new("size");
    for (name, ty) in parameters() {
        function = function
            .global(
                &format!("size_{name}"),
                [ty.clone()],
                Type::Int,
                |_, arguments| Ok(size_of(&arguments[0])),
            )
            .member(&format!("{name}_size"), [ty], Type::Int, |_, arguments| {
                Ok(size_of(&arguments[0]))
            });
    }
    function
}

fn size_of(value: &Value<'_>) -> Value<'static> {
    Value::Int(cost::size(value) as i64)
}

fn text_predicate(
    name: &str,
    id: &str,
    predicate: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
) -> Function {
    Function::new(name)
        .member(
            id,
            [Type::String, Type::String],
            Type::Bool,
            move |_, arguments| {
                Ok(Value::Bool(predicate(
                    text(arguments, 0)?,
                    text(arguments, 1)?,
                )))
            },
        )
        .cost(|arguments, _| cost::traverse(cost::size(&arguments[1])))
}

fn contains() -> Function {
    Function::new("contains")
        .member(
            "contains_string",
            [Type::String, Type::String],
            Type::Bool,
            |_, arguments| {
                Ok(Value::Bool(
                    text(arguments, 0)?.contains(text(arguments, 1)?),
                ))
            },
        )
        .cost(|arguments, _| {
            cost::traverse(cost::size(&arguments[0])) * cost::traverse(cost::size(&arguments[1]))
        })
}

fn matches() -> Function {
    let pattern_cost = |arguments: &[Value<'_>], _: &Value<'_>| match (
        arguments[0].as_str(),
        arguments[1].as_str(),
    ) {
        (Some(text), Some(pattern)) => cost::matches(text, pattern),
        _ => 1,
    };
    Function::new("matches")
        .global(
            "matches",
            [Type::String, Type::String],
            Type::Bool,
            |context, arguments| {
                let regex = context.regex(text(arguments, 1)?)?;
                Ok(Value::Bool(regex.is_match(text(arguments, 0)?)))
            },
        )
        .cost(pattern_cost)
        .pattern(1)
        .member(
            "matches_string",
            [Type::String, Type::String],
            Type::Bool,
            |context, arguments| {
                let regex = context.regex(text(arguments, 1)?)?;
                Ok(Value::Bool(regex.is_match(text(arguments, 0)?)))
            },
        )
        .cost(pattern_cost)
        .pattern(1)
}

fn conversions() -> Vec<Function> {
    let walked = |arguments: &[Value<'_>], _: &Value<'_>| cost::traverse(cost::size(&arguments[0]));
    let mut functions = Vec::new();
    type Convert = for<'v, 'a> fn(&'v Value<'a>) -> Result<Value<'a>, EvalError>;
    let table: [(&str, Type, &[Type], Convert); 8] = [
        ("bool", Type::Bool, &[Type::Bool, Type::String], |value| {
            value.to_bool()
        }),
        (
            "bytes",
            Type::Bytes,
            &[Type::Bytes, Type::String],
            |value| value.to_bytes(),
        ),
        (
            "double",
            Type::Double,
            &[Type::Double, Type::Int, Type::String, Type::Uint],
            |value| value.to_double(),
        ),
        (
            "duration",
            Type::Duration,
            &[Type::Duration, Type::Int, Type::String],
            |value| value.to_duration(),
        ),
        (
            "int",
            Type::Int,
            &[
                Type::Int,
                Type::Double,
                Type::Duration,
                Type::String,
                Type::Timestamp,
                Type::Uint,
            ],
            |value| value.to_int(),
        ),
        (
            "string",
            Type::String,
            &[
                Type::String,
                Type::Bool,
                Type::Bytes,
                Type::Double,
                Type::Duration,
                Type::Int,
                Type::Timestamp,
                Type::Uint,
            ],
            |value| value.to_text(),
        ),
        (
            "timestamp",
            Type::Timestamp,
            &[Type::Timestamp, Type::Int, Type::String],
            |value| value.to_timestamp(),
        ),
        (
            "uint",
            Type::Uint,
            &[Type::Uint, Type::Double, Type::Int, Type::String],
            |value| value.to_uint(),
        ),
    ];
    for (name, result, parameters, convert) in table {
        let mut function = Function::new(name);
        for parameter in parameters {
            let id = format!(
                "{}_to_{name}",
                parameter
                    .name()
                    .rsplit('.')
                    .next()
                    .unwrap_or_default()
                    .to_lowercase()
            );
            function = function.global(
                &id,
                [parameter.clone()],
                result.clone(),
                move |_, arguments| convert(&arguments[0]),
            );
            let traverses = matches!(
                (parameter, &result),
                (Type::String, Type::Bytes) | (Type::Bytes, Type::String)
            );
            if traverses {
                function = function.cost(walked);
            }
        }
        functions.push(function);
    }
    functions.push(Function::new("dyn").global(
        "to_dyn",
        [Type::Param(0)],
        Type::Dyn,
        |_, arguments| Ok(arguments[0].clone()),
    ));
    functions.push(Function::new("type").global(
        "type",
        [Type::Param(0)],
        Type::type_of(Type::Param(0)),
        |_, arguments| Ok(Value::Type(arguments[0].type_of())),
    ));
    functions
}
