//! What Go's JSON decoder does to a built-in object: check types, drop what has no field.
//!
//! The decoder's words are kept: the value's JSON type, the innermost struct, the names of all
//! fields on the way (elements and map keys leave no trace), the Go type.

use model::Quantity;
use serde_json::{Map, Number, Value};

use crate::node::{Additional, Node, Schema, Special, ValueType};
use crate::{Error, MAX_DEPTH, time};

pub(crate) const SCHEMA_PROPS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Checks the types of a built-in object as Go's decoder would, drops members without a field and
/// nulls, and brings times and quantities into their usual form. The error is the first one found.
pub fn decode(schema: &Schema, object: &mut Value) -> Result<(), Error> {
    let mut decoder = Decoder {
        fields: Vec::new(),
        structs: Vec::new(),
        depth: 0,
    };
    decoder.value(schema, schema.go_name.unwrap_or_default(), object)
}

/// The paths of members that `schema` has no field for, such as `spec.list[0].u`.
pub fn unknown_fields(schema: &Schema, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(schema, object, &mut String::new(), 0, &mut found);
    found
}

fn collect_unknown(
    node: &Node,
    value: &Value,
    path: &mut String,
    depth: usize,
    found: &mut Vec<String>,
) {
    if depth > MAX_DEPTH || node.special != Special::None {
        return;
    }
    let length = path.len();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                push_name(path, name);
                match node.member(name) {
                    Some(schema) => collect_unknown(schema, member, path, depth + 1, found),
                    None if node.keeps_unknown() => {}
                    None => found.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                push_index(path, index);
                collect_unknown(schema, item, path, depth + 1, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

pub(crate) fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push('[');
    path.push_str(&index.to_string());
    path.push(']');
}

/// Whether a node stands for a Go struct, as opposed to a map.
pub(crate) fn is_struct(node: &Node) -> bool {
    node.special == Special::None
        && node.value_type == ValueType::Object
        && !matches!(node.additional, Additional::Schema(_))
}

struct Decoder<'a> {
    fields: Vec<&'a str>,
    structs: Vec<&'a str>,
    depth: usize,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, node: &'a Node, go_type: &str, value: &mut Value) -> Result<(), Error> {
        if self.depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        self.depth += 1;
        let outcome = match node.special {
            Special::None => self.plain(node, go_type, value),
            Special::Json => Ok(()),
            Special::SchemaOr => schema_or(value, self.depth),
            Special::Time => decode_time(value, time::Layout::Seconds),
            Special::MicroTime => decode_time(value, time::Layout::Micros),
            Special::Quantity => decode_quantity(value),
            Special::IntOrString => decode_int_or_string(value),
        };
        self.depth -= 1;
        outcome
    }

    fn plain(&mut self, node: &'a Node, go_type: &str, value: &mut Value) -> Result<(), Error> {
        match (node.value_type, value) {
            (ValueType::Any, _) => Ok(()),
            (ValueType::Object, Value::Object(members)) => match &node.additional {
                Additional::Schema(schema) => self.map(schema, go_type, members),
                _ => self.structure(node, members),
            },
            (ValueType::Array, Value::Array(items)) => self.list(node, go_type, items),
            (ValueType::String, Value::String(text)) if node.format.as_deref() == Some("byte") => {
                decode_bytes(text)
            }
            (ValueType::String, Value::String(_)) | (ValueType::Boolean, Value::Bool(_)) => Ok(()),
            (ValueType::Number, Value::Number(_)) => Ok(()),
            (ValueType::Integer, Value::Number(number)) => {
                if fits(number, node.format.as_deref()) {
                    return Ok(());
                }
                Err(self.mismatch(&format!("number {number}"), go_type))
            }
            (_, value) => Err(self.mismatch(json_type(value), go_type)),
        }
    }

    fn structure(&mut self, node: &'a Node, members: &mut Map<String, Value>) -> Result<(), Error> {
        members.retain(|name, value| !value.is_null() && node.properties.contains_key(name));
        self.structs.push(node.go_name.unwrap_or_default());
        for (name, value) in members.iter_mut() {
            let Some((name, field)) = node.properties.get_key_value(name) else {
                continue;
            };
            self.fields.push(name);
            let go_type = field.go.as_ref().map_or("", |go| go.type_name.as_str());
            self.value(&field.schema, go_type, value)?;
            self.fields.pop();
        }
        self.structs.pop();
        Ok(())
    }

    fn map(
        &mut self,
        schema: &'a Schema,
        go_type: &str,
        members: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        let element = go_type
            .strip_prefix("map[")
            .and_then(|rest| rest.split_once(']'));
        let element = element_type(schema, element.map_or("", |(_, element)| element));
        for value in members.values_mut() {
            // A null is no value: the entry gets its type's zero.
            if value.is_null() {
                *value = zero(schema);
            } else {
                self.value(schema, &element, value)?;
            }
        }
        Ok(())
    }

    fn list(&mut self, node: &'a Node, go_type: &str, items: &mut [Value]) -> Result<(), Error> {
        let Some(schema) = &node.items else {
            return Ok(());
        };
        let element = element_type(schema, go_type.strip_prefix("[]").unwrap_or(""));
        for value in items {
            if value.is_null() {
                *value = zero(schema);
            } else {
                self.value(schema, &element, value)?;
            }
        }
        Ok(())
    }

    fn mismatch(&self, found: &str, go_type: &str) -> Error {
        let Some(structure) = self.structs.last() else {
            return Error::Decode(format!(
                "json: cannot unmarshal {found} into Go value of type {go_type}"
            ));
        };
        let structure = structure.rsplit('.').next().unwrap_or(structure);
        let fields = self.fields.join(".");
        Error::Decode(format!(
            "json: cannot unmarshal {found} into Go struct field {structure}.{fields} of type {go_type}"
        ))
    }
}

/// The Go type of elements: what the container's type says, or else the definition's own name.
fn element_type(schema: &Node, told: &str) -> String {
    if !told.is_empty() {
        return told.trim_start_matches('*').to_owned();
    }
    let by_type = match schema.value_type {
        ValueType::String => "string",
        ValueType::Integer => schema.format.as_deref().unwrap_or("int64"),
        ValueType::Boolean => "bool",
        _ => "",
    };
    schema.go_name.unwrap_or(by_type).to_owned()
}

/// The zero value of a type, as it stands before encoding.
pub(crate) fn zero(node: &Node) -> Value {
    match (node.special, node.value_type) {
        (Special::Quantity, _) => Value::from("0"),
        (Special::IntOrString, _) => Value::from(0),
        (Special::None, ValueType::String) => Value::from(""),
        (Special::None, ValueType::Integer | ValueType::Number) => Value::from(0),
        (Special::None, ValueType::Boolean) => Value::from(false),
        (Special::None, ValueType::Object) if is_struct(node) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn fits(number: &Number, format: Option<&str>) -> bool {
    match number.as_i64() {
        Some(value) if format == Some("int32") => i32::try_from(value).is_ok(),
        found => found.is_some(),
    }
}

fn go_value_error(value: &Value, go_type: &str) -> Error {
    let found = json_type(value);
    Error::Decode(format!(
        "json: cannot unmarshal {found} into Go value of type {go_type}"
    ))
}

fn decode_time(value: &mut Value, layout: time::Layout) -> Result<(), Error> {
    let Value::String(text) = value else {
        return Err(go_value_error(value, "string"));
    };
    // The usual form passes untouched.
    if !time::is_canonical(text, layout) {
        *text = time::parse(text, layout).map_err(Error::Decode)?;
    }
    Ok(())
}

fn decode_quantity(value: &mut Value) -> Result<(), Error> {
    let text = match *value {
        Value::String(ref text) => text.trim().to_owned(),
        ref other => other.to_string(),
    };
    let quantity: Quantity = text
        .parse()
        .map_err(|error: model::Error| Error::Decode(error.to_string()))?;
    *value = Value::from(quantity.to_string());
    Ok(())
}

fn decode_int_or_string(value: &mut Value) -> Result<(), Error> {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(number) if fits(number, Some("int32")) => Ok(()),
        Value::Number(number) => Err(Error::Decode(format!(
            "json: cannot unmarshal number {number} into Go value of type int32"
        ))),
        other => Err(go_value_error(other, "int32")),
    }
}

/// Go reads standard base64 and overlooks line ends; the encoder writes it without them.
fn decode_bytes(text: &mut String) -> Result<(), Error> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    if text.contains(['\r', '\n']) {
        text.retain(|c| c != '\r' && c != '\n');
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) => {
            use base64::DecodeError::{InvalidByte, InvalidLastSymbol};
            let at = match error {
                InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
                // Go reports the start of an unfinished group of four.
                _ => text.len() / 4 * 4,
            };
            Err(Error::Decode(format!(
                "illegal base64 data at input byte {at}"
            )))
        }
    }
}

/// A JSON schema inside `items`, `additionalProperties` or `dependencies`; the looser forms those
/// allow (a boolean, a list of schemas or strings) are kept.
fn schema_or(value: &mut Value, depth: usize) -> Result<(), Error> {
    let schema = Schema::definition(SCHEMA_PROPS).expect("generated tables hold JSONSchemaProps");
    let mut decoder = Decoder {
        fields: Vec::new(),
        structs: Vec::new(),
        depth,
    };
    match value {
        Value::Object(_) => decoder.value(&schema, "", value),
        Value::Array(items) => items
            .iter_mut()
            .filter(|item| item.is_object())
            .try_for_each(|item| decoder.value(&schema, "", item)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(group: &str, kind: &str, mut object: Value) -> Result<Value, String> {
        let schema = Schema::built_in(group, "v1", kind).expect("built in");
        decode(&schema, &mut object)
            .map(|()| object)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn types_are_checked_in_the_words_of_gos_decoder() {
        let check = |kind: &str, object: Value, expect: &str| {
            let group = if kind == "Deployment" { "apps" } else { "" };
            assert_eq!(decoded(group, kind, object), Err(expect.to_owned()));
        };
        check(
            "ConfigMap",
            json!({"data": {"a": 1}}),
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        );
        check(
            "ConfigMap",
            json!({"data": ["a"]}),
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        );
        check(
            "ConfigMap",
            json!({"metadata": "x"}),
            "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        );
        check(
            "ConfigMap",
            json!({"metadata": {"labels": {"a": true}}}),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        );
        check(
            "Secret",
            json!({"data": {"a": "***"}}),
            "illegal base64 data at input byte 0",
        );
        check(
            "PodTemplate",
            json!({"template": {"spec": {"containers": "x"}}}),
            "json: cannot unmarshal string into Go struct field PodSpec.template.spec.containers of type []v1.Container",
        );
        check(
            "Deployment",
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"ports": [{"protocol": 5}]}]}}),
            "json: cannot unmarshal number into Go struct field ContainerPort.spec.containers.ports.protocol of type v1.Protocol",
        );
    }

    #[test]
    fn unknown_members_and_nulls_are_dropped_and_quantities_tidied() {
        let pod = json!({"spec": {"nope": 1, "nodeName": null, "containers": [
            {"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}]}});
        let expect = json!({"spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
        assert_eq!(decoded("", "Pod", pod), Ok(expect));
        assert_eq!(
            decoded("", "ConfigMap", json!({"data": {"a": null}})),
            Ok(json!({"data": {"a": ""}}))
        );
    }

    #[test]
    fn unknown_fields_are_listed_by_path() {
        let schema = Schema::built_in("apps", "v1", "Deployment").expect("built in");
        let object = json!({"Data": 1, "metadata": {"labels": {"a": "b"}, "nope": 1},
            "spec": {"template": {"spec": {"containers": [{"u": 1}]}}}});
        assert_eq!(
            unknown_fields(&schema, &object),
            [
                "Data",
                "metadata.nope",
                "spec.template.spec.containers[0].u"
            ]
        );
    }
}
