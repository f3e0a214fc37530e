//! Whether what an expression gives fits the field it stands in.
//!
//! First by name, as CEL does it; then by structure: an object fits a larger one, a map fits an object that has a field which
//! takes the map's values. A type does not say which keys a map has, so what is left is for the server to tell.

use cel::Type;

/// Types nest no deeper than this; below, everything fits.
const DEPTH_LIMIT: usize = 64;
/// Maps within maps are held against objects no deeper than this, since each level is held against every field.
const MAPS_LIMIT: usize = 3;

/// Says why `output` does not fit `expected`.
pub(crate) fn check(output: &Type, expected: &Type) -> Result<(), String> {
    if expected.is_assignable_from(output) {
        return Ok(());
    }
    structural(output, expected, Depth::default())
}

/// How deep a comparison is.
#[derive(Clone, Copy, Default)]
struct Depth {
    all: usize,
    /// Of it, maps that were held against objects.
    maps: usize,
}

impl Depth {
    fn below(self) -> Self {
        Self {
            all: self.all + 1,
            ..self
        }
    }

    fn in_map(self) -> Self {
        Self {
            maps: self.maps + 1,
            ..self.below()
        }
    }
}

fn structural(output: &Type, expected: &Type, depth: Depth) -> Result<(), String> {
    if depth.all > DEPTH_LIMIT || output.is_dyn() || expected.is_dyn() {
        return Ok(());
    }
    if let Type::Optional(inner) = output {
        return structural(inner, expected, depth.below());
    }
    if let (Some(output), Some(expected)) = (output.element(), expected.element()) {
        return structural(output, expected, depth.below())
            .map_err(|reason| format!("list element type incompatible: {reason}"));
    }
    match (output.key_value(), expected.key_value()) {
        (Some((key, value)), Some((expected_key, expected_value))) => {
            structural(key, expected_key, depth.below())
                .map_err(|reason| format!("map key type incompatible: {reason}"))?;
            return structural(value, expected_value, depth.below())
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
    depth: Depth,
) -> Result<(), String> {
    if !Type::String.is_assignable_from(key) {
        return Err("map keys must be strings to assign to struct".to_owned());
    }
    if depth.maps >= MAPS_LIMIT {
        return Ok(());
    }
    let mut refused = None;
    for (name, field) in object.fields() {
        match structural(value, &field.ty, depth.in_map()) {
            Ok(()) => return Ok(()),
            Err(reason) => {
                refused = refused.or_else(|| {
                    Some(format!(
                        "map value incompatible with struct field \"{name}\": {reason}"
                    ))
                });
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

fn object_to_map(object: &cel::ObjectType, value: &Type, depth: Depth) -> Result<(), String> {
    object.fields().iter().try_for_each(|(name, field)| {
        structural(&field.ty, value, depth.below()).map_err(|reason| {
            format!("struct field \"{name}\" incompatible with map value: {reason}")
        })
    })
}

fn object_to_object(
    output: &cel::ObjectType,
    expected: &cel::ObjectType,
    depth: Depth,
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
            Some(wanted) => structural(&field.ty, &wanted.ty, depth.below())
                .map_err(|reason| format!("field \"{name}\" has incompatible type: {reason}")),
        })
}
