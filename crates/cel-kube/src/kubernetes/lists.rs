//! `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf` of lists.

use std::cmp::Ordering;

use cel::{Context, EvalError, Function, Library, Type, Value};

use super::{list, passing};

/// Types whose values have an order.
const COMPARABLE: [Type; 8] = [
    Type::Int,
    Type::Uint,
    Type::Double,
    Type::Bool,
    Type::Duration,
    Type::Timestamp,
    Type::String,
    Type::Bytes,
];

/// What adding up nothing gives.
fn zero(ty: &Type) -> Value<'static> {
    match ty {
        Type::Uint => Value::Uint(0),
        Type::Double => Value::Double(0.0),
        Type::Duration => Value::Duration(cel::Duration::from_nanoseconds(0)),
        _ => Value::Int(0),
    }
}

/// One pass over the list: a tenth per byte of text, one for everything else.
fn walked(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    arguments.first().map_or(0, |value| traversal(value, 0))
}

/// Values nest less than this.
const DEPTH_MAX: usize = 256;

fn traversal(value: &Value<'_>, depth: usize) -> u64 {
    if depth > DEPTH_MAX {
        return 1;
    }
    let below = |element: Result<Value<'_>, EvalError>| {
        element.map_or(1, |element| traversal(&element, depth + 1))
    };
    match value {
        Value::String(text) => text.len() as u64 / 10,
        Value::Bytes(bytes) => bytes.len() as u64 / 10,
        Value::List(list) => list.iter().fold(0, |total, element| total + below(element)),
        Value::Map(map) => map.entries().fold(0, |total, (key, value)| {
            total + traversal(&key, depth + 1) + below(value)
        }),
        Value::Object(object) => object.fields().into_iter().fold(0, |total, (name, value)| {
            total + name.len() as u64 / 10 + below(value)
        }),
        _ => 1,
    }
}

pub fn library() -> Library {
    let mut sorted = Function::new("isSorted");
    let mut min = Function::new("min");
    let mut max = Function::new("max");
    for ty in COMPARABLE {
        let name = ty
            .name()
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let list = Type::list(ty.clone());
        sorted = sorted
            .member(
                &format!("list_{name}_is_sorted_bool"),
                [list.clone()],
                Type::Bool,
                is_sorted,
            )
            .cost(walked)
            .estimate(passing);
        min = min
            .member(
                &format!("list_{name}_min_{name}"),
                [list.clone()],
                ty.clone(),
                |context, arguments| extreme(context, arguments, Ordering::Less, "min"),
            )
            .cost(walked)
            .estimate(passing);
        max = max
            .member(
                &format!("list_{name}_max_{name}"),
                [list],
                ty,
                |context, arguments| extreme(context, arguments, Ordering::Greater, "max"),
            )
            .cost(walked)
            .estimate(passing);
    }
    let mut sum = Function::new("sum");
    for ty in [Type::Int, Type::Uint, Type::Double, Type::Duration] {
        let name = ty
            .name()
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let start = zero(&ty);
        sum = sum
            .member(
                &format!("list_{name}_sum_{name}"),
                [Type::list(ty.clone())],
                ty,
                move |context, arguments| {
                    let mut total = start.clone();
                    for element in list(arguments, 0)?.iter() {
                        context.visit(1)?;
                        total = add(&total, &element?)?;
                    }
                    Ok(total)
                },
            )
            .cost(walked)
            .estimate(passing);
    }
    Library::new("kubernetes.lists")
        .function(sorted)
        .function(sum)
        .function(min)
        .function(max)
        .function(position("indexOf", "list_a_index_of_int", false))
        .function(position("lastIndexOf", "list_a_last_index_of_int", true))
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, EvalError> {
    a.compare(b).ok_or_else(EvalError::no_such_overload)
}

fn is_sorted<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    let mut previous: Option<Value<'a>> = None;
    for element in list(arguments, 0)?.iter() {
        context.visit(1)?;
        let element = element?;
        if let Some(previous) = &previous
            && order(previous, &element)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(element);
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    wanted: Ordering,
    name: &str,
) -> Result<Value<'a>, EvalError> {
    let mut best: Option<Value<'a>> = None;
    for element in list(arguments, 0)?.iter() {
        context.visit(1)?;
        let element = element?;
        let is_better = match &best {
            Some(best) => order(&element, best)? == wanted,
            None => true,
        };
        if is_better {
            best = Some(element);
        }
    }
    best.ok_or_else(|| EvalError::invalid(format!("{name} called on empty list")))
}

fn add(a: &Value<'_>, b: &Value<'_>) -> Result<Value<'static>, EvalError> {
    let sum = match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint),
        (Value::Double(a), Value::Double(b)) => Some(Value::Double(a + b)),
        (Value::Duration(a), Value::Duration(b)) => a.checked_add(*b).map(Value::Duration),
        _ => return Err(EvalError::no_such_overload()),
    };
    sum.ok_or_else(|| EvalError::overflow("integer overflow"))
}

fn position(name: &str, id: &str, last: bool) -> Function {
    Function::new(name)
        .member(
            id,
            [Type::list(Type::Param(0)), Type::Param(0)],
            Type::Int,
            move |context, arguments| {
                let mut found = -1;
                for (at, element) in list(arguments, 0)?.iter().enumerate() {
                    context.visit(1)?;
                    if context.equal(&element?, &arguments[1])? {
                        found = at as i64;
                        if !last {
                            break;
                        }
                    }
                }
                Ok(Value::Int(found))
            },
        )
        .cost(walked)
        .estimate(passing)
}
