//! Schemas to CEL types.
//!
//! [`declare`] reads an `OpenAPI` or structural schema as a JSON document and makes the type expressions see: objects
//! with fields, lists, maps. What a schema leaves open is `dyn`. Object types are named by their path below the name
//! of the whole, `@idx` for elements of lists and `@elem` for values of maps.

use std::sync::Arc;

use cel::{Field, ListKind, ListType, ObjectType, Type};
use serde_json::{Map, Value as Json};

/// Finds the schema behind a `$ref`.
pub type Resolver<'r> = dyn Fn(&str) -> Option<Arc<Json>> + 'r;

/// A resolver for schemas without references.
#[must_use]
pub fn no_refs(_: &str) -> Option<Arc<Json>> {
    None
}

/// A schema that has no CEL type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A reference leads nowhere.
    #[error("{path}: the reference '{reference}' leads nowhere")]
    UnknownReference {
        /// Where it stands.
        path: String,
        /// The reference.
        reference: String,
    },
    /// It nests deeper than allowed.
    #[error("{path}: the schema nests deeper than {limit} levels")]
    TooDeep {
        /// Where.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// It has more parts than allowed.
    #[error("the schema has more than {limit} parts")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// Nesting of a schema.
const DEPTH_MAX: usize = 100;
/// Properties, items and values of a schema, references followed.
const PARTS_MAX: usize = 200_000;

/// The type of values that follow `schema`.
///
/// ```
/// let schema = serde_json::json!({"type": "object", "properties": {
///     "replicas": {"type": "integer"},
///     "ports": {"type": "array", "items": {"x-kubernetes-int-or-string": true}},
///     "labels": {"type": "object", "additionalProperties": {"type": "string"}},
/// }});
/// let ty = cel_kube::declare("Spec", &schema, &cel_kube::no_refs)?;
/// let spec = ty.as_object().expect("a schema with properties is an object");
/// assert_eq!(spec.field_type("replicas").map(ToString::to_string).as_deref(), Some("int"));
/// assert_eq!(spec.field_type("ports").map(ToString::to_string).as_deref(), Some("list(dyn)"));
/// assert_eq!(spec.field_type("labels").map(ToString::to_string).as_deref(), Some("map(string, string)"));
/// # Ok::<(), cel_kube::SchemaError>(())
/// ```
pub fn declare(name: &str, schema: &Json, resolver: &Resolver<'_>) -> Result<Type, SchemaError> {
    let mut declaring = Declaring {
        resolver,
        following: Vec::new(),
        depth: 0,
        parts: 0,
    };
    Ok(declaring.ty(name, schema)?.unwrap_or(Type::Dyn))
}

/// The type of whole objects that follow `schema`, as rules of custom resources see them: with `apiVersion`, `kind`
/// and, of the metadata, `name` and `generateName`, whatever the schema says of them.
pub fn declare_resource(
    name: &str,
    schema: &Json,
    resolver: &Resolver<'_>,
) -> Result<Type, SchemaError> {
    Ok(match declare(name, schema, resolver)? {
        Type::Object(object) => Type::object(with_object_meta((*object).clone(), name)),
        other => other,
    })
}

/// The metadata rules may read.
fn object_meta(path: &str) -> Type {
    Type::object(
        ObjectType::new(format!("{path}.metadata"))
            .field("name", Type::String)
            .field("generateName", Type::String),
    )
}

fn with_object_meta(object: ObjectType, path: &str) -> ObjectType {
    object
        .field("apiVersion", Type::String)
        .field("kind", Type::String)
        .field("metadata", object_meta(path))
}

struct Declaring<'r> {
    resolver: &'r Resolver<'r>,
    /// The references being followed: one that comes up again is recursive.
    following: Vec<String>,
    depth: usize,
    parts: usize,
}

type Declared = Result<Option<Type>, SchemaError>;

impl Declaring<'_> {
    /// The type of a schema; `None` if nothing can be said and the field is not shown.
    fn ty(&mut self, path: &str, schema: &Json) -> Declared {
        self.depth += 1;
        self.parts += 1;
        if self.depth > DEPTH_MAX {
            return Err(SchemaError::TooDeep {
                path: path.to_owned(),
                limit: DEPTH_MAX,
            });
        }
        if self.parts > PARTS_MAX {
            return Err(SchemaError::TooLarge { limit: PARTS_MAX });
        }
        let ty = self.ty_below(path, schema);
        self.depth -= 1;
        ty
    }

    fn ty_below(&mut self, path: &str, schema: &Json) -> Declared {
        if let Some(reference) = reference_of(schema) {
            return self.follow(path, reference);
        }
        let format = schema["format"].as_str().unwrap_or_default();
        if schema["x-kubernetes-int-or-string"] == true || format == "int-or-string" {
            return Ok(Some(Type::Dyn));
        }
        let is_embedded = schema["x-kubernetes-embedded-resource"] == true;
        let properties = schema["properties"].as_object();
        match schema["type"].as_str() {
            Some("string") => Ok(Some(match format {
                "byte" => Type::Bytes,
                "date" | "date-time" => Type::Timestamp,
                "duration" => Type::Duration,
                _ => Type::String,
            })),
            Some("integer") => Ok(Some(Type::Int)),
            Some("number") => Ok(Some(Type::Double)),
            Some("boolean") => Ok(Some(Type::Bool)),
            Some("array") => self.list(path, schema),
            Some("object") | None if properties.is_some() || is_embedded => {
                let empty = Map::new();
                self.object(path, schema, properties.unwrap_or(&empty), is_embedded)
            }
            Some("object") => self.map(path, schema),
            _ => Ok(Some(Type::Dyn)),
        }
    }

    fn follow(&mut self, path: &str, reference: &str) -> Declared {
        if self.following.iter().any(|followed| followed == reference) {
            // A type that contains itself: what is below the second time is not checked.
            return Ok(Some(Type::Dyn));
        }
        let Some(schema) = (self.resolver)(reference) else {
            return Err(SchemaError::UnknownReference {
                path: path.to_owned(),
                reference: reference.to_owned(),
            });
        };
        self.following.push(reference.to_owned());
        let ty = self.ty(path, &schema);
        self.following.pop();
        ty
    }

    fn list(&mut self, path: &str, schema: &Json) -> Declared {
        let Some(items) = schema.get("items") else {
            return Ok(None);
        };
        let Some(element) = self.ty(&format!("{path}.@idx"), items)? else {
            return Ok(None);
        };
        let keys = || {
            let keys = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            keys.iter()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect()
        };
        let kind = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(keys()),
            _ => ListKind::Atomic,
        };
        Ok(Some(Type::List(Arc::new(ListType { element, kind }))))
    }

    fn map(&mut self, path: &str, schema: &Json) -> Declared {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return Ok(Some(Type::Dyn));
        }
        let value = match &schema["additionalProperties"] {
            Json::Object(values) if !values.is_empty() => {
                self.ty(&format!("{path}.@elem"), &schema["additionalProperties"])?
            }
            _ => Some(Type::Dyn),
        };
        Ok(value.map(|value| Type::map(Type::String, value)))
    }

    fn object(
        &mut self,
        path: &str,
        schema: &Json,
        properties: &Map<String, Json>,
        is_embedded: bool,
    ) -> Declared {
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let mut object = ObjectType::new(path);
        for (key, property) in properties {
            let Some(name) = escape(key) else { continue };
            let Some(ty) = self.ty(&format!("{path}.{key}"), property)? else {
                continue;
            };
            let field = Field {
                ty,
                required: required
                    .iter()
                    .any(|required| required.as_str() == Some(key)),
                nullable: property["nullable"] == true,
                key: (name != *key).then(|| Arc::from(key.as_str())),
            };
            object = object.with_field(name, field);
        }
        if is_embedded {
            object = with_object_meta(object, path);
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            object = object.open();
        }
        Ok(Some(Type::object(object)))
    }
}

/// The `$ref` of a schema, alone or wrapped in `allOf` to stand beside a default.
fn reference_of(schema: &Json) -> Option<&str> {
    if let Some(reference) = schema["$ref"].as_str() {
        return Some(reference);
    }
    match schema["allOf"].as_array().map(Vec::as_slice) {
        Some([only]) if schema.get("type").is_none() => only["$ref"].as_str(),
        _ => None,
    }
}

/// The name by which expressions know a property, by Kubernetes' rules: `a-b` is `a__dash__b`, `namespace` is
/// `__namespace__`. `None` for properties that cannot be named.
///
/// ```
/// assert_eq!(cel_kube::escape("app.kubernetes.io/name").as_deref(), Some("app__dot__kubernetes__dot__io__slash__name"));
/// assert_eq!(cel_kube::escape("a__b").as_deref(), Some("a__underscores__b"));
/// assert_eq!(cel_kube::escape("1st"), None);
/// ```
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    let first = name.bytes().next()?;
    if first.is_ascii_digit() {
        return None;
    }
    if cel::RESERVED_WORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '_' if characters.peek() == Some(&'_') => {
                characters.next();
                out.push_str("__underscores__");
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            _ if character.is_ascii_alphanumeric() || character == '_' => out.push(character),
            _ => return None,
        }
    }
    Some(out)
}
