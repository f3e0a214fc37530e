//! The way of a graph from definition to deletion.

use controller::{ListOptions, Object, ObjectKey};
use graph::Options;
use serde_json::json;
use testkit::eventually;

use crate::world::{
    World, apps, chain, condition, config, config_map, config_maps, crds, it, revisions, rgds,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_becomes_an_api_and_an_instance_becomes_objects() {
    let world = World::start().await;
    let rgd = world.define(chain()).await;
    assert_eq!(
        rgd.status()["topologicalOrder"],
        json!(["first", "second", "extra"])
    );
    assert_eq!(
        rgd.status()["resources"],
        json!([{"id": "second", "dependencies": [{"id": "first"}]}])
    );
    assert_eq!(rgd.status()["lastIssuedRevision"], 1);
    let crds = crds();
    let crd = world
        .get(&crds, &ObjectKey::cluster("apps.kro.run"))
        .await
        .unwrap();
    assert_eq!(crd.generation(), 1);

    world.app(json!({})).await;
    let app = world.wait_active().await;
    assert_eq!(app.status()["text"], "hello!");
    let conditions: Vec<&str> = app.status()["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        conditions,
        [
            "InstanceManaged",
            "GraphResolved",
            "ResourcesReady",
            "Ready"
        ]
    );
    let second = world
        .get(&config_maps(), &config("it-first-second"))
        .await
        .unwrap();
    assert_eq!(second.value()["data"]["text"], "hello!");
    assert_eq!(second.label("kro.run/node-id"), Some("second"));
    assert_eq!(second.label("kro.run/instance-namespace"), Some("default"));
    assert_eq!(second.annotation("internal.kro.run/apply-order"), Some("2"));
    assert_eq!(
        second.label("applyset.kubernetes.io/part-of"),
        app.label("applyset.kubernetes.io/id")
    );
    assert_eq!(
        app.annotation("applyset.kubernetes.io/contains-group-kinds"),
        Some("ConfigMap")
    );
    assert!(
        world
            .get(&config_maps(), &config("it-extra"))
            .await
            .is_none()
    );

    // Nothing changes, nothing is written.
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_touch_only_what_depends_on_them_and_drift_is_corrected() {
    let world = World::start().await;
    world.define(chain()).await;
    world.app(json!({"extra": true})).await;
    world.wait_active().await;
    world.quiet().await;
    world.log.clear();
    world
        .change(&apps(), &it(), json!({"spec": {"text": "bye"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["text"] == "bye!")
        .await;
    world.quiet().await;
    let writes = world.log.writes();
    assert!(
        writes.iter().all(|(_, path)| !path.contains("it-extra")),
        "{writes:?}"
    );
    assert_eq!(writes.len(), 3, "{writes:?}");

    world
        .change(
            &config_maps(),
            &config("it-first-second"),
            json!({"data": {"text": "drift", "own": "kept"}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("it-first-second"), |map| {
            map.value()["data"] == json!({"text": "bye!", "own": "kept"})
        })
        .await;
    world.delete(&config_maps(), &config("it-first")).await;
    world
        .wait(&config_maps(), &config("it-first"), |map| {
            map.value()["data"]["text"] == "bye"
        })
        .await;

    // What is no longer included is pruned, and the rest stays.
    world
        .change(&apps(), &it(), json!({"spec": {"extra": false}}))
        .await;
    world.wait_gone(&config_maps(), &config("it-extra")).await;
    world.wait_active().await;
    assert!(
        world
            .get(&config_maps(), &config("it-first"))
            .await
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_goes_wave_by_wave() {
    let world = World::start().await;
    world.define(chain()).await;
    world.app(json!({})).await;
    world.wait_active().await;
    // The second hangs on, so the first must stay.
    let (first, second) = (config("it-first"), config("it-first-second"));
    world
        .change(
            &config_maps(),
            &second,
            json!({"metadata": {"finalizers": ["test.io/hold"]}}),
        )
        .await;
    world.delete(&apps(), &it()).await;
    let app = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "DELETING")
        .await;
    let ready = controller::condition::find(app.status(), "ResourcesReady").unwrap();
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("Unknown"), &json!("UnderDeletion"))
    );
    world
        .wait(&config_maps(), &second, Object::is_terminating)
        .await;
    world.quiet().await;
    assert!(
        !world
            .get(&config_maps(), &first)
            .await
            .unwrap()
            .is_terminating()
    );
    world
        .change(
            &config_maps(),
            &second,
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    world.wait_gone(&config_maps(), &first).await;
    world.wait_gone(&apps(), &it()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_change_leaves_the_last_good_graph_running() {
    let world = World::start().await;
    world.define(chain()).await;
    let good = chain()["spec"]["resources"].clone();
    let mut bad = good.clone();
    bad[1]["template"]["data"]["text"] = json!("${frist.data.text}");
    world
        .change(
            &rgds(),
            &ObjectKey::cluster("app"),
            json!({"spec": {"resources": bad}}),
        )
        .await;
    let rgd = world
        .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
            rgd.status()["state"] == "Inactive"
        })
        .await;
    let accepted = controller::condition::find(rgd.status(), "GraphAccepted").unwrap();
    assert_eq!(accepted["reason"], "InvalidResourceGraph");
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.contains("references unknown identifiers: [frist] (did you mean \"first\"?)"),
        "{message}"
    );
    assert_eq!(rgd.status().get("topologicalOrder"), None);
    world.app(json!({})).await;
    world.wait_active().await;

    world
        .change(
            &rgds(),
            &ObjectKey::cluster("app"),
            json!({"spec": {"resources": good}}),
        )
        .await;
    let rgd = world.wait_rgd_active("app").await;
    assert_eq!(rgd.status()["lastIssuedRevision"], 1);
}

async fn revision_names(world: &World) -> Vec<String> {
    let list = world.api.list(&revisions(), &ListOptions::default()).await;
    let mut names: Vec<String> = list
        .unwrap()
        .items
        .iter()
        .map(|item| item.name().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_are_numbered_kept_and_survive_restarts() {
    let options = || Options {
        max_graph_revisions: 2,
        ..Options::default()
    };
    let mut world = World::with(options()).await;
    world.create(&rgds(), chain()).await;
    for number in 1..=4 {
        world
            .wait(&rgds(), &ObjectKey::cluster("app"), |rgd| {
                rgd.status()["lastIssuedRevision"] == number
                    && controller::condition::is_true(rgd.status(), "Ready")
            })
            .await;
        if number < 4 {
            let mut resources = chain()["spec"]["resources"].clone();
            resources[0]["template"]["data"]["text"] = json!(format!("v{number}"));
            world
                .change(
                    &rgds(),
                    &ObjectKey::cluster("app"),
                    json!({"spec": {"resources": resources}}),
                )
                .await;
        }
    }
    eventually("two revisions are left", || async {
        (revision_names(&world).await == ["app-r00003", "app-r00004"]).then_some(())
    })
    .await;
    world.app(json!({})).await;
    world.wait_active().await;

    world.stop_controllers().await;
    world.log.clear();
    world.start_controllers(options()).await;
    world
        .change(&apps(), &it(), json!({"spec": {"extra": true}}))
        .await;
    world
        .wait(&config_maps(), &config("it-extra"), |_| true)
        .await;
    world.quiet().await;
    assert_eq!(revision_names(&world).await, ["app-r00003", "app-r00004"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_reference_is_waited_for_and_followed() {
    let world = World::start().await;
    let mut rgd = chain();
    rgd["spec"]["schema"]["status"] = json!({});
    rgd["spec"]["resources"] = json!([
        {"id": "shared", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}}},
        {"id": "copy", "template": config_map("copy", json!({"text": "${shared.data.text}"}))},
    ]);
    world.define(rgd).await;
    world.app(json!({})).await;
    let app = world
        .wait(&apps(), &it(), |app| {
            let message = condition(app, "ResourcesReady")["message"].to_string();
            message.contains("waiting for external reference")
        })
        .await;
    assert_eq!(app.status()["state"], "IN_PROGRESS");
    let mut shared = config_map("shared", json!({"text": "one"}));
    shared["metadata"]["namespace"] = "default".into();
    world.create(&config_maps(), shared).await;
    world.wait_active().await;
    world
        .change(
            &config_maps(),
            &config("shared"),
            json!({"data": {"text": "two"}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("copy"), |map| {
            map.value()["data"]["text"] == "two"
        })
        .await;
    world.delete_app().await;
    assert!(world.get(&config_maps(), &config("shared")).await.is_some());
    assert!(world.get(&config_maps(), &config("copy")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_instance_is_left_alone_until_it_is_resumed() {
    let world = World::start().await;
    world.define(chain()).await;
    world.app(json!({})).await;
    world.wait_active().await;
    world
        .change(
            &apps(),
            &it(),
            json!({"metadata": {"annotations": {"kro.run/reconcile": "Suspended"}}}),
        )
        .await;
    let suspended = |app: &Object| {
        let ready = condition(app, "ResourcesReady");
        ready["reason"] == "ReconciliationSuspended"
            && ready["observedGeneration"] == app.generation()
    };
    world.wait(&apps(), &it(), suspended).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "later"}}))
        .await;
    world.wait(&apps(), &it(), suspended).await;
    assert_eq!(
        world
            .get(&config_maps(), &config("it-first"))
            .await
            .unwrap()
            .value()["data"]["text"],
        "hello"
    );
    world
        .change(
            &apps(),
            &it(),
            json!({"metadata": {"annotations": {"kro.run/reconcile": null}}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("it-first"), |map| {
            map.value()["data"]["text"] == "later"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn breaking_changes_need_permission() {
    let world = World::start().await;
    world.define(chain()).await;
    let key = ObjectKey::cluster("app");
    let schema = json!({"text": "string | default=hello", "extra": "string | default=no"});
    let mut resources = chain()["spec"]["resources"].clone();
    resources[2]["includeWhen"] = json!(["${schema.spec.extra == 'yes'}"]);
    world
        .change(
            &rgds(),
            &key,
            json!({"spec": {"schema": {"spec": schema}, "resources": resources}}),
        )
        .await;
    let rgd = world
        .wait(&rgds(), &key, |rgd| {
            controller::condition::find(rgd.status(), "KindReady")
                .is_some_and(|c| c["status"] == "False")
        })
        .await;
    let message = &controller::condition::find(rgd.status(), "KindReady").unwrap()["message"];
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("breaking changes detected: Type changed from boolean to string"),
        "{message}"
    );
    world
        .change(
            &rgds(),
            &key,
            json!({"metadata": {"annotations": {"kro.run/allow-breaking-changes": "true"}}}),
        )
        .await;
    world.wait_rgd_active("app").await;
}
