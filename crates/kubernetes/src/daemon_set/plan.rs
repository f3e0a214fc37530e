//! What a daemon set has to do, and what its status is. Pure.
//!
//! [`manage`] brings one Pod to each node that should have one and takes away what is too much; [`roll`] replaces Pods of older
//! templates, a few at a time: by deleting them first, or, with `maxSurge`, by making the new one beside the old one.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::Object;
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::placement::{Placement, Placer, is_updated, node_of};
use crate::pod;

/// Most Pods made or deleted at once, as upstream.
const BURST_MAX: usize = 250;

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// The nodes to make Pods for.
    pub create: Vec<String>,
    /// The Pods to delete.
    pub delete: Vec<Arc<Object>>,
    /// The Pods to delete because they are not available, if that is still so.
    pub delete_useless: Vec<Arc<Object>>,
    /// Those that ended, which are deleted too: worth an event.
    pub ended: Vec<Arc<Object>>,
}

impl Plan {
    /// No more than may be done at once.
    pub fn limited(mut self) -> Self {
        self.create.truncate(BURST_MAX);
        self.delete.truncate(BURST_MAX);
        self.delete_useless.truncate(BURST_MAX - self.delete.len());
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.delete_useless.is_empty()
    }
}

/// A daemon set among its nodes.
pub struct Situation<'a> {
    /// The set.
    pub set: &'a Object,
    /// The hash of its template.
    pub hash: &'a str,
    /// Where it should run.
    pub places: BTreeMap<&'a str, Placement>,
    /// Its Pods by node, the one that counts first.
    pub pods: BTreeMap<String, Vec<Arc<Object>>>,
    /// Now.
    pub now: Timestamp,
}

/// A set's strategy in numbers of Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    surge: usize,
    unavailable: usize,
}

fn is_rolling(set: &Object) -> bool {
    object::text(set.value(), &["spec", "updateStrategy", "type"]) == "RollingUpdate"
}

/// A number or a part of the nodes, rounded up.
fn share(set: &Object, name: &str, of: usize) -> usize {
    let value = set.get(&["spec", "updateStrategy", "rollingUpdate", name]);
    let number = match value {
        Some(Value::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (percent * of as i64 + 99) / 100
        }
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    };
    usize::try_from(number).unwrap_or(0)
}

fn surges(set: &Object) -> bool {
    is_rolling(set) && share(set, "maxSurge", 1) > 0
}

/// The Pod of the current template and the one of another.
type NewAndOld<'p> = (Option<&'p Arc<Object>>, Option<&'p Arc<Object>>);

impl<'a> Situation<'a> {
    /// Sorts a set's Pods by node.
    pub fn of(
        set: &'a Object,
        hash: &'a str,
        nodes: &'a [Arc<Object>],
        pods: &[Arc<Object>],
        now: Timestamp,
    ) -> Self {
        let placer = Placer::of(set);
        let places = nodes.iter().map(|node| (node.name(), placer.place(node)));
        let mut by_node: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
        for pod in pods {
            // Pods that went to their end while they were being deleted are as good as gone.
            let is_over = pod.is_terminating() && matches!(pod::phase(pod), "Failed" | "Succeeded");
            if let Some(node) = node_of(pod).filter(|_| !is_over) {
                by_node
                    .entry(node.to_owned())
                    .or_default()
                    .push(pod.clone());
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|pod| {
                let assigned = !object::text(pod.value(), &["spec", "nodeName"]).is_empty();
                (
                    !assigned,
                    pod.creation_timestamp().to_owned(),
                    pod.name().to_owned(),
                )
            });
        }
        Self {
            set,
            hash,
            places: places.collect(),
            pods: by_node,
            now,
        }
    }

    fn is_available(&self, pod: &Object) -> bool {
        let seconds = object::number(self.set.value(), &["spec", "minReadySeconds"]).unwrap_or(0);
        pod::is_available(pod, seconds, self.now)
    }

    fn is_updated(&self, pod: &Object) -> bool {
        is_updated(self.set, pod, self.hash)
    }

    fn wanted(&self) -> usize {
        self.places.values().filter(|place| place.runs).count()
    }

    fn bounds(&self) -> Bounds {
        let wanted = self.wanted();
        let mut bounds = Bounds {
            surge: share(self.set, "maxSurge", wanted),
            unavailable: share(self.set, "maxUnavailable", wanted),
        };
        if wanted > 0 && bounds.surge == 0 && bounds.unavailable == 0 {
            // Neither would never move.
            bounds.unavailable = 1;
        }
        bounds
    }

    /// One Pod for each node that should have one. `may_replace` tells whether a failed Pod of a node may be tried again now.
    pub fn manage(&self, mut may_replace: impl FnMut(&str) -> bool) -> Plan {
        let mut plan = Plan::default();
        for (node, place) in &self.places {
            match self.pods.get(*node) {
                None if place.runs => plan.create.push((*node).to_owned()),
                None => {}
                Some(pods) if !place.keeps => {
                    let going = pods.iter().filter(|pod| !pod.is_terminating());
                    plan.delete.extend(going.cloned());
                }
                Some(pods) => self.manage_node(node, *place, pods, &mut may_replace, &mut plan),
            }
        }
        // Pods that wait for a node that has gone would wait forever.
        for (node, pods) in &self.pods {
            if !self.places.contains_key(node.as_str()) {
                let waiting = |pod: &&Arc<Object>| {
                    object::text(pod.value(), &["spec", "nodeName"]).is_empty()
                };
                plan.delete.extend(pods.iter().filter(waiting).cloned());
            }
        }
        plan
    }

    fn manage_node(
        &self,
        node: &str,
        place: Placement,
        pods: &[Arc<Object>],
        may_replace: &mut impl FnMut(&str) -> bool,
        plan: &mut Plan,
    ) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
            match pod::phase(pod) {
                "Failed" if !may_replace(node) => {}
                "Failed" | "Succeeded" => {
                    plan.ended.push(pod.clone());
                    plan.delete.push(pod.clone());
                }
                _ => running.push(pod.clone()),
            }
        }
        if !surges(self.set) {
            plan.delete.extend(running.into_iter().skip(1));
            return;
        }
        if running.is_empty() && place.runs {
            plan.create.push(node.to_owned());
        }
        if running.len() > 1 {
            self.prune_surge(running, plan);
        }
    }

    /// Beside one another are only the oldest of the new template, while it is not available, and the oldest of the others,
    /// while it is ready.
    fn prune_surge(&self, running: Vec<Arc<Object>>, plan: &mut Plan) {
        let (mut new, mut old) = (None, None);
        for pod in running {
            let is_new = pod.label(crate::history::HASH) == Some(self.hash);
            let kept = if is_new { &mut new } else { &mut old };
            if kept.is_none() {
                *kept = Some(pod);
            } else {
                plan.delete.push(pod);
            }
        }
        if let (Some(new), Some(old)) = (new, old) {
            if self.is_available(&new) {
                plan.delete.push(old);
            } else if !pod::is_ready(&old) {
                plan.delete_useless.push(old);
            }
        }
    }

    /// The next Pods to be replaced.
    pub fn roll(&self) -> Plan {
        if !is_rolling(self.set) {
            return Plan::default();
        }
        let bounds = self.bounds();
        if bounds.surge == 0 {
            self.roll_in_place(bounds.unavailable)
        } else {
            self.roll_beside(bounds.surge)
        }
    }

    /// All nodes with Pods and all that should have some.
    fn nodes(&self) -> impl Iterator<Item = (&str, &[Arc<Object>])> {
        let without = self
            .places
            .iter()
            .filter(|(node, place)| place.runs && !self.pods.contains_key(**node));
        let with = self
            .pods
            .iter()
            .map(|(node, pods)| (node.as_str(), pods.as_slice()));
        with.chain(without.map(|(node, _)| (*node, [].as_slice())))
    }

    /// The Pod of the current template and the one of another, of those that are not going; none where there are several.
    fn new_and_old<'p>(&self, pods: &'p [Arc<Object>]) -> Option<NewAndOld<'p>> {
        let (mut new, mut old) = (None, None);
        for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
            let place = if self.is_updated(pod) {
                &mut new
            } else {
                &mut old
            };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some((new, old))
    }

    fn roll_in_place(&self, max_unavailable: usize) -> Plan {
        let (mut unavailable, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for (_, pods) in self.nodes() {
            match self.new_and_old(pods) {
                Some((Some(new), None)) if self.is_available(new) => {}
                Some((None, Some(old))) if self.is_available(old) => candidates.push(old.clone()),
                Some((None, Some(old))) => {
                    useless.push(old.clone());
                    unavailable += 1;
                }
                _ => unavailable += 1,
            }
        }
        candidates.truncate(max_unavailable.saturating_sub(unavailable));
        Plan {
            delete: candidates,
            delete_useless: useless,
            ..Plan::default()
        }
    }

    fn roll_beside(&self, max_surge: usize) -> Plan {
        let (mut plan, mut candidates, mut misplaced) = (Plan::default(), Vec::new(), Vec::new());
        let (mut surging, mut available) = (0, 0);
        for (node, pods) in self.nodes() {
            let Some((new, old)) = self.new_and_old(pods) else {
                surging += 1;
                continue;
            };
            let counted = old.or(new);
            available += usize::from(counted.is_some_and(|pod| self.is_available(pod)));
            let Some(old) = old else { continue };
            let runs = self.places.get(node).is_some_and(|place| place.runs);
            match new {
                Some(new) if self.is_available(new) => plan.delete.push(old.clone()),
                Some(_) => surging += 1,
                None => match (self.is_available(old), runs) {
                    (false, true) => plan.create.push(node.to_owned()),
                    (false, false) => plan.delete_useless.push(old.clone()),
                    (true, true) => candidates.push(node.to_owned()),
                    (true, false) => misplaced.push(old.clone()),
                },
            }
        }
        misplaced.truncate(available.saturating_sub(self.wanted()));
        plan.delete.extend(misplaced);
        candidates.truncate(max_surge.saturating_sub(surging));
        plan.create.extend(candidates);
        plan
    }

    /// The status. `observes` says whether the set was acted on, and not only counted.
    pub fn status(&self, observes: bool) -> Value {
        let (mut wanted, mut current, mut misplaced) = (0, 0, 0);
        let (mut ready, mut available, mut updated) = (0, 0, 0);
        for (node, place) in &self.places {
            let first = self.pods.get(*node).and_then(|pods| pods.first());
            if !place.runs {
                misplaced += i64::from(first.is_some());
                continue;
            }
            wanted += 1;
            if let Some(pod) = first {
                current += 1;
                let is_ready = pod::is_ready(pod);
                ready += i64::from(is_ready);
                available += i64::from(is_ready && self.is_available(pod));
                updated += i64::from(self.is_updated(pod));
            }
        }
        let mut status = self.set.status().clone();
        if observes {
            status["observedGeneration"] = json!(self.set.generation());
        }
        for (name, number) in [
            ("currentNumberScheduled", current),
            ("numberMisscheduled", misplaced),
            ("desiredNumberScheduled", wanted),
            ("numberReady", ready),
        ] {
            status[name] = json!(number);
        }
        for (name, number) in [
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", wanted - available),
        ] {
            if let Some(members) = status.as_object_mut() {
                members.remove(name);
            }
            if number > 0 {
                status[name] = json!(number);
            }
        }
        status
    }
}

#[cfg(test)]
mod tests;
