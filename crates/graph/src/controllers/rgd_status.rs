//! The status of a ResourceGraphDefinition.

use controller::Object;
use serde_json::{Value, json};

use super::rollout::Progress;
use crate::build::Graph;
use crate::conditions::{ConditionSet, ConditionStatus, RGD_CONDITIONS};
use crate::runtime::Gate;

pub(super) const RESOLVED: &str = "GraphRevisionsResolved";
pub(super) const ACCEPTED: &str = "GraphAccepted";
pub(super) const KIND_READY: &str = "KindReady";
pub(super) const CONTROLLER_READY: &str = "ControllerReady";

const PROPAGATED: &str = "Propagated";
const DELETION_BLOCKED: &str = "DeletionBlocked";

/// What the status will say.
pub(super) struct Report {
    pub(super) conditions: ConditionSet,
    pub(super) topological_order: Value,
    pub(super) resources: Value,
    pub(super) last_issued_revision: i64,
    /// How far the instances have come, if that is controlled.
    propagated: Option<Value>,
    /// What its deletion waits for.
    deletion_blocked: Option<Value>,
    now: String,
}

impl Report {
    pub(super) fn new(rgd: &Object, now: String) -> Self {
        let status = rgd.status();
        Self {
            conditions: ConditionSet::read(RGD_CONDITIONS, rgd, now.as_str()),
            topological_order: status["topologicalOrder"].clone(),
            resources: status["resources"].clone(),
            last_issued_revision: status["lastIssuedRevision"].as_i64().unwrap_or_default(),
            propagated: controller::condition::find(status, PROPAGATED).cloned(),
            deletion_blocked: None,
            now,
        }
    }

    pub(super) fn graph(&mut self, graph: &Graph) {
        self.topological_order = json!(graph.topological_order());
        self.resources = graph.resources_status();
    }

    pub(super) fn wait(&mut self, reason: &str, message: impl Into<String>) {
        self.conditions
            .set(RESOLVED, ConditionStatus::Unknown, reason, message);
    }

    /// Says how far the instances have come; that is no part of being ready.
    pub(super) fn propagated(&mut self, rgd: &Object, revision: i64, progress: Option<&Progress>) {
        let Some(progress) = progress else {
            self.propagated = None;
            return;
        };
        let Progress { updated, total, .. } = progress;
        let so_far = format!("{updated}/{total} instances reconciled at revision {revision}");
        let (status, reason, message) = match &progress.waiting {
            _ if updated == total => {
                let message = format!("all instances are at revision {revision}");
                ("True", "AllInstancesUpdated", message)
            }
            Some(Gate::Failed(why)) => ("Unknown", "EvaluationFailed", format!("{so_far}: {why}")),
            Some(Gate::Closed(why)) => {
                let message = format!("{so_far}, waiting for propagateWhen: {why}");
                ("False", "PropagationInProgress", message)
            }
            _ => ("False", "PropagationInProgress", so_far),
        };
        self.propagated = Some(self.beside(rgd, PROPAGATED, status, reason, &message));
    }

    /// Says what the deletion waits for.
    pub(super) fn deletion_waits(&mut self, rgd: &Object, message: &str) {
        let blocked = self.beside(rgd, DELETION_BLOCKED, "True", "InstancesExist", message);
        self.deletion_blocked = Some(blocked);
    }

    /// A condition that is no part of being ready.
    fn beside(
        &self,
        rgd: &Object,
        type_: &str,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Value {
        let before = controller::condition::find(rgd.status(), type_);
        let since = before.filter(|before| before["status"] == status);
        let since = since.map(|before| before["lastTransitionTime"].clone());
        json!({
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| self.now.as_str().into()),
            "observedGeneration": rgd.generation(),
        })
    }

    pub(super) fn value(&self) -> Value {
        let mut conditions = self.conditions.to_value();
        if let Some(list) = conditions.as_array_mut() {
            // The root stays the last.
            let beside = [&self.deletion_blocked, &self.propagated];
            list.splice(0..0, beside.into_iter().flatten().cloned());
        }
        let is_true = |type_: &str| self.conditions.is_true(type_);
        let is_active = is_true(ACCEPTED) && is_true(KIND_READY) && is_true(CONTROLLER_READY);
        json!({
            "state": if is_active { "Active" } else { "Inactive" },
            // Nothing is not said, as upstream leaves it out.
            "topologicalOrder": unless_empty(&self.topological_order),
            "resources": self.resources,
            "lastIssuedRevision": Some(self.last_issued_revision).filter(|number| *number > 0),
            "conditions": conditions,
        })
    }
}

/// A list, or null where there is nothing in it.
pub(super) fn unless_empty(list: &Value) -> &Value {
    match list {
        Value::Array(items) if items.is_empty() => &Value::Null,
        other => other,
    }
}
