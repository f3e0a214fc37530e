//! Definitions, passes and what is said of them.

use std::sync::Arc;

use controller::Object;
use graph::runtime::{Observation, Pass, PassOptions, Step};
use graph::{BuildError, BuildOptions, Feature, Features, Graph, OfflineKinds, build, read_spec};
use serde_json::{Value, json};

pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A Deployment whose containers are `containers`.
pub fn deployment(name: &str, containers: Value) -> Value {
    let labels = json!({"app": "it"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    })
}

/// A graph of one feature.
pub struct Author {
    pub feature: Feature,
    pub schema: Value,
    pub status: Value,
}

impl Author {
    pub fn of(feature: Feature, schema: Value) -> Self {
        let status = json!({});
        Self {
            feature,
            schema,
            status,
        }
    }

    pub fn spec(&self, resources: &Value) -> Value {
        json!({
            "schema": {"apiVersion": "v1", "kind": "App", "spec": self.schema, "status": self.status},
            "resources": resources,
        })
    }

    fn build(&self, resources: &Value, features: Features) -> Result<Graph, BuildError> {
        let options = BuildOptions {
            features,
            ..BuildOptions::default()
        };
        read_spec(&self.spec(resources))
            .and_then(|spec| build(&spec, &OfflineKinds::new(), &options))
    }

    pub fn graph(&self, resources: Value) -> Graph {
        self.build(&resources, Features::default().with(self.feature))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why it does not build.
    #[track_caller]
    pub fn refused(&self, resources: Value, expect: &str) {
        let built = self.build(&resources, Features::default().with(self.feature));
        assert_eq!(message(built), expect);
    }

    /// What is said as long as the gate is off.
    #[track_caller]
    pub fn refused_without_gate(&self, resources: Value, expect: &str) {
        let others = Features::all().switched(self.feature, false);
        assert_eq!(message(self.build(&resources, others)), expect);
        self.graph(resources);
    }
}

fn message(built: Result<Graph, BuildError>) -> String {
    match built {
        Ok(_) => "built".to_owned(),
        Err(error) => error.to_string(),
    }
}

pub fn instance(spec: Value) -> Object {
    Object::new(json!({"apiVersion": "kro.run/v1", "kind": "App",
        "metadata": {"name": "it", "namespace": "ns", "uid": "u"}, "spec": spec}))
}

pub fn pass(graph: &Graph, spec: Value) -> Pass<'_> {
    Pass::new(graph, &instance(spec), PassOptions::default())
}

pub fn step(pass: &Pass<'_>, id: &str) -> Step {
    pass.step(pass.graph().position(id).unwrap())
}

pub fn observe(pass: &mut Pass<'_>, id: &str, object: Value) {
    let node = pass.graph().position(id).unwrap();
    pass.observe(node, Observation::One(Arc::new(Object::new(object))));
    pass.settle(node);
}

/// Computes a variable.
#[track_caller]
pub fn learn(pass: &mut Pass<'_>, id: &str) -> Value {
    let node = pass.graph().position(id).unwrap();
    match pass.step(node) {
        Step::Value(value) => {
            pass.learn(node, value.clone());
            value
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn objects(step: Step) -> Vec<Value> {
    match step {
        Step::Apply(objects) => objects,
        other => panic!("{other:?}"),
    }
}
