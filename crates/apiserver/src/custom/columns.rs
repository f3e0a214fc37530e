//! The printer columns of a custom resource.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::table::{CREATED, NAME};

/// One column.
pub struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    /// Where its cells come from; none for the object's name.
    path: Option<JsonPath>,
}

/// The columns of a version: the name, and the author's or else the age. As upstream, paths that do not
/// parse make all of the author's columns void.
pub fn of_version(version: &Value) -> Vec<Column> {
    let own = object::list(version, &["additionalPrinterColumns"]);
    match columns(own) {
        Ok(columns) => columns,
        Err(why) => {
            tracing::info!(
                why,
                "printer columns do not parse; the default ones are used"
            );
            columns(&[]).unwrap_or_default()
        }
    }
}

fn columns(own: &[Value]) -> Result<Vec<Column>, String> {
    let mut columns = vec![Column {
        name: "Name".to_owned(),
        kind: "string".to_owned(),
        format: "name".to_owned(),
        description: NAME.to_owned(),
        priority: 0,
        path: None,
    }];
    let age = json!({
        "name": "Age",
        "type": "date",
        "jsonPath": ".metadata.creationTimestamp",
        "description": CREATED,
    });
    let fallback = [age];
    let wanted = if own.is_empty() { &fallback[..] } else { own };
    for column in wanted {
        let text = |field: &str| object::text(column, &[field]).to_owned();
        let path = text("jsonPath");
        columns.push(Column {
            path: Some(JsonPath::parse(&path).map_err(|why| format!("column {path}: {why}"))?),
            description: match text("description") {
                none if none.is_empty() => {
                    format!("Custom resource definition column (in JSONPath format): {path}")
                }
                own => own,
            },
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            priority: object::number(column, &["priority"]).unwrap_or(0),
        });
    }
    Ok(columns)
}

/// The columns as a table names them.
pub fn describe(columns: &[Column]) -> Value {
    let describe = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    Value::Array(columns.iter().map(describe).collect())
}

/// The cells of an object's row.
pub fn cells(columns: &[Column], value: &Value, now: Timestamp) -> Vec<Value> {
    columns
        .iter()
        .map(|column| cell(column, value, now))
        .collect()
}

fn cell(column: &Column, value: &Value, now: Timestamp) -> Value {
    let Some(path) = &column.path else {
        return json!(object::name(value));
    };
    let found = path.find(value);
    let Some(first) = found.first().filter(|first| !first.is_null()) else {
        return Value::Null;
    };
    match column.kind.as_str() {
        "integer" => first
            .as_i64()
            .or_else(|| first.as_f64().map(|n| n as i64))
            .map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        "date" => first
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok())
            .map_or_else(|| json!("<invalid>"), |time| json!(kinds::age(time, now))),
        _ => json!(plain(first)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
