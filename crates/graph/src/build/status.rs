//! The status of instances: what its fields are projected from, the schema that follows from the types, and conditions
//! that authors define.

use cel::Type;
use serde_json::{Map, Value, json};

use super::compile::{self, Variables};
use super::error::BuildError;
use super::extract;
use super::references::{Allowed, references};
use super::{FieldValue, StatusField};
use crate::expression::Expression;
use crate::template::{Step, Template};

/// Types nested deeper than this are left open in the schema.
const DEPTH_LIMIT: usize = 32;

/// What the status becomes.
pub(crate) struct Status {
    pub schema: Value,
    pub template: Value,
    pub fields: Vec<StatusField>,
    pub conditions: Vec<Expression>,
}

pub(crate) fn build(status: &Value, variables: &Variables) -> Result<Status, BuildError> {
    let mut template = match status {
        Value::Null => Map::new(),
        Value::Object(fields) => fields.clone(),
        _ => return Err(BuildError::new("must be a map of fields").at("schema.status")),
    };
    let compiled_conditions = match template.remove("conditions") {
        None => Vec::new(),
        Some(block) => conditions(&block, variables)?,
    };
    let template = Value::Object(template);
    let extracted = extract::without_schema("", &template).map_err(under_status)?;
    if !extracted.literals.is_empty() {
        let paths: Vec<String> = extracted.literals.iter().map(ToString::to_string).collect();
        let message = format!(
            "status fields without expressions are not supported: [{}]",
            paths.join(" ")
        );
        return Err(BuildError::new(message).at("schema.status"));
    }
    let allowed = Allowed {
        names: variables.names(),
        omit: false,
        runtime: false,
    };
    let mut schema = json!({"type": "object"});
    let mut fields = Vec::new();
    for field in &extracted.fields {
        for source in field.sources() {
            let fail = |message: String| {
                under_status(
                    BuildError::new(message)
                        .at(&field.path)
                        .in_expression(source),
                )
            };
            let roots = references(source, &allowed).map_err(fail)?;
            if roots.is_empty() {
                let message = format!(
                    "instance status field must refer to a resource or schema: {}",
                    field.path
                );
                return Err(fail(message));
            }
        }
        let value = compile::field_value("", field, &variables.env).map_err(under_status)?;
        let leaf = match &value {
            FieldValue::Text(_) => json!({"type": "string"}),
            FieldValue::Expression(expression) => {
                schema_of(expression.result_type(), true, &mut Vec::new())
                    .map_err(|message| under_status(BuildError::new(message).at(&field.path)))?
            }
        };
        place(&mut schema, field.path.steps(), leaf);
        fields.push(StatusField {
            path: field.path.clone(),
            value,
        });
    }
    Ok(Status {
        schema,
        template,
        fields,
        conditions: compiled_conditions,
    })
}

fn under_status(error: BuildError) -> BuildError {
    let path = error.path.as_deref().filter(|path| !path.is_empty());
    let path = path.map_or_else(
        || "schema.status".to_owned(),
        |path| format!("schema.status.{path}"),
    );
    BuildError {
        path: Some(path),
        ..error
    }
}

/// Puts the schema of a leaf into the schema of the whole.
fn place(schema: &mut Value, path: &[Step], leaf: Value) {
    match path.split_first() {
        None => *schema = leaf,
        Some((Step::Field(name), rest)) => {
            let property = &mut schema["properties"][name];
            start(property, rest);
            place(property, rest, leaf);
        }
        Some((Step::Index(_), rest)) => {
            let items = &mut schema["items"];
            start(items, rest);
            place(items, rest, leaf);
        }
    }
}

/// Gives a schema the type that the next step needs.
fn start(schema: &mut Value, rest: &[Step]) {
    let wanted = match rest.first() {
        None => return,
        Some(Step::Field(_)) => "object",
        Some(Step::Index(_)) => "array",
    };
    if schema["type"] != wanted {
        *schema = json!({"type": wanted});
    }
}

fn described(description: &str) -> Value {
    let mut schema = open();
    schema["description"] = description.into();
    schema
}

fn open() -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true})
}

/// The schema of a value of this type; `at_top` outside declared objects. `seen` holds the object types around it.
fn schema_of(ty: &Type, at_top: bool, seen: &mut Vec<String>) -> Result<Value, String> {
    if seen.len() > DEPTH_LIMIT {
        return Ok(open());
    }
    if let Some(element) = ty.element() {
        return Ok(json!({"type": "array", "items": schema_of(element, at_top, seen)?}));
    }
    if let Some((_, value)) = ty.key_value() {
        let values = schema_of(value, at_top, seen)?;
        return Ok(json!({"type": "object", "additionalProperties": values}));
    }
    if let Some(object) = ty.as_object() {
        let name = object.name().to_owned();
        if seen.contains(&name) {
            return Err(format!(
                "the type \"{name}\" contains itself, so its schema would have no end"
            ));
        }
        seen.push(name);
        let mut properties = Map::new();
        for (name, field) in object.fields() {
            let key = field.key.as_deref().unwrap_or(name);
            properties.insert(key.to_owned(), schema_of(&field.ty, false, seen)?);
        }
        seen.pop();
        let mut schema = json!({"type": "object", "properties": properties});
        if object.is_open() {
            schema["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        return Ok(schema);
    }
    Ok(match ty {
        Type::Bool => json!({"type": "boolean"}),
        Type::Int | Type::Uint => json!({"type": "integer"}),
        Type::Double => json!({"type": "number"}),
        Type::String => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        _ if !at_top || ty.is_dyn() => open(),
        Type::Timestamp => {
            json!({"type": "string", "format": "date-time", "description": "Timestamp representing a creation time"})
        }
        // The words are upstream's, so that the definitions are the same to the letter.
        Type::Null => described("null type - any value allowed"),
        other => described(&format!("unknown CEL type: {other}")),
    })
}

/// Author-defined conditions.
pub(super) fn conditions(
    block: &Value,
    variables: &Variables,
) -> Result<Vec<Expression>, BuildError> {
    let root = "schema.status.conditions";
    let Some(entries) = block.as_array() else {
        let found = crate::simple_schema::json_kind(block);
        return Err(
            BuildError::new(format!("status.conditions must be a list, got {found}")).at(root),
        );
    };
    let mut sources = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{root}[{index}]");
        let Some(text) = entry.as_str() else {
            let message = format!("status.conditions[{index}] must be a CEL expression string");
            return Err(BuildError::new(message).at(path));
        };
        let source = Template::standalone(text).map_err(|error| {
            BuildError::new(format!("invalid conditions block: {error}, got {text:?}")).at(&path)
        })?;
        sources.push((path, source));
    }
    super::author_conditions::check_literals(&sources)?;
    let allowed = Allowed {
        names: variables.names(),
        omit: false,
        runtime: true,
    };
    let mut compiled = Vec::new();
    for (path, source) in &sources {
        let fail = |message: String| BuildError::new(message).at(path).in_expression(source);
        references(source, &allowed).map_err(fail)?;
        let expression = compile::compiled("", path, source, &variables.env)?;
        let ty = expression.result_type();
        let single = ty.element().unwrap_or(ty);
        if !single.is_dyn() && single.name() != "kro.run.Condition" {
            let message = format!(
                "condition expressions must return runtime.newCondition(...) or a list of them, got \"{ty}\""
            );
            return Err(fail(message));
        }
        compiled.push(expression);
    }
    Ok(compiled)
}
