//! Metadata of custom resources and of the resources embedded in them: it has a built-in type, so
//! it is decoded and encoded like one, wherever the schema says there is a resource.

use std::sync::LazyLock;

use model::FieldError;
use serde_json::{Map, Value};

use crate::decode::{push_index, push_name, unknown_fields};
use crate::node::{Node, Schema};
use crate::{Error, MAX_DEPTH, decode, encode};

static OBJECT_META: LazyLock<Schema> = LazyLock::new(Schema::object_meta);

/// Checks `apiVersion`, `kind` and `metadata` of the resource and of those embedded in it, and
/// brings metadata into its usual form. Returns the sorted paths of unknown metadata fields, which
/// are gone then. The error reads `spec.embedded.metadata: Invalid value: ...`.
pub fn coerce_metadata(schema: &Schema, object: &mut Value) -> Result<Vec<String>, Error> {
    let mut coercer = Coercer {
        path: String::new(),
        unknown: Vec::new(),
    };
    coercer.value(schema, object, 0)?;
    coercer.unknown.sort();
    Ok(coercer.unknown)
}

struct Coercer {
    path: String,
    unknown: Vec<String>,
}

impl Coercer {
    fn value(&mut self, node: &Node, value: &mut Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let length = self.path.len();
        match value {
            Value::Object(members) => {
                if node.embedded {
                    self.resource(members)?;
                }
                for (name, member) in members.iter_mut() {
                    let is_metadata = node.embedded && name == "metadata";
                    let Some(schema) = node.member(name).filter(|_| !is_metadata) else {
                        continue;
                    };
                    push_name(&mut self.path, name);
                    self.value(schema, member, depth + 1)?;
                    self.path.truncate(length);
                }
            }
            Value::Array(items) => {
                let Some(schema) = &node.items else {
                    return Ok(());
                };
                for (index, item) in items.iter_mut().enumerate() {
                    push_index(&mut self.path, index);
                    self.value(schema, item, depth + 1)?;
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn resource(&mut self, members: &mut Map<String, Value>) -> Result<(), Error> {
        for name in ["apiVersion", "kind"] {
            let found = members
                .get(name)
                .filter(|found| !found.is_string() && !found.is_null());
            if let Some(found) = found {
                return Err(self.invalid(name, found, "must be a string"));
            }
        }
        let Some(metadata) = members.get_mut("metadata") else {
            return Ok(());
        };
        if metadata.is_null() {
            members.remove("metadata");
            return Ok(());
        }
        if !metadata.is_object() {
            let found = metadata.clone();
            return Err(self.invalid("metadata", &found, "must be an object"));
        }
        let prefix = self.child("metadata");
        let unknown = unknown_fields(&OBJECT_META, metadata);
        self.unknown
            .extend(unknown.into_iter().map(|path| format!("{prefix}.{path}")));
        if let Err(error) = decode(&OBJECT_META, metadata) {
            let found = metadata.clone();
            return Err(self.invalid("metadata", &found, &error.to_string()));
        }
        encode(&OBJECT_META, metadata);
        Ok(())
    }

    fn child(&self, name: &str) -> String {
        let mut path = self.path.clone();
        push_name(&mut path, name);
        path
    }

    fn invalid(&self, name: &str, found: &Value, detail: &str) -> Error {
        let path = model::FieldPath::new(self.child(name));
        Error::Metadata(FieldError::invalid(&path, found.clone(), detail).to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true});
        let spec = json!({"type": "object", "properties": {"emb": embedded}});
        Schema::custom_resource(
            &json!({"type": "object", "properties": {"spec": spec}}),
            false,
        )
        .expect("structural")
    }

    #[test]
    fn metadata_is_decoded_wherever_a_resource_is() {
        let mut object = json!({"metadata": {"name": "n", "labels": {}, "bogus": 1},
            "spec": {"emb": {"metadata": {"name": "e", "unknownmeta": 1}, "x": 1}}});
        let unknown = coerce_metadata(&schema(), &mut object).expect("valid");
        assert_eq!(unknown, ["metadata.bogus", "spec.emb.metadata.unknownmeta"]);
        let expect = json!({"metadata": {"name": "n"}, "spec": {"emb": {"metadata": {"name": "e"}, "x": 1}}});
        assert_eq!(object, expect);
    }

    #[test]
    fn wrong_metadata_is_an_error_with_its_path() {
        let mut object = json!({"spec": {"emb": {"metadata": {"name": 5}}}});
        let error = coerce_metadata(&schema(), &mut object).expect_err("wrong type");
        assert_eq!(
            error.to_string(),
            "spec.emb.metadata: Invalid value: {\"name\":5}: json: cannot unmarshal number into \
             Go struct field ObjectMeta.name of type string"
        );
    }
}
