//! The second half of a build: every expression is compiled against the types of what it reads, and what it gives is
//! held against the field it stands in.

use std::sync::Arc;

use cel::{Env, Type};
use serde_json::{Value, json};

use super::error::BuildError;
use super::extract::{RawField, RawParts};
use super::parse::{ENVIRONMENT, ParsedResource};
use super::{
    EACH_VARIABLE, FieldValue, Handling, Iterator, Node, NodeKind, SCHEMA_VARIABLE, TemplateField,
    TextPart, Types, assign, dynamic_keys,
};
use crate::expression::Expression;
use crate::rgd::{SchemaSpec, Scope};
use crate::template::{FieldPath, Part, Step};

/// The type of `schema`: the instance without its status.
pub(crate) fn instance_type(schema: &SchemaSpec, spec: &Value) -> Result<Type, BuildError> {
    let mut metadata = schema::definition_json("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .unwrap_or_default();
    if schema.scope == Scope::Cluster
        && let Some(properties) = metadata["properties"].as_object_mut()
    {
        properties.remove("namespace");
    }
    let whole = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata, "spec": spec,
    }});
    let resolve =
        |name: &str| schema::definition_json(name.rsplit('/').next().unwrap_or(name)).map(Arc::new);
    cel_kube::declare("__type_schema", &whole, &resolve).map_err(|error| {
        BuildError::new(format!("the schema has no CEL type: {error}")).at("schema.spec")
    })
}

/// The variables of a graph: the instance and all resources.
pub(crate) struct Variables {
    pub types: Types,
    pub env: Env,
}

impl Variables {
    pub fn new(resources: &[ParsedResource], instance: &Type) -> Result<Self, BuildError> {
        let mut types = Types::new();
        types.insert(SCHEMA_VARIABLE.to_owned(), instance.clone());
        for resource in resources
            .iter()
            // A patch publishes nothing: what it patches is read by an external reference.
            .filter(|resource| !resource.node_kind.is_variable() && !resource.node_kind.is_patch())
        {
            let object = resource.kind.cel_type();
            let ty = if resource.node_kind.is_list() {
                Type::list(object)
            } else {
                object
            };
            types.insert(resource.id.clone(), ty);
        }
        let env = extend(
            &ENVIRONMENT,
            types.iter().map(|(name, ty)| (name.as_str(), ty)),
        )?;
        Ok(Self { types, env })
    }

    /// The type of one object of a resource, or of one value of a variable.
    fn object_type(&self, resource: &ParsedResource) -> Type {
        match self.types.get(&resource.id) {
            Some(ty) if resource.node_kind == NodeKind::Variable => ty.clone(),
            Some(ty) if resource.node_kind == NodeKind::VariableList => element_type(ty),
            _ => resource.kind.cel_type(),
        }
    }

    /// Resources and `schema`.
    pub fn names(&self) -> Vec<&str> {
        self.types.keys().map(String::as_str).collect()
    }
}

pub(crate) fn extend<'a>(
    env: &Env,
    variables: impl IntoIterator<Item = (&'a str, &'a Type)>,
) -> Result<Env, BuildError> {
    let builder = variables
        .into_iter()
        .fold(env.extend(), |builder, (name, ty)| {
            builder.variable(name, ty.clone())
        });
    builder
        .build()
        .map_err(|error| BuildError::new(format!("expressions cannot be compiled: {error}")))
}

/// Compiles everything about one resource.
pub(crate) fn node(resource: ParsedResource, variables: &Variables) -> Result<Node, BuildError> {
    let object_type = variables.object_type(&resource);
    let for_each = iterators(&resource, variables)?;
    let template_env = with_iterators(&variables.env, &for_each)?;
    let is_written = resource.node_kind.is_written();
    let fields = resource
        .fields
        .iter()
        .map(|field| {
            let names_object =
                field.path.is(&["metadata", "name"]) || field.path.is(&["metadata", "namespace"]);
            let expected = match resource.node_kind {
                NodeKind::External | NodeKind::ExternalCollection if names_object => Type::String,
                _ if is_written => field_type(&object_type, &field.path),
                _ => Type::Dyn,
            };
            template_field(&resource.id, field, &template_env, &expected)
        })
        .collect::<Result<Vec<TemplateField>, BuildError>>()?;
    let keys = resource
        .keys
        .iter()
        .map(|key| dynamic_keys::compile(&resource.id, key, &template_env))
        .collect::<Result<_, BuildError>>()?;
    let ready_env = if resource.node_kind.is_repeated() {
        extend(&variables.env, [(EACH_VARIABLE, &object_type)])?
    } else {
        variables.env.clone()
    };
    Ok(Node {
        include_when: conditions(
            &resource.id,
            "includeWhen",
            &resource.include_when,
            &variables.env,
        )?,
        ready_when: conditions(&resource.id, "readyWhen", &resource.ready_when, &ready_env)?,
        id: resource.id,
        kind: resource.node_kind,
        resource: resource.kind.resource.clone(),
        template: resource.template,
        fields,
        keys,
        for_each,
        dependencies: resource.dependencies,
        soft_dependencies: resource.soft_dependencies,
        include_dependencies: resource.include_dependencies,
        handling: Handling::default(),
        branch_dependencies: resource.branch_dependencies,
        include_branches: resource.include_branches,
        list_type: Type::list(object_type.clone()),
        object_type,
    })
}

/// What templates see besides: the iterators.
pub(super) fn with_iterators(env: &Env, for_each: &[Iterator]) -> Result<Env, BuildError> {
    if for_each.is_empty() {
        return Ok(env.clone());
    }
    let types: Vec<(&str, Type)> = for_each
        .iter()
        .map(|iterator| {
            (
                iterator.name.as_str(),
                element_type(iterator.list.result_type()),
            )
        })
        .collect();
    extend(env, types.iter().map(|(name, ty)| (*name, ty)))
}

pub(super) fn iterators(
    resource: &ParsedResource,
    variables: &Variables,
) -> Result<Vec<Iterator>, BuildError> {
    let compile = |(name, source): &(String, String)| {
        let path = format!("forEach.{name}");
        let list = compiled(&resource.id, &path, source, &variables.env)?;
        let ty = list.result_type();
        if ty.element().is_none() && !ty.is_dyn() {
            let message = format!("forEach iterator \"{name}\" must return a list, got \"{ty}\"");
            return Err(BuildError::of(&resource.id, message)
                .at(path)
                .in_expression(source));
        }
        Ok(Iterator {
            name: name.clone(),
            list,
        })
    };
    resource.for_each.iter().map(compile).collect()
}

fn element_type(list: &Type) -> Type {
    list.element().cloned().unwrap_or(Type::Dyn)
}

pub(crate) fn conditions(
    id: &str,
    field: &str,
    sources: &[String],
    env: &Env,
) -> Result<Vec<Expression>, BuildError> {
    let compile = |(index, source): (usize, &String)| {
        let path = format!("{field}[{index}]");
        let expression = compiled(id, &path, source, env)?;
        let ty = expression.result_type();
        let is_condition = ty.is_dyn() || matches!(ty.unwrap_optional(), Type::Bool | Type::Dyn);
        if is_condition {
            return Ok(expression);
        }
        let message = format!(
            "{field} expression \"{source}\" in resource \"{id}\" must return bool or optional_type(bool), but returns \"{ty}\""
        );
        Err(BuildError::of(id, message).at(path))
    };
    sources.iter().enumerate().map(compile).collect()
}

/// Compiles one expression; `id` is empty for the instance's own.
pub(crate) fn compiled(
    id: &str,
    path: &str,
    source: &str,
    env: &Env,
) -> Result<Expression, BuildError> {
    Expression::compile(env, source).map_err(|error| {
        let resource = Some(id).filter(|id| !id.is_empty()).map(str::to_owned);
        BuildError {
            resource,
            ..BuildError::new(error.to_string())
                .at(path)
                .in_expression(source)
        }
    })
}

fn template_field(
    id: &str,
    field: &RawField,
    env: &Env,
    expected: &Type,
) -> Result<TemplateField, BuildError> {
    let value = field_value(id, field, env)?;
    let check = |expression: &Expression, expected: &Type, hint: &str| {
        let found = expression.result_type();
        assign::check(found, expected).map_err(|reason| {
            let (path, source) = (&field.path, expression.source());
            let mut message = format!(
                "type mismatch in resource \"{id}\" at path \"{path}\": expression \"{source}\" returns type \"{found}\" but expected \"{expected}\""
            );
            if !reason.starts_with("type kind mismatch") {
                message.push_str(": ");
                message.push_str(&reason);
            }
            message.push_str(hint);
            BuildError::new(message)
        })
    };
    match &value {
        FieldValue::Expression(expression) => check(expression, expected, "")?,
        FieldValue::Text(_) => {
            if let Err(reason) = assign::check(&Type::String, expected) {
                let message = format!(
                    "text with expressions in it is a string, but expected \"{expected}\" ({reason})"
                );
                return Err(BuildError::of(id, message).at(&field.path));
            }
        }
    }
    Ok(TemplateField {
        path: field.path.clone(),
        value,
        is_deferred: field.is_deferred,
    })
}

/// Compiles the expressions of a string; those within text must be strings.
pub(crate) fn field_value(id: &str, field: &RawField, env: &Env) -> Result<FieldValue, BuildError> {
    let path = field.path.to_string();
    match &field.parts {
        RawParts::Standalone(source) => {
            Ok(FieldValue::Expression(compiled(id, &path, source, env)?))
        }
        RawParts::Mixed(parts) => {
            let compile = |part: &Part| match part {
                Part::Literal(text) => Ok(TextPart::Literal(text.clone())),
                Part::Expression(source) => {
                    let expression = compiled(id, &path, source, env)?;
                    let ty = expression.result_type();
                    if ty.is_dyn() || Type::String.is_assignable_from(ty) {
                        return Ok(TextPart::Expression(expression));
                    }
                    let message = format!(
                        "type mismatch in resource \"{id}\" at path \"{path}\": expression \"{source}\" returns type \"{ty}\" but expected \"string\", because there is text around it (write string({source}))"
                    );
                    Err(BuildError::new(message))
                }
            };
            Ok(FieldValue::Text(
                parts
                    .iter()
                    .map(compile)
                    .collect::<Result<_, BuildError>>()?,
            ))
        }
    }
}

/// The type of a field of an object; `dyn` where the type does not say.
fn field_type(root: &Type, path: &FieldPath) -> Type {
    let mut ty = root.clone();
    for step in path.steps() {
        let below = match step {
            Step::Index(_) => ty.element().cloned(),
            Step::Field(name) => match (ty.as_object(), ty.key_value()) {
                (Some(object), _) => object
                    .find_key(name)
                    .map(|(_, field)| field.ty.clone())
                    .or_else(|| object.additional().cloned()),
                (None, Some((_, value))) => Some(value.clone()),
                (None, None) => None,
            },
        };
        match below {
            Some(below) => ty = below,
            None => return Type::Dyn,
        }
    }
    ty
}
