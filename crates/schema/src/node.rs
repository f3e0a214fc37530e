//! The compiled form of a schema: a tree of [`Node`]s behind cheap handles.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, OnceLock};

use regex::Regex;
use serde_json::Value;

use crate::built_in::Definition;
use crate::{Error, built_in, compile};

/// A handle on a compiled schema, cheap to clone and to share. It dereferences to its [`Node`];
/// for a built-in type the node is parsed at the first look, which is also how types may contain
/// themselves.
#[derive(Clone)]
pub struct Schema(Handle);

#[derive(Clone)]
enum Handle {
    Own(Arc<Node>),
    BuiltIn(&'static Definition),
}

/// The JSON type a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ValueType {
    /// No type given: anything.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
    /// `x-kubernetes-int-or-string`
    IntOrString,
}

/// Built-in types that are not what their OpenAPI type says, because they (un)marshal themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Special {
    /// Nothing special.
    #[default]
    None,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with exactly six fractional digits.
    MicroTime,
    /// A quantity: a string, or a number that is read as one.
    Quantity,
    /// An integer or a string.
    IntOrString,
    /// Any JSON, kept as it is.
    Json,
    /// A JSON schema, or something simpler in its place (a boolean, a list).
    SchemaOr,
}

/// What members an object may have besides its properties.
#[derive(Debug, Clone, Default)]
pub enum Additional {
    /// Nothing was said: unknown members are pruned, not forbidden.
    #[default]
    Unspecified,
    /// `additionalProperties: true`
    Any,
    /// `additionalProperties: false`
    Forbidden,
    /// Members with values of this schema.
    Schema(Schema),
}

/// How the elements of a list relate when lists are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ListType {
    /// The list is replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each of which stands at most once.
    Set,
    /// Objects, told apart by their key fields.
    Map,
}

/// Whether an object is merged member by member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MapType {
    /// Member by member.
    #[default]
    Granular,
    /// As a whole.
    Atomic,
}

/// What strategic merge patch is told about a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    /// `x-kubernetes-patch-strategy` has `merge`.
    pub merge: bool,
    /// `x-kubernetes-patch-strategy` has `replace`.
    pub replace: bool,
    /// `x-kubernetes-patch-strategy` has `retainKeys`.
    pub retain_keys: bool,
    /// `x-kubernetes-patch-merge-key`
    pub merge_key: Option<String>,
}

/// What the Go struct field behind a property of a built-in type is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GoField {
    /// Absent and zero are different things.
    pub pointer: bool,
    /// Written even when empty: no `omitempty`.
    pub always: bool,
    /// A struct that is left out when zero.
    pub omit_zero: bool,
    /// The Go type as error messages name it.
    pub type_name: String,
}

/// A property of an object.
#[derive(Debug, Clone)]
pub struct Field {
    /// The schema of its value.
    pub schema: Schema,
    /// What strategic merge patch is told.
    pub patch: Patch,
    /// Overrides the map type of the schema referred to.
    pub map_type: Option<MapType>,
    /// The default given beside a reference (or in the schema itself).
    pub default: Option<Value>,
    /// Go's view; only of built-in types.
    pub go: Option<GoField>,
}

/// One level of a schema.
#[derive(Debug, Default)]
pub struct Node {
    /// The type values must have.
    pub value_type: ValueType,
    /// Types with their own reading and writing.
    pub special: Special,
    /// The Go type's name of a built-in definition, such as `v1.Container`.
    pub go_name: Option<&'static str>,
    /// `format`, when upstream knows it.
    pub format: Option<String>,
    /// Properties by name.
    pub properties: BTreeMap<String, Field>,
    /// Other members.
    pub additional: Additional,
    /// The schema of elements.
    pub items: Option<Schema>,
    /// `required`
    pub required: Vec<String>,
    /// `nullable`
    pub nullable: bool,
    /// `default`
    pub default: Option<Value>,
    /// `x-kubernetes-list-type`
    pub list_type: ListType,
    /// `x-kubernetes-list-map-keys`
    pub map_keys: Vec<String>,
    /// `x-kubernetes-map-type`
    pub map_type: MapType,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// What the schema of a custom resource says about `metadata`: only restrictions of values
    /// count, its fields are those of every object.
    pub metadata_restrictions: Option<Schema>,
    /// `x-kubernetes-validations`, as written.
    pub rules: Vec<Value>,
    /// Restrictions on values; most nodes have none.
    pub keywords: Option<Box<Keywords>>,
}

/// The restrictions of JSON schema on values.
#[derive(Debug, Default)]
pub struct Keywords {
    /// `enum`
    pub enumeration: Vec<Value>,
    /// `minimum`
    pub minimum: Option<f64>,
    /// `exclusiveMinimum`
    pub exclusive_minimum: bool,
    /// `maximum`
    pub maximum: Option<f64>,
    /// `exclusiveMaximum`
    pub exclusive_maximum: bool,
    /// `multipleOf`
    pub multiple_of: Option<f64>,
    /// `minLength`, in characters
    pub min_length: Option<i64>,
    /// `maxLength`, in characters
    pub max_length: Option<i64>,
    /// `pattern`
    pub pattern: Option<Pattern>,
    /// `minItems`
    pub min_items: Option<i64>,
    /// `maxItems`
    pub max_items: Option<i64>,
    /// `uniqueItems`
    pub unique_items: bool,
    /// `minProperties`
    pub min_properties: Option<i64>,
    /// `maxProperties`
    pub max_properties: Option<i64>,
    /// `allOf`
    pub all_of: Vec<Schema>,
    /// `anyOf`
    pub any_of: Vec<Schema>,
    /// `oneOf`
    pub one_of: Vec<Schema>,
    /// `not`
    pub not: Option<Schema>,
}

/// A pattern with its expression, compiled when first needed.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The expression; `None` when it is none.
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| Regex::new(&self.text).ok())
            .as_ref()
    }
}

impl Schema {
    /// The schema of a built-in kind.
    pub fn built_in(group: &str, version: &str, kind: &str) -> Option<Self> {
        built_in::by_kind(group, version, kind).map(|found| Self(Handle::BuiltIn(found)))
    }

    /// A built-in definition by its OpenAPI name, such as `io.k8s.api.core.v1.Container`.
    pub fn definition(name: &str) -> Option<Self> {
        built_in::by_name(name).map(|found| Self(Handle::BuiltIn(found)))
    }

    /// The schema of every object's metadata.
    pub fn object_meta() -> Self {
        Self::definition(built_in::OBJECT_META).expect("generated tables hold ObjectMeta")
    }

    /// Accepts and keeps everything.
    pub fn any() -> Self {
        static ANY: LazyLock<Schema> = LazyLock::new(|| {
            Schema::own(Node {
                preserve_unknown: true,
                ..Node::default()
            })
        });
        ANY.clone()
    }

    /// Compiles a structural schema.
    pub fn from_structural(schema: &Value) -> Result<Self, Error> {
        compile::structural(schema)
    }

    /// Compiles the schema of a custom resource: `apiVersion`, `kind` and `metadata` are those of
    /// every object, whatever the schema says about them.
    pub fn custom_resource(schema: &Value, preserve_unknown_fields: bool) -> Result<Self, Error> {
        compile::custom_resource(schema, preserve_unknown_fields)
    }

    pub(crate) fn own(node: Node) -> Self {
        Self(Handle::Own(Arc::new(node)))
    }

    /// Whether both handles lead to the same schema.
    pub fn same(&self, other: &Self) -> bool {
        let (one, other): (&Node, &Node) = (self, other);
        std::ptr::eq(one, other)
    }
}

impl Deref for Schema {
    type Target = Node;

    fn deref(&self) -> &Node {
        match &self.0 {
            Handle::Own(node) => node,
            Handle::BuiltIn(definition) => definition.node(),
        }
    }
}

/// Built-in types print as their name: they may contain themselves.
impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Handle::Own(node) => node.fmt(f),
            Handle::BuiltIn(definition) => f.write_str(definition.name),
        }
    }
}

impl Node {
    /// The schema of member `name`: a property's, or that of other members.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(field), _) => Some(&field.schema),
            (None, Additional::Schema(schema)) => Some(schema),
            (None, _) => None,
        }
    }

    /// Whether members without a schema are kept.
    pub fn keeps_unknown(&self) -> bool {
        self.preserve_unknown || matches!(self.additional, Additional::Any)
    }
}
