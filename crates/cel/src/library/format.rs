//! `format`: `%s`, `%d`, `%f`, `%e`, `%b`, `%o`, `%x`, `%X`, `%%`.

use std::fmt::Write as _;

use crate::error::EvalError;
use crate::eval::Context;
use crate::value::{List, Value};

/// Digits behind the point.
const PRECISION_MAX: usize = 100;
/// How deep lists and maps are written.
const DEPTH_MAX: usize = 300;

pub fn format(
    context: &mut Context<'_>,
    template: &str,
    arguments: &List<'_>,
) -> Result<String, EvalError> {
    let mut out = String::with_capacity(template.len());
    let mut used = 0;
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('%') {
            out.push('%');
            rest = tail;
            continue;
        }
        let (precision, tail) = precision(rest)?;
        let Some(clause) = tail.chars().next() else {
            return Err(EvalError::invalid(
                "could not parse formatting clause: unexpected end of string",
            ));
        };
        rest = &tail[clause.len_utf8()..];
        let value = arguments
            .get(used)
            .ok_or_else(|| EvalError::invalid(format!("index {used} out of range")))??;
        used += 1;
        write_clause(context, &mut out, clause, precision, &value)?;
        context.check_bytes(out.len())?;
    }
    out.push_str(rest);
    context.check_bytes(out.len())?;
    Ok(out)
}

fn precision(rest: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(tail) = rest.strip_prefix('.') else {
        return Ok((None, rest));
    };
    let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match tail[..digits].parse::<usize>() {
        Ok(precision) if precision <= PRECISION_MAX => Ok((Some(precision), &tail[digits..])),
        _ => Err(EvalError::invalid(
            "could not parse formatting clause: error while parsing precision",
        )),
    }
}

fn write_clause(
    context: &mut Context<'_>,
    out: &mut String,
    clause: char,
    precision: Option<usize>,
    value: &Value<'_>,
) -> Result<(), EvalError> {
    let wrong = |what: &str| {
        EvalError::invalid(format!(
            "error during formatting: {what}, was given {}",
            value.type_name()
        ))
    };
    match clause {
        's' => return write_text(context, out, value, 0),
        'd' => match value {
            Value::Int(value) => drop(write!(out, "{value}")),
            Value::Uint(value) => drop(write!(out, "{value}")),
            Value::Double(value) if !value.is_finite() => out.push_str(special(*value)),
            _ => return Err(wrong("decimal clause can only be used on integers")),
        },
        'f' | 'e' => {
            let what = if clause == 'f' {
                "fixed-point clause can only be used on doubles"
            } else {
                "scientific clause can only be used on doubles"
            };
            let number = match value {
                Value::Double(value) => *value,
                Value::Int(value) => *value as f64,
                Value::Uint(value) => *value as f64,
                _ => return Err(wrong(what)),
            };
            let precision = precision.unwrap_or(6);
            if !number.is_finite() {
                out.push_str(special(number));
            } else if clause == 'f' {
                let _ = write!(out, "{number:.precision$}");
            } else {
                out.push_str(&scientific(number, precision));
            }
        }
        'b' => match value {
            Value::Int(value) => signed(out, *value, |magnitude| format!("{magnitude:b}")),
            Value::Uint(value) => drop(write!(out, "{value:b}")),
            Value::Bool(value) => out.push(if *value { '1' } else { '0' }),
            _ => return Err(wrong("only integers and bools can be formatted as binary")),
        },
        'o' => match value {
            Value::Int(value) => signed(out, *value, |magnitude| format!("{magnitude:o}")),
            Value::Uint(value) => drop(write!(out, "{value:o}")),
            _ => return Err(wrong("octal clause can only be used on integers")),
        },
        'x' | 'X' => {
            let mut digits = String::new();
            match value {
                Value::Int(value) => {
                    signed(&mut digits, *value, |magnitude| format!("{magnitude:x}"));
                }
                Value::Uint(value) => drop(write!(digits, "{value:x}")),
                Value::String(text) => hexadecimal(&mut digits, text.as_bytes()),
                Value::Bytes(bytes) => hexadecimal(&mut digits, bytes),
                _ => {
                    return Err(wrong(
                        "only integers, byte buffers, and strings can be formatted as hex",
                    ));
                }
            }
            out.push_str(&if clause == 'X' {
                digits.to_uppercase()
            } else {
                digits
            });
        }
        other => {
            return Err(EvalError::invalid(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{other}\""
            )));
        }
    }
    Ok(())
}

fn special(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn signed(out: &mut String, value: i64, digits: impl Fn(u64) -> String) {
    if value < 0 {
        out.push('-');
    }
    out.push_str(&digits(value.unsigned_abs()));
}

fn hexadecimal(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Go's `%e`: two digits of exponent at least.
fn scientific(value: f64, precision: usize) -> String {
    let written = format!("{value:.precision$e}");
    match written.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => written,
    }
}

fn write_text(
    context: &mut Context<'_>,
    out: &mut String,
    value: &Value<'_>,
    depth: usize,
) -> Result<(), EvalError> {
    context.visit(1)?;
    context.check_bytes(out.len())?;
    if depth > DEPTH_MAX {
        return Err(EvalError::too_large(
            "the nesting of a formatted value",
            DEPTH_MAX,
        ));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Double(value) if !value.is_finite() => out.push_str(special(*value)),
        Value::Double(value) => drop(write!(out, "{value}")),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Type(ty) => out.push_str(ty.name()),
        Value::List(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_text(context, out, &element?, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.len());
            let mut length = 0;
            for (key, value) in map.entries() {
                let (mut key_text, mut value_text) = (String::new(), String::new());
                write_text(context, &mut key_text, &key, depth + 1)?;
                write_text(context, &mut value_text, &value?, depth + 1)?;
                length += key_text.len() + value_text.len();
                context.check_bytes(out.len() + length)?;
                entries.push((key_text, value_text));
            }
            entries.sort();
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}: {value}"))
                .collect();
            out.push('{');
            out.push_str(&entries.join(", "));
            out.push('}');
        }
        other => {
            if let Ok(Value::String(text)) = other.to_text() {
                out.push_str(&text);
            } else {
                let message = format!(
                    "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, \
                 maps, lists, types, durations, and timestamps, was given {}",
                    other.type_name()
                );
                return Err(EvalError::invalid(message));
            }
        }
    }
    Ok(())
}
