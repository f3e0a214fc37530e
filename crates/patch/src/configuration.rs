//! Laying a partial object over an object as server-side apply does, without ownership: what mutating
//! admission policies do.

use schema::Schema;
use serde_json::Value;

use crate::path::PathElement;
use crate::typed::{self, Shape, Type};

/// The object with everything that `configuration` says. Refuses what would replace a list, map or
/// struct as a whole: whoever writes a part of it hardly means to drop the rest.
pub fn merge_configuration(
    schema: &Schema,
    object: &Value,
    configuration: &Value,
) -> Result<Value, String> {
    let kind = Type::of(schema);
    typed::validate(kind, configuration)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut found = Vec::new();
    atomics(kind, configuration, "", &mut found);
    if !found.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        ));
    }
    typed::merge(kind, object, configuration).map_err(|why| format!("failed to merge patch: {why}"))
}

/// The places of atomic values. Invariant: the value has been validated, so its depth is bounded.
fn atomics(kind: Type<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (kind.shape(Some(value)), value) {
        (Shape::Map, Value::Object(members)) => {
            if kind.is_atomic_map() {
                found.push(path.to_owned());
            }
            for (name, member) in members {
                if let Some(kind) = kind.member(name) {
                    let step = PathElement::Field(name.clone());
                    atomics(kind, member, &format!("{path}{step}"), found);
                }
            }
        }
        (Shape::List, Value::Array(items)) => {
            if kind.is_atomic_list() {
                found.push(path.to_owned());
            }
            for (index, item) in items.iter().enumerate() {
                atomics(kind.element(), item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(configuration: Value, expect: Result<Value, &str>) {
        let schema = Schema::built_in("apps", "v1", "Deployment").expect("built in");
        let object = json!({"metadata": {"labels": {"a": "1"}}, "spec": {
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let merged = merge_configuration(&schema, &object, &configuration);
        assert_eq!(merged, expect.map_err(str::to_owned));
    }

    #[test]
    fn configurations_are_merged_by_the_schema() {
        check(
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {
                "template": {"spec": {"containers": [{"name": "c", "imagePullPolicy": "Always"}]}}}}),
            Ok(
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {
                "template": {"spec": {"containers": [
                    {"name": "c", "image": "i", "imagePullPolicy": "Always"},
                ]}}}}),
            ),
        );
    }

    #[test]
    fn what_is_atomic_is_not_replaced() {
        check(
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            Err(
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
            ),
        );
    }
}
