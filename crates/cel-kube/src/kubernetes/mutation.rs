//! What mutating admission policies make: `[JSONPatch{op: 'add', path: '/spec/x', value: 1}]` and `Object{spec:
//! Object.spec{replicas: 1}}`.

use std::sync::Arc;

use cel::{Function, Library, ObjectType, Type, TypeProvider, Value};

use super::{text, walked};

/// The type of one operation: `JSONPatch`.
pub fn json_patch_type() -> Type {
    Type::object(
        ObjectType::new("JSONPatch")
            .field("op", Type::String)
            .field("path", Type::String)
            .field("from", Type::String)
            .field("value", Type::Dyn),
    )
}

/// JSON patches: their type, and `jsonpatch.escapeKey`.
///
/// ```
/// let env = cel_kube::kubernetes_env().extend().library(cel_kube::json_patch_library()).build()?;
/// let program = env.compile(
///     "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]",
/// )?;
/// let patch = program.eval(&cel::Activation::new())?.to_json(cel::JsonOptions::default())?;
/// assert_eq!(patch, serde_json::json!([{"op": "add", "path": "/metadata/labels/a~1b", "value": "c"}]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn json_patch_library() -> Library {
    Library::new("kubernetes.jsonpatch")
        .named_type(json_patch_type())
        .function(
            Function::new("jsonpatch.escapeKey")
                .global(
                    "jsonpatch_escapekey_string",
                    [Type::String],
                    Type::String,
                    |_, arguments| {
                        Ok(Value::string(
                            text(arguments, 0)?.replace('~', "~0").replace('/', "~1"),
                        ))
                    },
                )
                .cost(walked),
        )
}

/// The types of apply configurations: `Object`, and `Object.spec.template` for what lies below. Fields may have any
/// value: the schema of the object decides when the configuration is applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyConfigurationTypes;

impl TypeProvider for ApplyConfigurationTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        let is_one = name == "Object" || name.starts_with("Object.");
        is_one.then(|| Type::Object(Arc::new(ObjectType::new(name).open())))
    }
}
