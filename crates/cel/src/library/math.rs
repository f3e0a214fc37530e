//! `math.greatest`, `math.least`, rounding, signs and bits.

use std::cmp::Ordering;

use super::list;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Value, compare_numbers};

const NUMBERS: [Type; 3] = [Type::Int, Type::Uint, Type::Double];

/// Arguments `math.greatest(a, b, ...)` may have; cel-go's macro takes any number.
const VARIADIC_ARGUMENTS_MAX: usize = 16;

pub fn library() -> Library {
    let mut library = Library::new("math")
        .function(extreme("math.greatest", Ordering::Greater))
        .function(extreme("math.least", Ordering::Less))
        .function(bits("math.bitAnd", |a, b| a & b, |a, b| a & b))
        .function(bits("math.bitOr", |a, b| a | b, |a, b| a | b))
        .function(bits("math.bitXor", |a, b| a ^ b, |a, b| a ^ b))
        .function(bit_not())
        .function(shift(
            "math.bitShiftLeft",
            |value, by| value.checked_shl(by).unwrap_or(0),
            true,
        ))
        .function(shift(
            "math.bitShiftRight",
            |value, by| value.checked_shr(by).unwrap_or(0),
            false,
        ))
        .function(absolute())
        .function(sign())
        .function(square_root());
    type Rounding = fn(f64) -> f64;
    let rounding: [(&str, Rounding); 4] = [
        ("ceil", f64::ceil),
        ("floor", f64::floor),
        ("round", f64::round),
        ("trunc", f64::trunc),
    ];
    for (name, round) in rounding {
        library = library.function(Function::new(&format!("math.{name}")).global(
            &format!("math_{name}_double"),
            [Type::Double],
            Type::Double,
            move |_, arguments| double(&arguments[0]).map(|value| Value::Double(round(value))),
        ));
    }
    type Test = fn(f64) -> bool;
    let tests: [(&str, Test); 3] = [
        ("isNaN", f64::is_nan),
        ("isInf", f64::is_infinite),
        ("isFinite", f64::is_finite),
    ];
    for (name, test) in tests {
        library = library.function(Function::new(&format!("math.{name}")).global(
            &format!("math_{name}_double"),
            [Type::Double],
            Type::Bool,
            move |_, arguments| double(&arguments[0]).map(|value| Value::Bool(test(value))),
        ));
    }
    library
}

fn double(value: &Value<'_>) -> Result<f64, EvalError> {
    match value {
        Value::Double(value) => Ok(*value),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn extreme(name: &str, wanted: Ordering) -> Function {
    let id = name.replace('.', "_");
    let pick = move |values: &[Value<'_>]| -> Result<usize, EvalError> {
        let mut best = 0;
        for (at, value) in values.iter().enumerate() {
            if !matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
                return Err(EvalError::no_such_overload());
            }
            if compare_numbers(value, &values[best]) == Some(wanted) {
                best = at;
            }
        }
        Ok(best)
    };
    let mut function = Function::new(name);
    for ty in NUMBERS {
        function = function.global(&format!("{id}_{ty}"), [ty.clone()], ty, |_, arguments| {
            Ok(arguments[0].clone())
        });
    }
    for a in NUMBERS {
        for b in NUMBERS {
            let result = if a == b { a.clone() } else { Type::Dyn };
            function = function.global(
                &format!("{id}_{a}_{b}"),
                [a.clone(), b],
                result,
                move |_, arguments| Ok(arguments[pick(arguments)?].clone()),
            );
        }
    }
    for ty in NUMBERS.into_iter().chain([Type::Dyn]) {
        function = function.global(
            &format!("{id}_list_{ty}"),
            [Type::list(ty.clone())],
            ty,
            move |context, arguments| {
                let list = list(arguments, 0)?;
                context.check_elements(list.len())?;
                if list.is_empty() {
                    return Err(EvalError::invalid("argument list must not be empty"));
                }
                let values = list.to_vec()?;
                Ok(values[pick(&values)?].clone())
            },
        );
    }
    for count in 3..=VARIADIC_ARGUMENTS_MAX {
        function = function.variadic(
            &format!("{id}_{count}"),
            count,
            Type::Dyn,
            Type::Dyn,
            move |_, arguments| Ok(arguments[pick(arguments)?].clone()),
        );
    }
    function
}

fn bits(name: &str, ints: fn(i64, i64) -> i64, uints: fn(u64, u64) -> u64) -> Function {
    let id = name.replace('.', "_");
    Function::new(name)
        .global(
            &format!("{id}_int_int"),
            [Type::Int, Type::Int],
            Type::Int,
            move |_, arguments| match arguments {
                [Value::Int(a), Value::Int(b)] => Ok(Value::Int(ints(*a, *b))),
                _ => Err(EvalError::no_such_overload()),
            },
        )
        .global(
            &format!("{id}_uint_uint"),
            [Type::Uint, Type::Uint],
            Type::Uint,
            move |_, arguments| match arguments {
                [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(uints(*a, *b))),
                _ => Err(EvalError::no_such_overload()),
            },
        )
}

fn bit_not() -> Function {
    Function::new("math.bitNot")
        .global(
            "math_bitNot_int_int",
            [Type::Int],
            Type::Int,
            |_, arguments| match arguments {
                [Value::Int(value)] => Ok(Value::Int(!value)),
                _ => Err(EvalError::no_such_overload()),
            },
        )
        .global(
            "math_bitNot_uint_uint",
            [Type::Uint],
            Type::Uint,
            |_, arguments| match arguments {
                [Value::Uint(value)] => Ok(Value::Uint(!value)),
                _ => Err(EvalError::no_such_overload()),
            },
        )
}

/// Shifts work on the bits: shifting an int right does not keep its sign.
fn shift(name: &'static str, shift: fn(u64, u32) -> u64, left: bool) -> Function {
    let id = name.replace('.', "_");
    let by = move |count: i64| {
        let direction = if left {
            "math.bitShiftLeft()"
        } else {
            "math.bitShiftRight()"
        };
        u32::try_from(count.min(64))
            .map_err(|_| EvalError::invalid(format!("{direction} negative offset: {count}")))
    };
    Function::new(name)
        .global(
            &format!("{id}_int_int"),
            [Type::Int, Type::Int],
            Type::Int,
            move |_, arguments| match arguments {
                [Value::Int(value), Value::Int(count)] => {
                    Ok(Value::Int(shift(*value as u64, by(*count)?) as i64))
                }
                _ => Err(EvalError::no_such_overload()),
            },
        )
        .global(
            &format!("{id}_uint_int"),
            [Type::Uint, Type::Int],
            Type::Uint,
            move |_, arguments| match arguments {
                [Value::Uint(value), Value::Int(count)] => {
                    Ok(Value::Uint(shift(*value, by(*count)?)))
                }
                _ => Err(EvalError::no_such_overload()),
            },
        )
}

fn absolute() -> Function {
    let mut function = Function::new("math.abs");
    for ty in NUMBERS {
        function = function.global(
            &format!("math_abs_{ty}"),
            [ty.clone()],
            ty,
            |_, arguments| match &arguments[0] {
                Value::Int(value) => value
                    .checked_abs()
                    .map(Value::Int)
                    .ok_or_else(|| EvalError::overflow("integer overflow")),
                Value::Double(value) => Ok(Value::Double(value.abs())),
                other => Ok(other.clone()),
            },
        );
    }
    function
}

fn sign() -> Function {
    let mut function = Function::new("math.sign");
    for ty in NUMBERS {
        function = function.global(
            &format!("math_sign_{ty}"),
            [ty.clone()],
            ty,
            |_, arguments| match &arguments[0] {
                Value::Int(value) => Ok(Value::Int(value.signum())),
                Value::Uint(value) => Ok(Value::Uint((*value).min(1))),
                Value::Double(value) if *value == 0.0 || value.is_nan() => {
                    Ok(Value::Double(*value))
                }
                Value::Double(value) => Ok(Value::Double(value.signum())),
                _ => Err(EvalError::no_such_overload()),
            },
        );
    }
    function
}

fn square_root() -> Function {
    let mut function = Function::new("math.sqrt");
    for ty in NUMBERS {
        function = function.global(
            &format!("math_sqrt_{ty}"),
            [ty],
            Type::Double,
            |_, arguments| {
                let Value::Double(value) = arguments[0].to_double()? else {
                    return Err(EvalError::no_such_overload());
                };
                Ok(Value::Double(value.sqrt()))
            },
        );
    }
    function
}
