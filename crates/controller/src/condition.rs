//! Conditions in the common form of `metav1.Condition`.
//!
//! Sets with a root condition, as kro's, are the business of their crate.

use serde_json::{Map, Value, json};

/// A condition to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which condition.
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word in CamelCase.
    pub reason: String,
    /// For humans.
    pub message: String,
    /// The generation of the object this was found for; left out when `None`.
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// A condition without generation.
    pub fn new(
        type_: impl Into<String>,
        status: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_: type_.into(),
            status: if status { "True" } else { "False" }.to_owned(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: None,
        }
    }
}

/// The condition of that type in a `status`.
pub fn find<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == type_)
}

/// Whether a `status` has the condition with status `True`.
pub fn is_true(status: &Value, type_: &str) -> bool {
    find(status, type_).is_some_and(|condition| condition["status"] == "True")
}

/// Sets a condition in a `status`; says whether anything changed.
///
/// `lastTransitionTime` becomes `now` only when the condition is new or its status differs.
pub fn set(status: &mut Value, condition: &Condition, now: &str) -> bool {
    if !status.is_object() {
        *status = Value::Object(Map::new());
    }
    let list = &mut status["conditions"];
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else {
        return false;
    };
    let found = list
        .iter()
        .position(|present| present["type"] == condition.type_.as_str());
    let unchanged_since = found
        .map(|at| &list[at])
        .filter(|present| present["status"] == condition.status.as_str())
        .and_then(|present| present["lastTransitionTime"].as_str())
        .map(str::to_owned);
    let mut new = json!({
        "type": condition.type_,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": unchanged_since.unwrap_or_else(|| now.to_owned()),
    });
    if let Some(generation) = condition.observed_generation {
        new["observedGeneration"] = generation.into();
    }
    match found {
        Some(at) if list[at] == new => false,
        Some(at) => {
            list[at] = new;
            true
        }
        None => {
            list.push(new);
            true
        }
    }
}

/// Removes a condition from a `status`; says whether it was there.
pub fn remove(status: &mut Value, type_: &str) -> bool {
    let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = list.len();
    list.retain(|condition| condition["type"] != type_);
    list.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut status = json!({});
        let mut condition = Condition::new("Ready", false, "Starting", "");
        assert!(set(&mut status, &condition, "t1"));
        assert!(!set(&mut status, &condition, "t2"));
        condition.reason = "Waiting".to_owned();
        assert!(set(&mut status, &condition, "t3"));
        assert_eq!(find(&status, "Ready").unwrap()["lastTransitionTime"], "t1");
        condition.status = "True".to_owned();
        assert!(set(&mut status, &condition, "t4"));
        assert_eq!(find(&status, "Ready").unwrap()["lastTransitionTime"], "t4");
        assert!(is_true(&status, "Ready"));
        assert!(remove(&mut status, "Ready"));
        assert!(!is_true(&status, "Ready"));
    }
}
