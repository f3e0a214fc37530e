//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

/// Lays `patch` over `target`: members are replaced, nulls remove, objects merge.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else {
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            object.remove(name);
        } else {
            merge_patch(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_merge_and_nulls_remove() {
        let check = |target: Value, patch: Value, expect: Value| {
            let mut found = target;
            merge_patch(&mut found, &patch);
            assert_eq!(found, expect);
        };
        check(
            json!({"a": 1, "b": {"c": 1}}),
            json!({"a": null, "b": {"d": 2}}),
            json!({"b": {"c": 1, "d": 2}}),
        );
        check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
        check(json!({"a": 1}), json!({"a": {"b": null}}), json!({"a": {}}));
        check(json!([1]), json!({"a": 1}), json!({"a": 1}));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn patching_twice_is_patching_once(target in json_value(), patch in json_value()) {
            let mut once = target;
            merge_patch(&mut once, &patch);
            let mut twice = once.clone();
            merge_patch(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn the_empty_patch_changes_nothing(target in json_value()) {
            prop_assume!(target.is_object());
            let mut patched = target.clone();
            merge_patch(&mut patched, &json!({}));
            prop_assert_eq!(patched, target);
        }
    }
}
