//! Which entries of a resource a list, a watch or a collection delete is about.

use model::{FieldSelector, LabelSelector, Status, object};
use serde_json::Value;
use store::Entry;

use crate::context::Context;
use crate::envelope::{self, Envelope};

/// Label and field selectors of a request, checked against what its resource knows.
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whether a field beyond name and namespace is asked for, so that the object must be parsed.
    deep: bool,
    name: Option<String>,
}

impl Selection {
    /// The selection of a request.
    pub fn of(context: &Context) -> Result<Self, Status> {
        let labels = context.query.label_selector()?;
        let fields = context.query.field_selector()?;
        let behaviour = context.definition.behaviour();
        let custom = context.definition.custom.as_ref();
        let mut deep = false;
        for requirement in &fields.requirements {
            let field = requirement.field.as_str();
            if matches!(field, "metadata.name" | "metadata.namespace") {
                continue;
            }
            deep = true;
            let known = behaviour.selectable_fields.contains(&field)
                || custom.is_some_and(|c| c.selectable.iter().any(|f| f == field));
            if !known {
                return Err(Status::bad_request(unknown_field(context, field)));
            }
        }
        let name = context.path.name.clone();
        Ok(Self {
            labels,
            fields,
            deep,
            name,
        })
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.requirements.is_empty() && self.name.is_none()
    }

    /// Whether an entry is selected.
    pub fn selects(&self, entry: &Entry) -> bool {
        let (namespace, name) = envelope::name_of(entry.key());
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        if !self.labels.is_everything() {
            let envelope = Envelope::of(entry);
            if !self.labels.matches_with(|key| envelope.label(key)) {
                return false;
            }
        }
        if self.fields.requirements.is_empty() {
            return true;
        }
        let object = if self.deep {
            envelope::decode(entry).ok()
        } else {
            None
        };
        self.fields.requirements.iter().all(|requirement| {
            let value = match requirement.field.as_str() {
                "metadata.name" => name.to_owned(),
                "metadata.namespace" => namespace.unwrap_or_default().to_owned(),
                field => object
                    .as_ref()
                    .map(|o| field_text(o, field))
                    .unwrap_or_default(),
            };
            (value == requirement.value) == requirement.equal
        })
    }
}

fn unknown_field(context: &Context, field: &str) -> String {
    if context.definition.custom.is_some() {
        return format!("field label not supported: {field}");
    }
    // Upstream registers conversions of field labels only for kinds that have fields of their own.
    if context.definition.behaviour().selectable_fields.is_empty() {
        return format!(
            "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
    format!("field label not supported: {field}")
}

/// The text of a field, empty where there is none.
fn field_text(object: &Value, field: &str) -> String {
    if field == "source" {
        // An Event's component, by its old or its new name.
        let old = object::text(object, &["source", "component"]);
        return if old.is_empty() {
            object::text(object, &["reportingComponent"]).to_owned()
        } else {
            old.to_owned()
        };
    }
    let path: Vec<&str> = field.split('.').collect();
    match object::at(object, &path) {
        None | Some(Value::Null) => match field {
            "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
            _ => String::new(),
        },
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
