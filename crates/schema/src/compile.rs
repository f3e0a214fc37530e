//! From JSON schemas to [`Node`]s.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::node::{
    Additional, Field, GoField, Keywords, ListType, MapType, Node, Patch, Pattern, Schema, Special,
    ValueType,
};
use crate::{Error, MAX_DEPTH, formats};

/// Definitions that read and write themselves.
const SPECIAL: [(&str, Special); 10] = [
    ("meta.v1.Time", Special::Time),
    ("meta.v1.MicroTime", Special::MicroTime),
    ("api.resource.Quantity", Special::Quantity),
    ("intstr.IntOrString", Special::IntOrString),
    ("runtime.RawExtension", Special::Json),
    ("meta.v1.FieldsV1", Special::Json),
    ("apiextensions.v1.JSON", Special::Json),
    ("apiextensions.v1.JSONSchemaPropsOrArray", Special::SchemaOr),
    ("apiextensions.v1.JSONSchemaPropsOrBool", Special::SchemaOr),
    (
        "apiextensions.v1.JSONSchemaPropsOrStringArray",
        Special::SchemaOr,
    ),
];

pub(crate) fn structural(schema: &Value) -> Result<Schema, Error> {
    Compiler {
        path: Vec::new(),
        built_in: false,
    }
    .node(schema)
    .map(Schema::own)
}

pub(crate) fn custom_resource(schema: &Value, preserve_unknown: bool) -> Result<Schema, Error> {
    let mut node = Compiler {
        path: Vec::new(),
        built_in: false,
    }
    .node(schema)?;
    node.preserve_unknown |= preserve_unknown;
    for name in ["apiVersion", "kind"] {
        let string = Schema::own(Node {
            value_type: ValueType::String,
            ..Node::default()
        });
        node.properties
            .insert(name.to_owned(), Field::plain(string));
    }
    node.metadata_restrictions = node.properties.remove("metadata").map(|field| field.schema);
    node.properties
        .insert("metadata".to_owned(), Field::plain(Schema::object_meta()));
    node.embedded = true;
    Ok(Schema::own(node))
}

/// Compiles a generated definition, which cannot be wrong.
pub(crate) fn built_in(name: &'static str, schema: &Value) -> Node {
    let mut compiler = Compiler {
        path: Vec::new(),
        built_in: true,
    };
    let mut node = compiler
        .node(schema)
        .expect("generated definitions compile");
    node.go_name = Some(short_name(name));
    let special = SPECIAL.iter().find(|(suffix, _)| name.ends_with(suffix));
    node.special = special.map(|(_, special)| *special).unwrap_or_default();
    match node.special {
        Special::Json | Special::SchemaOr => node.preserve_unknown = true,
        Special::IntOrString => node.value_type = ValueType::IntOrString,
        _ => {}
    }
    node
}

/// `v1.Container` of `io.k8s.api.core.v1.Container`.
fn short_name(name: &'static str) -> &'static str {
    name.rmatch_indices('.')
        .nth(1)
        .map_or(name, |(at, _)| &name[at + 1..])
}

impl Field {
    fn plain(schema: Schema) -> Self {
        let default = schema.default.clone();
        Self {
            schema,
            patch: Patch::default(),
            map_type: None,
            default,
            go: None,
        }
    }
}

struct Compiler {
    path: Vec<String>,
    built_in: bool,
}

impl Compiler {
    fn error(&self, detail: impl Into<String>) -> Error {
        Error::Schema {
            path: self.path.join("."),
            detail: detail.into(),
        }
    }

    /// Compiles a schema below the current one.
    fn child(&mut self, step: &str, schema: &Value) -> Result<Schema, Error> {
        if self.path.len() >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        if let Some(found) = reference(schema)
            .and_then(Schema::definition)
            .filter(|_| self.built_in)
        {
            return Ok(found);
        }
        self.path.push(step.to_owned());
        let node = self.node(schema)?;
        self.path.pop();
        Ok(Schema::own(node))
    }

    fn node(&mut self, schema: &Value) -> Result<Node, Error> {
        let Value::Object(schema) = schema else {
            return Err(self.error("a schema must be an object"));
        };
        let preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
        let format = text(schema, "format");
        Ok(Node {
            value_type: self.value_type(schema)?,
            properties: self.properties(schema)?,
            additional: self.additional(schema)?,
            items: schema
                .get("items")
                .map(|items| self.child("items", items))
                .transpose()?,
            format: format
                .filter(|name| formats::is_known(name))
                .map(str::to_owned),
            required: strings(schema, "required"),
            nullable: flag(schema, "nullable"),
            default: schema.get("default").cloned(),
            list_type: match text(schema, "x-kubernetes-list-type") {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map,
                _ => ListType::Atomic,
            },
            map_keys: strings(schema, "x-kubernetes-list-map-keys"),
            map_type: map_type(schema).unwrap_or_default(),
            preserve_unknown,
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            rules: array(schema, "x-kubernetes-validations").to_vec(),
            keywords: if self.built_in {
                None
            } else {
                self.keywords(schema)?.map(Box::new)
            },
            ..Node::default()
        })
    }

    fn value_type(&self, schema: &Map<String, Value>) -> Result<ValueType, Error> {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Ok(ValueType::IntOrString);
        }
        match text(schema, "type") {
            None | Some("") => Ok(ValueType::Any),
            Some("object") => Ok(ValueType::Object),
            Some("array") => Ok(ValueType::Array),
            Some("string") => Ok(ValueType::String),
            Some("integer") => Ok(ValueType::Integer),
            Some("number") => Ok(ValueType::Number),
            Some("boolean") => Ok(ValueType::Boolean),
            Some(other) => Err(self.error(format!("unknown type {other:?}"))),
        }
    }

    fn properties(
        &mut self,
        schema: &Map<String, Value>,
    ) -> Result<BTreeMap<String, Field>, Error> {
        let Some(Value::Object(properties)) = schema.get("properties") else {
            return Ok(BTreeMap::new());
        };
        let mut fields = BTreeMap::new();
        for (name, property) in properties {
            let child = self.child(name, property)?;
            fields.insert(name.clone(), self.field(property, child));
        }
        Ok(fields)
    }

    fn field(&self, property: &Value, schema: Schema) -> Field {
        let Value::Object(members) = property else {
            return Field::plain(schema);
        };
        let strategy = text(members, "x-kubernetes-patch-strategy").unwrap_or_default();
        let has = |word: &str| strategy.split(',').any(|found| found == word);
        Field {
            patch: Patch {
                merge: has("merge"),
                replace: has("replace"),
                retain_keys: has("retainKeys"),
                merge_key: text(members, "x-kubernetes-patch-merge-key").map(str::to_owned),
            },
            map_type: map_type(members),
            default: members.get("default").cloned(),
            go: self.built_in.then(|| go_field(members)),
            schema,
        }
    }

    fn additional(&mut self, schema: &Map<String, Value>) -> Result<Additional, Error> {
        Ok(match schema.get("additionalProperties") {
            None => Additional::Unspecified,
            Some(Value::Bool(true)) => Additional::Any,
            Some(Value::Bool(false)) => Additional::Forbidden,
            Some(other) => Additional::Schema(self.child("*", other)?),
        })
    }

    fn keywords(&mut self, schema: &Map<String, Value>) -> Result<Option<Keywords>, Error> {
        const NAMES: [&str; 15] = [
            "enum",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
        ];
        if !NAMES.iter().any(|name| schema.contains_key(*name)) && !schema.contains_key("not") {
            return Ok(None);
        }
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let count = |name: &str| schema.get(name).and_then(Value::as_i64);
        let pattern = text(schema, "pattern").filter(|pattern| !pattern.is_empty());
        Ok(Some(Keywords {
            enumeration: array(schema, "enum").to_vec(),
            minimum: number("minimum"),
            exclusive_minimum: flag(schema, "exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag(schema, "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: pattern.map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag(schema, "uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: self.list(schema, "allOf")?,
            any_of: self.list(schema, "anyOf")?,
            one_of: self.list(schema, "oneOf")?,
            not: schema
                .get("not")
                .map(|not| self.child("not", not))
                .transpose()?,
        }))
    }

    fn list(&mut self, schema: &Map<String, Value>, name: &str) -> Result<Vec<Schema>, Error> {
        array(schema, name)
            .iter()
            .map(|schema| self.child(name, schema))
            .collect()
    }
}

/// The name of the definition a schema refers to, directly or as its only `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema
        .get("$ref")
        .or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    direct.as_str()
}

fn go_field(property: &Map<String, Value>) -> GoField {
    let marks = text(property, "x-go").unwrap_or_default();
    let (marks, type_name) = marks.split_once('=').unwrap_or((marks, ""));
    let named = type_name.strip_prefix('*').unwrap_or(type_name);
    GoField {
        pointer: marks.contains('*'),
        always: marks.contains('!'),
        omit_zero: marks.contains('z'),
        type_name: if named.is_empty() {
            go_type(property)
        } else {
            named.to_owned()
        },
    }
}

/// The Go type an OpenAPI type stands for where no fact says otherwise.
fn go_type(schema: &Map<String, Value>) -> String {
    let referred = schema
        .get("$ref")
        .or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))
        .and_then(Value::as_str);
    if let Some(name) = referred {
        return name
            .rmatch_indices('.')
            .nth(1)
            .map_or(name, |(at, _)| &name[at + 1..])
            .to_owned();
    }
    let inner = |name: &str| schema.get(name).and_then(Value::as_object).map(go_type);
    match (text(schema, "type"), text(schema, "format")) {
        (Some("array"), _) => format!("[]{}", inner("items").unwrap_or_default()),
        (Some("object"), _) => {
            format!(
                "map[string]{}",
                inner("additionalProperties").unwrap_or_default()
            )
        }
        (Some("integer"), format) => format.unwrap_or("int64").to_owned(),
        (Some("boolean"), _) => "bool".to_owned(),
        (Some("number"), _) => "float64".to_owned(),
        (Some("string"), Some("byte")) => "[]uint8".to_owned(),
        (other, _) => other.unwrap_or_default().to_owned(),
    }
}

fn map_type(schema: &Map<String, Value>) -> Option<MapType> {
    match text(schema, "x-kubernetes-map-type")? {
        "atomic" => Some(MapType::Atomic),
        _ => Some(MapType::Granular),
    }
}

fn text<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn flag(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn array<'a>(schema: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    schema
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn strings(schema: &Map<String, Value>, name: &str) -> Vec<String> {
    array(schema, name)
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
