//! `merge` and `deepMerge` of maps: the argument wins.

use cel::{Context, EvalError, Function, Library, Map, MapBuilder, Type, Value};

/// How deep maps are merged.
const DEPTH_MAX: usize = 256;

pub fn library() -> Library {
    let map = || Type::map(Type::Param(0), Type::Param(1));
    Library::new("kro.maps")
        .function(
            Function::new("merge")
                .member("map_merge", [map(), map()], map(), |context, arguments| {
                    merge(
                        context,
                        &as_map(&arguments[0])?,
                        &as_map(&arguments[1])?,
                        None,
                    )
                })
                .cost(|_, result| cel::cost::size(result).max(1)),
        )
        .function(
            Function::new("deepMerge")
                .member(
                    "dyn_deep_merge",
                    [Type::Dyn, Type::Dyn],
                    Type::Dyn,
                    |context, arguments| {
                        merge(
                            context,
                            &as_map(&arguments[0])?,
                            &as_map(&arguments[1])?,
                            Some(0),
                        )
                    },
                )
                .cost(|_, result| cel::cost::size(result).max(1)),
        )
}

/// The entries of a map or of an object.
fn as_map<'a>(value: &Value<'a>) -> Result<Map<'a>, EvalError> {
    match value {
        Value::Map(map) => Ok(map.clone()),
        Value::Object(object) => object
            .as_json()
            .map(Map::json)
            .ok_or_else(EvalError::no_such_overload),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// `depth` is how deep in a deep merge this is; `None` for a shallow one.
fn merge<'a>(
    context: &mut Context<'_>,
    base: &Map<'a>,
    over: &Map<'a>,
    depth: Option<usize>,
) -> Result<Value<'a>, EvalError> {
    context.check_elements(base.len() + over.len())?;
    if depth.is_some_and(|depth| depth > DEPTH_MAX) {
        return Err(EvalError::too_large(
            "the nesting of merged maps",
            DEPTH_MAX,
        ));
    }
    let mut merged = MapBuilder::with_capacity(base.len() + over.len());
    for (key, value) in base.entries() {
        merged.insert(key, value?)?;
    }
    for (key, value) in over.entries() {
        let value = value?;
        let value = match (depth, base.get(&key).transpose()?) {
            (Some(depth), Some(before)) => match (as_map(&before), as_map(&value)) {
                (Ok(before), Ok(after)) => merge(context, &before, &after, Some(depth + 1))?,
                _ => value,
            },
            _ => value,
        };
        merged.put(key, value)?;
    }
    Ok(Value::Map(merged.build()))
}
