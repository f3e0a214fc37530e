//! Brings the objects of one resource to what they should be, or reads those that exist without us.

use std::sync::Arc;

use controller::{ApplyOptions, Error, ListOptions, Object, ObjectKey};
use futures::StreamExt as _;
use serde_json::Value;

use super::Instance;
use super::memory::Applied;
use crate::build::{Node, NodeKind};
use crate::controllers::watches::Children;
use crate::keys;
use crate::runtime::{NodeState, Observation};

/// One object that should be.
pub(super) struct Item {
    pub key: ObjectKey,
    pub desired: Value,
    /// What is remembered of it.
    pub known: Option<Applied>,
}

/// What became of one resource.
pub(super) struct NodeResult {
    pub node: usize,
    pub observation: Option<Observation>,
    /// Set when it cannot be told from the observation.
    pub state: Option<NodeState>,
    pub applied: Vec<(ObjectKey, Applied)>,
}

impl NodeResult {
    fn state(node: usize, state: NodeState) -> Self {
        Self {
            node,
            observation: None,
            state: Some(state),
            applied: Vec::new(),
        }
    }
}

/// Why an object is not as it should be.
enum ItemError {
    Terminating,
    OfAnother(String),
    Api(Error),
}

/// Applies all objects of a resource.
pub(super) async fn run(
    instance: &Instance<'_>,
    node: usize,
    this: &Node,
    items: Vec<Item>,
) -> NodeResult {
    let children = match instance.context.watches.children(&this.resource).await {
        Ok(children) => children,
        Err(error) => return NodeResult::state(node, NodeState::Error(error.to_string())),
    };
    let keys: Vec<ObjectKey> = items.iter().map(|item| item.key.clone()).collect();
    let limit = instance.context.options.apply_concurrency.max(1);
    let results: Vec<Result<(Arc<Object>, Applied), ItemError>> = futures::stream::iter(items)
        .map(|item| one(instance, this, &children, item))
        .buffered(limit)
        .collect()
        .await;
    let mut objects = Vec::with_capacity(keys.len());
    let mut applied = Vec::with_capacity(keys.len());
    let mut state = None;
    for (key, result) in keys.into_iter().zip(results) {
        match result {
            Ok((object, remembered)) => {
                objects.push(object);
                applied.push((key, remembered));
            }
            Err(error) => state = state.or_else(|| Some(describe(this, &key, &error))),
        }
    }
    // What could be applied is observed even if some of it failed, so that the status can show it.
    let observation = match this.kind {
        NodeKind::Resource => objects.pop().map(Observation::One),
        _ => Some(many(&objects, state.is_none())),
    };
    NodeResult {
        node,
        observation,
        state,
        applied,
    }
}

fn many(objects: &[Arc<Object>], complete: bool) -> Observation {
    let items = objects
        .iter()
        .map(|object| object.value().clone())
        .collect();
    Observation::Many {
        items: Arc::new(Value::Array(items)),
        complete,
    }
}

fn describe(node: &Node, key: &ObjectKey, error: &ItemError) -> NodeState {
    match error {
        ItemError::Terminating => NodeState::Deleting(format!(
            "resource \"{key}\" of \"{}\" is being deleted",
            node.id
        )),
        ItemError::OfAnother(other) => NodeState::Error(format!(
            "resource \"{}\": {} \"{key}\": resource belongs to a different ApplySet: {other}",
            node.id, node.resource.kind
        )),
        ItemError::Api(error) => NodeState::Error(format!("resource \"{}\": {error}", node.id)),
    }
}

/// Applies one object unless nothing would change.
async fn one(
    instance: &Instance<'_>,
    node: &Node,
    children: &Children,
    item: Item,
) -> Result<(Arc<Object>, Applied), ItemError> {
    let live = live(instance, node, children, &item)
        .await
        .map_err(ItemError::Api)?;
    if let Some(live) = &live {
        if live.is_terminating() {
            return Err(ItemError::Terminating);
        }
        match live.label(keys::PART_OF) {
            Some(other) if other != instance.applyset => {
                return Err(ItemError::OfAnother(other.to_owned()));
            }
            _ => {}
        }
        if let Some(known) = item
            .known
            .as_ref()
            .filter(|known| known.still_holds(&item.desired, live))
        {
            return Ok((Arc::clone(live), known.clone()));
        }
    }
    let options = ApplyOptions::force(keys::MANAGER_APPLYSET);
    let api = &instance.context.api;
    let written = api
        .apply(&node.resource, &item.desired, &options)
        .await
        .map_err(ItemError::Api)?;
    let written = without_managed_fields(written);
    let applied = Applied::new(&node.id, &item.desired, &written);
    Ok((Arc::new(written), applied))
}

/// The object as it is: from the cache if that is as new as our own last write, from the server otherwise.
async fn live(
    instance: &Instance<'_>,
    node: &Node,
    children: &Children,
    item: &Item,
) -> Result<Option<Arc<Object>>, Error> {
    if let Some(cached) = children.get(&item.key)
        && !item
            .known
            .as_ref()
            .is_some_and(|known| known.is_newer_than(&cached))
    {
        return Ok(Some(cached));
    }
    let found = instance
        .context
        .api
        .get_opt(&node.resource, &item.key)
        .await?;
    Ok(found.map(without_managed_fields).map(Arc::new))
}

/// An object as the cache has it, so that expressions see the same wherever it came from.
fn without_managed_fields(object: Object) -> Object {
    let mut value = object.into_value();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Object::new(value)
}

/// Reads an object that exists without us.
pub(super) async fn read(
    instance: &Instance<'_>,
    node: usize,
    this: &Node,
    key: ObjectKey,
) -> NodeResult {
    match instance.context.api.get_opt(&this.resource, &key).await {
        Ok(Some(object)) => NodeResult {
            node,
            observation: Some(Observation::One(Arc::new(without_managed_fields(object)))),
            state: None,
            applied: Vec::new(),
        },
        Ok(None) => {
            let (id, kind) = (&this.id, &this.resource.kind);
            let message =
                format!("waiting for external reference \"{id}\": {kind} \"{key}\" not found");
            NodeResult::state(node, NodeState::Waiting(message))
        }
        Err(error) => NodeResult::state(
            node,
            NodeState::Error(format!("resource \"{}\": {error}", this.id)),
        ),
    }
}

/// Lists objects that exist without us.
pub(super) async fn list(
    instance: &Instance<'_>,
    node: usize,
    this: &Node,
    namespace: Option<String>,
    selector: String,
) -> NodeResult {
    let options = ListOptions {
        namespace,
        label_selector: Some(selector).filter(|selector| !selector.is_empty()),
        ..ListOptions::default()
    };
    match instance.context.api.list(&this.resource, &options).await {
        Ok(list) => {
            let items = list
                .items
                .into_iter()
                .map(without_managed_fields)
                .map(Object::into_value)
                .collect();
            let observation = Observation::Many {
                items: Arc::new(Value::Array(items)),
                complete: true,
            };
            NodeResult {
                node,
                observation: Some(observation),
                state: None,
                applied: Vec::new(),
            }
        }
        Err(error) => NodeResult::state(
            node,
            NodeState::Error(format!("resource \"{}\": {error}", this.id)),
        ),
    }
}
