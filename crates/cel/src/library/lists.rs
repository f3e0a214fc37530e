//! `slice`, `flatten`, `sort`, `sortBy`, `distinct`, `reverse`, `lists.range`.

use std::cmp::Ordering;

use super::{int, list};
use crate::cost;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::eval::Context;
use crate::parse::macros;
use crate::types::Type;
use crate::value::{List, Value, compare};

fn elements() -> Type {
    Type::list(Type::Param(0))
}

fn over_list(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cost::size(&arguments[0]).max(1)
}

pub fn library() -> Library {
    Library::new("lists")
        .macro_rule(macros::sort_by())
        .function(
            Function::new("slice")
                .member(
                    "list_slice",
                    [elements(), Type::Int, Type::Int],
                    elements(),
                    |context, arguments| {
                        slice(
                            context,
                            list(arguments, 0)?,
                            int(arguments, 1)?,
                            int(arguments, 2)?,
                        )
                    },
                )
                .cost(over_list),
        )
        .function(flatten())
        .function(
            Function::new("sort")
                .member(
                    "list_sort",
                    [elements()],
                    elements(),
                    |context, arguments| {
                        let values = take(context, list(arguments, 0)?)?;
                        let keys = values.clone();
                        sort(context, values, &keys)
                    },
                )
                .cost(over_list),
        )
        .function(
            Function::new("@sortByAssociatedKeys")
                .member(
                    "list_sortByAssociatedKeys",
                    [elements(), Type::list(Type::Param(1))],
                    elements(),
                    |context, arguments| {
                        let values = take(context, list(arguments, 0)?)?;
                        let keys = take(context, list(arguments, 1)?)?;
                        sort(context, values, &keys)
                    },
                )
                .cost(over_list),
        )
        .function(
            Function::new("distinct")
                .member(
                    "list_distinct",
                    [elements()],
                    elements(),
                    |context, arguments| distinct(context, list(arguments, 0)?),
                )
                .cost(over_list),
        )
        .function(
            Function::new("reverse")
                .member(
                    "list_reverse",
                    [elements()],
                    elements(),
                    |context, arguments| {
                        let mut values = take(context, list(arguments, 0)?)?;
                        values.reverse();
                        Ok(Value::list(values))
                    },
                )
                .cost(over_list),
        )
        .function(
            Function::new("lists.range")
                .global(
                    "lists_range",
                    [Type::Int],
                    Type::list(Type::Int),
                    |context, arguments| {
                        let count = int(arguments, 0)?.max(0);
                        context.check_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
                        Ok(Value::list((0..count).map(Value::Int).collect()))
                    },
                )
                .cost(|_, result| cost::size(result).max(1)),
        )
}

fn take<'a>(context: &mut Context<'_>, list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    context.check_elements(list.len())?;
    list.to_vec()
}

fn slice<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    start: i64,
    end: i64,
) -> Result<Value<'a>, EvalError> {
    if start < 0 || end < 0 {
        return Err(EvalError::invalid(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        )));
    }
    if start > end {
        let message = format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        );
        return Err(EvalError::invalid(message));
    }
    if end as usize > list.len() {
        return Err(EvalError::invalid(format!(
            "cannot slice({start}, {end}), list is length {}",
            list.len()
        )));
    }
    context.check_elements((end - start) as usize)?;
    let elements = list
        .iter()
        .skip(start as usize)
        .take((end - start) as usize)
        .collect::<Result<_, _>>()?;
    Ok(Value::list(elements))
}

fn flatten() -> Function {
    Function::new("flatten")
        .member(
            "list_flatten",
            [Type::list(elements())],
            elements(),
            |context, arguments| {
                let mut out = Vec::new();
                flatten_into(context, list(arguments, 0)?, 1, &mut out)?;
                Ok(Value::list(out))
            },
        )
        .cost(|_, result| cost::size(result).max(1))
        .member(
            "list_flatten_dyn",
            [Type::list(Type::Dyn)],
            Type::list(Type::Dyn),
            |context, arguments| {
                let mut out = Vec::new();
                flatten_into(context, list(arguments, 0)?, 1, &mut out)?;
                Ok(Value::list(out))
            },
        )
        .cost(|_, result| cost::size(result).max(1))
        .member(
            "list_flatten_int",
            [Type::list(Type::Dyn), Type::Int],
            Type::list(Type::Dyn),
            |context, arguments| {
                let depth = int(arguments, 1)?;
                if depth < 0 {
                    return Err(EvalError::invalid("level must be non-negative"));
                }
                let mut out = Vec::new();
                flatten_into(
                    context,
                    list(arguments, 0)?,
                    depth.min(FLATTEN_DEPTH_MAX),
                    &mut out,
                )?;
                Ok(Value::list(out))
            },
        )
        .cost(|_, result| cost::size(result).max(1))
}

/// Values nest less than this: expressions and JSON data have limits of their own.
const FLATTEN_DEPTH_MAX: i64 = 512;

fn flatten_into<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    depth: i64,
    out: &mut Vec<Value<'a>>,
) -> Result<(), EvalError> {
    for element in list.iter() {
        match element? {
            Value::List(inner) if depth > 0 => flatten_into(context, &inner, depth - 1, out)?,
            other => {
                context.check_elements(1)?;
                out.push(other);
            }
        }
        if out.len() > context.limits.elements_max {
            return Err(EvalError::too_large(
                "the size of a list",
                context.limits.elements_max,
            ));
        }
    }
    Ok(())
}

/// Sorts values by their keys, keeping the order of equal ones.
fn sort<'a>(
    context: &mut Context<'_>,
    values: Vec<Value<'a>>,
    keys: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    if values.len() != keys.len() {
        let message = format!(
            "sortByAssociatedKeys() expected a list of the same size as the list of keys, got {} and {}",
            values.len(),
            keys.len()
        );
        return Err(EvalError::invalid(message));
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    if let Some(first) = keys.first() {
        let kind = std::mem::discriminant(first);
        let comparable = compare(first, first).is_some() || matches!(first, Value::Double(_));
        if !comparable {
            return Err(EvalError::invalid("list elements must be comparable"));
        }
        if keys.iter().any(|key| std::mem::discriminant(key) != kind) {
            return Err(EvalError::invalid("list elements must have the same type"));
        }
        // Every key is compared about as often as the list can be halved.
        for _ in 0..=keys.len().ilog2() {
            for key in keys {
                context.visit_text(key)?;
            }
        }
        order.sort_by(|a, b| compare(&keys[*a], &keys[*b]).unwrap_or(Ordering::Equal));
    }
    Ok(Value::list(
        order.into_iter().map(|at| values[at].clone()).collect(),
    ))
}

fn distinct<'a>(context: &mut Context<'_>, list: &List<'a>) -> Result<Value<'a>, EvalError> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    // Scalars are found by key in constant time, everything else by comparing.
    let mut keys = crate::value::MapBuilder::default();
    let mut others: Vec<usize> = Vec::new();
    for element in list.iter() {
        let element = element?;
        context.check_elements(1)?;
        context.visit_text(&element)?;
        let as_key = !matches!(element, Value::Double(_))
            && keys.insert(element.clone(), Value::Null).is_ok();
        if as_key {
            kept.push(element);
            continue;
        }
        if matches!(
            element,
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_)
        ) {
            continue;
        }
        let mut known = false;
        if matches!(element, Value::Double(_)) {
            for other in &kept {
                context.visit(1)?;
                known |= context.equal(other, &element)?;
            }
        } else {
            for at in &others {
                context.visit(1)?;
                if context.equal(&kept[*at], &element)? {
                    known = true;
                    break;
                }
            }
        }
        if !known {
            others.push(kept.len());
            kept.push(element);
        }
    }
    Ok(Value::list(kept))
}
