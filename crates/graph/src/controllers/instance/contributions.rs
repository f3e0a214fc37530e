//! The objects that exist without us and that an instance gives fields to (gate `Decorators`): which those are, and what is
//! to be taken back.
//!
//! The instance records the kinds before the first field is given, as the inventory does for members; the field managers of
//! the objects say the rest. So everything is found again after a restart, and when the instance goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use controller::{ApplyOptions, Error, ListOptions, Object, ObjectKey, Resource};
use serde_json::{Value, json};

use super::give::{self, Given, Target, identity, is_of_another, options};
use super::wavefront::{Run, Running};
use super::{Instance, InstanceError};
use crate::build::NodeKind;
use crate::contribution::{self, Managed};
use crate::controllers::interests::Interest;
use crate::runtime::Observation;

/// Who gives to which object: field manager, group and kind, key.
pub(super) type Place = (String, (String, String), ObjectKey);

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
        running.push(Box::pin(give::run(
            self.instance,
            node,
            this,
            manager,
            targets,
        )));
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
