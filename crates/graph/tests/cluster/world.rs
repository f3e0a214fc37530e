//! A cluster with the graph controllers, and what tests do with it.

use std::time::Duration;

use controller::{
    Api, Backoff, DeleteOptions, Faults, Object, ObjectKey, RequestLog, Resource, Subresource,
};
use graph::{Feature, Features, GraphControllers, Options};
use serde_json::{Value, json};
use testkit::{Cluster, eventually};
use tokio_util::sync::CancellationToken;

pub struct World {
    pub cluster: Cluster,
    pub api: Api,
    /// What the controllers ask the server.
    pub log: RequestLog,
    shutdown: CancellationToken,
    controllers: Option<GraphControllers>,
}

pub fn rgds() -> Resource {
    Resource::cluster(
        "kro.run/v1alpha1",
        "resourcegraphdefinitions",
        "ResourceGraphDefinition",
    )
}

pub fn revisions() -> Resource {
    Resource::cluster(
        "internal.kro.run/v1alpha1",
        "graphrevisions",
        "GraphRevision",
    )
}

pub fn crds() -> Resource {
    Resource::cluster(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    )
}

pub fn apps() -> Resource {
    Resource::namespaced("kro.run/v1", "apps", "App")
}

pub fn config_maps() -> Resource {
    Resource::namespaced("v1", "configmaps", "ConfigMap")
}

pub fn it() -> ObjectKey {
    ObjectKey::new("default", "it")
}

pub fn config(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// An App of a chain of two ConfigMaps and an optional third.
pub fn chain() -> Value {
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
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::on(Cluster::start().await, options).await
    }

    pub async fn on(cluster: Cluster, options: Options) -> Self {
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

    pub async fn start_controllers(&mut self, options: Options) {
        let client = self.log.wrap(self.cluster.client());
        self.start_controllers_with(client, options).await;
    }

    pub async fn start_controllers_with(&mut self, client: kube::Client, options: Options) {
        self.shutdown = CancellationToken::new();
        self.controllers = Some(
            graph::start(client, options, self.shutdown.clone())
                .await
                .unwrap(),
        );
    }

    /// Starts controllers whose every call may fail.
    pub async fn start_controllers_under(&mut self, faults: &Faults, options: Options) {
        let client = self.log.wrap(faults.wrap(self.cluster.client()));
        self.start_controllers_with(client, options).await;
    }

    pub async fn stop_controllers(&mut self) {
        self.shutdown.cancel();
        self.controllers.take().unwrap().stopped().await;
    }

    pub async fn create(&self, resource: &Resource, object: Value) {
        self.api
            .create(resource, &object)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    pub async fn get(&self, resource: &Resource, key: &ObjectKey) -> Option<Object> {
        self.api.get_opt(resource, key).await.unwrap()
    }

    /// Creates a definition and waits until it is served.
    pub async fn define(&self, rgd: Value) -> Object {
        let name = rgd["metadata"]["name"].as_str().unwrap().to_owned();
        self.create(&rgds(), rgd).await;
        self.wait_rgd_active(&name).await
    }

    pub async fn delete(&self, resource: &Resource, key: &ObjectKey) {
        let options = DeleteOptions::default();
        self.api.delete(resource, key, &options).await.unwrap();
    }

    /// Deletes the instance and waits until it is gone.
    pub async fn delete_app(&self) {
        self.delete(&apps(), &it()).await;
        self.wait_gone(&apps(), &it()).await;
    }

    pub async fn change(&self, resource: &Resource, key: &ObjectKey, patch: Value) {
        self.api
            .merge_patch(resource, key, Subresource::None, &patch)
            .await
            .unwrap();
    }

    /// Waits until an object is as `wanted` says.
    pub async fn wait(
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
            last.map(Object::into_value).unwrap_or_default()
        );
    }

    pub async fn wait_gone(&self, resource: &Resource, key: &ObjectKey) {
        eventually(&format!("{resource} {key} is gone"), || async {
            self.get(resource, key).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until the definition is served as it is now.
    pub async fn wait_rgd_active(&self, name: &str) -> Object {
        self.wait(&rgds(), &ObjectKey::cluster(name), |rgd| {
            rgd.status()["state"] == "Active" && is_ready(rgd)
        })
        .await
    }

    /// Waits until the instance is active as it is now.
    pub async fn wait_active(&self) -> Object {
        self.wait(&apps(), &it(), |app| {
            app.status()["state"] == "ACTIVE" && is_ready(app)
        })
        .await
    }

    /// Waits until the controllers ask the server nothing any more: all that has happened is seen, and nothing turns in
    /// circles. What is counted before and after a change is counted from here to here.
    pub async fn quiet(&self) {
        eventually("the controllers are done", || async {
            let before = self.log.requests().len();
            tokio::time::sleep(Duration::from_millis(500)).await;
            (self.log.requests().len() == before).then_some(())
        })
        .await;
    }

    pub async fn app(&self, spec: Value) {
        self.create(
            &apps(),
            json!({"apiVersion": "kro.run/v1", "kind": "App",
            "metadata": {"name": "it", "namespace": "default"}, "spec": spec}),
        )
        .await;
    }
}

/// Options with these features on.
pub fn with(features: &[Feature]) -> Options {
    let mut options = Options::default();
    let on = |all: Features, feature: &Feature| all.with(*feature);
    options.build.features = features.iter().fold(Features::default(), on);
    options
}

/// The same, but failures are tried again at once, so that tests under faults need not wait.
pub fn impatient(options: Options) -> Options {
    Options {
        backoff: Backoff {
            base: Duration::from_millis(5),
            max: Duration::from_millis(100),
        },
        max_retries: u32::MAX,
        retry_interval: Duration::from_millis(20),
        ..options
    }
}

/// An App with this schema, status and these resources.
pub fn app(spec: Value, status: Value, resources: Value) -> Value {
    json!({
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": "app"},
        "spec": {
            "schema": {"apiVersion": "v1", "kind": "App", "spec": spec, "status": status},
            "resources": resources,
        },
    })
}

/// Whether the object is ready, and says so of its newest generation.
fn is_ready(object: &Object) -> bool {
    let ready = condition(object, "Ready");
    ready["status"] == "True" && ready["observedGeneration"] == object.generation()
}

pub fn condition(object: &Object, type_: &str) -> Value {
    controller::condition::find(object.status(), type_)
        .cloned()
        .unwrap_or_default()
}
