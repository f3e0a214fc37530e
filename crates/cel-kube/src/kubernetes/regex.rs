//! `find` and `findAll`.

use cel::{Context, EvalError, Function, Library, Type, Value};

use super::{finding, int, text};

fn cost(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    match (arguments[0].as_str(), arguments[1].as_str()) {
        (Some(text), Some(pattern)) => cel::cost::matches(text, pattern),
        _ => 1,
    }
}

pub fn library() -> Library {
    Library::new("kubernetes.regex")
        .function(
            Function::new("find")
                .member(
                    "string_find_string",
                    [Type::String, Type::String],
                    Type::String,
                    |context, arguments| {
                        let regex = context.regex(text(arguments, 1)?)?;
                        let found = regex
                            .find(text(arguments, 0)?)
                            .map_or("", |found| found.as_str());
                        Ok(Value::string(found))
                    },
                )
                .cost(cost)
                .estimate(finding)
                .pattern(1),
        )
        .function(
            Function::new("findAll")
                .member(
                    "string_find_all_string",
                    [Type::String, Type::String],
                    Type::list(Type::String),
                    |context, arguments| find_all(context, arguments, usize::MAX),
                )
                .cost(cost)
                .estimate(finding)
                .pattern(1)
                .member(
                    "string_find_all_string_int",
                    [Type::String, Type::String, Type::Int],
                    Type::list(Type::String),
                    |context, arguments| {
                        let count = int(arguments, 2)?;
                        find_all(
                            context,
                            arguments,
                            usize::try_from(count).unwrap_or(usize::MAX),
                        )
                    },
                )
                .cost(cost)
                .estimate(finding)
                .pattern(1),
        )
}

fn find_all<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    count: usize,
) -> Result<Value<'a>, EvalError> {
    let regex = context.regex(text(arguments, 1)?)?;
    let mut found = Vec::new();
    for part in regex.find_iter(text(arguments, 0)?).take(count) {
        found.push(Value::string(part.as_str()));
        context.check_elements(1)?;
    }
    Ok(Value::list(found))
}
