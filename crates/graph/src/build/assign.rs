//! Whether what an expression gives fits the field it stands in.
//!
//! First by name, as CEL does it; then by structure, as kro does it: an object fits a larger one, a map fits an object
//! whose fields all take the map's values.

use cel::Type;

/// Types nest no deeper than this; below, everything fits.
const DEPTH_LIMIT: usize = 64;

/// Says why `output` does not fit `expected`.
pub(crate) fn check(output: &Type, expected: &Type) -> Result<(), String> {
    if expected.is_assignable_from(output) {
        return Ok(());
    }
    structural(output, expected, 0)
}

fn structural(output: &Type, expected: &Type, depth: usize) -> Result<(), String> {
    if depth > DEPTH_LIMIT || output.is_dyn() || expected.is_dyn() {
        return Ok(());
    }
    if let Type::Optional(inner) = output {
        return structural(inner, expected, depth + 1);
    }
    if let (Some(output), Some(expected)) = (output.element(), expected.element()) {
        return structural(output, expected, depth + 1)
            .map_err(|reason| format!("list element type incompatible: {reason}"));
    }
    match (output.key_value(), expected.key_value()) {
        (Some((key, value)), Some((expected_key, expected_value))) => {
            structural(key, expected_key, depth + 1)
                .map_err(|reason| format!("map key type incompatible: {reason}"))?;
            return structural(value, expected_value, depth + 1)
                .map_err(|reason| format!("map value type incompatible: {reason}"));
        }
        (Some((key, value)), None) => {
            if let Some(object) = expected.as_object() {
                return map_to_object(key, value, object, depth);
            }
        }
        (None, Some((_, expected_value))) => {
            if let Some(object) = output.as_object() {
                return object_to_map(object, expected_value, depth);
            }
        }
        (None, None) => {
            if let (Some(output), Some(expected)) = (output.as_object(), expected.as_object()) {
                return object_to_object(output, expected, depth);
            }
        }
    }
    if expected.is_assignable_from(output) {
        return Ok(());
    }
    Err(format!(
        "type kind mismatch: got \"{output}\", expected \"{expected}\""
    ))
}

fn map_to_object(
    key: &Type,
    value: &Type,
    object: &cel::ObjectType,
    depth: usize,
) -> Result<(), String> {
    if !Type::String.is_assignable_from(key) {
        return Err("map keys must be strings to assign to struct".to_owned());
    }
    object.fields().iter().try_for_each(|(name, field)| {
        structural(value, &field.ty, depth + 1).map_err(|reason| {
            format!("map value incompatible with struct field \"{name}\": {reason}")
        })
    })
}

fn object_to_map(object: &cel::ObjectType, value: &Type, depth: usize) -> Result<(), String> {
    object.fields().iter().try_for_each(|(name, field)| {
        structural(&field.ty, value, depth + 1).map_err(|reason| {
            format!("struct field \"{name}\" incompatible with map value: {reason}")
        })
    })
}

fn object_to_object(
    output: &cel::ObjectType,
    expected: &cel::ObjectType,
    depth: usize,
) -> Result<(), String> {
    if expected.is_open() || output.name() == expected.name() {
        return Ok(());
    }
    output
        .fields()
        .iter()
        .try_for_each(|(name, field)| match expected.find(name) {
            None => Err(format!(
                "field \"{name}\" exists in output but not in expected type"
            )),
            Some(wanted) => structural(&field.ty, &wanted.ty, depth + 1)
                .map_err(|reason| format!("field \"{name}\" has incompatible type: {reason}")),
        })
}
