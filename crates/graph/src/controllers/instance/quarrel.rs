//! Who undoes our corrections of a child, and of which fields: read from two states of it and its managed fields.

use std::fmt::Write as _;

use controller::Object;
use serde_json::Value;

use super::Instance;
use super::patience::Patience;
use crate::build::Node;
use crate::keys;

/// The reason of the Event on the instance.
const REASON: &str = "CorrectionUndone";
/// Fields named in a message.
const FIELDS_NAMED: usize = 3;
/// Deeper differences are told by where they begin.
const DEEPEST_FIELD: usize = 32;

/// Records an Event on the instance: which child, which fields, who.
pub(super) fn report(instance: &Instance<'_>, node: &Node, live: Option<&Object>, past: &Patience) {
    let key = live.map_or_else(String::new, |live| format!(" \"{}\"", live.key()));
    let what = format!("resource \"{}\": {}{key}", node.id, node.resource.kind);
    let message = match live {
        None => format!(
            "{what} is deleted each time it is made; it is made again at growing intervals, up to a minute"
        ),
        Some(live) => {
            let fields = past.fields();
            let by = match other_managers(live, fields).as_slice() {
                [] => "another client".to_owned(),
                managers => managers.join(", "),
            };
            let fields = if fields.is_empty() {
                "the object".to_owned()
            } else {
                fields.join(", ")
            };
            format!(
                "{what}: {fields} is changed by {by} each time it is corrected; it is corrected at growing intervals, \
                 up to a minute. Leave the field out of the template, or stop the other manager"
            )
        }
    };
    instance
        .context
        .events
        .warning(&instance.object, REASON, message);
}

/// The fields in which two states of an object differ, apart from its status and what changes with every write.
pub(super) fn differing_fields(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differences(before, after, &mut Vec::new(), &mut found);
    found.truncate(FIELDS_NAMED);
    found
}

fn differences<'v>(
    before: &'v Value,
    after: &'v Value,
    path: &mut Vec<&'v str>,
    found: &mut Vec<String>,
) {
    if before == after || found.len() > FIELDS_NAMED {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        found.push(text_of(path));
        return;
    };
    if path.len() >= DEEPEST_FIELD {
        found.push(text_of(path));
        return;
    }
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    for (key, _) in old.iter().chain(added) {
        let is_volatile = match path.as_slice() {
            [] => key == "status",
            ["metadata"] => ["managedFields", "resourceVersion", "generation"].contains(&&**key),
            _ => false,
        };
        if is_volatile {
            continue;
        }
        let side = |map: &'v serde_json::Map<String, Value>| map.get(key).unwrap_or(&Value::Null);
        path.push(key);
        differences(side(old), side(new), path, found);
        path.pop();
    }
}

/// `metadata.annotations["a.io/b"]`
fn text_of(path: &[&str]) -> String {
    let mut text = String::new();
    for key in path {
        let is_plain = key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_plain {
            let _ = write!(text, "[{key:?}]");
        } else if text.is_empty() {
            text.push_str(key);
        } else {
            text.push('.');
            text.push_str(key);
        }
    }
    text
}

/// The managers besides us that own any of these fields (through the status too, as it may change
/// annotations), or else the one who wrote last.
fn other_managers(live: &Object, fields: &[String]) -> Vec<String> {
    let entries = || {
        let list = live.value()["metadata"]["managedFields"].as_array();
        list.into_iter()
            .flatten()
            .filter(|entry| entry["manager"] != keys::MANAGER_APPLYSET)
    };
    let name = |entry: &Value| format!("\"{}\"", entry["manager"].as_str().unwrap_or_default());
    let mut owners: Vec<String> = entries()
        .filter(|entry| {
            let mut owned = Vec::new();
            leaves(&entry["fieldsV1"], &mut Vec::new(), &mut owned);
            let covers = |owned: &String| {
                let below = |field: &&String| {
                    field.strip_prefix(owned.as_str()).is_some_and(begins_anew)
                        || owned.strip_prefix(field.as_str()).is_some_and(begins_anew)
                };
                fields.iter().any(|field| below(&field))
            };
            owned.iter().any(covers)
        })
        .map(name)
        .collect();
    if owners.is_empty() {
        let last = entries().max_by_key(|entry| entry["time"].as_str().unwrap_or_default());
        owners.extend(last.map(name));
    }
    owners.sort();
    owners.dedup();
    owners
}

/// Whether what follows a path's beginning starts with a new step.
fn begins_anew(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['.', '['])
}

/// The paths of the fields in a field set, as far as they lead through maps.
fn leaves<'v>(fields: &'v Value, path: &mut Vec<&'v str>, found: &mut Vec<String>) {
    let children = || {
        let map = fields.as_object();
        map.into_iter()
            .flatten()
            .filter_map(|(key, below)| Some((key.strip_prefix("f:")?, below)))
    };
    if (children().next().is_none() || path.len() >= DEEPEST_FIELD) && !path.is_empty() {
        found.push(text_of(path));
        return;
    }
    for (key, below) in children() {
        path.push(key);
        leaves(below, path, found);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_like_fields() {
        let before = json!({"metadata": {"resourceVersion": "1", "annotations": {"a.io/b": "1", "plain": "x"}},
            "spec": {"replicas": 1, "list": [1]}, "status": {"x": 1}});
        let after = json!({"metadata": {"resourceVersion": "2", "annotations": {"a.io/b": "2", "plain": "x"}},
            "spec": {"replicas": 2, "list": [1, 2]}});
        assert_eq!(
            differing_fields(&before, &after),
            [
                "metadata.annotations[\"a.io/b\"]",
                "spec.list",
                "spec.replicas"
            ]
        );
        assert_eq!(
            differing_fields(&before, &before.clone()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_owner_of_a_field_is_found() {
        let entry = |manager: &str, time: &str, fields: Value| json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields});
        let live = Object::new(json!({"metadata": {"managedFields": [
            entry("kro.run/applyset", "2026-01-01T00:00:09Z", json!({"f:spec": {"f:replicas": {}}})),
            entry("scaler", "2026-01-01T00:00:01Z", json!({"f:spec": {"f:replicas": {}}})),
            entry("last", "2026-01-01T00:00:02Z", json!({"f:metadata": {"f:annotations": {".": {}, "f:a.io/b": {}}},
                "f:spec": {"f:list": {"k:{\"name\":\"x\"}": {"f:image": {}}}}})),
        ]}}));
        let check = |field: &str, expect: &[&str]| {
            assert_eq!(
                other_managers(&live, &[field.to_owned()]),
                expect,
                "{field}"
            );
        };
        check("spec.replicas", &["\"scaler\""]);
        check("metadata.annotations[\"a.io/b\"]", &["\"last\""]);
        check("spec.list", &["\"last\""]);
        check("spec.paused", &["\"last\""]);
    }
}
