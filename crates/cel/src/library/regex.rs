//! `regex.extract`, `regex.extractAll`, `regex.replace`.

use super::{int, text};
use crate::cost;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::eval::Context;
use crate::types::Type;
use crate::value::Value;

fn pattern_cost(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    match (arguments[0].as_str(), arguments[1].as_str()) {
        (Some(text), Some(pattern)) => cost::matches(text, pattern),
        _ => 1,
    }
}

pub fn library() -> Library {
    let three = || [Type::String, Type::String, Type::String];
    let four = || [Type::String, Type::String, Type::String, Type::Int];
    Library::new("regex")
        .function(
            Function::new("regex.replace")
                .global(
                    "regex_replaceAll_string_string_string",
                    three(),
                    Type::String,
                    |context, arguments| replace(context, arguments, -1),
                )
                .cost(pattern_cost)
                .global(
                    "regex_replaceCount_string_string_string_int",
                    four(),
                    Type::String,
                    |context, arguments| {
                        let count = int(arguments, 3)?;
                        replace(context, arguments, count)
                    },
                )
                .cost(pattern_cost),
        )
        .function(
            Function::new("regex.extract")
                .global(
                    "regex_extract_string_string",
                    [Type::String, Type::String],
                    Type::optional(Type::String),
                    |context, arguments| {
                        let regex = single_group(context, text(arguments, 1)?)?;
                        let found = regex.captures(text(arguments, 0)?);
                        let group = found.and_then(|found| found.get(regex.captures_len() - 1));
                        Ok(group.map_or(Value::Optional(None), |group| {
                            Value::some(Value::string(group.as_str()))
                        }))
                    },
                )
                .cost(pattern_cost),
        )
        .function(
            Function::new("regex.extractAll")
                .global(
                    "regex_extractAll_string_string",
                    [Type::String, Type::String],
                    Type::list(Type::String),
                    |context, arguments| {
                        let regex = single_group(context, text(arguments, 1)?)?;
                        let mut found = Vec::new();
                        for captures in regex.captures_iter(text(arguments, 0)?) {
                            context.check_elements(1)?;
                            let group = captures.get(regex.captures_len() - 1);
                            found.extend(group.map(|group| Value::string(group.as_str())));
                        }
                        Ok(Value::list(found))
                    },
                )
                .cost(pattern_cost),
        )
}

fn single_group(
    context: &mut Context<'_>,
    pattern: &str,
) -> Result<crate::regex::Regex, EvalError> {
    let regex = context.regex(pattern)?;
    if regex.captures_len() > 2 {
        let message =
            format!("regular expression has more than one capturing group: \"{pattern}\"");
        return Err(EvalError::invalid(message));
    }
    Ok(regex)
}

/// Replaces up to `count` matches, all if negative. `\1` in the replacement stands for the first group.
fn replace<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    count: i64,
) -> Result<Value<'a>, EvalError> {
    let (target, replacement) = (text(arguments, 0)?, text(arguments, 2)?);
    let regex = context.regex(text(arguments, 1)?)?;
    let template = template(replacement, regex.captures_len())?;
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(target).take(limit) {
        let Some(whole) = captures.get(0) else {
            continue;
        };
        out.push_str(&target[end..whole.start()]);
        for part in &template {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => {
                    out.push_str(captures.get(*group).map_or("", |group| group.as_str()));
                }
            }
        }
        context.check_bytes(out.len())?;
        end = whole.end();
    }
    out.push_str(&target[end..]);
    context.check_bytes(out.len())?;
    Ok(Value::string(out))
}

enum Part {
    Text(String),
    Group(usize),
}

fn template(replacement: &str, groups: usize) -> Result<Vec<Part>, EvalError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut characters = replacement.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('\\') => text.push('\\'),
            Some(digit @ '0'..='9') => {
                let group = digit as usize - '0' as usize;
                if group >= groups {
                    return Err(EvalError::invalid(format!(
                        "replacement string references group {group} but regex has only {} group(s)",
                        groups - 1
                    )));
                }
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(group));
            }
            _ => {
                return Err(EvalError::invalid(
                    "invalid replacement string: \\ must be followed by a digit or \\",
                ));
            }
        }
    }
    parts.push(Part::Text(text));
    Ok(parts)
}
