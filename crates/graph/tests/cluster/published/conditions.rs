//! Conditions: `instance_conditions_test`, `instance_custom_conditions_test`, `check-arbitary-objects`.

use controller::ObjectKey;
use serde_json::{Value, json};

use super::{redefine, served, set, wait_status};
use crate::world::{World, app, apps, condition, config, config_map, config_maps, it};

/// An App with these conditions and a ConfigMap.
fn with_conditions(conditions: Value) -> Value {
    app(
        json!({"text": "string | default=a"}),
        json!({"conditions": conditions}),
        json!([{"id": "map", "template": config_map("map", json!({"text": "${schema.spec.text}"}))}]),
    )
}

fn shown(app: &controller::Object) -> Vec<String> {
    let conditions = app.status()["conditions"].as_array().into_iter().flatten();
    conditions
        .map(|c| {
            format!(
                "{}={}",
                c["type"].as_str().unwrap(),
                c["status"].as_str().unwrap()
            )
        })
        .collect()
}

async fn wait_shown(world: &World, expect: &[&str]) -> controller::Object {
    world.wait(&apps(), &it(), |app| shown(app) == expect).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_instance_has_exactly_these_conditions_in_this_order() {
    let world = served(app(json!({}), json!({}), json!([])), json!({})).await;
    let active = world.wait_active().await;
    let found: Vec<Value> = active.status()["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .map(|mut condition| {
            assert!(condition["lastTransitionTime"].is_string());
            condition["lastTransitionTime"].take();
            condition
        })
        .collect();
    let expect = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": null})
    };
    let managed = "instance is properly managed with finalizers and labels";
    let resolved = "runtime graph created and all resources resolved";
    let ready = "all resources are created and ready";
    assert_eq!(
        found,
        [
            expect("InstanceManaged", "Managed", managed),
            expect("GraphResolved", "Resolved", resolved),
            expect("ResourcesReady", "AllResourcesReady", ready),
            expect("Ready", "Ready", ""),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_told_by_state_and_condition() {
    let world = served(with_conditions(json!([])), json!({})).await;
    world.wait_active().await;
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    world
        .change(
            &config_maps(),
            &config("map"),
            hold(json!(["test.io/hold"])),
        )
        .await;
    world.delete(&apps(), &it()).await;
    let deleting = wait_status(&world, "/state", &json!("DELETING")).await;
    let found = condition(&deleting, "ResourcesReady");
    assert_eq!(
        (&found["status"], &found["reason"], &found["message"]),
        (
            &json!("Unknown"),
            &json!("UnderDeletion"),
            &json!("deleting resources")
        )
    );
    assert_eq!(condition(&deleting, "InstanceManaged")["status"], "True");
    world
        .change(&config_maps(), &config("map"), hold(Value::Null))
        .await;
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_authors_conditions_are_shown_in_their_order() {
    let rgd = with_conditions(json!([
        "${runtime.newCondition({type: 'Second', status: 'True'})}",
        "${[runtime.newCondition({type: 'First', status: 'False', reason: 'R', message: 'm'})]}",
        "${runtime.newCondition({type: 'Whole', status: runtime.condition(schema, 'Ready').status})}",
    ]));
    let world = served(rgd, json!({})).await;
    let found = wait_shown(&world, &["Second=True", "First=False", "Whole=True"]).await;
    assert_eq!(found.status()["state"], "ACTIVE");
    let first = condition(&found, "First");
    assert_eq!(
        (&first["reason"], &first["message"]),
        (&json!("R"), &json!("m"))
    );
    assert_eq!(first["observedGeneration"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_whose_data_is_missing_keeps_what_it_said() {
    let rgd = with_conditions(json!([
        "${runtime.newCondition({type: 'Up', status: map.data.up})}",
        "${runtime.newCondition({type: 'Other', status: 'True'})}",
    ]));
    let world = served(rgd, json!({})).await;
    wait_shown(&world, &["Other=True"]).await;
    let up = |value: Value| json!({"data": {"up": value}});
    world
        .change(&config_maps(), &config("map"), up(json!("False")))
        .await;
    let told = wait_shown(&world, &["Up=False", "Other=True"]).await;
    let since = condition(&told, "Up")["lastTransitionTime"].clone();
    world
        .change(&config_maps(), &config("map"), up(Value::Null))
        .await;
    set(&world, json!({"text": "b"})).await;
    let kept = world
        .wait(&apps(), &it(), |app| {
            condition(app, "Other")["observedGeneration"] == 2
        })
        .await;
    assert_eq!(condition(&kept, "Up")["status"], "False");
    assert_eq!(condition(&kept, "Up")["lastTransitionTime"], since);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_fails_or_is_there_twice_is_dropped_and_the_state_says_so() {
    let rgd = with_conditions(json!([
        "${runtime.newCondition({type: 'Good', status: 'True'})}",
        "${runtime.newCondition({type: 'Bad', status: string(1 / int(map.data.text))})}",
        "${schema.spec.text == '0' ? [runtime.newCondition({type: 'Twice', status: 'True'}), \
            runtime.newCondition({type: 'Twice', status: 'False'})] : []}",
    ]));
    let world = served(rgd, json!({"text": "0"})).await;
    let is_told =
        |app: &controller::Object| shown(app) == ["Good=True"] && app.status()["state"] == "ERROR";
    world.wait(&apps(), &it(), is_told).await;
    assert!(world.get(&config_maps(), &config("map")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authors_conditions_stay_during_a_deletion() {
    let rgd = with_conditions(json!([
        "${runtime.newCondition({type: 'Mine', status: 'True'})}"
    ]));
    let world = served(rgd, json!({})).await;
    wait_shown(&world, &["Mine=True"]).await;
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    world
        .change(
            &config_maps(),
            &config("map"),
            hold(json!(["test.io/hold"])),
        )
        .await;
    world.delete(&apps(), &it()).await;
    wait_shown(&world, &["ResourcesReady=Unknown", "Mine=True"]).await;
    world
        .change(&config_maps(), &config("map"), hold(Value::Null))
        .await;
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_condition_blocks_are_refused_with_the_reason() {
    let world = served(with_conditions(json!([])), json!({})).await;
    let check = async |block: Value, expect: &str| {
        redefine(&world, json!({"schema": {"status": {"conditions": block}}})).await;
        world
            .wait(&crate::world::rgds(), &ObjectKey::cluster("app"), |rgd| {
                let accepted = condition(rgd, "GraphAccepted");
                accepted["observedGeneration"] == rgd.generation()
                    && accepted["message"].to_string().contains(expect)
            })
            .await;
    };
    let new = |fields: &str| format!("${{runtime.newCondition({{{fields}}})}}");
    check(json!("x"), "status.conditions must be a list").await;
    check(json!([7]), "must be a CEL expression string").await;
    check(json!(["text"]), "only standalone expressions are allowed").await;
    check(json!(["${1}"]), "must return runtime.newCondition").await;
    check(json!([new("status: 'True'")]), "type").await;
    check(json!([new("type: 'A', status: 'Maybe'")]), "status").await;
    check(
        json!([
            new("type: 'A', status: 'True'"),
            new("type: 'A', status: 'False'")
        ]),
        "A",
    )
    .await;
    let reads = |name: &str| {
        json!([
            "${runtime.newCondition({type: 'A', status: 'True'})}",
            format!(
                "${{runtime.newCondition({{type: 'B', status: runtime.condition(schema, '{name}').status}})}}"
            )
        ])
    };
    check(reads("A"), "A").await;
    check(reads("Nonsense"), "Nonsense").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authors_ready_keeps_its_time_and_hides_nothing_from_runtime_condition() {
    let rgd = with_conditions(json!([
        "${runtime.newCondition({type: 'Ready', status: 'False', reason: 'Never', message: schema.spec.text})}",
        "${runtime.newCondition({type: 'Own', status: runtime.condition(schema, 'Ready').status})}",
    ]));
    let world = served(rgd, json!({})).await;
    let first = wait_shown(&world, &["Ready=False", "Own=True"]).await;
    let since = condition(&first, "Ready")["lastTransitionTime"].clone();
    // A second that shows in times.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    set(&world, json!({"text": "b"})).await;
    let second = world
        .wait(&apps(), &it(), |app| {
            condition(app, "Ready")["message"] == "b"
        })
        .await;
    assert_eq!(condition(&second, "Ready")["lastTransitionTime"], since);
    assert_eq!(condition(&second, "Ready")["observedGeneration"], 2);
    assert_eq!(condition(&second, "Own")["status"], "True");
}
