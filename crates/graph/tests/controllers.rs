//! The controllers on a whole in-process cluster.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use controller::{Api, DeleteOptions, Object, ObjectKey, RequestLog, Resource, Subresource};
use graph::{GraphControllers, Options};
use serde_json::{Value, json};
use testkit::{Cluster, eventually};
use tokio_util::sync::CancellationToken;

struct World {
    cluster: Cluster,
    api: Api,
    /// What the controllers ask the server.
    log: RequestLog,
    shutdown: CancellationToken,
    controllers: Option<GraphControllers>,
}

fn rgds() -> Resource {
    Resource::cluster(
        "kro.run/v1alpha1",
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    )
}

fn revisions() -> Resource {
    Resource::cluster(
        "internal.kro.run/v1alpha1",
        "graphrevisions",
        "GraphRevision",
    )
}

fn apps() -> Resource {
    Resource::namespaced("kro.run/v1", "apps", "App")
}

fn config_maps() -> Resource {
    Resource::namespaced("v1", "configmaps", "ConfigMap")
}

fn it() -> ObjectKey {
    ObjectKey::new("default", "it")
}

fn config(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// An App of a chain of two ConfigMaps and an optional third.
fn chain() -> Value {
    json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": "app"},
        "spec": {
            "schema": {
                "apiVersion": "v1",
                "kind": "App",
                "spec": {"text": "string | default=hello", "extra": "boolean | default=false"},
                "status": {"text": "${second.data.text}"},
            },
            "resources": [
                {"id": "first", "template": config_map("${schema.metadata.name}-first", json!({"text": "${schema.spec.text}"}))},
                {"id": "second", "template": config_map("${first.metadata.name}-second", json!({"text": "${first.data.text}!"}))},
                {"id": "extra", "includeWhen": ["${schema.spec.extra}"],
                 "template": config_map("${schema.metadata.name}-extra", json!({}))},
            ],
        },
    })
}

impl World {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let cluster = Cluster::start().await;
        let api = Api::new(cluster.client());
        let mut world = Self {
            cluster,
            api,
            log: RequestLog::new(),
            shutdown: CancellationToken::new(),
            controllers: None,
        };
        world.start_controllers(options).await;
        world
    }

    async fn start_controllers(&mut self, options: Options) {
        self.shutdown = CancellationToken::new();
        let client = self.log.wrap(self.cluster.client());
        self.controllers = Some(
            graph::start(client, options, self.shutdown.clone())
                .await
                .unwrap(),
        );
    }

    async fn stop_controllers(&mut self) {
        self.shutdown.cancel();
        self.controllers.take().unwrap().stopped().await;
    }

    async fn create(&self, resource: &Resource, object: Value) {
        self.api
            .create(resource, &object)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    async fn get(&self, resource: &Resource, key: &ObjectKey) -> Option<Object> {
        self.api.get_opt(resource, key).await.unwrap()
    }

    async fn change(&self, resource: &Resource, key: &ObjectKey, patch: Value) {
        self.api
            .merge_patch(resource, key, Subresource::None, &patch)
            .await
            .unwrap();
    }

    /// Waits until an object is as `wanted` says.
    async fn wait(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        wanted: impl Fn(&Object) -> bool,
    ) -> Object {
        let mut last = None;
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            last = self.get(resource, key).await;
            if let Some(object) = last.as_ref().filter(|object| wanted(object)) {
                return object.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "waited in vain for {resource} {key}, which is {}",
            last.map(|o| o.into_value()).unwrap_or_default()
        );
    }

    async fn wait_gone(&self, resource: &Resource, key: &ObjectKey) {
        eventually(&format!("{resource} {key} is gone"), || async {
            self.get(resource, key).await.is_none().then_some(())
        })
        .await;
    }

    async fn wait_rgd_active(&self, name: &str) -> Object {
        self.wait(&rgds(), &ObjectKey::cluster(name), |rgd| {
            rgd.status()["state"] == "Active"
                && controller::condition::is_true(rgd.status(), "Ready")
        })
        .await
    }

    async fn wait_active(&self) -> Object {
        self.wait(&apps(), &it(), |app| {
            app.status()["state"] == "ACTIVE"
                && controller::condition::is_true(app.status(), "Ready")
        })
        .await
    }

    async fn app(&self, spec: Value) {
        self.create(
            &apps(),
            json!({"apiVersion": "kro.run/v1", "kind": "App",
            "metadata": {"name": "it", "namespace": "default"}, "spec": spec}),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_becomes_an_api_and_an_instance_becomes_objects() {
    let world = World::start().await;
    world.create(&rgds(), chain()).await;
    let rgd = world.wait_rgd_active("app").await;
    assert_eq!(
        rgd.status()["topologicalOrder"],
        json!(["first", "second", "extra"])
    );
    assert_eq!(
        rgd.status()["resources"],
        json!([{"id": "second", "dependencies": [{"id": "first"}]}])
    );
    assert_eq!(rgd.status()["lastIssuedRevision"], 1);
    let crds = Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    );
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
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.log.clear();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.log.requests(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_touch_only_what_depends_on_them_and_drift_is_corrected() {
    let world = World::start().await;
    world.create(&rgds(), chain()).await;
    world.wait_rgd_active("app").await;
    world.app(json!({"extra": true})).await;
    world.wait_active().await;
    world.log.clear();
    world
        .change(&apps(), &it(), json!({"spec": {"text": "bye"}}))
        .await;
    world
        .wait(&apps(), &it(), |app| app.status()["text"] == "bye!")
        .await;
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
    world
        .api
        .delete(
            &config_maps(),
            &config("it-first"),
            &DeleteOptions::default(),
        )
        .await
        .unwrap();
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
    world.create(&rgds(), chain()).await;
    world.wait_rgd_active("app").await;
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
    world
        .api
        .delete(&apps(), &it(), &DeleteOptions::default())
        .await
        .unwrap();
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
    tokio::time::sleep(Duration::from_millis(100)).await;
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
    world.create(&rgds(), chain()).await;
    world.wait_rgd_active("app").await;
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
    let names = || async {
        let list = world
            .api
            .list(&revisions(), &controller::ListOptions::default())
            .await
            .unwrap();
        let mut names: Vec<String> = list
            .items
            .iter()
            .map(|item| item.name().to_owned())
            .collect();
        names.sort();
        names
    };
    eventually("two revisions are left", || async {
        (names().await == ["app-r00003", "app-r00004"]).then_some(())
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
    let list = world
        .api
        .list(&revisions(), &controller::ListOptions::default())
        .await
        .unwrap();
    assert_eq!(list.items.len(), 2);
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
    world.create(&rgds(), rgd).await;
    world.wait_rgd_active("app").await;
    world.app(json!({})).await;
    let app = world
        .wait(&apps(), &it(), |app| app.status()["state"] == "IN_PROGRESS")
        .await;
    let ready = controller::condition::find(app.status(), "ResourcesReady").unwrap();
    assert!(
        ready["message"]
            .as_str()
            .unwrap()
            .contains("waiting for external reference"),
        "{ready}"
    );
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
    world
        .api
        .delete(&apps(), &it(), &DeleteOptions::default())
        .await
        .unwrap();
    world.wait_gone(&apps(), &it()).await;
    assert!(world.get(&config_maps(), &config("shared")).await.is_some());
    assert!(world.get(&config_maps(), &config("copy")).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_instance_is_left_alone_until_it_is_resumed() {
    let world = World::start().await;
    world.create(&rgds(), chain()).await;
    world.wait_rgd_active("app").await;
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
        controller::condition::find(app.status(), "ResourcesReady")
            .is_some_and(|condition| condition["reason"] == "ReconciliationSuspended")
    };
    world.wait(&apps(), &it(), suspended).await;
    world
        .change(&apps(), &it(), json!({"spec": {"text": "later"}}))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
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
    world.create(&rgds(), chain()).await;
    world.wait_rgd_active("app").await;
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
