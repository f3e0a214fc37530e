//! Fields that a `patch` gives to objects that exist without us: who owns them, where that is written down, whether they
//! are there.
//!
//! A patch of an instance has a field manager of its own, so the server knows which fields are ours, keeps others from
//! changing them unnoticed, and takes them back when they are no longer applied. The instance says which kinds of objects it
//! gives to, so that all of them are found again after a restart and when it goes.

use std::collections::BTreeSet;

use controller::Object;
use serde_json::Value;

use crate::hash::fnv1a_64;

/// The kinds an instance gives fields to, as `Kind.group`, sorted and joined by commas.
pub(crate) const GROUP_KINDS: &str = "internal.kro.run/contributes-to-group-kinds";
/// Owns that annotation.
pub(crate) const MANAGER_OF_RECORD: &str = "kro.run/contributions";

/// As upstream limits the names of field managers.
const MANAGER_LENGTH_MAX: usize = 128;
/// As much of kind and name as a reader needs.
const READABLE_LENGTH_MAX: usize = 60;
const DEPTH_MAX: usize = 128;

/// The field managers of one instance begin with this.
pub(crate) fn manager_prefix(kind: &str, name: &str, applyset: &str) -> String {
    let mut readable = format!("{kind}.{name}");
    readable.truncate(READABLE_LENGTH_MAX);
    let hash = fnv1a_64(applyset.as_bytes());
    format!("kro.run/patch/{readable}.{hash:016x}/")
}

/// The field manager of one patch of an instance.
pub(crate) fn manager(prefix: &str, node: &str) -> String {
    let whole = format!("{prefix}{node}");
    if whole.len() <= MANAGER_LENGTH_MAX {
        return whole;
    }
    format!("{prefix}{:016x}", fnv1a_64(node.as_bytes()))
}

/// A field manager of an object, and the subresource it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Managed {
    pub manager: String,
    pub is_status: bool,
}

/// The field managers of an object that begin with `prefix`.
pub(crate) fn managers(object: &Object, prefix: &str) -> Vec<Managed> {
    let entries = object.value()["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten();
    entries
        .filter_map(|entry| {
            let manager = entry["manager"].as_str()?;
            manager.starts_with(prefix).then(|| Managed {
                manager: manager.to_owned(),
                is_status: entry["subresource"] == "status",
            })
        })
        .collect()
}

/// The kinds an instance says it gives to, each as group and kind.
pub(crate) fn recorded(instance: &Object) -> BTreeSet<(String, String)> {
    let text = instance.annotation(GROUP_KINDS).unwrap_or_default();
    text.split(',')
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (kind, group) = text.split_once('.').unwrap_or((text, ""));
            (group.to_owned(), kind.to_owned())
        })
        .collect()
}

/// The text of the annotation.
pub(crate) fn record(kinds: &BTreeSet<(String, String)>) -> String {
    let mut names: Vec<String> = kinds
        .iter()
        .map(|(group, kind)| match group.as_str() {
            "" => kind.clone(),
            group => format!("{kind}.{group}"),
        })
        .collect();
    names.sort();
    names.join(",")
}

/// Whether an object already says what a patch does: maps hold at least these entries, lists at least these elements.
pub(crate) fn is_given(live: &Value, patch: &Value) -> bool {
    let fields = patch.as_object().into_iter().flatten();
    // Items of lists need not say of which kind they are.
    let mut fields = fields.filter(|(key, _)| !["apiVersion", "kind"].contains(&key.as_str()));
    fields.all(|(key, value)| live.get(key).is_some_and(|live| covers(live, value, 0)))
}

fn covers(live: &Value, given: &Value, depth: usize) -> bool {
    match (live, given) {
        _ if depth > DEPTH_MAX => false,
        (Value::Object(live), Value::Object(given)) => given.iter().all(|(key, value)| {
            live.get(key)
                .is_some_and(|live| covers(live, value, depth + 1))
        }),
        (Value::Array(live), Value::Array(given)) => given
            .iter()
            .all(|value| live.iter().any(|live| covers(live, value, depth + 1))),
        (live, given) => live == given,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn managers_are_told_apart_and_fit_the_limit() {
        let prefix = manager_prefix("Injector", "a", "applyset-1");
        assert_ne!(prefix, manager_prefix("Injector", "a", "applyset-2"));
        assert!(prefix.starts_with("kro.run/patch/Injector.a."));
        let long = manager(
            &manager_prefix("K", &"n".repeat(253), "x"),
            &"n".repeat(200),
        );
        assert!(long.len() <= MANAGER_LENGTH_MAX);
        assert!(manager(&prefix, "sidecars").ends_with("/sidecars"));
    }

    #[test]
    fn the_record_reads_back() {
        let kinds = BTreeSet::from([
            (String::new(), "Service".to_owned()),
            ("apps".to_owned(), "Deployment".to_owned()),
        ]);
        let text = record(&kinds);
        assert_eq!(text, "Deployment.apps,Service");
        let instance = Object::new(json!({"metadata": {"annotations": {GROUP_KINDS: text}}}));
        assert_eq!(recorded(&instance), kinds);
        assert!(recorded(&Object::new(json!({}))).is_empty());
    }

    #[test]
    fn more_than_what_is_given_is_fine() {
        let live =
            json!({"a": {"b": 1, "c": 2}, "list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}]});
        let check =
            |given: Value, expect: bool| assert_eq!(is_given(&live, &given), expect, "{given}");
        check(json!({"kind": "Any", "a": {"b": 1}}), true);
        check(json!({"list": [{"name": "y"}]}), true);
        check(json!({"a": {"b": 2}}), false);
        check(json!({"list": [{"name": "z"}]}), false);
        check(json!({"d": null}), false);
    }
}
