//! The status of an instance: conditions, state, and what the author projects into it.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use controller::{Error, Object, Resource, Subresource};
use serde_json::Value;

use super::children::wave_of;
use super::{GRAPH_RESOLVED, Instance, RESOURCES_PROPAGATED, RESOURCES_READY};
use crate::build::Graph;
use crate::conditions::{
    ConditionSet, ConditionStatus, GATED_INSTANCE_CONDITIONS, INSTANCE_CONDITIONS,
};
use crate::controllers::rollout;
use crate::features::{Feature, Features};
use crate::keys;
use crate::managed_resources::{self, Remaining};
use crate::runtime::{AuthorConditions, NodeState, Pass};

/// What the status will say.
pub(super) struct Report {
    conditions: ConditionSet,
    /// The author's fields; `None` as long as the present ones are to stay.
    fields: Option<Value>,
    state: &'static str,
    has_author_conditions: bool,
    author: Option<AuthorConditions>,
    /// The revision of the graph.
    revision: i64,
    /// The revision the instance should be on.
    target: i64,
    /// Whether the status says both.
    is_tracked: bool,
    /// Whether it was on another revision before.
    has_moved: bool,
    now: String,
}

impl Report {
    pub fn new(instance: &Instance<'_>) -> Self {
        let now = instance.context.clock.now_text();
        Self {
            conditions: ConditionSet::read(INSTANCE_CONDITIONS, &instance.object, now.as_str()),
            fields: None,
            state: "IN_PROGRESS",
            // Until the graph says so itself, the present conditions tell.
            has_author_conditions: foreign(&instance.object.status()["conditions"]).is_some(),
            author: None,
            revision: 0,
            target: 0,
            is_tracked: false,
            has_moved: false,
            now,
        }
    }

    pub fn set(
        &mut self,
        type_: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.conditions.set(type_, status, reason, message);
    }

    /// A step failed in a way that is tried again.
    pub fn failed(&mut self, type_: &str, reason: &str, error: &impl Display) {
        self.state = "ERROR";
        self.set(type_, ConditionStatus::False, reason, error.to_string());
    }

    /// Something went wrong beyond single resources.
    pub fn fail(&mut self) {
        self.state = "ERROR";
    }

    /// Whether anything went wrong.
    pub fn is_error(&self) -> bool {
        self.state == "ERROR"
    }

    /// There is no graph to run.
    pub fn unresolved(&mut self, message: String) {
        self.state = "ERROR";
        self.set(
            GRAPH_RESOLVED,
            ConditionStatus::False,
            "ResolutionFailed",
            message,
        );
    }

    pub fn use_graph(&mut self, instance: &Instance<'_>, graph: &Arc<Graph>, revision: i64) {
        self.revision = revision;
        self.target = revision;
        self.is_tracked = graph.rollout.is_tracked;
        if graph.has_gates() {
            let types = GATED_INSTANCE_CONDITIONS;
            self.conditions = ConditionSet::read(types, &instance.object, self.now.as_str());
        }
        self.has_author_conditions = !graph.conditions.is_empty();
    }

    /// Takes over what a run has seen.
    pub fn observe(&mut self, pass: &Pass<'_>, before: &Value) {
        let mut fields = pass.status();
        if pass.graph().lists_managed_resources {
            let list = managed_resources::list(pass, self.revision, before);
            fields[managed_resources::FIELD] = list;
        }
        self.fields = Some(fields);
        let states = || (0..pass.graph().nodes.len()).map(|node| pass.state(node));
        self.state = if states().any(|state| matches!(state, NodeState::Error(_))) {
            "ERROR"
        } else if states().all(NodeState::is_settled) {
            "ACTIVE"
        } else {
            "IN_PROGRESS"
        };
    }

    /// The instance should be on another revision than it is.
    pub fn target(&mut self, revision: i64) {
        self.target = revision;
    }

    /// The revision the instance is to be on cannot run.
    pub fn unavailable(&mut self, message: String) {
        self.state = "ERROR";
        let reason = "GraphRevisionUnavailable";
        self.set(GRAPH_RESOLVED, ConditionStatus::False, reason, message);
    }

    /// Notes that the instance moves to another revision, before anything is done with that.
    pub async fn move_on(&mut self, instance: &Instance<'_>) -> Result<(), Error> {
        let current = instance.object.status();
        let before = rollout::revision_of(&instance.object);
        if !self.is_tracked || before.is_none_or(|before| before == self.revision) {
            return Ok(());
        }
        let mut status = current.as_object().cloned().unwrap_or_default();
        rollout::put_revisions(&mut status, self.revision, self.target);
        status.insert("state".to_owned(), "IN_PROGRESS".into());
        write(instance, &Value::Object(status)).await?;
        self.has_moved = true;
        Ok(())
    }

    /// Whether the instance has to wait before it may move to another revision.
    pub fn is_held(&self) -> bool {
        self.target != self.revision
    }

    /// Whether the instance was on another revision before.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Says whether all objects were written as the graph says, or what they wait for.
    pub fn propagated(&mut self, held: &[String], is_complete: bool) {
        const NAMED: usize = 3;
        let (status, reason, message) = match (held, is_complete) {
            ([], true) => {
                let message = "all changes have reached their resources".to_owned();
                (ConditionStatus::True, "AllResourcesPropagated", message)
            }
            ([], false) => {
                let message = "not all resources were reached".to_owned();
                (ConditionStatus::Unknown, "InProgress", message)
            }
            (held, _) => {
                let mut message = held[..held.len().min(NAMED)].join("; ");
                if held.len() > NAMED {
                    let _ = write!(message, " and {} more", held.len() - NAMED);
                }
                (ConditionStatus::False, "PropagationGated", message)
            }
        };
        self.set(RESOURCES_PROPAGATED, status, reason, message);
    }

    /// Evaluates the author's conditions, once kro's own are known.
    pub fn author_conditions(&mut self, pass: &Pass<'_>) {
        if self.has_author_conditions {
            self.author = Some(pass.author_conditions(&self.conditions));
        }
    }

    /// Writes the status if it says anything new.
    pub async fn write(&self, instance: &Instance<'_>) -> Result<(), Error> {
        let current = instance.object.status();
        let desired = self.value(current, instance.object.generation());
        let features = instance.context.options.build.features;
        if features.has(Feature::InstanceConditionMetrics) {
            let (metrics, id) = (&instance.context.options.metrics, instance.id);
            metrics.conditions_are(&id.resource, &id.key, &desired["conditions"]);
        }
        if desired == *current {
            return Ok(());
        }
        write(instance, &desired).await?;
        let state = |status: &Value| status["state"].as_str().unwrap_or_default().to_owned();
        let (from, to) = (state(current), state(&desired));
        if from != to {
            instance
                .context
                .options
                .metrics
                .instance_changed(&instance.id.resource, &from, &to);
        }
        if features.has(Feature::InstanceConditionEvents) {
            record_transitions(instance, current, &desired);
        }
        Ok(())
    }

    fn value(&self, current: &Value, generation: i64) -> Value {
        let mut status = match &self.fields {
            Some(fields) => fields.as_object().cloned().unwrap_or_default(),
            None => current.as_object().cloned().unwrap_or_default(),
        };
        let degraded = self
            .author
            .as_ref()
            .is_some_and(|author| author.is_degraded);
        let state = match (self.conditions.is_ready(), degraded) {
            (_, true) => "ERROR",
            (true, false) => "ACTIVE",
            (false, false) => self.state,
        };
        status.insert("state".to_owned(), state.into());
        if self.is_tracked && self.fields.is_some() {
            rollout::put_revisions(&mut status, self.revision, self.target);
        }
        let conditions = match &self.author {
            Some(author) => Some(author.merge(&current["conditions"], generation, &self.now)),
            // Author-defined conditions stay as they are until they can be evaluated again.
            None if self.has_author_conditions => current.get("conditions").cloned(),
            None => Some(self.conditions.to_value()),
        };
        match conditions {
            Some(conditions) => status.insert("conditions".to_owned(), conditions),
            None => status.remove("conditions"),
        };
        Value::Object(status)
    }
}

/// Records an Event for every condition whose status changed.
fn record_transitions(instance: &Instance<'_>, before: &Value, after: &Value) {
    let resource = &instance.id.resource;
    let component = format!("kro/{}.{}-controller", resource.plural, resource.group);
    let events = instance.context.events.for_component(&component);
    for condition in after["conditions"].as_array().into_iter().flatten() {
        let text = |key: &str| condition[key].as_str().unwrap_or_default();
        let old = controller::condition::find(before, text("type"))
            .and_then(|old| old["status"].as_str());
        if old == Some(text("status")) {
            continue;
        }
        let message = format!(
            "{} -> {}: {}",
            old.unwrap_or("none"),
            text("status"),
            text("reason")
        );
        if text("status") == "True" {
            events.normal(&instance.object, text("type"), message);
        } else {
            events.warning(&instance.object, text("type"), message);
        }
    }
}

/// Puts a status in place of the present one.
async fn write(instance: &Instance<'_>, desired: &Value) -> Result<(), Error> {
    let uid = instance.object.uid();
    let change = |object: &mut Value| {
        // The name may by now belong to another object.
        if object["metadata"]["uid"] != uid {
            return false;
        }
        object["status"] = desired.clone();
        true
    };
    let id = instance.id;
    match instance
        .context
        .api
        .modify(&id.resource, &id.key, Subresource::Status, change)
        .await
    {
        Err(error) if error.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// What the status says during deletion.
pub(super) struct DeletionReport {
    message: String,
    /// What is still there, if that is known.
    remaining: Option<Value>,
}

impl DeletionReport {
    /// Deletion cannot go on.
    pub fn blocked(reason: &str) -> Self {
        Self {
            message: format!("deletion blocked: {reason}"),
            remaining: None,
        }
    }

    /// These are being deleted.
    pub fn wave(
        features: Features,
        members: &[&(Resource, Object)],
        all: &[(Resource, Object)],
        wave: i64,
    ) -> Self {
        let named = named(members);
        tracing::debug!(waiting_for = named, "deleting resources");
        let message = if features.has(Feature::DeletionSafety) {
            format!("deleting resources: waiting for {named}")
        } else {
            "deleting resources".to_owned()
        };
        Self {
            message,
            remaining: Some(remaining(all, wave)),
        }
    }

    pub async fn write(&self, instance: &Instance<'_>) -> Result<(), Error> {
        let now = instance.context.clock.now_text();
        let current = instance.object.status();
        let mut status = current.as_object().cloned().unwrap_or_default();
        status.insert("state".to_owned(), "DELETING".into());
        if let Some(remaining) = &self.remaining
            && managed_resources::is_listed(current)
        {
            status.insert(managed_resources::FIELD.to_owned(), remaining.clone());
        }
        let mut conditions =
            ConditionSet::read(INSTANCE_CONDITIONS, &instance.object, now.as_str());
        conditions.set(
            RESOURCES_READY,
            ConditionStatus::Unknown,
            "UnderDeletion",
            self.message.as_str(),
        );
        let own = conditions.to_value();
        let value = match foreign(&current["conditions"]) {
            // The author's conditions stay; one of ours, before them, says what is going on.
            Some(mut kept) => {
                kept.retain(|condition| condition["type"] != RESOURCES_READY);
                let ours = own.as_array().into_iter().flatten().cloned();
                let ours = ours.filter(|condition| condition["type"] == RESOURCES_READY);
                ours.chain(kept).collect()
            }
            None => own,
        };
        status.insert("conditions".to_owned(), value);
        let desired = Value::Object(status);
        if desired == *current {
            return Ok(());
        }
        write(instance, &desired).await
    }
}

/// The objects a deletion waits for, with what keeps them.
fn named(members: &[&(Resource, Object)]) -> String {
    const NAMED: usize = 5;
    let name = |(resource, member): &&(Resource, Object)| {
        let finalizers: Vec<&str> = member.finalizers().collect();
        let (kind, key) = (&resource.kind, member.key());
        if member.is_terminating() && !finalizers.is_empty() {
            format!("{kind} {key} (finalizers: {})", finalizers.join(", "))
        } else {
            format!("{kind} {key}")
        }
    };
    let mut text = members
        .iter()
        .take(NAMED)
        .map(name)
        .collect::<Vec<_>>()
        .join(", ");
    let more = members.len().saturating_sub(NAMED);
    if more > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, " and {more} more");
    }
    text
}

/// What is left of an instance in the middle of a deletion, as its status lists it.
fn remaining(members: &[(Resource, Object)], wave: i64) -> Value {
    let describe = |(resource, member): &(Resource, Object)| Remaining {
        node: member.label(keys::NODE_ID).unwrap_or_default().to_owned(),
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        is_collection: member.label(keys::COLLECTION_INDEX).is_some(),
        key: member.key(),
        is_due: wave_of(member) == wave,
        is_terminating: member.is_terminating(),
        finalizers: member.finalizers().map(str::to_owned).collect(),
    };
    managed_resources::remaining(members.iter().map(describe))
}

/// The present conditions if an author defined them.
fn foreign(conditions: &Value) -> Option<Vec<Value>> {
    let list = conditions.as_array()?;
    let known = |condition: &Value| {
        let name = condition["type"].as_str().unwrap_or_default();
        name == crate::conditions::READY || GATED_INSTANCE_CONDITIONS.dependents.contains(&name)
    };
    (!list.iter().all(known)).then(|| list.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn author_conditions_are_told_apart() {
        assert!(foreign(&json!([{"type": "Ready"}, {"type": "ResourcesReady"}])).is_none());
        assert!(foreign(&json!([{"type": "DatabaseUp"}])).is_some());
        assert!(foreign(&Value::Null).is_none());
    }
}
