//! Protobuf's well-known messages that are plain values in CEL: wrappers, `Value`, `Struct`, `ListValue`.
//!
//! Kubernetes has no messages, but the specification's literals of these are part of the language.

use crate::ast::Name;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{MapBuilder, Value};

const PREFIX: &str = "google.protobuf.";

/// The type of a literal of the message, if it is one of them.
pub fn message_type(name: &str) -> Option<Type> {
    Some(match name.strip_prefix(PREFIX)? {
        "BoolValue" => Type::wrapper(Type::Bool),
        "BytesValue" => Type::wrapper(Type::Bytes),
        "DoubleValue" | "FloatValue" => Type::wrapper(Type::Double),
        "Int32Value" | "Int64Value" => Type::wrapper(Type::Int),
        "UInt32Value" | "UInt64Value" => Type::wrapper(Type::Uint),
        "StringValue" => Type::wrapper(Type::String),
        "ListValue" => Type::list(Type::Dyn),
        "Struct" => Type::map(Type::String, Type::Dyn),
        "Value" => Type::Dyn,
        _ => return None,
    })
}

/// The type of a field of such a message.
pub fn field_type(message: &str, field: &str) -> Option<Type> {
    let name = message.strip_prefix(PREFIX)?;
    Some(match (name, field) {
        ("ListValue", "values") => Type::list(Type::Dyn),
        ("Struct", "fields") => Type::map(Type::String, Type::Dyn),
        ("Value", "null_value") => Type::Null,
        ("Value", "bool_value") => Type::Bool,
        ("Value", "number_value") => Type::Double,
        ("Value", "string_value") => Type::String,
        ("Value", "list_value") => Type::list(Type::Dyn),
        ("Value", "struct_value") => Type::map(Type::String, Type::Dyn),
        (_, "value") => match message_type(message)? {
            Type::Wrapper(inner) => (*inner).clone(),
            _ => return None,
        },
        _ => return None,
    })
}

/// The value a literal stands for.
pub fn construct<'a>(message: &str, fields: &[(Name, Value<'a>)]) -> Result<Value<'a>, EvalError> {
    let name = message.strip_prefix(PREFIX).unwrap_or(message);
    if let Some((unknown, _)) = fields
        .iter()
        .find(|(field, _)| field_type(message, field).is_none())
    {
        return Err(EvalError::no_such_field(unknown));
    }
    let Some((field, value)) = fields.first() else {
        return Ok(match name {
            "BoolValue" => Value::Bool(false),
            "BytesValue" => Value::bytes([].as_slice()),
            "DoubleValue" | "FloatValue" => Value::Double(0.0),
            "Int32Value" | "Int64Value" => Value::Int(0),
            "UInt32Value" | "UInt64Value" => Value::Uint(0),
            "StringValue" => Value::from(""),
            "ListValue" => Value::list(Vec::new()),
            "Struct" => Value::Map(MapBuilder::default().build()),
            _ => Value::Null,
        });
    };
    let range = || {
        EvalError::overflow(format!(
            "range error: {} does not fit a {name}",
            value.to_display()
        ))
    };
    let expected = field_type(message, field).unwrap_or_default();
    if !crate::eval::accepts(&expected, value) {
        return Err(EvalError::no_such_overload());
    }
    match (name, value) {
        ("Int32Value", Value::Int(value)) if i32::try_from(*value).is_err() => Err(range()),
        ("UInt32Value", Value::Uint(value)) if u32::try_from(*value).is_err() => Err(range()),
        ("FloatValue", Value::Double(value)) => Ok(Value::Double(f64::from(*value as f32))),
        ("Value", Value::Int(value)) => Ok(Value::Double(*value as f64)),
        _ => Ok(value.clone()),
    }
}
