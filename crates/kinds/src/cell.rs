//! Cells that many tables share.

use jiff::Timestamp;
use model::object;
use serde_json::{Map, Value, json};

use crate::age::age;

const NONE: &str = "<none>";

/// How long ago the time in a member was; `<unknown>` where there is none.
pub fn age_at(object: &Value, path: &[&str], now: Timestamp) -> Value {
    match object::text(object, path).parse::<Timestamp>() {
        Ok(time) => json!(age(time, now)),
        Err(_) => json!("<unknown>"),
    }
}

/// How old an object is.
pub fn age_of(object: &Value, now: Timestamp) -> Value {
    age_at(object, &["metadata", "creationTimestamp"], now)
}

/// A text, `<none>` where it is empty.
pub fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { NONE } else { text })
}

/// A text, `<unset>` where it is empty.
pub fn or_unset(text: &str) -> Value {
    json!(if text.is_empty() { "<unset>" } else { text })
}

/// A whole number, 0 where there is none.
pub fn count(object: &Value, path: &[&str]) -> Value {
    json!(object::number(object, path).unwrap_or(0))
}

/// The names of the containers of a Pod spec.
pub fn container_names(spec: Option<&Value>) -> Value {
    containers(spec, "name")
}

/// The images of the containers of a Pod spec.
pub fn images(spec: Option<&Value>) -> Value {
    containers(spec, "image")
}

fn containers(spec: Option<&Value>, field: &str) -> Value {
    let list = spec
        .map(|spec| object::list(spec, &["containers"]))
        .unwrap_or_default();
    let texts: Vec<&str> = list
        .iter()
        .map(|container| object::text(container, &[field]))
        .collect();
    json!(texts.join(","))
}

/// A map as `a=b,c=d`.
pub fn labels(map: Option<&Map<String, Value>>) -> Value {
    let pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// A selector of labels as text.
pub fn selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector else {
        return json!(NONE);
    };
    let mut parts: Vec<(String, String)> = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            (
                key.clone(),
                format!("{key}={}", value.as_str().unwrap_or_default()),
            )
        })
        .collect();
    for requirement in object::list(selector, &["matchExpressions"]) {
        let key = object::text(requirement, &["key"]);
        let mut values: Vec<&str> = object::list(requirement, &["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match object::text(requirement, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return json!("<error>"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    or_none(&texts.join(","))
}

/// `True` or `False`, as Go prints them in tables.
pub fn truth(value: bool) -> Value {
    json!(if value { "True" } else { "False" })
}

/// Access modes of volumes, abbreviated, in a fixed order.
pub fn access_modes(modes: &[Value]) -> Value {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |name: &str| modes.iter().any(|mode| mode.as_str() == Some(name));
    let found: Vec<&str> = SHORT
        .iter()
        .filter(|(name, _)| has(name))
        .map(|(_, short)| *short)
        .collect();
    json!(found.join(","))
}

/// The first of some texts, and how many more there are.
pub fn first<T: AsRef<str>>(texts: &[T], max: usize, separator: &str) -> String {
    let shown: Vec<&str> = texts.iter().take(max).map(AsRef::as_ref).collect();
    let shown = shown.join(separator);
    match texts.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_sorted_texts() {
        let check = |value: Value, expect: &str| assert_eq!(selector(Some(&value)), expect);
        check(json!({"matchLabels": {"b": "c", "a": "b"}}), "a=b,b=c");
        check(
            json!({"matchExpressions": [{"key": "x", "operator": "In", "values": ["b", "a"]}]}),
            "x in (a,b)",
        );
        check(json!({}), "<none>");
    }

    #[test]
    fn access_modes_have_an_order() {
        assert_eq!(
            access_modes(&[json!("ReadWriteMany"), json!("ReadWriteOnce")]),
            "RWO,RWX"
        );
    }
}
