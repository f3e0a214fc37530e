//! What every child carries besides what its template says.

use controller::Object;
use serde_json::{Value, json};

use super::Instance;
use crate::build::{Node, NodeKind};
use crate::keys;
use crate::lifecycle::{Deletion, ORPHANED};

/// Marks an object as a child: whose it is, what it was made from, when it is deleted.
pub(super) fn decorate(
    instance: &Instance<'_>,
    node: &Node,
    wave: usize,
    position: Option<(usize, usize)>,
    deletion: Deletion,
    mut object: Value,
) -> Value {
    let resource = &instance.id.resource;
    let uid = instance.object.uid();
    let mut labels = vec![
        (keys::OWNED, "true".to_owned()),
        (keys::KRO_VERSION, keys::TOOL_VERSION.to_owned()),
        (keys::MANAGED_BY, "kro".to_owned()),
        (keys::INSTANCE_ID, uid.to_owned()),
        (keys::INSTANCE_NAME, instance.id.key.name.clone()),
        (keys::INSTANCE_GROUP, resource.group.to_string()),
        (keys::INSTANCE_VERSION, resource.version.to_string()),
        (keys::INSTANCE_KIND, resource.kind.to_string()),
        (keys::NODE_ID, node.id.clone()),
        (keys::PART_OF, instance.applyset.clone()),
    ];
    if !instance.namespace().is_empty() {
        labels.push((keys::INSTANCE_NAMESPACE, instance.namespace().to_owned()));
    }
    if let Some((index, size)) = position.filter(|_| node.kind == NodeKind::Collection) {
        labels.push((keys::COLLECTION_INDEX, index.to_string()));
        labels.push((keys::COLLECTION_SIZE, size.to_string()));
    }
    let metadata = &mut object["metadata"];
    for (key, value) in labels {
        entry(metadata, "labels")[key] = value.into();
    }
    let annotations = entry(metadata, "annotations");
    annotations[keys::APPLY_ORDER] = wave.to_string().into();
    match (deletion, annotations.as_object_mut()) {
        (Deletion::Retain, _) => annotations[keys::DELETION_POLICY] = ORPHANED.into(),
        // Whatever an expression put there is not the author's to say.
        (Deletion::Delete, Some(annotations)) => {
            annotations.remove(keys::DELETION_POLICY);
        }
        (Deletion::Delete, None) => {}
    }
    object
}

fn entry<'a>(metadata: &'a mut Value, field: &str) -> &'a mut Value {
    let map = &mut metadata[field];
    if !map.is_object() {
        *map = json!({});
    }
    map
}

/// Whether a child stays when it is not asked for any more.
pub(super) fn is_retained(child: &Object) -> bool {
    child.annotation(keys::DELETION_POLICY) == Some(ORPHANED)
}

/// The wave a child is deleted in; 0, the last, when it does not say.
pub(super) fn wave_of(child: &Object) -> i64 {
    child
        .annotation(keys::APPLY_ORDER)
        .and_then(|text| text.parse().ok())
        .filter(|wave| *wave > 0)
        .unwrap_or_default()
}
