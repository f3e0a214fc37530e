//! Strings: `charAt`, `indexOf`, `replace`, `split`, `join`, `format` and the rest.
//!
//! Positions count characters. ASCII text, by far the most common, is indexed by bytes.

use super::{format, int, list, sub_text, text};
use crate::cost::{self, CallEstimate, Operand, Range};
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::eval::Context;
use crate::types::Type;
use crate::value::Value;

const S: Type = Type::String;
const I: Type = Type::Int;

/// Walking over the receiver.
fn walked(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cost::traverse(cost::size(&arguments[0]))
}

/// Walking over the receiver and making something of its size.
fn walked_twice(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cost::traverse(2 * cost::size(&arguments[0]))
}

/// Walking over the result twice.
fn made_twice(_: &[Value<'_>], result: &Value<'_>) -> u64 {
    cost::traverse(2 * cost::size(result))
}

/// A search; Kubernetes rounds it down.
fn searched(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    arguments[0]
        .as_str()
        .map_or(0, |text| text.len() as u64 / 10)
}

fn same_size(operands: &[Operand]) -> CallEstimate {
    let size = operands[0].size;
    CallEstimate {
        cost: size.scaled(cost::STRING_TRAVERSAL_FACTOR),
        result_size: Some(size),
    }
}

fn search(operands: &[Operand]) -> CallEstimate {
    CallEstimate {
        cost: operands[0].size.scaled(cost::STRING_TRAVERSAL_FACTOR),
        result_size: None,
    }
}

/// The shortest and the longest text replacing can give.
fn replacement(operands: &[Operand]) -> CallEstimate {
    let (whole, from, to) = (operands[0].size, operands[1].size, operands[2].size);
    let (most, kept_most) = if from.min == 0 {
        (whole.max.saturating_add(1), whole.max)
    } else if to.max <= from.min {
        (0, whole.max)
    } else {
        (whole.max.div_ceil(from.min), 0)
    };
    let (least, kept_least) = if from.max == 0 {
        (whole.min.saturating_add(1), whole.min)
    } else if from.max <= to.min {
        (0, whole.min)
    } else {
        (whole.min.div_ceil(from.max), 0)
    };
    let count = Range {
        min: least,
        max: most,
    };
    CallEstimate {
        cost: whole.scaled(2.0 * cost::STRING_TRAVERSAL_FACTOR),
        result_size: Some(count.times(to).plus(Range {
            min: kept_least,
            max: kept_most,
        })),
    }
}

fn splitting(operands: &[Operand]) -> CallEstimate {
    let whole = operands[0].size;
    let limit = operands
        .get(2)
        .and_then(|limit| u64::try_from(limit.constant?).ok());
    CallEstimate {
        cost: whole.scaled(2.0 * cost::STRING_TRAVERSAL_FACTOR),
        result_size: Some(Range {
            min: 0,
            max: limit.unwrap_or(whole.max),
        }),
    }
}

fn joining(operands: &[Operand]) -> CallEstimate {
    let list = operands[0].size;
    let mut size = list.times(operands[0].element_size);
    if let Some(separator) = operands.get(1) {
        let separators = Range {
            min: list.min.saturating_sub(1),
            max: list.max.saturating_sub(1),
        };
        size = size.plus(separator.size.times(separators));
    }
    CallEstimate {
        cost: size.scaled(cost::STRING_TRAVERSAL_FACTOR),
        result_size: Some(size),
    }
}

pub fn library() -> Library {
    Library::new("strings")
        .function(char_at())
        .function(index_of(
            "indexOf",
            "string_index_of_string",
            find_forward,
            |_| 0,
        ))
        .function(index_of(
            "lastIndexOf",
            "string_last_index_of_string",
            find_backward,
            |length| length,
        ))
        .function(ascii_case(
            "lowerAscii",
            "string_lower_ascii",
            str::to_ascii_lowercase,
        ))
        .function(ascii_case(
            "upperAscii",
            "string_upper_ascii",
            str::to_ascii_uppercase,
        ))
        .function(replace())
        .function(split())
        .function(substring())
        .function(
            Function::new("trim")
                .member("string_trim", [S], S, |_, arguments| {
                    let whole = text(arguments, 0)?;
                    let start = whole.len() - whole.trim_start_matches(is_space).len();
                    let end = whole.trim_end_matches(is_space).len().max(start);
                    Ok(sub_text(&arguments[0], start..end))
                })
                .cost(walked)
                .estimate(same_size),
        )
        .function(
            Function::new("reverse")
                .member("string_reverse", [S], S, |_, arguments| {
                    Ok(Value::string(
                        text(arguments, 0)?.chars().rev().collect::<String>(),
                    ))
                })
                .cost(walked)
                .estimate(same_size),
        )
        .function(join())
        .function(
            Function::new("strings.quote")
                .global("strings_quote", [S], S, |context, arguments| {
                    let quoted = quote(text(arguments, 0)?);
                    context.check_bytes(quoted.len())?;
                    Ok(Value::string(quoted))
                })
                .cost(walked),
        )
        .function(
            Function::new("format")
                .member(
                    "string_format",
                    [S, Type::list(Type::Dyn)],
                    S,
                    |context, arguments| {
                        let formatted =
                            format::format(context, text(arguments, 0)?, list(arguments, 1)?)?;
                        Ok(Value::string(formatted))
                    },
                )
                .cost(walked),
        )
}

/// What Go counts as white space.
fn is_space(character: char) -> bool {
    character.is_whitespace()
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::invalid(format!("index out of range: {index}"))
}

/// The byte offset of a character position; `None` behind the end.
fn byte_offset(text: &str, position: usize) -> Option<usize> {
    if text.is_ascii() {
        return (position <= text.len()).then_some(position);
    }
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .nth(position)
}

/// The character position of a byte offset.
fn position(text: &str, offset: usize) -> i64 {
    cost::text_size(&text[..offset]) as i64
}

/// The byte offset of an argument that is a position.
fn offset_of(text: &str, index: i64) -> Result<usize, EvalError> {
    usize::try_from(index)
        .ok()
        .and_then(|index| byte_offset(text, index))
        .ok_or_else(|| out_of_range(index))
}

fn char_at() -> Function {
    Function::new("charAt")
        .member("string_char_at_int", [S, I], S, |_, arguments| {
            let whole = text(arguments, 0)?;
            let start = offset_of(whole, int(arguments, 1)?)?;
            let length = whole[start..].chars().next().map_or(0, char::len_utf8);
            Ok(sub_text(&arguments[0], start..start + length))
        })
        .cost(walked)
}

type Find = fn(&str, &str, usize) -> Option<usize>;

fn find_forward(text: &str, part: &str, from: usize) -> Option<usize> {
    text[from..].find(part).map(|at| at + from)
}

/// The last match that begins at or before `from`.
fn find_backward(text: &str, part: &str, from: usize) -> Option<usize> {
    let end = (from + part.len()).min(text.len());
    // No match ends inside of a character.
    let end = (0..=end)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text[..end].rfind(part)
}

fn index_of(name: &str, id: &str, find: Find, start: fn(usize) -> usize) -> Function {
    let found = move |whole: &str, part: &str, from: usize| {
        Value::Int(find(whole, part, from).map_or(-1, |at| position(whole, at)))
    };
    Function::new(name)
        .member(id, [S, S], I, move |_, arguments| {
            let whole = text(arguments, 0)?;
            Ok(found(whole, text(arguments, 1)?, start(whole.len())))
        })
        .cost(searched)
        .estimate(search)
        .member(&format!("{id}_int"), [S, S, I], I, move |_, arguments| {
            let whole = text(arguments, 0)?;
            Ok(found(
                whole,
                text(arguments, 1)?,
                offset_of(whole, int(arguments, 2)?)?,
            ))
        })
        .cost(searched)
        .estimate(search)
}

fn ascii_case(name: &str, id: &str, change: fn(&str) -> String) -> Function {
    Function::new(name)
        .member(id, [S], S, move |_, arguments| {
            Ok(Value::string(change(text(arguments, 0)?)))
        })
        .cost(walked)
        .estimate(same_size)
}

fn replace() -> Function {
    Function::new("replace")
        .member(
            "string_replace_string_string",
            [S, S, S],
            S,
            |context, arguments| replaced(context, arguments, usize::MAX),
        )
        .cost(walked_twice)
        .estimate(replacement)
        .member(
            "string_replace_string_string_int",
            [S, S, S, I],
            S,
            |context, arguments| {
                let count = int(arguments, 3)?;
                replaced(
                    context,
                    arguments,
                    usize::try_from(count).unwrap_or(usize::MAX),
                )
            },
        )
        .cost(walked_twice)
        .estimate(replacement)
}

fn replaced<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    count: usize,
) -> Result<Value<'a>, EvalError> {
    let (whole, from, to) = (
        text(arguments, 0)?,
        text(arguments, 1)?,
        text(arguments, 2)?,
    );
    let mut out = String::new();
    let mut end = 0;
    // An empty pattern matches before every character and at the end.
    for (at, matched) in whole.match_indices(from).take(count) {
        out.push_str(&whole[end..at]);
        out.push_str(to);
        end = at + matched.len();
        context.check_bytes(out.len())?;
    }
    out.push_str(&whole[end..]);
    context.check_bytes(out.len())?;
    Ok(Value::string(out))
}

fn split() -> Function {
    Function::new("split")
        .member(
            "string_split_string",
            [S, S],
            Type::list(S),
            |context, arguments| split_at(context, arguments, -1),
        )
        .cost(walked_twice)
        .estimate(splitting)
        .member(
            "string_split_string_int",
            [S, S, I],
            Type::list(S),
            |context, arguments| {
                let count = int(arguments, 2)?;
                split_at(context, arguments, count)
            },
        )
        .cost(walked_twice)
        .estimate(splitting)
}

fn split_at<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    count: i64,
) -> Result<Value<'a>, EvalError> {
    let (whole, separator) = (text(arguments, 0)?, text(arguments, 1)?);
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    if limit == 0 {
        return Ok(Value::list(parts));
    }
    let mut push = |context: &mut Context<'_>, start: usize, end: usize| {
        parts.push(sub_text(&arguments[0], start..end));
        if parts.len() > context.limits.elements_max {
            return Err(EvalError::too_large(
                "the size of a list",
                context.limits.elements_max,
            ));
        }
        context.visit(1)
    };
    let mut start = 0;
    let mut made = 0;
    if separator.is_empty() {
        // Between all characters, without empty ends.
        for (at, character) in whole.char_indices() {
            if made + 1 >= limit {
                break;
            }
            push(context, at, at + character.len_utf8())?;
            start = at + character.len_utf8();
            made += 1;
        }
        if start < whole.len() {
            push(context, start, whole.len())?;
        }
        return Ok(Value::list(parts));
    }
    for (at, matched) in whole.match_indices(separator) {
        if made + 1 >= limit {
            break;
        }
        push(context, start, at)?;
        start = at + matched.len();
        made += 1;
    }
    push(context, start, whole.len())?;
    Ok(Value::list(parts))
}

fn substring() -> Function {
    Function::new("substring")
        .member("string_substring_int", [S, I], S, |_, arguments| {
            let whole = text(arguments, 0)?;
            Ok(sub_text(
                &arguments[0],
                offset_of(whole, int(arguments, 1)?)?..whole.len(),
            ))
        })
        .cost(walked)
        .estimate(same_size)
        .member("string_substring_int_int", [S, I, I], S, |_, arguments| {
            let whole = text(arguments, 0)?;
            let (start, end) = (int(arguments, 1)?, int(arguments, 2)?);
            if start > end {
                return Err(EvalError::invalid(format!(
                    "invalid substring range. start: {start}, end: {end}"
                )));
            }
            Ok(sub_text(
                &arguments[0],
                offset_of(whole, start)?..offset_of(whole, end)?,
            ))
        })
        .cost(walked)
        .estimate(same_size)
}

fn join() -> Function {
    Function::new("join")
        .member("list_join", [Type::list(S)], S, |context, arguments| {
            joined(context, arguments, "")
        })
        .cost(made_twice)
        .estimate(joining)
        .member(
            "list_join_string",
            [Type::list(S), S],
            S,
            |context, arguments| joined(context, arguments, text(arguments, 1)?),
        )
        .cost(made_twice)
        .estimate(joining)
}

fn joined<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    separator: &str,
) -> Result<Value<'a>, EvalError> {
    let mut out = String::new();
    for (index, element) in list(arguments, 0)?.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match element? {
            Value::String(part) => out.push_str(&part),
            _ => return Err(EvalError::no_such_overload()),
        }
        context.visit(1)?;
        context.check_bytes(out.len())?;
    }
    Ok(Value::string(out))
}

/// The text in double quotes with escapes for what cannot be printed.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0C' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0B' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
