//! Which of the names a definition asks for it gets.
//!
//! Within a group every name of a resource, and every kind, belongs to one definition. What is free is
//! accepted name by name; a definition is served once all its names are. Pure.

use std::collections::BTreeSet;

use model::object;
use serde_json::{Value, json};

/// The names other definitions of the group have.
#[derive(Debug, Default)]
pub struct Taken {
    /// Plural, singular and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and kinds of lists.
    pub kinds: BTreeSet<String>,
}

/// What a definition gets.
#[derive(Debug, PartialEq)]
pub struct Naming {
    /// The names that are its own now.
    pub accepted: Value,
    /// Why it does not get all of them: reason and message of the condition.
    pub conflict: Option<(&'static str, String)>,
}

/// Accepts of the names in `wanted` those that are free, or its own already.
pub fn accept(wanted: &Value, own: &Value, taken: &Taken) -> Naming {
    let mut accepted = if own.is_object() {
        own.clone()
    } else {
        json!({"kind": "", "plural": ""})
    };
    let mut conflict = None;
    for (field, names, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let used = if field == "shortNames" {
            let names = names_in_use(wanted, own, names);
            (!names.is_empty()).then(|| aggregate(&names))
        } else {
            let name = object::text(wanted, &[field]);
            let is_own = name == object::text(own, &[field]);
            (!is_own && names.contains(name)).then(|| in_use(name))
        };
        match used {
            // As upstream: of several conflicts the last is told.
            Some(message) => conflict = Some((reason, message)),
            None => set(&mut accepted, wanted, field),
        }
    }
    set(&mut accepted, wanted, "categories");
    Naming { accepted, conflict }
}

fn set(accepted: &mut Value, wanted: &Value, field: &str) {
    let Some(members) = accepted.as_object_mut() else {
        return;
    };
    match wanted.get(field) {
        Some(name) => members.insert(field.to_owned(), name.clone()),
        None => members.remove(field),
    };
}

fn names_in_use(wanted: &Value, own: &Value, taken: &BTreeSet<String>) -> Vec<String> {
    let own = object::list(own, &["shortNames"]);
    object::list(wanted, &["shortNames"])
        .iter()
        .filter(|name| !own.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| taken.contains(*name))
        .map(in_use)
        .collect()
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn aggregate(messages: &[String]) -> String {
    match messages {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Taken {
        Taken {
            resources: ["things", "thing", "th"].map(str::to_owned).into(),
            kinds: ["Thing", "ThingList"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn names_are_accepted_one_by_one() {
        let wanted = json!({"plural": "items", "singular": "item", "kind": "Thing", "listKind": "ItemList",
            "shortNames": ["it"], "categories": ["all"]});
        let naming = accept(&wanted, &Value::Null, &taken());
        assert_eq!(
            naming.conflict,
            Some(("KindConflict", "\"Thing\" is already in use".to_owned()))
        );
        let expect = json!({"plural": "items", "singular": "item", "kind": "", "listKind": "ItemList",
            "shortNames": ["it"], "categories": ["all"]});
        assert_eq!(naming.accepted, expect);
        assert_eq!(
            accept(&wanted, &Value::Null, &Taken::default()).accepted,
            wanted
        );
    }

    #[test]
    fn own_names_stay_and_the_last_conflict_is_told() {
        let own = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
        assert_eq!(accept(&own, &own, &taken()).conflict, None);
        let wanted = json!({"plural": "x", "singular": "thing", "kind": "X", "listKind": "XList",
            "shortNames": ["th", "things"]});
        let naming = accept(&wanted, &Value::Null, &taken());
        let message = "[\"th\" is already in use, \"things\" is already in use]";
        assert_eq!(
            naming.conflict,
            Some(("ShortNamesConflict", message.to_owned()))
        );
    }
}
