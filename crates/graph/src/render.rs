//! What an instance would become, without a cluster.
//!
//! Every object is taken to exist as soon as it is asked for, exactly as its template says; what is given as observed
//! (statuses, external objects) is laid over that. So the whole graph runs through in one go as far as it can.

use std::sync::Arc;

use controller::{Object, ObjectKey};
use serde_json::Value;

use crate::build::{Graph, NodeKind};
use crate::lifecycle::Policy;
use crate::runtime::{NodeState, Observation, Pass, PassOptions, Readiness, Step};

/// One resource of a rendered instance.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedNode {
    /// Its id.
    pub id: String,
    /// The objects it stands for; for a patch what it gives to each.
    pub objects: Vec<Value>,
    /// The value of a variable.
    pub value: Option<Value>,
    /// Whether its objects exist without it, and are only given fields.
    pub is_patch: bool,
    /// Where it would stand.
    pub state: NodeState,
    /// How they come and go.
    pub policy: Policy,
}

/// What an instance would become.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The resources, in the order of creation.
    pub nodes: Vec<RenderedNode>,
    /// The author's part of the status.
    pub status: Value,
}

/// Fills in the defaults of the generated schema, as the API server would.
pub fn with_defaults(graph: &Graph, instance: &Value) -> Value {
    let mut instance = instance.clone();
    let crd = graph.crd();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    if let Ok(schema) = schema::Schema::custom_resource(schema, false) {
        schema::default(&schema, &mut instance);
    }
    instance
}

/// Renders an instance. `observed` are objects as they are said to be, matched by kind, namespace and name.
pub fn render(
    graph: &Graph,
    instance: &Value,
    observed: &[Value],
    options: PassOptions,
) -> Rendered {
    let instance = Object::new(with_defaults(graph, instance));
    let observed: Vec<Object> = observed.iter().cloned().map(Object::new).collect();
    let mut pass = Pass::new(graph, &instance, options);
    let mut nodes: Vec<RenderedNode> = Vec::new();
    // What is filled in later is looked at again when everything has been seen once.
    let later = |node: &usize| graph.nodes[*node].has_deferred_fields();
    let again: Vec<usize> = graph.order.iter().copied().filter(later).collect();
    for (turn, node) in graph.order.iter().copied().chain(again).enumerate() {
        let (mut objects, mut value) = (Vec::new(), None);
        let state = match pass.step(node) {
            Step::Blocked(reason) | Step::Pending(reason) => NodeState::InProgress(reason),
            Step::Skip => NodeState::Skipped,
            Step::Fail(message) => NodeState::Error(message),
            Step::Value(known) => {
                value = Some(known.clone());
                pass.learn(node, known);
                pass.state(node).clone()
            }
            step => {
                objects = objects_of(graph, node, &step, &observed);
                observe(&mut pass, node, &step, &objects, &observed)
            }
        };
        pass.set_state(node, state.clone());
        let is_again = turn >= graph.order.len();
        let state = match pass.awaited_field(node) {
            Some(reason) if is_again && state == NodeState::Synced => NodeState::Waiting(reason),
            _ => state,
        };
        let id = graph.nodes[node].id.clone();
        let objects = if graph.nodes[node].kind.is_written() {
            objects
        } else {
            Vec::new()
        };
        let (policy, state) = match (pass.policy(node), state) {
            (Ok(policy), state) => (policy, state),
            (Err(message), NodeState::Synced | NodeState::Waiting(_)) => {
                (Policy::default(), NodeState::Error(message))
            }
            (Err(_), state) => (Policy::default(), state),
        };
        let rendered = RenderedNode {
            id,
            objects,
            value,
            is_patch: graph.nodes[node].kind.is_patch(),
            state,
            policy,
        };
        match nodes.iter_mut().find(|known| known.id == rendered.id) {
            Some(known) => *known = rendered,
            None => nodes.push(rendered),
        }
    }
    Rendered {
        nodes,
        status: pass.status(),
    }
}

fn objects_of(graph: &Graph, node: usize, step: &Step, observed: &[Object]) -> Vec<Value> {
    let resource = &graph.nodes[node].resource;
    let is_kind = |object: &&Object| {
        object.kind() == &*resource.kind && object.api_version() == resource.api_version()
    };
    match step {
        Step::Apply(objects) => objects.clone(),
        Step::Read(key) => find(observed, graph, node, key)
            .into_iter()
            .map(|found| found.value().clone())
            .collect(),
        Step::List {
            namespace,
            selector,
        } => {
            let selector = model::LabelSelector::parse(selector)
                .unwrap_or_else(|_| model::LabelSelector::everything());
            let selected = observed.iter().filter(is_kind).filter(|object| {
                namespace
                    .as_deref()
                    .is_none_or(|namespace| object.namespace() == Some(namespace))
                    && selector.matches_with(|key| object.label(key))
            });
            selected.map(|object| object.value().clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn find<'o>(
    observed: &'o [Object],
    graph: &Graph,
    node: usize,
    key: &ObjectKey,
) -> Option<&'o Object> {
    let resource = &graph.nodes[node].resource;
    observed.iter().find(|object| {
        object.kind() == &*resource.kind
            && object.api_version() == resource.api_version()
            && object.key() == *key
    })
}

/// Tells the pass what is there, and where that leaves the resource.
fn observe(
    pass: &mut Pass<'_>,
    node: usize,
    step: &Step,
    objects: &[Value],
    observed: &[Object],
) -> NodeState {
    let graph = pass.graph();
    let laid_over = |object: &Value| {
        let key = Object::new(object.clone()).key();
        let mut whole = object.clone();
        if let Some(found) = find(observed, graph, node, &key) {
            merge(&mut whole, found.value(), 0);
        }
        whole
    };
    let kind = graph.nodes[node].kind;
    let observation = match (kind, objects.first()) {
        (NodeKind::Resource | NodeKind::External, Some(object)) => {
            Observation::One(Arc::new(Object::new(laid_over(object))))
        }
        (NodeKind::Resource | NodeKind::External, None) => {
            let wanted = if let Step::Read(key) = step {
                key.to_string()
            } else {
                String::new()
            };
            return NodeState::Waiting(format!("waiting for external reference \"{wanted}\""));
        }
        _ => {
            let items = objects.iter().map(laid_over).collect();
            Observation::Many {
                items: Arc::new(Value::Array(items)),
                complete: true,
            }
        }
    };
    pass.observe(node, observation);
    match pass.readiness(node) {
        Readiness::Ready => NodeState::Synced,
        Readiness::Waiting(reason) => NodeState::Waiting(reason),
        Readiness::Failed(message) => NodeState::Error(message),
    }
}

/// Lays one document over another; lists are replaced.
fn merge(into: &mut Value, from: &Value, depth: usize) {
    const DEPTH_LIMIT: usize = 128;
    match (into, from) {
        (Value::Object(into), Value::Object(from)) if depth < DEPTH_LIMIT => {
            for (key, value) in from {
                merge(
                    into.entry(key.clone()).or_insert(Value::Null),
                    value,
                    depth + 1,
                );
            }
        }
        (into, from) => into.clone_from(from),
    }
}
