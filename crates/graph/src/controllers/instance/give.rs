//! Gives the fields of one patch to its objects (gate `Decorators`).
//!
//! Nothing is created: an object that is not there is waited for, and the uid in every apply makes sure that it is the one
//! that was looked at. Nothing is forced: what another manager owns is a conflict, which is told.

use std::sync::Arc;

use controller::{ApplyOptions, Error, Object, ObjectKey, Resource, Subresource};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Instance;
use super::apply::{NodeResult, earliest};
use super::memory::{self, Applied};
use super::patience::Patience;
use crate::build::Node;
use crate::contribution;
use crate::runtime::NodeState;

/// What is remembered of one object that is given fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub applied: Option<Applied>,
    patience: Patience,
}

/// One object that is to have fields.
pub(super) struct Target {
    pub key: ObjectKey,
    pub desired: Value,
    pub given: Given,
    /// The object, if this run has just read it.
    pub seen: Option<Arc<Object>>,
}

enum Outcome {
    Done,
    Missing,
    Failed(String),
}

/// Gives the fields of one patch to all its objects.
pub(super) async fn run(
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

/// Whether the object is gone, or another one of that name.
pub(super) fn is_of_another(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("uid mismatch") || text.contains("metadata.uid")
}

/// How fields are given: without force.
pub(super) fn options(manager: &str, is_status: bool) -> ApplyOptions {
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
pub(super) fn identity(resource: &Resource, key: &ObjectKey, uid: &str) -> Value {
    let mut metadata = json!({"name": key.name, "uid": uid});
    if let Some(namespace) = key.namespace() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": resource.api_version(), "kind": &*resource.kind, "metadata": metadata})
}
