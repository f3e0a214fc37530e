//! Companions of objects that nobody instantiated, and fields that are given to them.

use std::time::Duration;

use controller::{ApplyOptions, DeleteOptions, FaultPlan, Faults, Object, ObjectKey, Resource};
use graph::{Feature, Features};
use serde_json::{Value, json};

use super::{example, options, under_faults};
use crate::world::{World, app, apps, condition, config, config_map, config_maps, it, rgds};

fn namespaces() -> Resource {
    Resource::cluster("v1", "namespaces", "Namespace")
}

/// Every ConfigMap with a label gets a companion beside it, and is told its name.
fn definition() -> Value {
    app(
        json!({"note": "string | default=n", "more": "boolean | default=false"}),
        json!({"count": "${size(all)}"}),
        json!([
            {"id": "all", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"selector": {"matchLabels": {"decorate": "yes"}}}}},
            {"id": "companions", "forEach": [{"one": "${all}"}], "template": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${one.metadata.name}-companion", "namespace": "${one.metadata.namespace}"}, "data": {"of": "${one.metadata.uid}"}}},
            {"id": "given", "forEach": [{"one": "${all}"}], "patch": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${one.metadata.name}", "namespace": "${one.metadata.namespace}",
                    "annotations": {"example.com/companion": "${one.metadata.name}-companion"}},
                "data": {"note": "${schema.spec.note}"}}},
            {"id": "more", "forEach": [{"one": "${all}"}], "includeWhen": ["${schema.spec.more}"], "patch": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${one.metadata.name}", "namespace": "${one.metadata.namespace}"}, "data": {"more": "yes"}}},
        ]),
    )
}

fn foreign(name: &str, namespace: &str) -> Value {
    let mut object = config_map(name, json!({"own": "o"}));
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["labels"] = json!({"decorate": "yes"});
    object
}

async fn two_foreign(world: &World) {
    world
        .create(
            &namespaces(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}),
        )
        .await;
    world.create(&config_maps(), foreign("a", "default")).await;
    world.create(&config_maps(), foreign("b", "other")).await;
}

async fn started() -> World {
    let world = World::with(options(Feature::Decorators)).await;
    two_foreign(&world).await;
    world.define(definition()).await;
    world.app(json!({})).await;
    world.wait_active().await;
    world
}

fn our_managers(object: &Object) -> Vec<String> {
    let entries = object.value()["metadata"]["managedFields"]
        .as_array()
        .unwrap();
    let managers = entries
        .iter()
        .map(|entry| entry["manager"].as_str().unwrap());
    managers
        .filter(|manager| manager.starts_with("kro.run/"))
        .map(str::to_owned)
        .collect()
}

/// Whether a foreign object is as it was before anybody gave it anything.
fn is_untouched(object: &Object) -> bool {
    object.value()["data"] == json!({"own": "o"})
        && object.value()["metadata"]["annotations"].is_null()
        && our_managers(object).is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_objects_get_companions_and_fields_whatever_fails() {
    let check = async |world: &World| {
        for (name, namespace) in [("a", "default"), ("b", "other")] {
            let key = ObjectKey::new(namespace, name);
            let object = world.get(&config_maps(), &key).await.unwrap();
            assert_eq!(object.value()["data"], json!({"own": "o", "note": "n"}));
            let name = format!("{name}-companion");
            assert_eq!(object.annotation("example.com/companion"), Some(&*name));
            assert!(object.label("kro.run/owned").is_none(), "it is not ours");
            assert_eq!(our_managers(&object).len(), 1);
            let key = ObjectKey::new(namespace, name);
            let companion = world.get(&config_maps(), &key).await.unwrap();
            assert_eq!(companion.value()["data"]["of"], object.uid());
        }
    };
    under_faults(
        Feature::Decorators,
        definition(),
        json!({}),
        two_foreign,
        check,
    )
    .await;
}

/// Runs the controllers under faults for a moment, then looks: nothing is given that the instance does not record.
async fn run_under(faults: &Faults, world: &mut World) {
    world
        .start_controllers_under(faults, options(Feature::Decorators))
        .await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    world.stop_controllers().await;
    let instance = world.get(&apps(), &it()).await;
    let recorded = instance
        .as_ref()
        .and_then(|instance| instance.annotation("internal.kro.run/contributes-to-group-kinds"));
    for key in [config("a"), ObjectKey::new("other", "b")] {
        let object = world.get(&config_maps(), &key).await.unwrap();
        assert!(our_managers(&object).is_empty() || recorded == Some("ConfigMap"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_leaves_a_field_behind() {
    for seed in testkit::seeds(3) {
        let mut world = World::with(options(Feature::Decorators)).await;
        two_foreign(&world).await;
        world.define(definition()).await;
        world.stop_controllers().await;
        let plan =
            FaultPlan::evenly(seed.number, 0.1).with_stale_caches(0.2, Duration::from_millis(50));
        let faults = Faults::new(plan);
        world.app(json!({})).await;
        for _ in 0..3 {
            run_under(&faults, &mut world).await;
        }
        delete_app(&world).await;
        for _ in 0..3 {
            run_under(&faults, &mut world).await;
        }
        faults.stop();
        world.start_controllers(options(Feature::Decorators)).await;
        world.wait_gone(&apps(), &it()).await;
        for key in [config("a"), ObjectKey::new("other", "b")] {
            let object = world.get(&config_maps(), &key).await.unwrap();
            assert!(is_untouched(&object), "{seed}: {}", object.value());
        }
        let companion = world.get(&config_maps(), &config("a-companion")).await;
        assert!(companion.is_none(), "{seed}");
    }
}

async fn delete_app(world: &World) {
    let options = DeleteOptions::default();
    world.api.delete(&apps(), &it(), &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_with_the_instance_but_what_was_there_before() {
    let world = started().await;
    world.delete_app().await;
    for key in [config("a"), ObjectKey::new("other", "b")] {
        let object = world.get(&config_maps(), &key).await.unwrap();
        assert!(is_untouched(&object), "{}", object.value());
    }
    for key in [
        config("a-companion"),
        ObjectKey::new("other", "b-companion"),
    ] {
        assert!(world.get(&config_maps(), &key).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_comes_is_decorated_and_one_that_leaves_is_let_go() {
    let world = started().await;
    world.create(&config_maps(), foreign("c", "default")).await;
    world
        .wait(&config_maps(), &config("c"), |c| {
            c.value()["data"]["note"] == "n"
        })
        .await;
    world
        .wait(&config_maps(), &config("c-companion"), |_| true)
        .await;
    world
        .change(
            &config_maps(),
            &config("a"),
            json!({"metadata": {"labels": {"decorate": "no"}}}),
        )
        .await;
    world.wait(&config_maps(), &config("a"), is_untouched).await;
    world
        .wait_gone(&config_maps(), &config("a-companion"))
        .await;
    let b = world
        .get(&config_maps(), &ObjectKey::new("other", "b"))
        .await
        .unwrap();
    assert_eq!(b.value()["data"]["note"], "n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_that_is_left_out_takes_its_fields_and_no_others() {
    let world = started().await;
    world
        .change(&apps(), &it(), json!({"spec": {"more": true}}))
        .await;
    world
        .wait(&config_maps(), &config("a"), |a| {
            a.value()["data"] == json!({"own": "o", "note": "n", "more": "yes"})
                && our_managers(a).len() == 2
        })
        .await;
    world
        .change(&apps(), &it(), json!({"spec": {"more": false}}))
        .await;
    world
        .wait(&config_maps(), &config("a"), |a| {
            a.value()["data"] == json!({"own": "o", "note": "n"}) && our_managers(a).len() == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_that_leaves_the_definition_while_nobody_runs_is_taken_back() {
    let mut world = started().await;
    world.stop_controllers().await;
    let mut without = definition();
    without["spec"]["resources"]
        .as_array_mut()
        .unwrap()
        .truncate(2);
    let patch = json!({"spec": {"resources": without["spec"]["resources"]}});
    world
        .change(&rgds(), &ObjectKey::cluster("app"), patch)
        .await;
    world.start_controllers(options(Feature::Decorators)).await;
    world.wait(&config_maps(), &config("a"), is_untouched).await;
    world
        .wait(&config_maps(), &ObjectKey::new("other", "b"), is_untouched)
        .await;
    world
        .wait(&apps(), &it(), |app| {
            app.annotation("internal.kro.run/contributes-to-group-kinds")
                .is_none()
        })
        .await;
    assert!(
        world
            .get(&config_maps(), &config("a-companion"))
            .await
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_somebody_takes_away_is_given_again() {
    let world = started().await;
    world
        .change(
            &config_maps(),
            &config("a"),
            json!({"data": {"note": null}}),
        )
        .await;
    world
        .wait(&config_maps(), &config("a"), |a| {
            a.value()["data"]["note"] == "n"
        })
        .await;
    world
        .change(&apps(), &it(), json!({"spec": {"note": "m"}}))
        .await;
    world
        .wait(&config_maps(), &config("a"), |a| {
            a.value()["data"]["note"] == "m"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_cost_one_write_each_and_a_change_of_one_costs_a_list() {
    const MANY: usize = 40;
    let world = World::with(options(Feature::Decorators)).await;
    for number in 0..MANY {
        let object = foreign(&format!("m{number}"), "default");
        world.create(&config_maps(), object).await;
    }
    let rgd = app(
        json!({}),
        json!({"marked": "${all.filter(one, 'mark' in one.data).size()}"}),
        json!([
            {"id": "all", "externalRef": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"selector": {"matchLabels": {"decorate": "yes"}}}}},
            {"id": "given", "forEach": [{"one": "${all}"}], "patch": {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "${one.metadata.name}", "namespace": "${one.metadata.namespace}"}, "data": {"note": "n"}}},
        ]),
    );
    world.define(rgd).await;
    world.log.clear();
    world.app(json!({})).await;
    world.wait_active().await;
    let asked = |method: &str, path: &str| {
        let requests = world.log.requests();
        let hits = requests
            .iter()
            .filter(|(found, at)| found.as_str() == method && at.contains(path));
        hits.count()
    };
    world.quiet().await;
    assert_eq!(asked("PATCH", "/configmaps/"), MANY);
    world.log.clear();
    let mark = json!({"data": {"mark": "x"}});
    world.change(&config_maps(), &config("m7"), mark).await;
    world
        .wait(&apps(), &it(), |app| app.status()["marked"] == 1)
        .await;
    world.quiet().await;
    assert_eq!(asked("PATCH", "/configmaps/"), 0);
    assert_eq!(asked("GET", "/configmaps/"), 0);
    assert!(
        asked("GET", "/configmaps") <= 4,
        "{:?}",
        world.log.requests()
    );
}

fn one_patch() -> Value {
    app(
        json!({}),
        json!({}),
        json!([{"id": "given", "patch": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "given"}, "data": {"note": "n"}}}]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_waited_for_and_never_created() {
    let world = World::with(options(Feature::Decorators)).await;
    world.define(one_patch()).await;
    world.app(json!({})).await;
    let message = "resource reconciliation failed: apply results contain errors: waiting for ConfigMap \"default/given\" to exist, \
        which \"given\" patches";
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["message"] == message
        })
        .await;
    assert!(world.get(&config_maps(), &config("given")).await.is_none());
    world
        .create(&config_maps(), foreign("given", "default"))
        .await;
    world.wait_active().await;
    let given = world.get(&config_maps(), &config("given")).await.unwrap();
    assert_eq!(given.value()["data"], json!({"own": "o", "note": "n"}));
    // One that is replaced is patched anew.
    world.delete(&config_maps(), &config("given")).await;
    world
        .wait(&apps(), &it(), |app| {
            condition(app, "ResourcesReady")["message"] == message
        })
        .await;
    world
        .create(&config_maps(), foreign("given", "default"))
        .await;
    world
        .wait(&config_maps(), &config("given"), |given| {
            given.value()["data"]["note"] == "n"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_manager_owns_is_a_conflict_and_not_a_fight() {
    let world = World::with(options(Feature::Decorators)).await;
    let theirs = ApplyOptions::force("them");
    let mut object = foreign("given", "default");
    object["data"]["note"] = "theirs".into();
    world
        .api
        .apply(&config_maps(), &object, &theirs)
        .await
        .unwrap();
    world.define(one_patch()).await;
    world.app(json!({})).await;
    let instance = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "ERROR")
        .await;
    let message = condition(&instance, "ResourcesReady")["message"].to_string();
    assert!(
        message.contains("resource \\\"given\\\": ConfigMap \\\"default/given\\\":")
            && message.contains("conflict with \\\"them\\\"")
            && message.contains(".data.note"),
        "{message}"
    );
    let object_now = world.get(&config_maps(), &config("given")).await.unwrap();
    assert_eq!(object_now.value()["data"]["note"], "theirs");
    object["data"] = json!({"own": "o"});
    world
        .api
        .apply(&config_maps(), &object, &theirs)
        .await
        .unwrap();
    world.wait_active().await;
    let given = world.get(&config_maps(), &config("given")).await.unwrap();
    assert_eq!(given.value()["data"], json!({"own": "o", "note": "n"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_given_through_the_status_and_taken_back() {
    let world = World::with(options(Feature::Decorators)).await;
    let services = Resource::namespaced("v1", "services", "Service");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "it", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]}});
    world.create(&services, service).await;
    let condition = json!({"type": "example.com/Announced", "status": "True", "reason": "Told", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let rgd = app(
        json!({}),
        json!({}),
        json!([{"id": "given", "patch": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "it"}, "status": {"conditions": [condition]}}}]),
    );
    world.define(rgd).await;
    world.app(json!({})).await;
    world.wait_active().await;
    let key = config("it");
    let found = world.get(&services, &key).await.unwrap();
    assert_eq!(
        found.status()["conditions"][0]["type"],
        "example.com/Announced"
    );
    world.delete_app().await;
    let found = world.get(&services, &key).await.unwrap();
    assert!(found.status()["conditions"].is_null(), "{}", found.value());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_active() {
    let features = Features::default().with(Feature::Decorators);
    let deployments = Resource::namespaced("apps/v1", "deployments", "Deployment");
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"example.com/logs": "yes"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}});
    let prepare = async |world: &World| world.create(&deployments, web.clone()).await;
    let world = example("decorators", features, prepare).await;
    let web = world.get(&deployments, &config("web")).await.unwrap();
    let containers = web.value()["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    let names: Vec<&Value> = containers
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["web", "logs"]);
    let settings = world
        .get(&config_maps(), &config("web-logs"))
        .await
        .unwrap();
    assert_eq!(settings.value()["data"]["level"], "info");
}
