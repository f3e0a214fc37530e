//! Brings the objects of one resource to what they should be, or reads those that exist without us.

use std::sync::Arc;

use controller::{Error, ListOptions, Object, ObjectKey};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::external_fields::leave_out;
use super::give::Given;
use super::memory::{self, Applied};
use super::patience::{Correction, Patience};
use super::{Instance, creation, quarrel, retention};
use crate::build::{Node, NodeKind};
use crate::controllers::watches::Children;
use crate::external_fields::ExternalField;
use crate::keys;
use crate::lifecycle::{Adoption, Policy, Update};
use crate::runtime::{Deferred, Gate, NodeState, Observation, hold};

/// When to look again at an object that is not admitted, though its coming or going is watched.
const UNADMITTED_WAIT: Duration = Duration::from_mins(1);

/// One object that should be.
#[derive(Clone)]
pub(super) struct Item {
    pub key: ObjectKey,
    pub desired: Value,
    /// How it comes and goes.
    pub policy: Policy,
    /// Whether it may be written.
    pub gate: Gate,
    /// Fields that were left out because they are somebody else's.
    pub released: Vec<ExternalField>,
    /// What is remembered of it.
    pub known: Option<Applied>,
    /// The troubles with it.
    pub patience: Patience,
    /// What is left out of it until its data is there.
    pub deferred: Vec<Deferred>,
}

impl Item {
    /// The item with the deferred fields that are there already; `None` if that changes nothing.
    fn held(&self, live: Option<&Object>) -> Option<Self> {
        let live = live.filter(|_| !self.deferred.is_empty())?;
        let fields: Vec<_> = self
            .deferred
            .iter()
            .map(|field| field.path.clone())
            .collect();
        let mut desired = self.desired.clone();
        hold(&mut desired, live.value(), &fields).then(|| Self {
            desired,
            ..self.clone()
        })
    }
}

/// What became of one resource.
pub(super) struct NodeResult {
    pub node: usize,
    pub observation: Option<Observation>,
    /// Set when it cannot be told from the observation.
    pub state: Option<NodeState>,
    pub applied: Vec<(ObjectKey, Applied)>,
    /// Why objects may not be written now.
    pub held: Vec<String>,
    /// The troubles with its objects.
    pub patience: Vec<(ObjectKey, Patience)>,
    /// When to look again though nothing happens, if that is known.
    pub again: Option<Duration>,
    /// What was given to objects that exist without us.
    pub given: Vec<(ObjectKey, Given)>,
}

impl NodeResult {
    fn state(node: usize, state: NodeState) -> Self {
        Self {
            node,
            observation: None,
            state: Some(state),
            ..Self::empty(node)
        }
    }

    fn observed(node: usize, observation: Observation) -> Self {
        Self {
            observation: Some(observation),
            ..Self::empty(node)
        }
    }

    pub fn empty(node: usize) -> Self {
        Self {
            node,
            observation: None,
            state: None,
            applied: Vec::new(),
            held: Vec::new(),
            patience: Vec::new(),
            again: None,
            given: Vec::new(),
        }
    }
}

/// Why an object is not as it should be.
enum ItemError {
    Terminating,
    OfAnother(String),
    /// It was to be taken over and is not there, or to be made and is.
    NotAdmitted(&'static str),
    /// It may not be written now; it is left as it is, if it exists.
    Held(String, Option<Arc<Object>>),
    /// Whether it may be written cannot be told.
    GateFailed(String),
    /// Somebody deletes it each time it is made.
    KeepsBeingDeleted,
    /// It was refused, and it is too early to try again.
    Refused(String),
    Api(Error),
}

/// What became of one object.
struct ItemResult {
    outcome: Result<(Arc<Object>, Applied), ItemError>,
    patience: Patience,
    again: Option<Duration>,
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
    let results: Vec<ItemResult> = futures::stream::iter(items)
        .map(|item| one(instance, this, &children, item))
        .buffered(limit)
        .collect()
        .await;
    let mut objects = Vec::with_capacity(keys.len());
    let mut result = NodeResult::empty(node);
    for (key, item) in keys.into_iter().zip(results) {
        match item.outcome {
            Ok((object, remembered)) => {
                objects.push(object);
                result.applied.push((key.clone(), remembered));
            }
            Err(error) => {
                let state = describe(this, &key, &error);
                // What is only held says less than what has failed.
                if matches!(result.state, None | Some(NodeState::InProgress(_))) {
                    result.state = Some(state);
                }
                if let ItemError::Held(why, live) = error {
                    objects.extend(live);
                    result.held.push(why);
                }
            }
        }
        result.patience.push((key, item.patience));
        result.again = earliest(result.again, item.again);
    }
    // What could be applied is observed even if some of it failed, so that the status can show it.
    result.observation = match this.kind {
        NodeKind::Resource => objects.pop().map(Observation::One),
        _ => Some(many(&objects, result.state.is_none())),
    };
    result
}

/// The shorter of two waits.
pub(super) fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
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
        ItemError::Held(why, _) => NodeState::InProgress(why.clone()),
        ItemError::GateFailed(message) => NodeState::Error(message.clone()),
        ItemError::NotAdmitted(why) => NodeState::Error(format!(
            "resource \"{}\": {} \"{key}\" {why}",
            node.id, node.resource.kind
        )),
        ItemError::KeepsBeingDeleted => NodeState::Waiting(format!(
            "resource \"{}\": {} \"{key}\" is deleted each time it is made",
            node.id, node.resource.kind
        )),
        ItemError::Refused(message) => {
            NodeState::Error(format!("resource \"{}\": {message}", node.id))
        }
        ItemError::Api(error) => NodeState::Error(format!("resource \"{}\": {error}", node.id)),
    }
}

/// Applies one object unless nothing would change or it is too early.
async fn one(
    instance: &Instance<'_>,
    node: &Node,
    children: &Children,
    mut item: Item,
) -> ItemResult {
    let mut patience = std::mem::take(&mut item.patience);
    let mut again = None;
    let outcome = match leave_out(instance, node, children, &mut item).await {
        Ok(()) => try_one(instance, node, children, &item, &mut patience, &mut again).await,
        Err(error) => Err(ItemError::Api(error)),
    };
    ItemResult {
        outcome,
        patience,
        again,
    }
}

async fn try_one(
    instance: &Instance<'_>,
    node: &Node,
    children: &Children,
    item: &Item,
    patience: &mut Patience,
    again: &mut Option<Duration>,
) -> Result<(Arc<Object>, Applied), ItemError> {
    let live = live(instance, node, children, item)
        .await
        .map_err(ItemError::Api)?;
    let held = item.held(live.as_deref());
    let item = held.as_ref().unwrap_or(item);
    if let Some(live) = &live {
        check_ours(instance, live)?;
    }
    if let Err(why) = retention::admits(item.policy.adoption, live.as_deref(), &instance.applyset) {
        // Its coming or going wakes us.
        *again = Some(UNADMITTED_WAIT);
        return Err(ItemError::NotAdmitted(why));
    }
    if let Some(live) = &live {
        if item.policy.update == Update::Never {
            let kept = retention::mark(instance, node, &item.desired, live).await;
            let kept = kept.map(Arc::new).map_err(ItemError::Api)?;
            let applied = Applied::new(&node.id, &item.desired, &kept, &item.released);
            return Ok((kept, applied));
        }
        if let Some(known) = item
            .known
            .as_ref()
            .filter(|known| known.still_holds(&item.desired, live))
        {
            patience.in_order();
            return Ok((Arc::clone(live), known.clone()));
        }
    }
    match &item.gate {
        Gate::Open => {}
        Gate::Closed(why) => return Err(ItemError::Held(why.clone(), live)),
        Gate::Failed(message) => return Err(ItemError::GateFailed(message.clone())),
    }
    let known = item
        .known
        .as_ref()
        .filter(|known| known.is_of(&item.desired));
    if let Some(known) = known
        && let Correction::Wait { wait, is_new } = patience.undone(Instant::now())
    {
        *again = Some(wait);
        if is_new {
            let full = with_managed_fields(instance, node, &item.key).await?;
            quarrel::report(instance, node, full.as_ref(), patience);
        }
        return match live {
            Some(live) => Ok((live, known.clone())),
            None => Err(ItemError::KeepsBeingDeleted),
        };
    }
    let written = write(instance, node, item, live.as_deref(), patience, again).await?;
    if known.is_some() {
        record_correction(live.as_deref(), &written, patience);
    }
    let applied = Applied::new(&node.id, &item.desired, &written, &item.released);
    Ok((Arc::new(written), applied))
}

/// Refuses what is going, and what another instance has.
fn check_ours(instance: &Instance<'_>, live: &Object) -> Result<(), ItemError> {
    if live.is_terminating() {
        return Err(ItemError::Terminating);
    }
    match live.label(keys::PART_OF) {
        Some(other) if other != instance.applyset => Err(ItemError::OfAnother(other.to_owned())),
        _ => Ok(()),
    }
}

/// Writes an object, unless the server has refused just that a while ago.
async fn write(
    instance: &Instance<'_>,
    node: &Node,
    item: &Item,
    live: Option<&Object>,
    patience: &mut Patience,
    again: &mut Option<Duration>,
) -> Result<Object, ItemError> {
    let first_wait = instance.context.options.retry_interval;
    let attempt = memory::attempt(&item.desired, live);
    if let Some((message, wait)) = patience.too_early(attempt, first_wait, Instant::now()) {
        *again = Some(wait);
        return Err(ItemError::Refused(message));
    }
    match creation::write(instance, node, item, live).await {
        Ok(written) => {
            patience.accepted();
            Ok(without_managed_fields(written))
        }
        Err(error) if error.is_already_exists() && item.policy.adoption == Adoption::CreateOnly => {
            // Somebody was faster.
            *again = Some(UNADMITTED_WAIT);
            Err(ItemError::NotAdmitted(retention::EXISTS))
        }
        Err(error) => {
            if !error.is_retryable() {
                let wait = patience.refused(attempt, error.to_string(), first_wait, Instant::now());
                *again = Some(wait);
            }
            Err(ItemError::Api(error))
        }
    }
}

/// Tells a correction from an apply that changed nothing, as when others write what is theirs.
fn record_correction(before: Option<&Object>, written: &Object, patience: &mut Patience) {
    match before {
        Some(before) if before.uid() == written.uid() => {
            let fields = quarrel::differing_fields(before.value(), written.value());
            if fields.is_empty() {
                patience.in_order();
            } else {
                patience.corrected(fields, Instant::now());
            }
        }
        _ => patience.corrected(Vec::new(), Instant::now()),
    }
}

async fn with_managed_fields(
    instance: &Instance<'_>,
    node: &Node,
    key: &ObjectKey,
) -> Result<Option<Object>, ItemError> {
    let api = &instance.context.api;
    api.get_opt(&node.resource, key)
        .await
        .map_err(ItemError::Api)
}

/// The object as it is: from the cache if that is as new as our own last write, from the server otherwise.
pub(super) async fn live(
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
pub(super) fn without_managed_fields(object: Object) -> Object {
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
        Ok(Some(object)) => NodeResult::observed(
            node,
            Observation::One(Arc::new(without_managed_fields(object))),
        ),
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
            NodeResult::observed(node, observation)
        }
        Err(error) => NodeResult::state(
            node,
            NodeState::Error(format!("resource \"{}\": {error}", this.id)),
        ),
    }
}
