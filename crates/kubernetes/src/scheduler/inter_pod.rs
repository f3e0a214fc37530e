//! `InterPodAffinity`: which Pods want to be beside which, and which do not. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnosis::Refusal;
use super::node_info::{Node, NodeInfo};
use super::pod_info::{PodInfo, PodTerm};
use super::profile::{Plugin, Profile};
use super::score::MAX_SCORE;
use super::world::{Slot, World};

const NOT_BESIDE: &str = "node(s) didn't match pod affinity rules";
const BESIDE: &str = "node(s) didn't match pod anti-affinity rules";
const UNWELCOME: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Pods counted by node label and value.
#[derive(Debug, Clone, Default)]
struct Counts(HashMap<(Arc<str>, String), i64>);

impl Counts {
    fn change(&mut self, node: &Node, key: &Arc<str>, by: i64) {
        let Some(value) = node.label(key) else {
            return;
        };
        let pair = (key.clone(), value.to_owned());
        let count = self.0.entry(pair.clone()).or_insert(0);
        *count += by;
        if *count == 0 {
            self.0.remove(&pair);
        }
    }

    fn at(&self, node: &Node, key: &Arc<str>) -> i64 {
        let Some(value) = node.label(key) else {
            return 0;
        };
        let pair = (key.clone(), value.to_owned());
        self.0.get(&pair).copied().unwrap_or(0)
    }
}

/// What has to hold, with the present counts.
#[derive(Debug, Clone)]
pub struct AffinityFilter {
    /// Label keys of the Pod's affinity terms.
    beside: Arc<[Arc<str>]>,
    /// Label keys of its anti-affinity terms.
    apart: Arc<[Arc<str>]>,
    /// Pods that refuse to be beside this one.
    refusing: Counts,
    /// Pods this one has to be beside.
    wanted: Counts,
    /// Pods this one must not be beside.
    unwanted: Counts,
    /// Whether it would itself be what it looks for.
    is_own_kind: bool,
}

fn keys(terms: &[PodTerm]) -> Arc<[Arc<str>]> {
    terms
        .iter()
        .map(|term| term.topology_key.as_str().into())
        .collect()
}

/// Whether a Pod is what all terms look for.
fn all_match(terms: &[PodTerm], pod: &PodInfo, world: &World) -> bool {
    let namespace = world.namespace(&pod.key.namespace);
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, namespace))
}

impl AffinityFilter {
    /// Counts; `None` where nothing has to hold.
    pub fn new(pod: &PodInfo, world: &World) -> Option<Self> {
        let asks = !pod.affinity.is_empty() || !pod.anti_affinity.is_empty();
        let mut filter = Self {
            beside: keys(&pod.affinity),
            apart: keys(&pod.anti_affinity),
            refusing: Counts::default(),
            wanted: Counts::default(),
            unwanted: Counts::default(),
            is_own_kind: all_match(&pod.affinity, pod, world),
        };
        for (_, info) in world.occupied() {
            let Some(node) = info.node.as_deref() else {
                continue;
            };
            if !asks && info.with_anti_affinity == 0 {
                continue;
            }
            for other in &info.pods {
                if asks || !other.anti_affinity.is_empty() {
                    filter.update(pod, other, node, 1, world);
                }
            }
        }
        (asks || !filter.refusing.0.is_empty()).then_some(filter)
    }

    /// A Pod is on a node (`by` 1), or in thought is not (-1).
    pub fn update(&mut self, pod: &PodInfo, other: &PodInfo, node: &Node, by: i64, world: &World) {
        if !other.anti_affinity.is_empty() {
            let own = world.namespace(&pod.key.namespace);
            for term in &other.anti_affinity {
                if term.matches(pod, own) {
                    let key: Arc<str> = term.topology_key.as_str().into();
                    self.refusing.change(node, &key, by);
                }
            }
        }
        if all_match(&pod.affinity, other, world) {
            for key in &*self.beside {
                self.wanted.change(node, key, by);
            }
        }
        if !pod.anti_affinity.is_empty() {
            let namespace = world.namespace(&other.key.namespace);
            for (term, key) in pod.anti_affinity.iter().zip(&*self.apart) {
                if term.matches(other, namespace) {
                    self.unwanted.change(node, key, by);
                }
            }
        }
    }

    /// Whether the Pod may come to a node.
    pub fn check(&self, node: &Node) -> Result<(), Refusal> {
        if !self.finds_company(node) {
            return Err(Refusal::unresolvable(Plugin::InterPodAffinity, NOT_BESIDE));
        }
        if self.apart.iter().any(|key| self.unwanted.at(node, key) > 0) {
            return Err(Refusal::resolvable(Plugin::InterPodAffinity, BESIDE));
        }
        let refused = self
            .refusing
            .0
            .iter()
            .any(|((key, value), count)| *count > 0 && node.label(key) == Some(value));
        if refused {
            return Err(Refusal::resolvable(Plugin::InterPodAffinity, UNWELCOME));
        }
        Ok(())
    }

    fn finds_company(&self, node: &Node) -> bool {
        let has_label = |key: &Arc<str>| node.label(key).is_some();
        if !self.beside.iter().all(has_label) {
            return false;
        }
        let company = |key: &Arc<str>| self.wanted.at(node, key) > 0;
        // The first of a kind that looks for its own may be alone.
        self.beside.iter().all(company) || (self.wanted.0.is_empty() && self.is_own_kind)
    }
}

#[derive(Default)]
struct Scores<'a>(HashMap<&'a str, HashMap<&'a str, i64>>);

impl<'a> Scores<'a> {
    fn add(
        &mut self,
        terms: &'a [PodTerm],
        of: &PodInfo,
        node: &'a Node,
        sign: i64,
        world: &World,
    ) {
        let namespace = world.namespace(&of.key.namespace);
        for term in terms {
            if term.matches(of, namespace) {
                self.put(&term.topology_key, node, sign * term.weight);
            }
        }
    }

    fn put(&mut self, key: &'a str, node: &'a Node, by: i64) {
        if let Some(value) = node.label(key) {
            *self.0.entry(key).or_default().entry(value).or_insert(0) += by;
        }
    }
}

/// Scores nodes by whom the Pod would like to be beside and who likes it; `None` where nobody does.
pub fn score(
    pod: &PodInfo,
    profile: &Profile,
    world: &World,
    feasible: &[Slot],
) -> Option<Vec<i64>> {
    let wishes = pod.has_preferred_affinity();
    if profile.ignores_preferences_of_placed && !wishes {
        return None;
    }
    let mut scores = Scores::default();
    for (_, info) in world.occupied() {
        let concerned = if wishes {
            info.pods.len()
        } else {
            info.with_affinity
        };
        if concerned > 0 {
            collect(&mut scores, pod, profile, world, info, wishes);
        }
    }
    if scores.0.is_empty() {
        return None;
    }
    let of_node = |slot: &Slot| {
        let Some(node) = world.slot(*slot).node.as_deref() else {
            return 0;
        };
        let at = |(key, values): (&&str, &HashMap<&str, i64>)| {
            node.label(key)
                .and_then(|value| values.get(value))
                .copied()
                .unwrap_or(0)
        };
        scores.0.iter().map(at).sum()
    };
    let raw: Vec<i64> = feasible.iter().map(of_node).collect();
    Some(normalize(&raw))
}

fn collect<'a>(
    scores: &mut Scores<'a>,
    pod: &'a PodInfo,
    profile: &Profile,
    world: &World,
    info: &'a NodeInfo,
    wishes: bool,
) {
    let Some(node) = info.node.as_deref() else {
        return;
    };
    let own = world.namespace(&pod.key.namespace);
    for other in &info.pods {
        if wishes {
            scores.add(&pod.preferred_affinity, other, node, 1, world);
            scores.add(&pod.preferred_anti_affinity, other, node, -1, world);
        }
        if !other.has_affinity() {
            continue;
        }
        if profile.hard_affinity_weight > 0 {
            for term in other.affinity.iter().filter(|term| term.matches(pod, own)) {
                scores.put(&term.topology_key, node, profile.hard_affinity_weight);
            }
        }
        scores.add(&other.preferred_affinity, pod, node, 1, world);
        scores.add(&other.preferred_anti_affinity, pod, node, -1, world);
    }
}

fn normalize(raw: &[i64]) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    let least = raw.iter().copied().min().unwrap_or(0);
    let scaled = |score: &i64| {
        if most == least {
            return 0;
        }
        (MAX_SCORE as f64 * ((score - least) as f64 / (most - least) as f64)) as i64
    };
    raw.iter().map(scaled).collect()
}
