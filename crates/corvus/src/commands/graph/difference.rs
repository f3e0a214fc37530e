//! Where two documents differ, field by field.

use serde_json::Value;

/// One field that differs; what is missing is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where: `spec.containers[0].image`; empty for the whole.
    pub path: String,
    /// What it was, or should be.
    pub before: Option<Value>,
    /// What it is.
    pub after: Option<Value>,
}

/// Which fields count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of both documents.
    All,
    /// Those the first one names; `null` there says that there must be none.
    Expected,
}

/// All differences, in the order of the fields.
pub fn differences(before: &Value, after: &Value, scope: Scope) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), scope, &mut found);
    found
}

fn compare(
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    scope: Scope,
    found: &mut Vec<Difference>,
) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for (key, value) in old {
                compare(&member(path, key), Some(value), new.get(key), scope, found);
            }
            let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
            for (key, value) in added.filter(|_| scope == Scope::All) {
                compare(&member(path, key), None, Some(value), scope, found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                let path = format!("{path}[{index}]");
                compare(&path, old.get(index), new.get(index), scope, found);
            }
        }
        (Some(Value::Null), None | Some(Value::Null)) if scope == Scope::Expected => {}
        (before, after) if same(before, after) => {}
        (before, after) => found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

/// Numbers are the same however they are written.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            one == other || one.as_f64() == other.as_f64()
        }
        (one, other) => one == other,
    }
}

fn member(path: &str, key: &str) -> String {
    if key.contains(['.', '[', '/']) {
        format!("{path}[{key:?}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A value on one line; what is missing is said to be.
pub fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "(none)".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_compared_one_by_one() {
        let check = |before: &Value, after: &Value, scope, expect: &[&str]| {
            let found = differences(before, after, scope);
            let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
            assert_eq!(paths, expect, "{found:?}");
        };
        let before = json!({"a": 1, "b": {"c": [1, 2]}, "d.e": "x"});
        let after = json!({"a": 1.0, "b": {"c": [1, 3, 4]}, "f": true});
        check(
            &before,
            &after,
            Scope::All,
            &["b.c[1]", "b.c[2]", "[\"d.e\"]", "f"],
        );
        check(
            &json!({"b": {"c": [1, 2]}}),
            &after,
            Scope::Expected,
            &["b.c[1]", "b.c[2]"],
        );
        check(&json!({"a": 1, "g": null}), &after, Scope::Expected, &[]);
        check(&json!({"f": null}), &after, Scope::Expected, &["f"]);
        check(&json!(1), &json!("1"), Scope::All, &[""]);
    }
}
