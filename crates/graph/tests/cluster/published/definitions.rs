//! Definitions and the kinds they make: `crd_test`, `validation_test`, `recover_test`, `check-rgd-*`,
//! `check-required-default-interactions`, `check-validation-markers`, `graphrevision_test`.

use controller::{ObjectKey, Subresource};
use serde_json::{Value, json};

use super::{defined, generated, redefine, served};
use crate::world::{World, app, apps, condition, config_map, crds, it, revisions, rgds};

fn key() -> ObjectKey {
    ObjectKey::cluster("app")
}

fn crd_key() -> ObjectKey {
    ObjectKey::cluster("apps.kro.run")
}

async fn wait_condition(world: &World, type_: &str, status: &str, part: &str) {
    world
        .wait(&rgds(), &key(), |rgd| {
            let found = condition(rgd, type_);
            found["status"] == status && found["message"].to_string().contains(part)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_makes_a_kind_of_this_shape() {
    let mut rgd = app(json!({"name": "string"}), json!({}), json!([]));
    rgd["spec"]["schema"]["shortNames"] = json!(["ap"]);
    rgd["spec"]["schema"]["categories"] = json!(["all"]);
    rgd["spec"]["schema"]["metadata"] = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}});
    let world = defined(rgd).await;
    let crd = world.get(&crds(), &crd_key()).await.unwrap();
    assert_eq!(crd.generation(), 1);
    assert!(crd.value()["metadata"]["ownerReferences"].is_null());
    assert_eq!(
        (crd.label("a"), crd.annotation("c")),
        (Some("b"), Some("d"))
    );
    assert_eq!(crd.label("kro.run/owned"), Some("true"));
    assert_eq!(
        crd.label("kro.run/resource-graph-definition-name"),
        Some("app")
    );
    let spec = &crd.value()["spec"];
    assert_eq!(
        spec["names"],
        json!({"kind": "App", "listKind": "AppList", "plural": "apps", "singular": "app", "shortNames": ["ap"], "categories": ["all"]})
    );
    let version = &spec["versions"][0];
    assert_eq!(
        (
            &version["name"],
            &version["served"],
            &version["storage"],
            &version["subresources"]
        ),
        (
            &json!("v1"),
            &json!(true),
            &json!(true),
            &json!({"status": {}})
        )
    );
    let columns: Vec<(&str, &str)> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (
                column["name"].as_str().unwrap(),
                column["jsonPath"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        columns,
        [
            ("State", ".status.state"),
            ("Ready", ".status.conditions[?(@.type==\"Ready\")].status"),
            ("Age", ".metadata.creationTimestamp"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_schema_of_the_kind_follow_the_definition() {
    let world = defined(app(
        json!({"name": "string | minLength=3"}),
        json!({}),
        json!([]),
    ))
    .await;
    redefine(
        &world,
        json!({"schema": {"spec": {"name": "string", "more": "integer | default=1"}, "shortNames": ["ap"], "categories": ["all"]}}),
    )
    .await;
    world
        .wait(&crds(), &crd_key(), |crd| {
            let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
            crd.pointer(&format!("{schema}/more/default")) == Some(&json!(1))
                && crd.pointer(&format!("{schema}/name/minLength")).is_none()
                && crd.value()["spec"]["names"]["shortNames"] == json!(["ap"])
                && crd.value()["spec"]["names"]["categories"] == json!(["all"])
        })
        .await;
    redefine(
        &world,
        json!({"schema": {"shortNames": null, "categories": null}}),
    )
    .await;
    world
        .wait(&crds(), &crd_key(), |crd| {
            let names = &crd.value()["spec"]["names"];
            names["shortNames"].is_null() && names["categories"].is_null()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kind_stays_when_its_definition_goes_and_is_taken_over_again() {
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "map", "template": config_map("map", json!({}))}]),
    );
    let world = served(rgd.clone(), json!({})).await;
    world.wait_active().await;
    let before = world.get(&crds(), &crd_key()).await.unwrap();
    world.delete(&rgds(), &key()).await;
    world.wait_gone(&rgds(), &key()).await;
    let kept = world.get(&crds(), &crd_key()).await.unwrap();
    assert_eq!(kept.uid(), before.uid());
    world.define(rgd).await;
    world.delete_app().await;
    assert_eq!(
        world.get(&crds(), &crd_key()).await.unwrap().uid(),
        before.uid()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_definition_recovers_and_can_be_deleted() {
    let broken = json!([{"id": "map", "template": config_map("${schema.spec.nam}", json!({}))}]);
    let world = World::start().await;
    world
        .create(
            &rgds(),
            app(json!({"name": "string"}), json!({}), broken.clone()),
        )
        .await;
    let inactive = world
        .wait(&rgds(), &key(), |rgd| rgd.status()["state"] == "Inactive")
        .await;
    assert!(inactive.status()["topologicalOrder"].is_null());
    assert_eq!(
        condition(&inactive, "GraphAccepted")["reason"],
        "InvalidResourceGraph"
    );
    assert!(world.get(&crds(), &crd_key()).await.is_none());
    let good = json!([{"id": "map", "template": config_map("${schema.spec.name}", json!({}))}]);
    redefine(&world, json!({"resources": good})).await;
    world.wait_rgd_active("app").await;
    redefine(&world, json!({"resources": broken})).await;
    wait_condition(&world, "GraphAccepted", "False", "undefined field 'nam'").await;
    world.delete(&rgds(), &key()).await;
    world.wait_gone(&rgds(), &key()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_refuses_bad_names_of_kinds_and_changes_of_them() {
    let world = World::start().await;
    let good = app(json!({}), json!({}), json!([]));
    let check = async |pointer: &str, value: Value, expect: &str| {
        let mut bad = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        let refused = world
            .api
            .create(&rgds(), &bad)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expect), "{refused}");
    };
    check("/spec/schema/kind", json!("app"), "spec.schema.kind").await;
    check("/spec/schema/kind", json!("My-App"), "spec.schema.kind").await;
    check(
        "/spec/schema/apiVersion",
        json!("1"),
        "spec.schema.apiVersion",
    )
    .await;
    check(
        "/spec/schema/shortNames",
        json!(["Bad"]),
        "spec.schema.shortNames[0]",
    )
    .await;
    check(
        "/spec/schema/categories",
        json!(["a_b"]),
        "spec.schema.categories[0]",
    )
    .await;
    check("/spec/schema/scope", json!("World"), "spec.schema.scope").await;
    check(
        "/spec/resources",
        json!([{"id": "a"}]),
        "exactly one of template or externalRef",
    )
    .await;
    let reference =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "selector": {}}});
    check(
        "/spec/resources",
        json!([{"id": "a", "externalRef": reference}]),
        "exactly one of name or selector must be provided",
    )
    .await;
    world.create(&rgds(), good.clone()).await;
    let changes = [
        ("kind", "Other"),
        ("apiVersion", "v2"),
        ("group", "other.io"),
        ("scope", "Cluster"),
    ];
    for (field, value) in changes {
        let patch = json!({"spec": {"schema": {field: value}}});
        let refused = world
            .api
            .merge_patch(&rgds(), &key(), Subresource::None, &patch)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains(&format!("{field} is immutable")),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_cannot_be_changed() {
    let world = defined(app(json!({}), json!({}), json!([]))).await;
    let key = ObjectKey::cluster("app-r00001");
    let revision = world.get(&revisions(), &key).await.unwrap();
    assert_eq!(
        revision.label("kro.run/resource-graph-definition-name"),
        Some("app")
    );
    let patch = json!({"spec": {"revision": 2}});
    let refused = world
        .api
        .merge_patch(&revisions(), &key, Subresource::None, &patch)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("immutable"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_required_and_what_has_a_default_go_together() {
    let mut rgd = app(
        json!({
            "name": "string | required=true",
            "easy": {"size": "integer | default=3", "deep": {"on": "boolean | default=true"}},
            "strict": {"must": "string | required=true", "may": "string | default=m"},
            "list": "[]Part",
            "tier": "Tier",
        }),
        json!({}),
        json!([]),
    );
    rgd["spec"]["schema"]["types"] = json!({"Part": {"kind": "string | default=wheel"}, "Tier": "string | enum=\"gold,silver\" default=\"silver\""});
    let world = defined(rgd).await;
    assert_eq!(generated(&world, "/required").await, json!(["name"]));
    assert_eq!(generated(&world, "/default").await, Value::Null);
    assert_eq!(
        generated(&world, "/properties/easy/default").await,
        json!({})
    );
    assert_eq!(
        generated(&world, "/properties/easy/properties/deep/default").await,
        json!({})
    );
    assert_eq!(
        generated(&world, "/properties/strict/default").await,
        Value::Null
    );
    assert_eq!(
        generated(&world, "/properties/strict/required").await,
        json!(["must"])
    );
    world.app(json!({"name": "n", "list": [{}]})).await;
    let instance = world.get(&apps(), &it()).await.unwrap();
    assert_eq!(
        instance.value()["spec"],
        json!({"name": "n", "easy": {"size": 3, "deep": {"on": true}}, "list": [{"kind": "wheel"}], "tier": "silver"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_are_kept_by_the_server() {
    let fields = json!({
        "name": "string | minLength=2 maxLength=4 pattern=\"^[a-z]+$\" default=\"ok\"",
        "count": "integer | minimum=1 maximum=5 default=2",
        "tags": "[]string | uniqueItems=true minItems=1 maxItems=2",
        "tier": "string | enum=\"a,b\" default=\"a\"",
        "fixed": "string | immutable=true default=\"x\"",
        "even": "integer | validation=\"self % 2 == 0\" default=2",
    });
    let world = defined(app(fields, json!({}), json!([]))).await;
    world.app(json!({"tags": ["x"]})).await;
    let check = async |spec: Value, expect: &str| {
        let patch = json!({"spec": spec});
        let refused = world
            .api
            .merge_patch(&apps(), &it(), Subresource::None, &patch)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(expect), "{refused}");
    };
    check(json!({"name": "a"}), "at least 2 chars long").await;
    check(json!({"name": "abcde"}), "may not be more than 4").await;
    check(json!({"name": "AB"}), "should match '^[a-z]+$'").await;
    check(json!({"count": 0}), "greater than or equal to 1").await;
    check(json!({"count": 6}), "less than or equal to 5").await;
    check(json!({"tags": []}), "at least 1 items").await;
    check(
        json!({"tags": ["a", "b", "c"]}),
        "must have at most 2 items",
    )
    .await;
    check(json!({"tags": ["a", "a"]}), "Duplicate value").await;
    check(json!({"tier": "c"}), "supported values").await;
    check(json!({"fixed": "y"}), "field is immutable").await;
    check(json!({"even": 3}), "validation failed").await;
    world
        .change(
            &apps(),
            &it(),
            json!({"spec": {"name": "abc", "even": 4, "tags": ["a", "b"]}}),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_definition_has_exactly_these_conditions() {
    let world = defined(app(json!({}), json!({}), json!([]))).await;
    let rgd = world.get(&rgds(), &key()).await.unwrap();
    let shown: std::collections::BTreeSet<(String, String, String)> = rgd.status()["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            assert_eq!(
                (&found["status"], &found["observedGeneration"]),
                (&json!("True"), &json!(1))
            );
            let text = |field: &str| found[field].as_str().unwrap().to_owned();
            (text("type"), text("reason"), text("message"))
        })
        .collect();
    let expect = [
        ("ControllerReady", "Running", "controller is running"),
        (
            "GraphAccepted",
            "Valid",
            "resource graph and schema are valid",
        ),
        (
            "GraphRevisionsResolved",
            "Resolved",
            "revision 1 compiled and active",
        ),
        ("KindReady", "Ready", "kind App has been accepted and ready"),
        ("Ready", "Ready", ""),
    ];
    let expect = expect
        .map(|(kind, reason, message)| (kind.to_owned(), reason.to_owned(), message.to_owned()));
    assert_eq!(shown, expect.into());
    assert!(
        rgd.status()["conditions"][4]["type"] == "Ready",
        "the root is last"
    );
}
