//! Cases of strategic merge patch.

use serde_json::json;

use super::*;

fn merged(spec: Value, patch: Value) -> Result<Value, String> {
    let schema = Schema::definition("io.k8s.api.core.v1.PodSpec").expect("built in");
    strategic_merge(&schema, spec, &patch).map_err(|error| error.to_string())
}

fn check(spec: Value, patch: Value, expect: Value) {
    assert_eq!(merged(spec, patch.clone()), Ok(expect), "{patch}");
}

fn two() -> Value {
    json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]})
}

#[test]
fn lists_merge_by_key_and_the_patch_comes_first() {
    check(
        two(),
        json!({"containers": [{"name": "b", "image": "3"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]}),
    );
    check(
        two(),
        json!({"containers": [{"name": "c"}]}),
        json!({"containers": [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
    );
    check(
        two(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b", "image": "2"}]}),
    );
    check(
        two(),
        json!({"containers": [{"$patch": "replace"}, {"name": "only"}]}),
        json!({"containers": [{"name": "only"}]}),
    );
    check(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
}

#[test]
fn directives_on_maps() {
    let spec = || json!({"nodeSelector": {"a": "1", "b": "2"}});
    check(
        spec(),
        json!({"nodeSelector": {"$patch": "replace", "z": "1"}}),
        json!({"nodeSelector": {"z": "1"}}),
    );
    check(
        spec(),
        json!({"nodeSelector": {"$patch": "delete"}}),
        json!({"nodeSelector": {}}),
    );
    check(
        spec(),
        json!({"nodeSelector": {"a": null}}),
        json!({"nodeSelector": {"b": "2"}}),
    );
    check(
        json!({"volumes": [{"name": "w", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "w", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}),
        json!({"volumes": [{"name": "w", "secret": {"secretName": "s"}}]}),
    );
}

#[test]
fn order_can_be_set() {
    check(
        two(),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "7"}]}),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "7"}]}),
    );
    check(
        two(),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}),
    );
}

#[test]
fn scalars_merge_as_sets() {
    let schema = Schema::object_meta();
    let check = |patch: Value, expect: Value| {
        let target = json!({"finalizers": ["x/a", "x/b"]});
        let found = strategic_merge(&schema, target, &patch);
        assert_eq!(found, Ok(json!({"finalizers": expect})));
    };
    check(
        json!({"finalizers": ["x/c", "x/a"]}),
        json!(["x/c", "x/a", "x/b"]),
    );
    check(
        json!({"$deleteFromPrimitiveList/finalizers": ["x/a", "x/z"]}),
        json!(["x/b"]),
    );
}

#[test]
fn wrong_patches_are_told_in_upstreams_words() {
    let check =
        |patch: Value, expect: &str| assert_eq!(merged(two(), patch), Err(expect.to_owned()));
    check(
        json!({"containers": [{"image": "x"}]}),
        "map: map[image:x] does not contain declared merge key: name",
    );
    check(
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b", "image": "i:9"}]}),
        "The order in patch list:\n[map[image:i:9 name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
    );
    check(
        json!({"containers": {"a": "b"}}),
        "cannot restore slice from map",
    );
    check(
        json!({"nodeSelector": {"$patch": "nonsense"}, "containers": [{"name": "a", "$retainKeys": ["name"], "image": "x"}]}),
        "invalid patch format of retainKeys",
    );
}
