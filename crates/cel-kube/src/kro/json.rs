//! `json.marshal` and `json.unmarshal`, as Go's `encoding/json`.

use cel::{Context, EvalError, Function, JsonOptions, Library, List, MapBuilder, Type, Value};
use serde_json::Value as Json;
use std::fmt::Write as _;

use crate::kubernetes::{text, walked};

pub fn library() -> Library {
    Library::new("kro.json")
        .function(
            Function::new("json.unmarshal")
                .global(
                    "json.unmarshal_string",
                    [Type::String],
                    Type::Dyn,
                    |context, arguments| {
                        let json: Json =
                            serde_json::from_str(text(arguments, 0)?).map_err(|error| {
                                EvalError::invalid(format!("json.unmarshal: {error}"))
                            })?;
                        from_json(context, &json)
                    },
                )
                .cost(walked),
        )
        .function(
            Function::new("json.marshal")
                .global(
                    "json.marshal_dyn",
                    [Type::Dyn],
                    Type::String,
                    |context, arguments| {
                        let options = JsonOptions {
                            bytes_as_base64: true,
                            ..JsonOptions::default()
                        };
                        let json = arguments[0].to_json(options).map_err(|error| {
                            EvalError::invalid(format!("json.marshal: {error}"))
                        })?;
                        let mut out = String::new();
                        write(context, &mut out, &json)?;
                        Ok(Value::string(out))
                    },
                )
                .cost(|_, result| cel::cost::traverse(cel::cost::size(result)).max(1)),
        )
}

/// All numbers are doubles, as Go reads them. The reader limits the nesting.
fn from_json(context: &mut Context<'_>, json: &Json) -> Result<Value<'static>, EvalError> {
    context.visit(1)?;
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(array) => {
            context.check_elements(array.len())?;
            let elements = array
                .iter()
                .map(|element| from_json(context, element))
                .collect::<Result<Vec<_>, _>>()?;
            Value::List(List::from(elements))
        }
        Json::Object(object) => {
            context.check_elements(object.len())?;
            let mut builder = MapBuilder::with_capacity(object.len());
            for (key, value) in object {
                builder.insert(Value::string(key.as_str()), from_json(context, value)?)?;
            }
            Value::Map(builder.build())
        }
    })
}

/// Keys sorted, as the map keeps them; `<`, `>` and `&` escaped, and numbers as Go writes them. The conversion to
/// JSON limits the nesting.
fn write(context: &Context<'_>, out: &mut String, json: &Json) -> Result<(), EvalError> {
    context.check_bytes(out.len())?;
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => out.push_str(&value.to_string()),
            (None, Some(value)) => out.push_str(&number_text(value)),
            (None, None) => out.push_str(&number.to_string()),
        },
        Json::String(text) => string(out, text),
        Json::Array(array) => {
            out.push('[');
            for (index, element) in array.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(context, out, element)?;
            }
            out.push(']');
        }
        Json::Object(object) => {
            out.push('{');
            for (index, (key, value)) in object.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                string(out, key);
                out.push(':');
                write(context, out, value)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Very small and very large numbers are written with an exponent.
fn number_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => {
                format!("{mantissa}e+{exponent}")
            }
            _ => text,
        };
    }
    format!("{value}")
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0C' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1F' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
