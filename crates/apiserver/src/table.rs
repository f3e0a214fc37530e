//! Tables: what `kubectl get` prints.
//!
//! The columns of built-in kinds come from a generated table, their cells from crate `kinds`; a custom
//! resource brings both as JSON paths.

use jiff::Timestamp;
use model::{Status, object};
use serde_json::{Value, json};

use crate::catalog::Definition;
use crate::context::Context;
use crate::query::Query;
use crate::verbs::metadata_only;

/// What of its object each row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// `includeObject`.
    pub fn of(query: &Query) -> Result<Self, Status> {
        match query.get("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: \"{other}\": must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The words upstream's schema has for a name and a creation time.
pub const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
pub const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The columns of a resource.
fn columns(definition: &Definition) -> Value {
    if let Some(custom) = &definition.custom {
        return custom.columns();
    }
    match kinds::columns(
        &definition.gvr.group,
        &definition.gvr.version,
        &definition.gvr.resource,
    ) {
        Some(columns) => Value::Array(
            columns
                .iter()
                .map(|column| {
                    json!({
                        "name": column.name,
                        "type": column.kind,
                        "format": column.format,
                        "description": column.description,
                        "priority": column.priority,
                    })
                })
                .collect(),
        ),
        None => json!([
            {"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": CREATED, "priority": 0},
        ]),
    }
}

/// Whether a resource has only the columns any object has. Upstream's empty table of such a resource has
/// no rows at all, where that of any other has an empty list of them.
fn is_generic(definition: &Definition) -> bool {
    let gvr = &definition.gvr;
    definition.custom.is_none()
        && kinds::columns(&gvr.group, &gvr.version, &gvr.resource)
            .is_none_or(|columns| columns.len() == 2 && columns[1].name == "Created At")
}

fn cells(definition: &Definition, value: &Value, now: Timestamp) -> Vec<Value> {
    if let Some(custom) = &definition.custom {
        return custom.cells(value, now);
    }
    match definition.behaviour().cells {
        Some(cells) => cells(value, now),
        None => vec![
            json!(object::name(value)),
            json!(object::text(value, &["metadata", "creationTimestamp"])),
        ],
    }
}

fn row(
    definition: &Definition,
    version: &str,
    include: Include,
    value: Value,
    now: Timestamp,
) -> Value {
    let cells = cells(definition, &value, now);
    json!({"cells": cells, "object": included(include, version, value)})
}

/// What of an object its row carries.
fn included(include: Include, version: &str, value: Value) -> Value {
    match include {
        Include::None => Value::Null,
        Include::Metadata => metadata_only(&value, version),
        Include::Object => value,
    }
}

fn table(version: &str, metadata: Value, columns: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// A table of one object.
pub fn one(context: &Context, version: &str, value: Value) -> Result<Value, Status> {
    let include = Include::of(&context.query)?;
    let now = (context.state.options.clock)();
    let metadata = json!({"resourceVersion": object::resource_version(&value)});
    let rows = vec![row(&context.definition, version, include, value, now)];
    Ok(table(version, metadata, columns(&context.definition), rows))
}

/// A table of a Scale.
pub fn of_scale(context: &Context, version: &str, scale: Value) -> Result<Value, Status> {
    let include = Include::of(&context.query)?;
    let now = (context.state.options.clock)();
    let column = |name: &str, kind: &str, description: &str| json!({"name": name, "type": kind, "format": "", "description": description, "priority": 0});
    let columns = json!([
        column("Name", "string", NAME),
        column(
            "Desired",
            "integer",
            "replicas is the desired number of instances for the scaled object."
        ),
        column(
            "Available",
            "integer",
            "replicas is the actual number of observed instances of the scaled object."
        ),
        column("Age", "string", CREATED),
    ]);
    let created = object::text(&scale, &["metadata", "creationTimestamp"]);
    let age = created
        .parse::<Timestamp>()
        .map_or_else(|_| "<unknown>".to_owned(), |time| kinds::age(time, now));
    let number = |part: &str| object::number(&scale, &[part, "replicas"]).unwrap_or(0);
    let cells = json!([object::name(&scale), number("spec"), number("status"), age]);
    let metadata = json!({"resourceVersion": object::resource_version(&scale)});
    let object = included(include, version, scale);
    let rows = vec![json!({"cells": cells, "object": object})];
    Ok(table(version, metadata, columns, rows))
}

/// A table of a list.
pub fn many(
    context: &Context,
    version: &str,
    metadata: Value,
    items: Vec<Value>,
) -> Result<Value, Status> {
    let include = Include::of(&context.query)?;
    let now = (context.state.options.clock)();
    let rows: Vec<Value> = items
        .into_iter()
        .map(|item| row(&context.definition, version, include, item, now))
        .collect();
    let nothing = rows.is_empty() && is_generic(&context.definition);
    let mut table = table(version, metadata, columns(&context.definition), rows);
    if nothing {
        table["rows"] = Value::Null;
    }
    Ok(table)
}

/// A table of one object in a watch: only the first event names the columns.
pub fn event(
    definition: &Definition,
    version: &str,
    include: Include,
    value: Value,
    with_columns: bool,
    now: Timestamp,
) -> Value {
    let metadata = json!({"resourceVersion": object::resource_version(&value)});
    let columns = if with_columns {
        columns(definition)
    } else {
        json!(null)
    };
    table(
        version,
        metadata,
        columns,
        vec![row(definition, version, include, value, now)],
    )
}
