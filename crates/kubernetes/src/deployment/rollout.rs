//! The next step of a rollout. Pure.
//!
//! Invariants of a rolling update: never more than `replicas + maxSurge` Pods, never fewer than
//! `replicas - maxUnavailable` available ones. Upstream counts what the sets are to have; here nothing grows before the Pods that
//! are too many are going, so that the bounds hold for the Pods, too.

use std::sync::Arc;

use controller::Object;
use model::object;
use serde_json::{Map, Value, json};

use super::is_paused;
use super::sets::{DESIRED, MAX, Sets};

/// One set to another size.
#[derive(Debug, Clone)]
pub struct Scale {
    /// The set.
    pub set: Arc<Object>,
    /// Its new size.
    pub to: i64,
    /// Annotations to go with it.
    pub annotations: Value,
}

fn wanted(deployment: &Object) -> i64 {
    object::number(deployment.value(), &["spec", "replicas"])
        .unwrap_or(1)
        .max(0)
}

fn size(set: &Object) -> i64 {
    object::number(set.value(), &["spec", "replicas"]).unwrap_or(0)
}

/// How many Pods of a set may be counted on: those that are to go may be gone already.
fn available(set: &Object) -> i64 {
    let available = object::number(set.value(), &["status", "availableReplicas"]).unwrap_or(0);
    available.min(size(set))
}

/// Whether a set has said what it has since it was last scaled. What it said before may be long gone.
pub fn is_observed(set: &Object) -> bool {
    let observed = object::number(set.value(), &["status", "observedGeneration"]);
    observed.unwrap_or(0) >= set.generation()
}

/// Whether Pods of a set are still to go: it has more than it should, or has not said yet what it has.
fn is_shrinking(set: &Object) -> bool {
    let replicas = object::number(set.value(), &["status", "replicas"]);
    !is_observed(set) || replicas.unwrap_or(0) > size(set)
}

/// Whether all old Pods go before the first new one comes.
pub fn is_recreate(deployment: &Object) -> bool {
    object::text(deployment.value(), &["spec", "strategy", "type"]) == "Recreate"
}

/// A number or a percentage of the replicas; percentages of the surge round up, of the rest down.
fn resolve(value: Option<&Value>, replicas: i64, up: bool, default: &str) -> i64 {
    let percent = |text: &str| -> i64 {
        let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
        if up {
            (percent * replicas + 99) / 100
        } else {
            percent * replicas / 100
        }
    };
    match value {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(0),
        Some(Value::String(text)) => percent(text),
        _ => percent(default),
    }
}

/// How many Pods more and how many fewer than wanted a rollout may have.
pub fn bounds(deployment: &Object) -> (i64, i64) {
    if is_recreate(deployment) {
        return (0, 0);
    }
    let replicas = wanted(deployment);
    let of = |name: &str| deployment.get(&["spec", "strategy", "rollingUpdate", name]);
    let surge = resolve(of("maxSurge"), replicas, true, "25%");
    let mut unavailable = resolve(of("maxUnavailable"), replicas, false, "25%");
    if surge == 0 && unavailable == 0 {
        // Neither would never move.
        unavailable = 1;
    }
    (surge, unavailable.min(replicas))
}

/// The annotations that say for which size of the deployment a set was scaled.
pub fn size_annotations(deployment: &Object) -> Map<String, Value> {
    let replicas = wanted(deployment);
    let (surge, _) = bounds(deployment);
    let mut annotations = Map::new();
    annotations.insert(DESIRED.to_owned(), json!(replicas.to_string()));
    annotations.insert(MAX.to_owned(), json!((replicas + surge).to_string()));
    annotations
}

/// The size the new set may have now.
pub fn new_replicas(deployment: &Object, sets: &Sets) -> i64 {
    let replicas = wanted(deployment);
    if is_recreate(deployment) {
        return replicas;
    }
    let (surge, _) = bounds(deployment);
    let total: i64 = sets.all().map(|set| size(set)).sum();
    let own = sets.new.as_ref().map_or(0, |set| size(set));
    if total >= replicas + surge || sets.old.iter().any(|set| is_shrinking(set)) {
        return own;
    }
    own + (replicas + surge - total).min(replicas - own).max(0)
}

/// The sets to be scaled now. `may_begin` tells whether the first new Pod may come, for a deployment that recreates;
/// `unhealthy` how many Pods of a set are not available.
pub fn next_step(
    deployment: &Object,
    sets: &Sets,
    may_begin: bool,
    unhealthy: impl Fn(&Object) -> i64,
) -> Vec<Scale> {
    if is_paused(deployment) || is_scaling(deployment, sets) {
        return proportional(deployment, sets);
    }
    let Some(new) = &sets.new else {
        // Recreate: the old ones go first.
        return empty_all(deployment, &sets.old);
    };
    if is_recreate(deployment) {
        let steps = empty_all(deployment, &sets.old);
        return if steps.is_empty() && may_begin {
            to(deployment, new, wanted(deployment))
        } else {
            steps
        };
    }
    let grown = if size(new) > wanted(deployment) {
        wanted(deployment)
    } else {
        new_replicas(deployment, sets)
    };
    let mut steps = to(deployment, new, grown);
    if steps.is_empty() {
        steps = shrink_old(deployment, sets, new, unhealthy);
    }
    steps
}

fn to(deployment: &Object, set: &Arc<Object>, size_wanted: i64) -> Vec<Scale> {
    let annotations = size_annotations(deployment);
    let marked = annotations
        .iter()
        .all(|(key, value)| set.annotation(key) == value.as_str());
    if size(set) == size_wanted && marked {
        return Vec::new();
    }
    vec![Scale {
        set: set.clone(),
        to: size_wanted,
        annotations: Value::Object(annotations),
    }]
}

fn empty_all(deployment: &Object, sets: &[Arc<Object>]) -> Vec<Scale> {
    sets.iter()
        .filter(|set| size(set) > 0)
        .flat_map(|set| to(deployment, set, 0))
        .collect()
}

/// Takes away old Pods: those that are not available first, then as many as may be missed.
fn shrink_old(
    deployment: &Object,
    sets: &Sets,
    new: &Arc<Object>,
    unhealthy: impl Fn(&Object) -> i64,
) -> Vec<Scale> {
    if !sets.all().all(|set| is_observed(set)) {
        return Vec::new();
    }
    let (_, max_unavailable) = bounds(deployment);
    let minimum = wanted(deployment) - max_unavailable;
    let total: i64 = sets.all().map(|set| size(set)).sum();
    let missing_new = size(new) - available(new);
    let mut budget = total - minimum - missing_new;
    if budget <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<(Arc<Object>, i64)> = sets
        .old
        .iter()
        .filter(|set| size(set) > 0)
        .map(|set| (set.clone(), size(set)))
        .collect();
    for (set, left) in &mut sizes {
        let cut = unhealthy(set).min(budget).min(*left);
        *left -= cut;
        budget -= cut;
    }
    let all_available: i64 = sets.all().map(|set| available(set)).sum();
    let mut spare = (all_available - minimum).min(budget);
    for (_, left) in &mut sizes {
        let cut = spare.min(*left).max(0);
        *left -= cut;
        spare -= cut;
    }
    sizes
        .into_iter()
        .filter(|(set, left)| size(set) != *left)
        .flat_map(|(set, left)| to(deployment, &set, left))
        .collect()
}

/// Whether the deployment's size has changed since its sets were scaled.
pub fn is_scaling(deployment: &Object, sets: &Sets) -> bool {
    let replicas = wanted(deployment).to_string();
    sets.all().any(|set| {
        size(set) > 0
            && set
                .annotation(DESIRED)
                .is_some_and(|desired| desired != replicas)
    })
}

/// Whether the new set alone is all the deployment wants, and was scaled for just that.
fn is_saturated(deployment: &Object, new: &Object) -> bool {
    let replicas = wanted(deployment);
    size(new) == replicas
        && available(new) == replicas
        && new.annotation(DESIRED) == Some(replicas.to_string().as_str())
}

/// Scales every set that has Pods in proportion to its share, the largest first.
fn proportional(deployment: &Object, sets: &Sets) -> Vec<Scale> {
    let mut active: Vec<&Arc<Object>> = sets.all().filter(|set| size(set) > 0).collect();
    let replicas = wanted(deployment);
    if active.len() <= 1 {
        let only = active.first().copied().or(sets.new.as_ref());
        return only
            .map(|set| to(deployment, set, replicas))
            .unwrap_or_default();
    }
    if let Some(new) = sets
        .new
        .as_ref()
        .filter(|set| is_saturated(deployment, set))
    {
        let others = sets
            .old
            .iter()
            .filter(|set| size(set) > 0 && set.uid() != new.uid());
        return others.flat_map(|set| to(deployment, set, 0)).collect();
    }
    if is_recreate(deployment) {
        return Vec::new();
    }
    let (surge, _) = bounds(deployment);
    let allowed = if replicas > 0 { replicas + surge } else { 0 };
    let total: i64 = active.iter().map(|set| size(set)).sum();
    let mut to_add = allowed - total;
    if to_add > 0 && active.iter().any(|set| is_shrinking(set)) {
        return Vec::new();
    }
    // Largest first; of equals the newest when growing and the oldest when shrinking.
    active.sort_by(|a, b| {
        let age = a.creation_timestamp().cmp(b.creation_timestamp());
        let age = if to_add > 0 { age.reverse() } else { age };
        size(b).cmp(&size(a)).then(age)
    });
    let mut sizes = Vec::new();
    for set in &active {
        let before: i64 = set
            .annotation(MAX)
            .and_then(|text| text.parse().ok())
            .filter(|max| *max > 0)
            .unwrap_or(total.max(1));
        let share = (size(set) * allowed + before / 2) / before - size(set);
        let change = if to_add > 0 {
            share.clamp(0, to_add)
        } else {
            share.clamp(to_add, 0)
        };
        to_add -= change;
        sizes.push(size(set) + change);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add).max(0);
    }
    active
        .into_iter()
        .zip(sizes)
        .flat_map(|(set, size)| to(deployment, set, size))
        .collect()
}

#[cfg(test)]
mod tests;
