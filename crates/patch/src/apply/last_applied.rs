//! Moving from kubectl's client-side apply, which keeps what it applied in an annotation.

use serde_json::{Map, Value};

use super::{Tracking, text};
use crate::field_set::FieldSet;
use crate::typed::{self, Type};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn annotation(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(ANNOTATION)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// The fields of the live object that are still as last applied from the client: applying them
/// from the server is no conflict.
pub(super) fn agreeing_fields(tracking: &Tracking<'_>, live: &Value) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    if text(&applied, "apiVersion") != tracking.api_version {
        return None;
    }
    let live = tracking.convert(live, &tracking.api_version)?;
    let schema = tracking.schema().ok()?;
    let kind = Type::of(&schema);
    typed::validate(kind, &applied).ok()?;
    let changes = typed::compare(kind, &applied, &live).ok()?;
    let fields = typed::field_set(kind, &applied);
    Some(
        fields
            .difference(&changes.modified)
            .difference(&changes.added)
            .difference(&changes.removed),
    )
}

/// Keeps the annotation in step, where there is one, so that going back is possible.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
    }
    let annotations = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    let empty = &mut Map::new();
    annotations
        .unwrap_or(empty)
        .insert(ANNOTATION.to_owned(), Value::from(format!("{config}\n")));
}
