//! `PodTopologySpread`: Pods spread over hosts, zones and whatever else nodes are labelled with. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use controller::Object;
use model::{LabelSelector, object};

use super::diagnosis::Refusal;
use super::lookup::Lookup;
use super::node_info::{HOSTNAME, Node, ZONE};
use super::pod_info::{PodInfo, Spread, WhenUnsatisfiable};
use super::profile::{DefaultSpreads, Plugin, Profile};
use super::score::MAX_SCORE;
use super::world::{Slot, World};
use crate::taints;

const MISSING_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
const TOO_UNEVEN: &str = "node(s) didn't match pod topology spread constraints";

/// Whether a node counts for a constraint.
fn counts(spread: &Spread, pod: &PodInfo, node: &Node) -> bool {
    (!spread.honours_affinity || pod.nodes.matches(&node.object))
        && (!spread.honours_taints || taints::admits(&node.taints, &pod.tolerations))
}

fn has_labels(spreads: &[Spread], node: &Node) -> bool {
    spreads
        .iter()
        .all(|spread| node.label(&spread.topology_key).is_some())
}

/// The constraints of a Pod, its own or the profile's.
fn constraints(
    pod: &PodInfo,
    profile: &Profile,
    lookup: &dyn Lookup,
    otherwise: WhenUnsatisfiable,
) -> Vec<Spread> {
    let of_kind = |spread: &&Spread| spread.otherwise == otherwise;
    if !pod.spreads.is_empty() {
        return pod.spreads.iter().filter(of_kind).cloned().collect();
    }
    let mut defaults: Vec<Spread> = match &profile.default_spreads {
        DefaultSpreads::System if otherwise == WhenUnsatisfiable::ScheduleAnyway => {
            vec![system(HOSTNAME, 3), system(ZONE, 5)]
        }
        DefaultSpreads::System => Vec::new(),
        DefaultSpreads::List(list) => list.iter().filter(of_kind).cloned().collect(),
    };
    if defaults.is_empty() {
        return defaults;
    }
    let selector = siblings(pod, lookup);
    if selector.is_everything() {
        return Vec::new();
    }
    for spread in &mut defaults {
        spread.selector = selector.clone();
    }
    defaults
}

fn system(key: &str, max_skew: i64) -> Spread {
    Spread {
        max_skew,
        topology_key: key.to_owned(),
        selector: LabelSelector::everything(),
        min_domains: 1,
        honours_affinity: true,
        honours_taints: false,
        otherwise: WhenUnsatisfiable::ScheduleAnyway,
    }
}

/// What selects a Pod and its like: the Services it belongs to and the set that made it.
fn siblings(pod: &PodInfo, lookup: &dyn Lookup) -> LabelSelector {
    let mut selector = LabelSelector::everything();
    for service in lookup.services(&pod.key.namespace) {
        let labels =
            object::at(service.spec(), &["selector"]).and_then(serde_json::Value::as_object);
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
            continue;
        };
        let pairs = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
        let own = LabelSelector::from_labels(pairs);
        if own.matches(pod.labels()) {
            selector = selector.and(&own);
        }
    }
    let Some(owner) = pod.object.controller_of() else {
        return selector;
    };
    let known = matches!(
        (owner.group(), owner.kind.as_str()),
        ("", "ReplicationController") | ("apps", "ReplicaSet" | "StatefulSet")
    );
    let set = known
        .then(|| lookup.owner(&owner.kind, &pod.key.namespace, &owner.name))
        .flatten();
    match set {
        Some(set) => selector.and(&selector_of(&set, &owner.kind)),
        None => selector,
    }
}

fn selector_of(set: &Object, kind: &str) -> LabelSelector {
    let found = object::at(set.spec(), &["selector"]).filter(|selector| selector.is_object());
    if kind == "ReplicationController" {
        let labels = found.and_then(serde_json::Value::as_object);
        let pairs = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
        return LabelSelector::from_labels(pairs);
    }
    LabelSelector::from_object(found).unwrap_or_else(|_| LabelSelector::nothing())
}

/// What has to hold, with the present counts.
#[derive(Debug, Clone)]
pub struct SpreadFilter {
    spreads: Arc<Vec<Spread>>,
    /// Matching Pods by value of the label, of each constraint.
    domains: Vec<HashMap<String, i64>>,
    /// The fewest of any value, of each constraint.
    fewest: Vec<i64>,
}

impl SpreadFilter {
    /// Counts; `None` where the Pod has no such constraint.
    pub fn new(
        pod: &PodInfo,
        profile: &Profile,
        lookup: &dyn Lookup,
        world: &mut World,
    ) -> Option<Self> {
        let spreads = constraints(pod, profile, lookup, WhenUnsatisfiable::DoNotSchedule);
        if spreads.is_empty() {
            return None;
        }
        let mut domains = Vec::new();
        for spread in &spreads {
            let by_slot = world.count(&pod.key.namespace, &spread.selector);
            let mut by_value: HashMap<String, i64> = HashMap::new();
            for (slot, info) in world.occupied() {
                let Some(node) = info.node.as_deref() else {
                    continue;
                };
                if !has_labels(&spreads, node) || !counts(spread, pod, node) {
                    continue;
                }
                let value = node.label(&spread.topology_key).unwrap_or_default();
                // As upstream: an empty selector counts nothing here.
                let count = if spread.selector.is_everything() {
                    0
                } else {
                    by_slot[slot]
                };
                match by_value.get_mut(value) {
                    Some(sum) => *sum += i64::from(count),
                    None => drop(by_value.insert(value.to_owned(), i64::from(count))),
                }
            }
            domains.push(by_value);
        }
        let mut filter = Self {
            fewest: vec![0; spreads.len()],
            spreads: Arc::new(spreads),
            domains,
        };
        filter.find_fewest();
        Some(filter)
    }

    fn find_fewest(&mut self) {
        for (at, domains) in self.domains.iter().enumerate() {
            let too_few = domains.len() < self.spreads[at].min_domains;
            let fewest = domains
                .values()
                .copied()
                .min()
                .unwrap_or(i64::from(i32::MAX));
            self.fewest[at] = if too_few { 0 } else { fewest };
        }
    }

    /// In thought, a Pod comes to a node (`by` 1) or leaves it (-1).
    pub fn update(&mut self, pod: &PodInfo, other: &PodInfo, node: &Node, by: i64) {
        if other.key.namespace != pod.key.namespace || !has_labels(&self.spreads, node) {
            return;
        }
        let spreads = self.spreads.clone();
        for (at, spread) in spreads.iter().enumerate() {
            if spread.selector.matches(other.labels()) && counts(spread, pod, node) {
                let value = node.label(&spread.topology_key).unwrap_or_default();
                *self.domains[at].entry(value.to_owned()).or_insert(0) += by;
            }
        }
        self.find_fewest();
    }

    /// Whether a Pod may come to a node.
    pub fn check(&self, pod: &PodInfo, node: &Node) -> Result<(), Refusal> {
        for (at, spread) in self.spreads.iter().enumerate() {
            let Some(value) = node.label(&spread.topology_key) else {
                return Err(Refusal::unresolvable(
                    Plugin::PodTopologySpread,
                    MISSING_LABEL,
                ));
            };
            let own = i64::from(spread.selector.matches(pod.labels()));
            let there = self.domains[at].get(value).copied().unwrap_or(0);
            if there + own - self.fewest[at] > spread.max_skew {
                return Err(Refusal::resolvable(Plugin::PodTopologySpread, TOO_UNEVEN));
            }
        }
        Ok(())
    }
}

struct Wish {
    spread: Spread,
    by_slot: Arc<Vec<u32>>,
    by_value: HashMap<String, i64>,
    /// Keeps small places from being drowned out by many.
    weight: f64,
}

/// Scores nodes by the spread that need not hold; `None` where there is none.
pub fn score(
    pod: &PodInfo,
    profile: &Profile,
    lookup: &dyn Lookup,
    world: &mut World,
    feasible: &[Slot],
) -> Option<Vec<i64>> {
    let spreads = constraints(pod, profile, lookup, WhenUnsatisfiable::ScheduleAnyway);
    if spreads.is_empty() {
        return None;
    }
    // Nodes without a zone still spread by host where nobody has asked for zones.
    let all_labels = !pod.spreads.is_empty() || profile.default_spreads != DefaultSpreads::System;
    let by_slot: Vec<Arc<Vec<u32>>> = spreads
        .iter()
        .map(|spread| world.count(&pod.key.namespace, &spread.selector))
        .collect();
    let world = &*world;
    let node = |slot: &Slot| world.slot(*slot).node.as_deref();
    let counted =
        |slot: &&Slot| node(slot).is_some_and(|node| !all_labels || has_labels(&spreads, node));
    let candidates = feasible.iter().filter(counted).count();
    let mut wishes: Vec<Wish> = Vec::new();
    for (spread, by_slot) in spreads.iter().zip(by_slot) {
        let by_value = if spread.topology_key == HOSTNAME {
            HashMap::new()
        } else {
            let present = feasible.iter().filter(counted).filter_map(node);
            values(
                spread,
                pod,
                world,
                &by_slot,
                present,
                all_labels.then_some(&spreads),
            )
        };
        let size = if spread.topology_key == HOSTNAME {
            candidates
        } else {
            by_value.len()
        };
        wishes.push(Wish {
            weight: ((size + 2) as f64).ln(),
            spread: spread.clone(),
            by_slot,
            by_value,
        });
    }
    let raw: Vec<Option<i64>> = feasible
        .iter()
        .map(|slot| {
            let node = node(slot).filter(|_| counted(&slot))?;
            Some(cost(&wishes, *slot, node))
        })
        .collect();
    Some(normalize(&raw))
}

/// Matching Pods by value of the label, for the values candidates have.
fn values<'a>(
    spread: &Spread,
    pod: &PodInfo,
    world: &World,
    by_slot: &[u32],
    candidates: impl Iterator<Item = &'a Node>,
    required: Option<&Vec<Spread>>,
) -> HashMap<String, i64> {
    let mut by_value: HashMap<String, i64> = HashMap::new();
    for node in candidates {
        let value = node.label(&spread.topology_key).unwrap_or_default();
        if !by_value.contains_key(value) {
            by_value.insert(value.to_owned(), 0);
        }
    }
    for (slot, info) in world.occupied() {
        let count = by_slot[slot];
        let Some(node) = info.node.as_deref().filter(|_| count > 0) else {
            continue;
        };
        if required.is_some_and(|all| !has_labels(all, node)) || !counts(spread, pod, node) {
            continue;
        }
        let value = node.label(&spread.topology_key).unwrap_or_default();
        if let Some(sum) = by_value.get_mut(value) {
            *sum += i64::from(count);
        }
    }
    by_value
}

fn cost(wishes: &[Wish], slot: Slot, node: &Node) -> i64 {
    let mut sum = 0.0;
    for wish in wishes {
        let Some(value) = node.label(&wish.spread.topology_key) else {
            continue;
        };
        let count = if wish.spread.topology_key == HOSTNAME {
            i64::from(wish.by_slot[slot])
        } else {
            wish.by_value.get(value).copied().unwrap_or(0)
        };
        sum += count as f64 * wish.weight + (wish.spread.max_skew - 1) as f64;
    }
    sum.round() as i64
}

/// The fewer, the better; nodes that do not count get nothing.
fn normalize(raw: &[Option<i64>]) -> Vec<i64> {
    let most = raw.iter().flatten().copied().max().unwrap_or(0).max(0);
    let fewest = raw.iter().flatten().copied().min().unwrap_or(0);
    let scaled = |score: &Option<i64>| match score {
        None => 0,
        Some(_) if most == 0 => MAX_SCORE,
        Some(score) => MAX_SCORE * (most + fewest - score) / most,
    };
    raw.iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_is_better() {
        assert_eq!(
            normalize(&[Some(0), Some(5), Some(10), None]),
            [100, 50, 0, 0]
        );
        assert_eq!(normalize(&[Some(5), Some(10)]), [100, 50]);
        assert_eq!(normalize(&[Some(0), None]), [100, 0]);
    }
}
