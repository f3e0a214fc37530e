//! Changing objects in place: the steps defaults and preparations are made of.

use serde_json::{Map, Value};

/// Whether Go would see nothing here: missing, null, empty text, zero.
fn is_zero(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// Sets a member that is missing.
pub fn fill(value: &mut Value, name: &str, default: impl Into<Value>) {
    if let Some(members) = value.as_object_mut()
        && members.get(name).is_none_or(Value::is_null)
    {
        members.insert(name.to_owned(), default.into());
    }
}

/// Sets a member that is missing, empty or zero.
pub fn fill_zero(value: &mut Value, name: &str, default: impl Into<Value>) {
    if let Some(members) = value.as_object_mut()
        && is_zero(members.get(name))
    {
        members.insert(name.to_owned(), default.into());
    }
}

/// Sets a member.
pub fn set(value: &mut Value, name: &str, new: impl Into<Value>) {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), new.into());
    }
}

/// Removes a member.
pub fn remove(value: &mut Value, name: &str) {
    if let Some(members) = value.as_object_mut() {
        members.remove(name);
    }
}

/// Puts a member back to what it was.
pub fn restore(value: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(found) => set(value, name, found.clone()),
        None => remove(value, name),
    }
}

/// Changes a member that is an object.
pub fn with(value: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    if let Some(member) = value.get_mut(name)
        && member.is_object()
    {
        change(member);
    }
}

/// Changes a member that is an object, made one where it is missing.
pub fn within(value: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    fill(value, name, Value::Object(Map::new()));
    with(value, name, change);
}

/// Changes every element of a member that is a list.
pub fn each(value: &mut Value, name: &str, change: impl FnMut(&mut Value)) {
    let items = value.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(change);
}

/// Drops a member that is an empty object.
pub fn remove_if_empty(value: &mut Value, name: &str) {
    if value
        .get(name)
        .and_then(Value::as_object)
        .is_some_and(Map::is_empty)
    {
        remove(value, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_leave_what_is_there() {
        let mut value = json!({"a": 0, "b": null, "c": "x", "list": [{}, {"n": 2}]});
        fill(&mut value, "a", 1);
        fill(&mut value, "b", 1);
        fill_zero(&mut value, "c", "y");
        each(&mut value, "list", |item| fill(item, "n", 1));
        assert_eq!(
            value,
            json!({"a": 0, "b": 1, "c": "x", "list": [{"n": 1}, {"n": 2}]})
        );
        fill_zero(&mut value, "a", 5);
        within(&mut value, "new", |new| set(new, "k", "v"));
        assert_eq!(value["a"], 5);
        assert_eq!(value["new"]["k"], "v");
    }
}
