//! What a cluster has of a graph: its definition, its instances, and the objects of an instance.

use anyhow::{Context as _, anyhow};
use controller::{Api, ListOptions, ObjectKey, Resource};
use graph::{BuildOptions, Features, Graph, OfflineKinds, keys};
use serde_json::Value;

/// The resources of an instance's objects, each with the labels its own have; `None` for what it only refers to.
pub fn kinds_of(graph: &Graph, uid: &str) -> Vec<(Resource, Option<String>)> {
    let own = format!("{}={uid}", keys::INSTANCE_ID);
    let mut kinds = Vec::new();
    let with_objects = graph.nodes.iter().filter(|node| !node.kind.is_variable());
    for node in with_objects {
        let selector = node.kind.is_ours().then(|| own.clone());
        let pair = (node.resource.clone(), selector);
        if !kinds.contains(&pair) {
            kinds.push(pair);
        }
    }
    kinds
}

/// A cluster, read.
pub struct Live {
    /// Requests.
    pub api: Api,
    /// The kinds its CustomResourceDefinitions bring.
    kinds: OfflineKinds,
    options: BuildOptions,
}

/// The resource of ResourceGraphDefinitions.
pub fn definitions() -> Resource {
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

impl Live {
    /// Reads which kinds a cluster serves.
    pub async fn new(client: kube::Client, features: Features) -> anyhow::Result<Self> {
        let api = Api::new(client);
        let crds = Resource::cluster(
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
        );
        let list = api
            .list(&crds, &ListOptions::default())
            .await
            .context("reading the CustomResourceDefinitions")?;
        let mut kinds = OfflineKinds::new();
        for crd in &list.items {
            kinds.add_crd(crd.value());
        }
        let options = BuildOptions {
            features,
            ..BuildOptions::default()
        };
        Ok(Self {
            api,
            kinds,
            options,
        })
    }

    /// Makes the kind of a CustomResourceDefinition known that the cluster does not have yet.
    pub fn add_crd(&mut self, crd: &Value) {
        self.kinds.add_crd(crd);
    }

    /// Builds a definition against what the cluster serves.
    pub fn build(&self, definition: &Value) -> anyhow::Result<Graph> {
        let built = graph::read_spec(&definition["spec"])
            .and_then(|spec| graph::build(&spec, &self.kinds, &self.options));
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        built.map_err(|error| anyhow!("ResourceGraphDefinition {name:?}: {error}"))
    }

    /// The graph of the revision an instance is on, if its status says that and the revision is still there.
    pub async fn own_graph(
        &self,
        definition: &Value,
        instance: &Value,
    ) -> anyhow::Result<Option<Graph>> {
        let Some(number) = instance["status"]["graphRevision"].as_i64() else {
            return Ok(None);
        };
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let options = ListOptions {
            label_selector: Some(format!("{}={name}", keys::RGD_NAME)),
            ..ListOptions::default()
        };
        let list = self.api.list(&revisions(), &options).await;
        let list = list.context("reading the GraphRevisions")?;
        let is_it = |it: &&controller::Object| it.spec()["revision"] == number;
        let Some(revision) = list.items.iter().find(is_it) else {
            return Ok(None);
        };
        let mut definition = definition.clone();
        definition["spec"] = revision.spec()["snapshot"]["spec"].clone();
        self.build(&definition).map(Some)
    }

    /// All definitions.
    pub async fn definitions(&self) -> anyhow::Result<Vec<Value>> {
        let list = self.api.list(&definitions(), &ListOptions::default()).await;
        let list = list.context("reading the ResourceGraphDefinitions")?;
        Ok(list
            .items
            .into_iter()
            .map(controller::Object::into_value)
            .collect())
    }

    /// The definition of a name.
    pub async fn definition(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let found = self
            .api
            .get_opt(&definitions(), &ObjectKey::cluster(name))
            .await?;
        Ok(found.map(controller::Object::into_value))
    }

    /// All instances of a graph; none where its kind is not served yet.
    pub async fn instances(&self, graph: &Graph) -> anyhow::Result<Vec<Value>> {
        match self
            .api
            .list(&graph.schema.resource(), &ListOptions::default())
            .await
        {
            Ok(list) => Ok(list
                .items
                .into_iter()
                .map(controller::Object::into_value)
                .collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error).context("reading the instances"),
        }
    }

    /// The objects there are of an instance, and those its graph refers to.
    pub async fn observed(&self, graph: &Graph, instance: &Value) -> anyhow::Result<Vec<Value>> {
        let uid = instance["metadata"]["uid"].as_str().unwrap_or_default();
        let mut observed = Vec::new();
        for (resource, label_selector) in kinds_of(graph, uid) {
            let options = ListOptions {
                label_selector,
                ..ListOptions::default()
            };
            match self.api.list(&resource, &options).await {
                Ok(list) => observed.extend(list.items.into_iter().map(|item| {
                    let mut value = item.into_value();
                    // Items of lists need not say what they are.
                    value["apiVersion"] = resource.api_version().into();
                    value["kind"] = (*resource.kind).into();
                    value
                })),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error).with_context(|| format!("reading {resource}")),
            }
        }
        Ok(observed)
    }
}
