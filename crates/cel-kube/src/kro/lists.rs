//! `lists.setAtIndex`, `lists.insertAtIndex`, `lists.removeAtIndex`.

use cel::{Context, EvalError, Function, Library, Type, Value};

use crate::kubernetes::{int, list};

fn cost(_: &[Value<'_>], result: &Value<'_>) -> u64 {
    cel::cost::size(result).max(1)
}

pub fn library() -> Library {
    let elements = || Type::list(Type::Param(0));
    let with_value = || [elements(), Type::Int, Type::Param(0)];
    Library::new("kro.lists")
        .function(
            Function::new("lists.setAtIndex")
                .global(
                    "lists.setAtIndex_list_int_T",
                    with_value(),
                    elements(),
                    |context, arguments| {
                        let (mut values, at) = split(context, arguments, "setAtIndex", false)?;
                        values[at] = arguments[2].clone();
                        Ok(Value::list(values))
                    },
                )
                .cost(cost),
        )
        .function(
            Function::new("lists.insertAtIndex")
                .global(
                    "lists.insertAtIndex_list_int_T",
                    with_value(),
                    elements(),
                    |context, arguments| {
                        let (mut values, at) = split(context, arguments, "insertAtIndex", true)?;
                        values.insert(at, arguments[2].clone());
                        Ok(Value::list(values))
                    },
                )
                .cost(cost),
        )
        .function(
            Function::new("lists.removeAtIndex")
                .global(
                    "lists.removeAtIndex_list_int",
                    [elements(), Type::Int],
                    elements(),
                    |context, arguments| {
                        let (mut values, at) = split(context, arguments, "removeAtIndex", false)?;
                        values.remove(at);
                        Ok(Value::list(values))
                    },
                )
                .cost(cost),
        )
}

/// The elements and the index, which is in range; the end is if something is inserted. The words of the error
/// must not be those of an index that may come to exist: kro does not wait for these.
fn split<'a>(
    context: &mut Context<'_>,
    arguments: &[Value<'a>],
    name: &str,
    with_end: bool,
) -> Result<(Vec<Value<'a>>, usize), EvalError> {
    let (list, index) = (list(arguments, 0)?, int(arguments, 1)?);
    context.check_elements(list.len() + 1)?;
    let limit = list.len() + usize::from(with_end);
    match usize::try_from(index) {
        Ok(at) if at < limit => Ok((list.to_vec()?, at)),
        _ => {
            let bracket = if with_end { ']' } else { ')' };
            let message = format!(
                "lists.{name}: index {index} out of bounds [0, {}{bracket}",
                list.len()
            );
            Err(EvalError::invalid(message))
        }
    }
}
