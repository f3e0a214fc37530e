//! The status of a ResourceGraphDefinition.

use controller::Object;
use serde_json::{Value, json};

use crate::build::Graph;
use crate::conditions::{ConditionSet, ConditionStatus, RGD_CONDITIONS};

pub(super) const RESOLVED: &str = "GraphRevisionsResolved";
pub(super) const ACCEPTED: &str = "GraphAccepted";
pub(super) const KIND_READY: &str = "KindReady";
pub(super) const CONTROLLER_READY: &str = "ControllerReady";

/// What the status will say.
pub(super) struct Report {
    pub(super) conditions: ConditionSet,
    pub(super) topological_order: Value,
    pub(super) resources: Value,
    pub(super) last_issued_revision: i64,
}

impl Report {
    pub(super) fn new(rgd: &Object, now: String) -> Self {
        let status = rgd.status();
        Self {
            conditions: ConditionSet::read(RGD_CONDITIONS, rgd, now),
            topological_order: status["topologicalOrder"].clone(),
            resources: status["resources"].clone(),
            last_issued_revision: status["lastIssuedRevision"].as_i64().unwrap_or_default(),
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

    pub(super) fn value(&self) -> Value {
        let is_true = |type_: &str| self.conditions.is_true(type_);
        let is_active = is_true(ACCEPTED) && is_true(KIND_READY) && is_true(CONTROLLER_READY);
        json!({
            "state": if is_active { "Active" } else { "Inactive" },
            "topologicalOrder": self.topological_order,
            "resources": self.resources,
            "lastIssuedRevision": self.last_issued_revision,
            "conditions": self.conditions.to_value(),
        })
    }
}
