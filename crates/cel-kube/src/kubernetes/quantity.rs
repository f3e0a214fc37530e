//! Quantities: `quantity('1Gi')`.

use std::any::Any;
use std::cmp::Ordering;

use cel::{EvalError, Function, Library, Opaque, Type, Value};
use model::Quantity;

use super::{reading, text, walked};

#[derive(Debug)]
struct QuantityValue(Quantity);

fn ty() -> Type {
    Type::opaque("kubernetes.Quantity")
}

impl Opaque for QuantityValue {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|other| self.0 == other.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn quantity(arguments: &[Value<'_>], index: usize) -> Result<Quantity, EvalError> {
    let value = arguments
        .get(index)
        .and_then(Value::as_opaque::<QuantityValue>);
    value
        .map(|value| value.0)
        .ok_or_else(EvalError::no_such_overload)
}

/// A quantity or a whole number.
fn amount(arguments: &[Value<'_>], index: usize) -> Result<Quantity, EvalError> {
    match arguments.get(index) {
        Some(Value::Int(value)) => Ok(Quantity::from_units(*value)),
        _ => quantity(arguments, index),
    }
}

fn parse(text: &str) -> Result<Quantity, EvalError> {
    text.parse()
        .map_err(|error: model::Error| EvalError::invalid(error.to_string()))
}

fn of_quantity(
    name: &str,
    id: &str,
    result: Type,
    read: impl Fn(Quantity) -> Result<Value<'static>, EvalError> + Send + Sync + 'static,
) -> Function {
    Function::new(name).member(id, [ty()], result, move |_, arguments| {
        read(quantity(arguments, 0)?)
    })
}

fn comparison(name: &str, id: &str, wanted: Ordering) -> Function {
    Function::new(name).member(id, [ty(), ty()], Type::Bool, move |_, arguments| {
        Ok(Value::Bool(
            quantity(arguments, 0)?.cmp(&quantity(arguments, 1)?) == wanted,
        ))
    })
}

fn arithmetic(name: &str, apply: fn(Quantity, Quantity) -> Quantity) -> Function {
    let calculate = move |arguments: &[Value<'_>]| {
        Ok(Value::opaque(QuantityValue(apply(
            quantity(arguments, 0)?,
            amount(arguments, 1)?,
        ))))
    };
    Function::new(name)
        .member(
            &format!("quantity_{name}"),
            [ty(), ty()],
            ty(),
            move |_, arguments| calculate(arguments),
        )
        .member(
            &format!("quantity_{name}_int"),
            [ty(), Type::Int],
            ty(),
            move |_, arguments| calculate(arguments),
        )
}

pub fn library() -> Library {
    Library::new("kubernetes.quantity")
        .named_type(ty())
        .function(
            Function::new("quantity")
                .global(
                    "string_to_quantity",
                    [Type::String],
                    ty(),
                    |_, arguments| Ok(Value::opaque(QuantityValue(parse(text(arguments, 0)?)?))),
                )
                .cost(walked)
                .estimate(reading),
        )
        .function(
            Function::new("isQuantity")
                .global(
                    "is_quantity_string",
                    [Type::String],
                    Type::Bool,
                    |_, arguments| Ok(Value::Bool(parse(text(arguments, 0)?).is_ok())),
                )
                .cost(walked)
                .estimate(reading),
        )
        .function(of_quantity(
            "sign",
            "quantity_sign",
            Type::Int,
            |quantity| Ok(Value::Int(quantity.sign())),
        ))
        .function(of_quantity(
            "isInteger",
            "quantity_is_integer",
            Type::Bool,
            |quantity| Ok(Value::Bool(quantity.is_integer())),
        ))
        .function(of_quantity(
            "asInteger",
            "quantity_as_integer",
            Type::Int,
            |quantity| {
                if quantity.is_integer() {
                    return Ok(Value::Int(quantity.value()));
                }
                Err(EvalError::invalid("cannot convert value to integer"))
            },
        ))
        .function(of_quantity(
            "asApproximateFloat",
            "quantity_as_approximate_float",
            Type::Double,
            |quantity| Ok(Value::Double(quantity.as_f64())),
        ))
        .function(arithmetic("add", |a, b| a + b))
        .function(arithmetic("sub", |a, b| a - b))
        .function(comparison(
            "isGreaterThan",
            "quantity_is_greater_than",
            Ordering::Greater,
        ))
        .function(comparison(
            "isLessThan",
            "quantity_is_less_than",
            Ordering::Less,
        ))
        .function(Function::new("compareTo").member(
            "quantity_compare_to",
            [ty(), ty()],
            Type::Int,
            |_, arguments| {
                Ok(Value::Int(
                    quantity(arguments, 0)?.cmp(&quantity(arguments, 1)?) as i64,
                ))
            },
        ))
}
