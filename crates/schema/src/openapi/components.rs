//! The schemas of a document: those asked for and all they refer to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Resource, custom, descriptions};
use crate::built_in;

/// The two formats of OpenAPI that are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    V2,
    V3,
}

impl Form {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// Collects schemas by name.
pub(super) struct Components {
    pub(super) form: Form,
    schemas: BTreeMap<String, Value>,
}

impl Components {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            schemas: BTreeMap::new(),
        }
    }

    pub(super) fn into_schemas(self) -> Map<String, Value> {
        self.schemas.into_iter().collect()
    }

    /// A reference to a definition, which is added together with what it refers to.
    pub(super) fn reference(&mut self, name: &str) -> Value {
        let mut wanted = vec![name.to_owned()];
        while let Some(name) = wanted.pop() {
            if self.schemas.contains_key(&name) {
                continue;
            }
            let Some(mut schema) = built_in::definition_json(&name) else {
                continue;
            };
            if self.form == Form::V2 {
                simplify_special(&name, &mut schema);
            }
            link(self.form, &mut schema, &mut wanted);
            descriptions::describe(&name, &mut schema);
            self.schemas.insert(name, schema);
        }
        json!({"$ref": format!("{}{name}", self.form.prefix())})
    }

    /// References to a kind and to its list.
    pub(super) fn kind(&mut self, resource: &Resource) -> (Value, Value) {
        let Resource {
            group,
            version,
            kind,
            ..
        } = resource;
        let list_kind = format!("{kind}List");
        if let Some(schema) = &resource.custom_schema {
            let names = [
                custom::name(group, version, kind),
                custom::name(group, version, &list_kind),
            ];
            let object_meta = self.reference(built_in::OBJECT_META);
            let list_meta = self.reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
            let item = json!({"$ref": format!("{}{}", self.form.prefix(), names[0])});
            let mut list = custom::list(resource, item.clone(), list_meta);
            let mut object = custom::object(resource, schema, object_meta, self.form);
            descriptions::describe(&names[1], &mut list);
            descriptions::describe(&names[0], &mut object);
            self.schemas.insert(names[0].clone(), object);
            self.schemas.insert(names[1].clone(), list);
            return (
                item,
                json!({"$ref": format!("{}{}", self.form.prefix(), names[1])}),
            );
        }
        (
            self.built_in_kind(group, version, kind),
            self.built_in_kind(group, version, &list_kind),
        )
    }

    /// A reference to a built-in kind; for an unknown one, any object.
    pub(super) fn built_in_kind(&mut self, group: &str, version: &str, kind: &str) -> Value {
        match built_in::by_kind(group, version, kind) {
            Some(found) => self.reference(found.name),
            None => json!({"type": "object"}),
        }
    }
}

/// Types with several forms have no name in the older format.
fn simplify_special(name: &str, schema: &mut Value) {
    if name.ends_with(".resource.Quantity") {
        *schema = json!({"type": "string"});
    } else if name.ends_with(".intstr.IntOrString") {
        *schema = json!({"type": "string", "format": "int-or-string"});
    }
}

/// Turns bare definition names into references of the format, and notes them.
fn link(form: Form, schema: &mut Value, wanted: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if form == Form::V2 {
                unwrap_reference(members);
            }
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(text) if name == "$ref" => {
                        wanted.push(text.clone());
                        *text = format!("{}{text}", form.prefix());
                    }
                    other => link(form, other, wanted),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| link(form, item, wanted)),
        _ => {}
    }
}

/// The older format has references stand by themselves, and no defaults of structs.
fn unwrap_reference(members: &mut Map<String, Value>) {
    let only = members
        .get("allOf")
        .and_then(Value::as_array)
        .filter(|all| all.len() == 1);
    let found = only.and_then(|all| all[0].get("$ref")).cloned();
    if let Some(reference) = found {
        members.remove("allOf");
        members.remove("default");
        members.insert("$ref".to_owned(), reference);
    }
}
