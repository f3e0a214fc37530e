//! Sets of conditions with a root that sums them up, as kro's ResourceGraphDefinitions, revisions and instances have.
//!
//! The root is `True` when all others are, at the object's present generation; otherwise it repeats the worst of them.
//! The list is ordered by time of transition with the root last: tools compare it by position.

use serde_json::{Map, Value, json};

/// The root of every set.
pub const READY: &str = "Ready";

/// Which conditions an object has.
#[derive(Clone, Copy, Debug)]
pub struct ConditionTypes {
    /// The dependents of the root, in order.
    pub dependents: &'static [&'static str],
}

/// Conditions of a ResourceGraphDefinition.
pub const RGD_CONDITIONS: ConditionTypes = ConditionTypes {
    dependents: &[
        "GraphRevisionsResolved",
        "GraphAccepted",
        "KindReady",
        "ControllerReady",
    ],
};
/// Conditions of a GraphRevision.
pub const REVISION_CONDITIONS: ConditionTypes = ConditionTypes {
    dependents: &["GraphVerified"],
};
/// Conditions of an instance.
pub const INSTANCE_CONDITIONS: ConditionTypes = ConditionTypes {
    dependents: &["InstanceManaged", "GraphResolved", "ResourcesReady"],
};

/// Conditions of an instance whose graph says when its objects may be written.
pub const GATED_INSTANCE_CONDITIONS: ConditionTypes = ConditionTypes {
    dependents: &[
        "InstanceManaged",
        "GraphResolved",
        "ResourcesReady",
        "ResourcesPropagated",
    ],
};

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
    /// It holds.
    True,
}

impl ConditionStatus {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::False => "False",
            Self::Unknown => "Unknown",
            Self::True => "True",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word.
    pub reason: String,
    /// For humans.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// The generation this was found for.
    pub observed_generation: i64,
}

impl Condition {
    fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Some(Self {
            type_: value["type"].as_str()?.to_owned(),
            status: ConditionStatus::parse(value["status"].as_str()?),
            reason: text("reason"),
            message: text("message"),
            last_transition_time: text("lastTransitionTime"),
            observed_generation: value["observedGeneration"].as_i64().unwrap_or_default(),
        })
    }

    /// As it is written into a status.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("type".into(), self.type_.as_str().into());
        map.insert("status".into(), self.status.as_str().into());
        if !self.reason.is_empty() {
            map.insert("reason".into(), self.reason.as_str().into());
        }
        map.insert("message".into(), self.message.as_str().into());
        map.insert(
            "lastTransitionTime".into(),
            self.last_transition_time.as_str().into(),
        );
        map.insert("observedGeneration".into(), self.observed_generation.into());
        Value::Object(map)
    }
}

/// The conditions of one object while they are being worked on.
#[derive(Clone, Debug)]
pub struct ConditionSet {
    types: ConditionTypes,
    conditions: Vec<Condition>,
    generation: i64,
    deleting: bool,
    now: String,
}

impl ConditionSet {
    /// Reads the conditions of an object; those it lacks become `Unknown`.
    pub fn read(
        types: ConditionTypes,
        object: &controller::Object,
        now: impl Into<String>,
    ) -> Self {
        let list = object.status()["conditions"].as_array();
        let conditions = list
            .into_iter()
            .flatten()
            .filter_map(Condition::read)
            .collect();
        let mut set = Self {
            types,
            conditions,
            generation: object.generation(),
            deleting: object.is_terminating(),
            now: now.into(),
        };
        // Others' conditions and those of older versions go.
        set.conditions.retain(|condition| {
            condition.type_ == READY || types.dependents.contains(&condition.type_.as_str())
        });
        for type_ in types.dependents.iter().chain([&READY]) {
            if set.get(type_).is_none() {
                set.conditions.push(Condition {
                    type_: (*type_).to_owned(),
                    status: ConditionStatus::Unknown,
                    reason: "AwaitingReconciliation".to_owned(),
                    message: format!("condition \"{type_}\" is awaiting reconciliation"),
                    last_transition_time: object.creation_timestamp().to_owned(),
                    observed_generation: set.generation,
                });
            }
        }
        set.sort();
        set
    }

    /// One condition.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    }

    /// Whether a condition holds.
    pub fn is_true(&self, type_: &str) -> bool {
        self.get(type_)
            .is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// Whether the root holds at the present generation.
    pub fn is_ready(&self) -> bool {
        self.get(READY).is_some_and(|root| {
            root.status == ConditionStatus::True && root.observed_generation == self.generation
        })
    }

    /// Sets a dependent and works out the root.
    pub fn set(
        &mut self,
        type_: &str,
        status: ConditionStatus,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        debug_assert!(
            self.types.dependents.contains(&type_),
            "{type_} is no dependent"
        );
        if self.deleting {
            for condition in &mut self.conditions {
                condition.observed_generation = self.generation;
            }
        }
        self.put(type_, status, reason.into(), message.into());
        self.update_root();
        self.sort();
    }

    fn put(&mut self, type_: &str, status: ConditionStatus, reason: String, message: String) {
        let Some(at) = self
            .conditions
            .iter()
            .position(|condition| condition.type_ == type_)
        else {
            return;
        };
        let mut condition = self.conditions.remove(at);
        condition.reason = reason;
        condition.message = message;
        condition.observed_generation = self.generation;
        if condition.status == status {
            self.conditions.insert(at, condition);
        } else {
            condition.status = status;
            condition.last_transition_time.clone_from(&self.now);
            // Times have whole seconds; the place in the list keeps the order within one.
            self.conditions.push(condition);
        }
    }

    fn update_root(&mut self) {
        let dependents = || {
            self.conditions
                .iter()
                .filter(|condition| condition.type_ != READY)
        };
        // The newest among the worst; `max_by` keeps the last of equals, so ties go to the later one.
        let worst = dependents()
            .filter(|condition| condition.status != ConditionStatus::True)
            .max_by(|a, b| {
                b.status
                    .cmp(&a.status)
                    .then(a.last_transition_time.cmp(&b.last_transition_time))
            });
        match worst {
            Some(worst) => {
                let (status, reason, message) =
                    (worst.status, worst.reason.clone(), worst.message.clone());
                self.put(READY, status, reason, message);
            }
            // A condition found for an older generation does not make the root true.
            None if dependents()
                .any(|condition| condition.observed_generation < self.generation) => {}
            None => self.put(
                READY,
                ConditionStatus::True,
                READY.to_owned(),
                String::new(),
            ),
        }
    }

    fn sort(&mut self) {
        self.conditions.sort_by(|a, b| {
            (a.type_ == READY)
                .cmp(&(b.type_ == READY))
                .then_with(|| a.last_transition_time.cmp(&b.last_transition_time))
        });
    }

    /// As they are written into a status.
    pub fn to_value(&self) -> Value {
        self.conditions.iter().map(Condition::to_value).collect()
    }

    /// The conditions in order.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

/// A patch of `status.conditions` as part of a status.
pub fn status_with(conditions: &ConditionSet) -> Value {
    json!({"conditions": conditions.to_value()})
}

#[cfg(test)]
mod tests {
    use controller::Object;

    use super::*;

    fn object(generation: i64, conditions: Value) -> Object {
        Object::new(json!({
            "metadata": {"generation": generation, "creationTimestamp": "2024-01-01T00:00:00Z"},
            "status": {"conditions": conditions},
        }))
    }

    fn show(set: &ConditionSet) -> Vec<String> {
        set.conditions()
            .iter()
            .map(|c| format!("{}={} {}", c.type_, c.status.as_str(), c.reason))
            .collect()
    }

    #[test]
    fn a_life() {
        let fresh = object(1, json!([]));
        let mut set = ConditionSet::read(INSTANCE_CONDITIONS, &fresh, "2024-01-01T00:00:05Z");
        assert_eq!(
            set.get(READY).unwrap().message,
            "condition \"Ready\" is awaiting reconciliation"
        );
        set.set("InstanceManaged", ConditionStatus::True, "Managed", "");
        assert_eq!(set.get(READY).unwrap().status, ConditionStatus::Unknown);
        set.set("GraphResolved", ConditionStatus::True, "Resolved", "");
        set.set(
            "ResourcesReady",
            ConditionStatus::False,
            "NotReady",
            "waiting",
        );
        assert_eq!(set.get(READY).unwrap().message, "waiting");
        set.set(
            "ResourcesReady",
            ConditionStatus::True,
            "AllResourcesReady",
            "",
        );
        assert_eq!(
            show(&set),
            [
                "InstanceManaged=True Managed",
                "GraphResolved=True Resolved",
                "ResourcesReady=True AllResourcesReady",
                "Ready=True Ready",
            ]
        );
        assert!(set.is_ready());

        // The next generation is not ready before everything has been looked at again.
        let next = object(2, set.to_value());
        let mut set = ConditionSet::read(INSTANCE_CONDITIONS, &next, "2024-01-01T00:01:00Z");
        assert!(!set.is_ready());
        set.set(
            "ResourcesReady",
            ConditionStatus::True,
            "AllResourcesReady",
            "",
        );
        assert!(!set.is_ready());
        set.set("InstanceManaged", ConditionStatus::True, "Managed", "");
        set.set("GraphResolved", ConditionStatus::True, "Resolved", "");
        assert!(set.is_ready());
        assert_eq!(
            set.get(READY).unwrap().last_transition_time,
            "2024-01-01T00:00:05Z"
        );
    }

    #[test]
    fn false_beats_unknown_and_foreign_conditions_go() {
        let object = object(
            1,
            json!([{"type": "ResourceGraphAccepted", "status": "True"}]),
        );
        let mut set = ConditionSet::read(RGD_CONDITIONS, &object, "2024-01-01T00:00:05Z");
        set.set(
            "GraphAccepted",
            ConditionStatus::False,
            "InvalidResourceGraph",
            "bad",
        );
        set.set("KindReady", ConditionStatus::Unknown, "X", "");
        assert_eq!(set.get(READY).unwrap().reason, "InvalidResourceGraph");
        assert!(set.get("ResourceGraphAccepted").is_none());
        assert_eq!(set.conditions().last().unwrap().type_, READY);
    }
}
