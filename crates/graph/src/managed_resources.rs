//! `status.managedResources`: what an instance is made of and where each part stands, in its own status.
//!
//! After kro's proposal KREP-022: one entry for each resource that makes objects, in the order of creation, with the names of
//! the objects; the list is cut after [`ENTRIES_MAX`] names. `reason` is ours: why a resource is not done. An author's field of
//! that name goes first. During a deletion the list shows what is left and what holds it.

use std::collections::BTreeMap;

use controller::ObjectKey;
use serde_json::{Value, json};

use crate::build::{Node, NodeKind};
use crate::runtime::{NodeState, Observation, Pass};

/// The field of the status.
pub(crate) const FIELD: &str = "managedResources";
/// Most objects named for one resource.
const ENTRIES_MAX: usize = 100;
/// Where the schema of the status is in a CustomResourceDefinition.
const STATUS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";

/// Declares the field, unless the author did; says whether it is ours.
pub(crate) fn declare(crd: &mut Value) -> bool {
    let Some(Value::Object(status)) = crd.pointer_mut(STATUS) else {
        return false;
    };
    if status.contains_key(FIELD) {
        return false;
    }
    status.insert(FIELD.to_owned(), schema());
    true
}

fn schema() -> Value {
    let text = || json!({"type": "string"});
    json!({"type": "array", "items": {"type": "object", "properties": {
        "nodeID": text(),
        "apiVersion": text(),
        "kind": text(),
        "nodeType": text(),
        "state": text(),
        "reason": text(),
        "graphRevision": {"type": "integer"},
        "total": {"type": "integer"},
        "truncated": {"type": "boolean"},
        "resources": {"type": "array", "items": {"type": "object", "properties": {
            "name": text(), "namespace": text(),
        }}},
    }}})
}

/// A definition without the field if it is ours there and not in `desired`: that the gate was switched off is no
/// breaking change of the API.
pub(crate) fn undeclared(current: &Value, desired: &Value) -> Option<Value> {
    let is_ours = |crd: &Value| {
        let declared = crd.pointer(STATUS).and_then(|status| status.get(FIELD));
        declared.is_some_and(|declared| declared["items"]["properties"]["nodeID"].is_object())
    };
    if !is_ours(current) || is_ours(desired) {
        return None;
    }
    let mut without = current.clone();
    without.pointer_mut(STATUS)?.as_object_mut()?.remove(FIELD);
    Some(without)
}

/// Whether a status has our list.
pub(crate) fn is_listed(status: &Value) -> bool {
    let list = status[FIELD].as_array();
    list.is_some_and(|list| list.iter().all(|entry| entry["nodeID"].is_string()))
}

/// The list after a pass; `before` is the status as it was.
pub(crate) fn list(pass: &Pass<'_>, revision: i64, before: &Value) -> Value {
    let graph = pass.graph();
    let ours = graph.order.iter().copied();
    ours.filter(|node| graph.nodes[*node].kind.is_ours())
        .map(|node| entry(pass, node, revision, before))
        .collect()
}

fn entry(pass: &Pass<'_>, node: usize, revision: i64, before: &Value) -> Value {
    let this = &pass.graph().nodes[node];
    let state = pass.state(node);
    let mut entry = json!({
        "nodeID": this.id,
        "apiVersion": this.resource.api_version(),
        "kind": &*this.resource.kind,
        "nodeType": if this.kind == NodeKind::Collection { "Collection" } else { "Resource" },
        "state": state.name(),
        "graphRevision": revision,
    });
    if let Some(reason) = state.reason() {
        entry["reason"] = reason.into();
    }
    match pass.observed(node) {
        Some(observation) => put_names(&mut entry, names(observation)),
        // Its objects, if there are any, were not looked at this time.
        None if *state != NodeState::Skipped => keep_names(&mut entry, this, before),
        None => entry["resources"] = json!([]),
    }
    entry
}

fn names(observation: &Observation) -> Vec<Value> {
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        let mut name = json!({"name": metadata["name"]});
        if metadata["namespace"].is_string() {
            name["namespace"] = metadata["namespace"].clone();
        }
        name
    };
    match observation {
        Observation::One(object) => vec![name(object.value())],
        Observation::Many { items, .. } => {
            items.as_array().into_iter().flatten().map(name).collect()
        }
    }
}

fn put_names(entry: &mut Value, mut names: Vec<Value>) {
    if names.len() > ENTRIES_MAX {
        entry["total"] = names.len().into();
        entry["truncated"] = true.into();
        names.truncate(ENTRIES_MAX);
    }
    entry["resources"] = names.into();
}

fn keep_names(entry: &mut Value, node: &Node, before: &Value) {
    let list = before[FIELD].as_array();
    let known = list
        .into_iter()
        .flatten()
        .find(|known| known["nodeID"] == node.id.as_str() && known["kind"] == entry["kind"]);
    entry["resources"] = json!([]);
    let fields = ["resources", "total", "truncated"];
    for (field, value) in fields.map(|field| (field, known.and_then(|known| known.get(field)))) {
        if let Some(value) = value {
            entry[field] = value.clone();
        }
    }
}

/// An object that is left in the middle of a deletion.
pub(crate) struct Remaining {
    /// The resource it was made from.
    pub node: String,
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Whether it is one of several.
    pub is_collection: bool,
    /// Where it is.
    pub key: ObjectKey,
    /// Whether its turn has come.
    pub is_due: bool,
    /// Whether it is told to go.
    pub is_terminating: bool,
    /// What keeps it.
    pub finalizers: Vec<String>,
}

impl Remaining {
    fn reason(&self) -> String {
        let (kind, key) = (&self.kind, &self.key);
        match (self.is_due, self.finalizers.as_slice()) {
            (false, _) => "waiting for what depends on it to be gone".to_owned(),
            (true, []) => format!("waiting for {kind} {key} to be gone"),
            (true, finalizers) => {
                let finalizers = finalizers.join(", ");
                format!("waiting for finalizers of {kind} {key}: {finalizers}")
            }
        }
    }
}

/// The list in the middle of a deletion: what is left, by resource.
pub(crate) fn remaining(objects: impl Iterator<Item = Remaining>) -> Value {
    let mut entries: BTreeMap<(String, String), (Value, Vec<Value>)> = BTreeMap::new();
    for object in objects {
        let place = (object.node.clone(), object.kind.clone());
        let (entry, names) = entries.entry(place).or_insert_with(|| {
            let node_type = if object.is_collection {
                "Collection"
            } else {
                "Resource"
            };
            let entry = json!({
                "nodeID": object.node,
                "apiVersion": object.api_version,
                "kind": object.kind,
                "nodeType": node_type,
                "state": "DELETING",
                "reason": object.reason(),
            });
            (entry, Vec::new())
        });
        if object.is_terminating && !object.finalizers.is_empty() {
            // Of several objects, the first that is held by somebody says most.
            let reason = entry["reason"].as_str().unwrap_or_default();
            if !reason.starts_with("waiting for finalizers") {
                entry["reason"] = object.reason().into();
            }
        }
        let mut name = json!({"name": object.key.name});
        if let Some(namespace) = object.key.namespace() {
            name["namespace"] = namespace.into();
        }
        names.push(name);
    }
    let finished = entries.into_values().map(|(mut entry, names)| {
        put_names(&mut entry, names);
        entry
    });
    finished.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let check = |count: usize, listed: usize, total: Value| {
            let mut entry = json!({});
            put_names(&mut entry, vec![json!({"name": "x"}); count]);
            assert_eq!(entry["resources"].as_array().map(Vec::len), Some(listed));
            assert_eq!(entry["total"], total);
            assert_eq!(entry["truncated"] == true, !total.is_null());
        };
        check(0, 0, Value::Null);
        check(100, 100, Value::Null);
        check(101, 100, json!(101));
    }

    #[test]
    fn a_deletion_names_what_holds_it() {
        let object = |node: &str, name: &str, is_due, finalizers: &[&str]| Remaining {
            node: node.to_owned(),
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            is_collection: node == "many",
            key: ObjectKey::new("ns", name),
            is_due,
            is_terminating: is_due,
            finalizers: finalizers.iter().map(|it| (*it).to_owned()).collect(),
        };
        let list = remaining(
            [
                object("first", "f", false, &[]),
                object("many", "a", true, &[]),
                object("many", "b", true, &["example.com/keep", "x"]),
            ]
            .into_iter(),
        );
        let reasons: Vec<&Value> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| &e["reason"])
            .collect();
        assert_eq!(
            reasons,
            [
                "waiting for what depends on it to be gone",
                "waiting for finalizers of ConfigMap ns/b: example.com/keep, x",
            ]
        );
        assert_eq!(
            list[1]["resources"],
            json!([{"name": "a", "namespace": "ns"}, {"name": "b", "namespace": "ns"}])
        );
    }

    #[test]
    fn the_field_is_declared_once_and_taken_back_without_breaking() {
        let crd = |status: Value| {
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"status": {"type": "object", "properties": status}}}}}]}})
        };
        let mut ours = crd(json!({}));
        assert!(declare(&mut ours));
        assert!(!declare(&mut ours.clone()));
        assert!(!declare(&mut crd(json!({FIELD: {"type": "string"}}))));
        let off = crd(json!({}));
        assert_eq!(undeclared(&ours, &off), Some(off.clone()));
        assert_eq!(undeclared(&ours, &ours), None);
        assert_eq!(undeclared(&off, &ours), None);
    }
}
