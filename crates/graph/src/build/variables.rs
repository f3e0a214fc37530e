//! Resources without an object: named values that others read (gate `Variables`, kro's KREP-011).
//!
//! A variable is a map whose leaves are constants or expressions; with `forEach` it is a list of such maps. Nothing
//! declares its type, so it follows from what the expressions give. Variables read each other, so their types are found in
//! the order of the graph.
//!
//! Left out: `omit()`, and expressions in keys. A field whose expression gives null or an empty optional is not there.

use std::collections::HashMap;

use cel::{Field, ObjectType, Type};
use serde_json::Value;

use super::NodeKind;
use super::compile::{self, Variables};
use super::error::BuildError;
use super::extract::{self, RawField, RawParts};
use super::parse::ParsedResource;
use crate::simple_schema::json_kind;
use crate::template::FieldPath;

/// The expressions of a variable, whose values must be a map.
pub(super) fn fields(id: &str, values: &Value) -> Result<Vec<RawField>, BuildError> {
    let Some(map) = values.as_object() else {
        let message = format!(
            "a variable must be a map of values, got {}",
            json_kind(values)
        );
        return Err(BuildError::of(id, message).at("variable"));
    };
    if map.contains_key(id) {
        let message = format!(
            "the key \"{id}\" is also the id of the variable, so ${{{id}.{id}}} would be hard to read"
        );
        return Err(BuildError::of(id, message).at(id));
    }
    Ok(extract::without_schema(id, values)?.fields)
}

/// Adds the types of all variables to those of the other resources.
pub(super) fn declare(
    mut variables: Variables,
    resources: &[ParsedResource],
    order: &[usize],
) -> Result<Variables, BuildError> {
    for resource in order.iter().map(|position| &resources[*position]) {
        if !resource.node_kind.is_variable() {
            continue;
        }
        let value = type_of(resource, &variables)?;
        let ty = if resource.node_kind == NodeKind::VariableList {
            Type::list(value)
        } else {
            value
        };
        variables.env = compile::extend(&variables.env, [(resource.id.as_str(), &ty)])?;
        variables.types.insert(resource.id.clone(), ty);
    }
    Ok(variables)
}

fn type_of(resource: &ParsedResource, variables: &Variables) -> Result<Type, BuildError> {
    let iterators = compile::iterators(resource, variables)?;
    let env = compile::with_iterators(&variables.env, &iterators)?;
    let mut types = HashMap::new();
    for field in &resource.fields {
        let value = compile::field_value(&resource.id, field, &env)?;
        let ty = match (&value, &field.parts) {
            (super::FieldValue::Expression(expression), RawParts::Standalone(source)) => {
                let ty = expression.result_type().unwrap_optional();
                keepable(ty).map_err(|message| {
                    BuildError::of(&resource.id, message)
                        .at(&field.path)
                        .in_expression(source)
                })?;
                ty.clone()
            }
            _ => Type::String,
        };
        types.insert(field.path.clone(), ty);
    }
    let name = format!("__type_{}", resource.id);
    Ok(infer(&resource.template, &FieldPath::root(), &name, &types))
}

/// Values are kept as JSON, so they must have a form there.
fn keepable(ty: &Type) -> Result<(), String> {
    let hint = match ty {
        Type::Bytes => "write string(...) or base64.encode(...)",
        Type::Opaque(_) | Type::Type(_) => "write string(...)",
        _ => {
            return match (ty.element(), ty.key_value()) {
                (Some(element), _) => keepable(element),
                (None, Some((_, value))) => keepable(value),
                (None, None) => Ok(()),
            };
        }
    };
    Err(format!(
        "a variable cannot hold a value of type \"{ty}\" ({hint})"
    ))
}

/// The type of a document whose expressions have these types.
fn infer(value: &Value, path: &FieldPath, name: &str, types: &HashMap<FieldPath, Type>) -> Type {
    match value {
        Value::Object(fields) => {
            let mut object = ObjectType::new(name);
            for (key, value) in fields {
                let below = format!("{name}.{key}");
                let ty = infer(value, &path.field(key), &below, types);
                // What has no name in expressions can only be read as a part of the whole.
                let Some(escaped) = cel_kube::escape(key) else {
                    object = object.open();
                    continue;
                };
                let field = Field {
                    ty,
                    required: false,
                    nullable: false,
                    key: (escaped != *key).then(|| key.as_str().into()),
                };
                object = object.with_field(escaped, field);
            }
            Type::object(object)
        }
        Value::Array(items) => {
            let below = format!("{name}.@idx");
            let mut elements = items
                .iter()
                .enumerate()
                .map(|(index, item)| infer(item, &path.index(index), &below, types));
            let first = elements.next().unwrap_or(Type::Dyn);
            let is_same = elements.all(|element| element == first);
            // Elements of one name and different fields would be taken for each other.
            let is_alone = first.as_object().is_none() || items.len() == 1;
            Type::list(if is_same && is_alone {
                first
            } else {
                Type::Dyn
            })
        }
        Value::String(_) => types.get(path).cloned().unwrap_or(Type::String),
        Value::Bool(_) => Type::Bool,
        Value::Number(number) if number.is_i64() => Type::Int,
        Value::Number(_) => Type::Double,
        Value::Null => Type::Dyn,
    }
}
