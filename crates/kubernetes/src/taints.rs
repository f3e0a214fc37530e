//! Taints of nodes and the tolerations of Pods. Pure.

use controller::Object;
use model::object;
use serde_json::Value;

/// What an untolerated taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// New Pods are kept off.
    NoSchedule,
    /// New Pods go elsewhere where they can.
    PreferNoSchedule,
    /// New Pods are kept off, and running ones are evicted.
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

impl Taint {
    /// Reads a taint; one of an effect nobody knows has none.
    pub fn of(value: &Value) -> Option<Self> {
        Some(Self {
            key: object::text(value, &["key"]).to_owned(),
            value: object::text(value, &["value"]).to_owned(),
            effect: Effect::parse(object::text(value, &["effect"]))?,
        })
    }

    /// The taints of a node.
    pub fn of_node(node: &Object) -> Vec<Self> {
        let taints = object::list(node.value(), &["spec", "taints"]);
        taints.iter().filter_map(Self::of).collect()
    }
}

/// A toleration of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// The key it is for; empty is every key.
    key: String,
    /// Whether any value will do.
    exists: bool,
    value: String,
    /// The effect it is for; none is every effect.
    effect: Option<Effect>,
    /// For how many seconds a `NoExecute` taint is tolerated; none is forever.
    pub seconds: Option<i64>,
}

impl Toleration {
    /// Reads a toleration.
    pub fn of(value: &Value) -> Self {
        Self {
            key: object::text(value, &["key"]).to_owned(),
            exists: object::text(value, &["operator"]) == "Exists",
            value: object::text(value, &["value"]).to_owned(),
            effect: Effect::parse(object::text(value, &["effect"])),
            seconds: object::number(value, &["tolerationSeconds"]),
        }
    }

    /// The tolerations of a Pod.
    pub fn of_pod(pod: &Object) -> Vec<Self> {
        let tolerations = object::list(pod.value(), &["spec", "tolerations"]);
        tolerations.iter().map(Self::of).collect()
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let key = self.key == taint.key || (self.key.is_empty() && self.exists);
        let value = self.exists || self.value == taint.value;
        let effect = self.effect.is_none_or(|effect| effect == taint.effect);
        key && value && effect
    }

    /// Whether it counts for `PreferNoSchedule` taints.
    pub fn is_for_preferences(&self) -> bool {
        matches!(self.effect, None | Some(Effect::PreferNoSchedule))
    }
}

/// Whether any of the tolerations tolerates a taint.
pub fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|one| one.tolerates(taint))
}

/// Whether a new Pod with these tolerations may come to a node with these taints.
pub fn admits(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints
        .iter()
        .filter(|taint| taint.effect != Effect::PreferNoSchedule)
        .all(|taint| tolerated(taint, tolerations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(taint: Value, toleration: Value, expect: bool) {
        let read = Taint::of(&taint).expect("a taint");
        let tolerates = Toleration::of(&toleration).tolerates(&read);
        assert_eq!(tolerates, expect, "{taint} {toleration}");
    }

    #[test]
    fn tolerations_are_for_taints() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        check(taint.clone(), json!({"key": "k", "value": "v"}), true);
        check(
            taint.clone(),
            json!({"key": "k", "operator": "Exists"}),
            true,
        );
        check(taint.clone(), json!({"operator": "Exists"}), true);
        check(taint.clone(), json!({"key": "k", "value": "w"}), false);
        check(
            taint.clone(),
            json!({"key": "j", "operator": "Exists"}),
            false,
        );
        let execute = json!({"key": "k", "operator": "Exists", "effect": "NoExecute"});
        check(taint, execute, false);
    }
}
