//! Gives fields to objects that exist without us, and takes them back (gate `Decorators`).
//!
//! Nothing is created: an object that is not there is waited for, and the uid in every apply makes sure that it is the one
//! that was looked at. Nothing is forced: what another manager owns is a conflict, which is told. The instance records the
//! kinds before the first field is given, as the inventory does for members.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use controller::{ApplyOptions, Error, ListOptions, Object, ObjectKey, Resource, Subresource};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::apply::{NodeResult, earliest};
use super::memory::{self, Applied};
use super::patience::Patience;
use super::wavefront::{Run, Running};
use super::{Instance, InstanceError};
use crate::build::{Node, NodeKind};
use crate::contribution::{self, Managed};
use crate::controllers::interests::Interest;
use crate::runtime::{NodeState, Observation};

/// Who gives to which object: field manager, group and kind, key.
pub(super) type Place = (String, (String, String), ObjectKey);

/// What is remembered of one object that is given fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    applied: Option<Applied>,
    patience: Patience,
}

/// What a run knows of the objects it gives fields to.
#[derive(Default)]
pub(super) struct Contributions {
    /// Those that the graph asks for.
    current: BTreeSet<Place>,
    /// The kinds the instance says.
    recorded: BTreeSet<(String, String)>,
}

impl Contributions {
    pub fn new(instance: &Instance<'_>) -> Self {
        Self {
            current: BTreeSet::new(),
            recorded: contribution::recorded(&instance.object),
        }
    }
}

/// One object that is to have fields.
struct Target {
    key: ObjectKey,
    desired: Value,
    given: Given,
    /// The object, if this run has just read it.
    seen: Option<Arc<Object>>,
}

enum Outcome {
    Done,
    Missing,
    Failed(String),
}

fn group_kind(resource: &Resource) -> (String, String) {
    (resource.group.to_string(), resource.kind.to_string())
}

impl Instance<'_> {
    fn manager_prefix(&self) -> String {
        let kind = &self.id.resource.kind;
        contribution::manager_prefix(kind, &self.id.key.name, &self.applyset)
    }
}

impl<'a> Run<'a> {
    /// Starts to give the fields of a patch. Watches come before reads, or a change in between would be missed.
    pub(super) async fn start_patch(
        &mut self,
        node: usize,
        objects: Vec<Value>,
        running: &mut Running<'a>,
    ) -> Result<(), InstanceError> {
        let this = &self.graph.nodes[node];
        self.later.in_flight.insert(node);
        let manager = contribution::manager(&self.instance.manager_prefix(), &this.id);
        let kind = group_kind(&this.resource);
        let seen = self.seen(&this.resource);
        let mut targets = Vec::with_capacity(objects.len());
        for desired in objects {
            let key = Object::new(desired.clone()).key();
            self.watch(Interest::Object(this.resource.clone(), key.clone()))
                .await?;
            let place = (manager.clone(), kind.clone(), key.clone());
            let given = self.memory.given.get(&place).cloned().unwrap_or_default();
            // The first time all of it is read, with who manages what.
            let seen = seen.get(&key).filter(|_| given.applied.is_some()).cloned();
            self.contributions.current.insert(place);
            targets.push(Target {
                key,
                desired,
                given,
                seen,
            });
        }
        if !targets.is_empty() && self.contributions.recorded.insert(kind) {
            record(self.instance, &self.contributions.recorded).await?;
        }
        running.push(Box::pin(run(self.instance, node, this, manager, targets)));
        Ok(())
    }

    /// Objects of a kind that this run has read, though they are not ours.
    fn seen(&self, resource: &Resource) -> HashMap<ObjectKey, Arc<Object>> {
        let mut seen = HashMap::new();
        for (position, node) in self.graph.nodes.iter().enumerate() {
            if node.resource != *resource || node.kind != NodeKind::ExternalCollection {
                continue;
            }
            if let Some(Observation::Many { items, .. }) = self.pass.observed(position) {
                for item in items.as_array().into_iter().flatten() {
                    let object = Object::new(item.clone());
                    seen.insert(object.key(), Arc::new(object));
                }
            }
        }
        seen
    }

    /// Remembers what was given.
    pub(super) fn remember_given(&mut self, node: usize, given: Vec<(ObjectKey, Given)>) {
        if given.is_empty() {
            return;
        }
        let this = &self.graph.nodes[node];
        let manager = contribution::manager(&self.instance.manager_prefix(), &this.id);
        let kind = group_kind(&this.resource);
        for (key, given) in given {
            let place = (manager.clone(), kind.clone(), key);
            self.memory.given.insert(place, given);
        }
    }

    /// Takes back what the graph no longer gives, if and only if everything that it gives is known.
    pub async fn release(&mut self) -> Result<(), InstanceError> {
        if !self.is_complete() || self.contributions.recorded.is_empty() {
            return Ok(());
        }
        let is_left = |place: &Place| !self.contributions.current.contains(place);
        let left: Vec<Place> = self
            .memory
            .given
            .keys()
            .filter(|place| is_left(place))
            .cloned()
            .collect();
        if left.is_empty() && self.memory.has_swept {
            return Ok(());
        }
        // What an earlier process gave is known to the objects only, and there may be more than is remembered.
        sweep(self.instance, &self.contributions.recorded, |place| {
            is_left(place)
        })
        .await?;
        self.memory.has_swept = true;
        for place in left {
            self.memory.given.remove(&place);
        }
        let kinds = self.contributions.current.iter();
        let kinds: BTreeSet<_> = kinds.map(|(_, kind, _)| kind.clone()).collect();
        if kinds != self.contributions.recorded {
            record(self.instance, &kinds).await?;
            self.contributions.recorded = kinds;
        }
        Ok(())
    }
}

/// Takes back everything an instance gives.
pub(super) async fn release_all(instance: &Instance<'_>) -> Result<(), Error> {
    let recorded = contribution::recorded(&instance.object);
    sweep(instance, &recorded, |_| true).await
}

/// Takes back what `is_left` among all fields the instance gives to objects of these kinds.
async fn sweep(
    instance: &Instance<'_>,
    kinds: &BTreeSet<(String, String)>,
    is_left: impl Fn(&Place) -> bool,
) -> Result<(), Error> {
    let context = instance.context;
    let prefix = instance.manager_prefix();
    for (group, kind) in kinds {
        let resource = match context.discovery.resolve_group_kind(group, kind).await {
            Ok(resource) => resource,
            Err(Error::NoSuchKind { .. }) => continue,
            Err(error) => return Err(error),
        };
        let options = ListOptions {
            metadata_only: true,
            ..ListOptions::default()
        };
        let list = match context.api.list(&resource, &options).await {
            Ok(list) => list,
            // The definition went away between the two calls.
            Err(error) if error.is_not_found() => {
                context.discovery.invalidate(group);
                continue;
            }
            Err(error) => return Err(error),
        };
        for object in &list.items {
            for managed in contribution::managers(object, &prefix) {
                let kind = (group.clone(), kind.clone());
                if is_left(&(managed.manager.clone(), kind, object.key())) {
                    take_back(instance, &resource, object, &managed).await?;
                }
            }
        }
    }
    Ok(())
}

/// Applies nothing, so that the server removes what was applied before.
async fn take_back(
    instance: &Instance<'_>,
    resource: &Resource,
    object: &Object,
    managed: &Managed,
) -> Result<(), Error> {
    let nothing = identity(resource, &object.key(), object.uid());
    let options = options(&managed.manager, managed.is_status);
    let api = &instance.context.api;
    match api.apply(resource, &nothing, &options).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        // Gone, or another object of that name by now: the next sweep sees.
        Err(error) if is_of_another(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_of_another(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("uid mismatch") || text.contains("metadata.uid")
}

fn options(manager: &str, is_status: bool) -> ApplyOptions {
    ApplyOptions {
        force: false,
        subresource: if is_status {
            Subresource::Status
        } else {
            Subresource::None
        },
        ..ApplyOptions::force(manager)
    }
}

/// An object with nothing in it.
fn identity(resource: &Resource, key: &ObjectKey, uid: &str) -> Value {
    let mut metadata = json!({"name": key.name, "uid": uid});
    if let Some(namespace) = key.namespace() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": resource.api_version(), "kind": &*resource.kind, "metadata": metadata})
}

/// Writes the kinds on the instance.
async fn record(instance: &Instance<'_>, kinds: &BTreeSet<(String, String)>) -> Result<(), Error> {
    let resource = &instance.id.resource;
    let mut patch = identity(resource, &instance.id.key, instance.object.uid());
    if !kinds.is_empty() {
        patch["metadata"]["annotations"] =
            json!({contribution::GROUP_KINDS: contribution::record(kinds)});
    }
    let options = ApplyOptions::force(contribution::MANAGER_OF_RECORD);
    instance
        .context
        .api
        .apply(resource, &patch, &options)
        .await
        .map(drop)
}

/// Gives the fields of one patch to all its objects.
async fn run(
    instance: &Instance<'_>,
    node: usize,
    this: &Node,
    manager: String,
    targets: Vec<Target>,
) -> NodeResult {
    let limit = instance.context.options.apply_concurrency.max(1);
    let results: Vec<(Target, Outcome, Option<Duration>)> = futures::stream::iter(targets)
        .map(|mut target| {
            let manager = &manager;
            async move {
                let (outcome, again) = give(instance, this, manager, &mut target).await;
                (target, outcome, again)
            }
        })
        .buffered(limit)
        .collect()
        .await;
    let (mut missing, mut failed) = (None, None);
    let mut result = NodeResult::empty(node);
    for (target, outcome, again) in results {
        let what = || format!("{} \"{}\"", this.resource.kind, target.key);
        match outcome {
            Outcome::Done => {}
            Outcome::Missing => {
                let waiting = || {
                    format!(
                        "waiting for {} to exist, which \"{}\" patches",
                        what(),
                        this.id
                    )
                };
                missing = missing.or_else(|| Some(NodeState::Waiting(waiting())));
            }
            Outcome::Failed(message) => {
                let message = format!("resource \"{}\": {}: {message}", this.id, what());
                failed = failed.or(Some(NodeState::Error(message)));
            }
        }
        result.again = earliest(result.again, again);
        result.given.push((target.key, target.given));
    }
    result.state = failed.or(missing).or(Some(NodeState::Synced));
    result
}

/// Gives fields to one object, unless it has them.
async fn give(
    instance: &Instance<'_>,
    node: &Node,
    manager: &str,
    target: &mut Target,
) -> (Outcome, Option<Duration>) {
    let api = &instance.context.api;
    let live = match target.seen.take() {
        Some(seen) => seen,
        None => match api.get_opt(&node.resource, &target.key).await {
            Ok(Some(found)) => Arc::new(found),
            Ok(None) => return (Outcome::Missing, None),
            Err(error) => return (Outcome::Failed(error.to_string()), None),
        },
    };
    // Whoever deletes it need not wait for us.
    if live.is_terminating() || is_given(target, &live) {
        return (Outcome::Done, None);
    }
    let first_wait = instance.context.options.retry_interval;
    let attempt = memory::attempt(&target.desired, Some(&live));
    let patience = &mut target.given.patience;
    if let Some((message, wait)) = patience.too_early(attempt, first_wait, Instant::now()) {
        return (Outcome::Failed(message), Some(wait));
    }
    match apply(instance, node, manager, &target.desired, &live).await {
        Ok(written) => {
            patience.accepted();
            target.given.applied = Some(Applied::new(&node.id, &target.desired, &written, &[]));
            (Outcome::Done, None)
        }
        Err(error) if is_of_another(&error) || error.is_not_found() => {
            // Replaced since it was read; that wakes us, and so does its coming.
            target.given.applied = None;
            (Outcome::Missing, None)
        }
        Err(error) if error.is_retryable() => (Outcome::Failed(error.to_string()), None),
        Err(error) => {
            let message = error.to_string();
            let wait = patience.refused(attempt, message.clone(), first_wait, Instant::now());
            (Outcome::Failed(message), Some(wait))
        }
    }
}

/// Whether nothing would change: it was given before, and is there.
fn is_given(target: &Target, live: &Object) -> bool {
    let Some(applied) = &target.given.applied else {
        return false;
    };
    let is_same = applied.uid == live.uid() && applied.is_of(&target.desired);
    // The server may write values in another way than the patch does; then the object must be as it was left.
    let has_no_status = target.desired.get("status").is_none();
    is_same
        && (contribution::is_given(live.value(), &target.desired)
            || (has_no_status && applied.still_holds(&target.desired, live)))
}

/// Applies the fields, those of the status to the status.
async fn apply(
    instance: &Instance<'_>,
    node: &Node,
    manager: &str,
    desired: &Value,
    live: &Object,
) -> Result<Object, Error> {
    let api = &instance.context.api;
    let mut body = desired.clone();
    body["metadata"]["uid"] = live.uid().into();
    let status = body
        .as_object_mut()
        .and_then(|fields| fields.remove("status"));
    let options_of = |is_status| options(manager, is_status);
    let mut written = api.apply(&node.resource, &body, &options_of(false)).await?;
    let had_status = contribution::managers(live, manager)
        .iter()
        .any(|managed| managed.is_status && managed.manager == manager);
    if status.is_some() || had_status {
        let mut body = identity(&node.resource, &live.key(), live.uid());
        if let Some(status) = status {
            body["status"] = status;
        }
        written = api.apply(&node.resource, &body, &options_of(true)).await?;
    }
    Ok(written)
}
