//! Cases of server-side apply and of tracking.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: &str = "2024-01-01T00:00:00Z";
const LATER: &str = "2024-01-01T00:00:05Z";

fn versions(group: &str, kind: &str) -> OneVersion {
    let api_version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    OneVersion {
        api_version,
        schema: Schema::built_in(group, "v1", kind).expect("built in"),
    }
}

fn write<'a>(versions: &'a OneVersion, manager: &'a str, now: &'a str) -> Write<'a> {
    static NONE: FieldSet = FieldSet::new();
    Write {
        manager,
        subresource: "",
        now,
        versions,
        reset_fields: &NONE,
    }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": data})
}

/// Applies, and decodes what comes out as a server would.
fn applied(manager: &str, live: Option<&Value>, data: Value, force: bool) -> Result<Value, Error> {
    let versions = versions("", "ConfigMap");
    let mut object = apply(
        &write(&versions, manager, NOW),
        live,
        &config_map(data),
        force,
    )?;
    schema::decode(&versions.schema, &mut object).expect("typed");
    schema::encode(&versions.schema, &mut object);
    if let Some(live) = live {
        keep_timestamps(live, &mut object);
    }
    Ok(object)
}

fn updated(manager: &str, live: Option<&Value>, mut new: Value) -> Value {
    let versions = versions("", "ConfigMap");
    track_update(&write(&versions, manager, LATER), live, &mut new);
    new
}

fn owned(object: &Value) -> Vec<(String, String, Value)> {
    let entries = managed_of(object)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| {
            (
                text(entry, "manager"),
                text(entry, "operation"),
                entry["fieldsV1"].clone(),
            )
        })
        .collect()
}

fn entry(manager: &str, operation: &str, fields: Value) -> (String, String, Value) {
    (manager.to_owned(), operation.to_owned(), fields)
}

#[test]
fn what_is_applied_is_owned_and_what_is_dropped_goes() {
    let one = applied("alice", None, json!({"a": "1", "b": "2"}), false).expect("created");
    assert_eq!(
        owned(&one),
        [entry(
            "alice",
            "Apply",
            json!({"f:data": {"f:a": {}, "f:b": {}}})
        )]
    );
    let two = applied("alice", Some(&one), json!({"a": "9"}), false).expect("applied");
    assert_eq!(two["data"], json!({"a": "9"}));
    assert_eq!(
        owned(&two),
        [entry("alice", "Apply", json!({"f:data": {"f:a": {}}}))]
    );
}

#[test]
fn others_fields_conflict_unless_forced() {
    let one = applied("alice", None, json!({"x": "1", "y": "1"}), false).expect("created");
    let error =
        applied("bob", Some(&one), json!({"x": "2", "y": "2"}), false).expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"alice\":\n- .data.x\n- .data.y"
    );
    let error = applied("bob", Some(&one), json!({"x": "2"}), false).expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"alice\": .data.x"
    );
    let forced = applied("bob", Some(&one), json!({"x": "2"}), true).expect("forced");
    assert_eq!(
        owned(&forced),
        [
            entry("alice", "Apply", json!({"f:data": {"f:y": {}}})),
            entry("bob", "Apply", json!({"f:data": {"f:x": {}}}))
        ]
    );
    let shared = applied("bob", Some(&one), json!({"x": "1"}), false).expect("the same value");
    let left = applied("alice", Some(&shared), json!({"y": "1"}), false).expect("applied");
    assert_eq!(
        left["data"],
        json!({"x": "1", "y": "1"}),
        "bob still owns x"
    );
}

#[test]
fn updates_own_what_they_change() {
    let one = updated("creator", None, config_map(json!({"a": "1"})));
    assert_eq!(
        owned(&one),
        [entry(
            "creator",
            "Update",
            json!({"f:data": {".": {}, "f:a": {}}})
        )]
    );
    let mut new = config_map(json!({"b": "2"}));
    new["metadata"] = one["metadata"].clone();
    let two = updated("putter", Some(&one), new);
    assert_eq!(
        owned(&two),
        [
            entry("creator", "Update", json!({"f:data": {}})),
            entry("putter", "Update", json!({"f:data": {"f:b": {}}}))
        ]
    );
    let same = updated("nobody", Some(&two), two.clone());
    assert_eq!(owned(&same), owned(&two));
}

#[test]
fn a_created_pod_does_not_own_structs() {
    let versions = versions("", "Pod");
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}], "securityContext": {}}, "status": {}});
    track_update(&write(&versions, "m", NOW), None, &mut pod);
    let expect = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}":
        {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}}, "f:securityContext": {}}});
    assert_eq!(owned(&pod), [entry("m", "Update", expect)]);
}

#[test]
fn untracked_objects_get_an_owner_at_the_first_apply() {
    let mut live = config_map(json!({"a": "1", "b": "2"}));
    live["metadata"]["uid"] = json!("u");
    assert_eq!(owned(&updated("m", Some(&live), live.clone())), []);
    let error = applied("applier", Some(&live), json!({"a": "9"}), false).expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
    let agreed = applied("applier", Some(&live), json!({"a": "1"}), false).expect("applied");
    assert_eq!(
        owned(&agreed),
        [
            entry("applier", "Apply", json!({"f:data": {"f:a": {}}})),
            entry(
                "before-first-apply",
                "Update",
                json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}})
            )
        ]
    );
    assert_eq!(managed_of(&agreed).expect("tracked")[0].get("time"), None);
}

#[test]
fn tracking_can_be_reset_and_edited() {
    let one = updated("creator", None, config_map(json!({"a": "1"})));
    let mut new = one.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(owned(&updated("m", Some(&one), new.clone())), []);
    new["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Bogus"}]);
    assert_eq!(owned(&updated("m", Some(&one), new)), owned(&one));
}

#[test]
fn old_updaters_are_folded_into_one() {
    let mut live = updated("m", None, config_map(json!({"x": "0"})));
    for at in 0..12 {
        let mut new = live.clone();
        new["data"][format!("k{at:02}")] = json!("1");
        live = updated(&format!("m{at:02}"), Some(&live), new);
    }
    let owners = owned(&live);
    assert_eq!(owners.len(), 10);
    assert!(
        owners
            .iter()
            .any(|(manager, _, _)| manager == "ancient-changes")
    );
}

#[test]
fn client_side_apply_hands_over_what_agrees() {
    let annotation = json!({"kubectl.kubernetes.io/last-applied-configuration":
        config_map(json!({"a": "1", "b": "1"})).to_string()});
    let mut live = config_map(json!({"a": "1", "b": "1"}));
    live["metadata"]["annotations"] = annotation;
    let live = updated("kubectl-client-side-apply", None, live);
    let found =
        applied("kubectl", Some(&live), json!({"a": "2", "b": "1"}), false).expect("no conflict");
    assert_eq!(found["data"], json!({"a": "2", "b": "1"}));
    let text =
        found.pointer("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    assert!(
        text.and_then(Value::as_str)
            .is_some_and(|text| text.contains(r#""a":"2""#))
    );
    assert!(applied("other", Some(&live), json!({"a": "2"}), false).is_err());
}

#[test]
fn what_does_not_fit_the_schema_is_told() {
    let versions = versions("", "ConfigMap");
    let check = |config: Value, expect: &str| {
        let error = apply(&write(&versions, "m", NOW), None, &config, false).expect_err("unfit");
        assert_eq!(
            error.to_string(),
            format!("failed to create typed patch object (/cm; /v1, Kind=ConfigMap): {expect}")
        );
    };
    let mut unknown = config_map(json!({}));
    unknown["nope"] = json!(1);
    check(unknown, ".nope: field not declared in schema");
    check(
        config_map(json!({"a": 1})),
        ".data.a: expected string, got &value.valueUnstructured{Value:1}",
    );
    check(config_map(json!(["a"])), ".data: expected map, got &{[a]}");
    let mut twice = config_map(json!({}));
    twice["metadata"]["finalizers"] = json!(["a.com/a", "a.com/a"]);
    check(
        twice,
        ".metadata.finalizers: duplicate entries for key [=\"a.com/a\"]",
    );
}

#[test]
fn lists_with_keys_merge_by_element() {
    let versions = versions("", "PodTemplate");
    let template = |containers: Value| {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"},
            "template": {"spec": {"containers": containers}}})
    };
    let by = |manager: &str, live: Option<&Value>, containers: Value| {
        apply(
            &write(&versions, manager, NOW),
            live,
            &template(containers),
            false,
        )
    };
    let one = by(
        "alice",
        None,
        json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}]),
    )
    .expect("ok");
    let two = by("bob", Some(&one), json!([{"name": "b", "image": "2"}])).expect("ok");
    let names = |object: &Value| -> Vec<String> {
        let items = object["template"]["spec"]["containers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(&two), ["a", "b"]);
    let error = by(
        "bob",
        Some(&two),
        json!([{"name": "a", "image": "9", "ports": [{"containerPort": 80, "name": "x"}]}]),
    );
    assert_eq!(
        error.expect_err("conflict").to_string(),
        "Apply failed with 1 conflict: conflict with \"alice\": .template.spec.containers[name=\"a\"].image"
    );
    let gone = by("alice", Some(&two), json!([])).expect("ok");
    assert_eq!(names(&gone), ["b"]);
}

fn data() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-d]", "[0-2]", 1..4).prop_map(|members| {
        members
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)))
            .collect()
    })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in data(), second in data()) {
        let live = applied("alice", None, first, false).expect("created");
        let once = applied("bob", Some(&live), second.clone(), true).expect("forced");
        let twice = applied("bob", Some(&once), second, false).expect("no conflict with oneself");
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_changed_field_has_one_owner(first in data(), second in data()) {
        let live = applied("alice", None, first.clone(), false).expect("created");
        let found = applied("bob", Some(&live), second.clone(), true).expect("forced");
        let fields = |manager: &str| {
            owned(&found).into_iter().find(|(name, ..)| name == manager).map(|(_, _, fields)| fields)
        };
        for (name, value) in second.as_object().expect("an object") {
            let owns = |manager| fields(manager).is_some_and(|set| set["f:data"].get(format!("f:{name}")).is_some());
            prop_assert!(owns("bob"));
            let is_shared = first.get(name) == Some(value);
            prop_assert_eq!(owns("alice"), is_shared);
        }
    }
}
