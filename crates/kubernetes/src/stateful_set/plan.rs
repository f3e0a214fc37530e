//! What a stateful set has to do, and what its status is. Pure.
//!
//! `OrderedReady` goes one Pod at a time: each waits until all before it are available, Pods that are too many go from the
//! highest ordinal down, and an update begins when all that is done. `Parallel` does not wait, but updates as carefully.

use std::sync::Arc;
use std::time::Duration;

use controller::Object;
use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};

use super::identity::{identity_matches, is_in_range, ordinal, replicas, start, storage_matches};
use crate::{history, pod};

/// The two revisions a set may have Pods of, by name.
#[derive(Debug, Clone, Copy)]
pub struct Revisions<'a> {
    /// The one that was rolled out last.
    pub current: &'a str,
    /// The one to roll out.
    pub update: &'a str,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Step {
    /// Make the Pod of an ordinal, of the update revision or of the current one.
    Create {
        /// The ordinal.
        ordinal: i64,
        /// Whether it is of the update revision.
        updated: bool,
    },
    /// Delete a Pod.
    Delete(Arc<Object>),
    /// Make the claims a waiting Pod lacks.
    MakeClaims(Arc<Object>),
    /// Give a Pod and its claims the identity, storage and owners they should have.
    Conform(Arc<Object>),
    /// Give the claims of a Pod that is to go the owners they should have.
    Release(Arc<Object>),
}

/// What to do, in order: the steps of one group at once if the set allows it, the next group only when all went well.
#[derive(Debug, Default)]
pub struct Plan {
    /// The groups of steps.
    pub groups: Vec<Vec<Step>>,
    /// What the status counts.
    pub counts: Counts,
}

/// The numbers of a status.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    replicas: i64,
    ready: i64,
    available: i64,
    current: i64,
    updated: i64,
}

/// What a plan is made from.
pub struct Situation<'a> {
    /// The set.
    pub set: &'a Object,
    /// Its Pods.
    pub pods: &'a [Arc<Object>],
    /// Its revisions.
    pub revisions: Revisions<'a>,
    /// Whether the claims of a Pod have the owners they should have.
    pub claims_match: &'a dyn Fn(&Object) -> bool,
    /// Whether a claim of an ordinal is about to go, so that its Pod must wait.
    pub is_blocked: &'a dyn Fn(i64) -> bool,
    /// Whether `maxUnavailable` counts.
    pub max_unavailable: bool,
    /// Now.
    pub now: Timestamp,
}

enum Slot {
    Pod(Arc<Object>),
    Missing { ordinal: i64, updated: bool },
}

/// Whether Pods are made and deleted without waiting for one another.
pub fn is_parallel(set: &Object) -> bool {
    object::text(set.value(), &["spec", "podManagementPolicy"]) == "Parallel"
}

fn strategy(set: &Object) -> &str {
    object::text(set.value(), &["spec", "updateStrategy", "type"])
}

fn partition(set: &Object) -> i64 {
    let path = ["spec", "updateStrategy", "rollingUpdate", "partition"];
    object::number(set.value(), &path).unwrap_or(0)
}

fn revision(pod: &Object) -> &str {
    pod.label(history::HASH).unwrap_or_default()
}

/// Decides.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let slots = situation.slots();
    let mut condemned: Vec<Arc<Object>> = situation
        .pods
        .iter()
        .filter(|pod| ordinal(pod).is_some_and(|ordinal| !is_in_range(situation.set, ordinal)))
        .cloned()
        .collect();
    condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
    let mut plan = Plan::default();
    if situation.set.is_terminating() {
        plan.counts = situation.count(situation.pods.iter());
        return plan;
    }
    let present = slots.iter().filter_map(Slot::pod);
    plan.counts = situation.count(present.chain(&condemned));
    if is_parallel(situation.set) {
        situation.plan_parallel(&slots, &condemned, &mut plan);
    } else {
        situation.plan_ordered(&slots, &condemned, &mut plan);
    }
    plan
}

impl Slot {
    fn pod(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Pod(pod) => Some(pod),
            Self::Missing { .. } => None,
        }
    }
}

impl Situation<'_> {
    fn slots(&self) -> Vec<Slot> {
        let (start, replicas) = (start(self.set), replicas(self.set));
        let mut slots: Vec<Slot> = (start..start + replicas)
            .map(|ordinal| Slot::Missing {
                ordinal,
                updated: !self.is_made_of_current(ordinal),
            })
            .collect();
        for pod in self.pods {
            let index = ordinal(pod).and_then(|ordinal| usize::try_from(ordinal - start).ok());
            if let Some(slot) = index.and_then(|index| slots.get_mut(index)) {
                *slot = Slot::Pod(pod.clone());
            }
        }
        slots
    }

    /// Whether a Pod of this ordinal is made of the current revision still: it is below the partition.
    fn is_made_of_current(&self, ordinal: i64) -> bool {
        let set = self.set;
        let rolling = set.get(&["spec", "updateStrategy", "rollingUpdate"]);
        if rolling.is_some_and(|rolling| !rolling.is_null()) {
            return ordinal < start(set) + partition(set);
        }
        let current = object::number(set.value(), &["status", "currentReplicas"]).unwrap_or(0);
        strategy(set) == "RollingUpdate" && ordinal < start(set) + current
    }

    fn is_available(&self, pod: &Object) -> bool {
        let seconds = object::number(self.set.value(), &["spec", "minReadySeconds"]).unwrap_or(0);
        pod::is_available(pod, seconds, self.now)
    }

    fn is_unavailable(&self, slot: &Slot) -> bool {
        let pod = slot.pod();
        pod.is_none_or(|pod| !self.is_available(pod) || pod.is_terminating())
    }

    fn count<'p>(&self, pods: impl Iterator<Item = &'p Arc<Object>>) -> Counts {
        let mut counts = Counts::default();
        for pod in pods {
            if pod::phase(pod).is_empty() {
                continue;
            }
            counts.replicas += 1;
            if is_running_and_ready(pod) {
                counts.ready += 1;
                counts.available += i64::from(self.is_available(pod));
            }
            if !pod.is_terminating() {
                counts.current += i64::from(revision(pod) == self.revisions.current);
                counts.updated += i64::from(revision(pod) == self.revisions.update);
            }
        }
        counts
    }

    /// What a Pod that should be there needs; whether those after it have to wait.
    fn tend(&self, slot: &Slot) -> (Vec<Step>, bool) {
        let pod = match slot {
            Slot::Missing { ordinal, .. } if (self.is_blocked)(*ordinal) => {
                return (Vec::new(), true);
            }
            Slot::Missing { ordinal, updated } => {
                let (ordinal, updated) = (*ordinal, *updated);
                return (vec![Step::Create { ordinal, updated }], true);
            }
            Slot::Pod(pod) => pod,
        };
        if matches!(pod::phase(pod), "Failed" | "Succeeded") {
            let delete = (!pod.is_terminating()).then(|| Step::Delete(pod.clone()));
            return (delete.into_iter().collect(), true);
        }
        let mut steps = Vec::new();
        if pod::phase(pod) == "Pending" {
            steps.push(Step::MakeClaims(pod.clone()));
        }
        let waits = pod.is_terminating() || !is_running_and_ready(pod) || !self.is_available(pod);
        if waits && !is_parallel(self.set) {
            return (steps, true);
        }
        let conforms = identity_matches(self.set, pod)
            && storage_matches(self.set, pod)
            && (self.claims_match)(pod);
        if !conforms && !pod.is_terminating() {
            steps.push(Step::Conform(pod.clone()));
        }
        (steps, waits)
    }

    fn plan_ordered(&self, slots: &[Slot], condemned: &[Arc<Object>], plan: &mut Plan) {
        for slot in slots {
            let (steps, waits) = self.tend(slot);
            plan.groups.extend(steps.into_iter().map(|step| vec![step]));
            if waits {
                return;
            }
        }
        let release = condemned.iter().filter(|pod| !(self.claims_match)(pod));
        plan.groups
            .extend(release.map(|pod| vec![Step::Release(pod.clone())]));
        let unavailable = |pod: &Arc<Object>| !self.is_available(pod) || pod.is_terminating();
        // All that should be there are available here, so the first that is not is too many.
        let first_unavailable = condemned.iter().rev().find(|pod| unavailable(pod));
        if let Some(pod) = condemned.first() {
            let is_first = first_unavailable.is_some_and(|first| first.uid() == pod.uid());
            let may_go = is_running_and_ready(pod) && self.is_available(pod) || is_first;
            if !pod.is_terminating() && may_go {
                plan.groups.push(vec![Step::Delete(pod.clone())]);
            }
            return;
        }
        self.plan_update(slots, plan);
    }

    fn plan_parallel(&self, slots: &[Slot], condemned: &[Arc<Object>], plan: &mut Plan) {
        let tended: Vec<Step> = slots.iter().flat_map(|slot| self.tend(slot).0).collect();
        let release = condemned.iter().filter(|pod| !(self.claims_match)(pod));
        let release = release.map(|pod| Step::Release(pod.clone())).collect();
        let going = condemned.iter().filter(|pod| !pod.is_terminating());
        let going = going.map(|pod| Step::Delete(pod.clone())).collect();
        plan.groups.extend([tended, release, going]);
        self.plan_update(slots, plan);
    }

    /// Deletes Pods of other revisions, from the highest ordinal down; they come back as the update revision.
    fn plan_update(&self, slots: &[Slot], plan: &mut Plan) {
        if strategy(self.set) == "OnDelete" {
            return;
        }
        let least = usize::try_from(partition(self.set))
            .unwrap_or(0)
            .min(slots.len());
        let is_old = |pod: &Object| revision(pod) != self.revisions.update && !pod.is_terminating();
        let targets = slots[least..].iter().rev();
        let going: Vec<Arc<Object>> = if self.max_unavailable {
            let unavailable = slots
                .iter()
                .filter(|slot| self.is_unavailable(slot))
                .count();
            let room = max_unavailable(self.set).saturating_sub(unavailable);
            let old = targets.filter_map(Slot::pod).filter(|pod| is_old(pod));
            old.take(room).cloned().collect()
        } else {
            let mut going = None;
            for slot in targets {
                going = slot.pod().filter(|pod| is_old(pod));
                if going.is_some() || self.is_unavailable(slot) {
                    break;
                }
            }
            going.into_iter().cloned().collect()
        };
        // The numbers of the status are those of after the deletions.
        let current = going
            .iter()
            .filter(|pod| revision(pod) == self.revisions.current);
        plan.counts.current -= current.count() as i64;
        plan.groups
            .extend(going.into_iter().map(|pod| vec![Step::Delete(pod)]));
    }
}

fn is_running_and_ready(pod: &Object) -> bool {
    pod::phase(pod) == "Running" && pod::is_ready(pod)
}

/// How many Pods an update may have down at once: a number, or a part of the replicas rounded down; at least one.
fn max_unavailable(set: &Object) -> usize {
    let path = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    let value = match set.get(&path) {
        Some(Value::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            percent * replicas(set) / 100
        }
        Some(value) => value.as_i64().unwrap_or(1),
        None => 1,
    };
    usize::try_from(value).unwrap_or(1).max(1)
}

/// The status of a set.
pub fn status(set: &Object, revisions: Revisions<'_>, counts: Counts, collisions: i64) -> Value {
    let (mut current, mut counts) = (revisions.current, counts);
    let wanted = replicas(set);
    let all_updated = [counts.updated, counts.ready, counts.replicas] == [wanted; 3];
    if strategy(set) == "RollingUpdate" && all_updated {
        // The update is complete: what was to be rolled out is what is.
        counts.current = counts.updated;
        current = revisions.update;
    }
    let mut status = json!({
        "observedGeneration": set.generation(),
        "replicas": counts.replicas,
        "availableReplicas": counts.available,
        "currentRevision": current,
        "updateRevision": revisions.update,
        "collisionCount": collisions,
    });
    for (name, number) in [
        ("readyReplicas", counts.ready),
        ("currentReplicas", counts.current),
        ("updatedReplicas", counts.updated),
    ] {
        if number > 0 {
            status[name] = json!(number);
        }
    }
    status
}

/// Whether a status is to be written: it knows of a later generation, or one of its numbers or revisions has changed.
pub fn differs(set: &Object, status: &Value) -> bool {
    let number = |status: &Value, name: &str| object::number(status, &[name]).unwrap_or(0);
    let numbers = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    number(status, "observedGeneration") > number(set.status(), "observedGeneration")
        || numbers
            .iter()
            .any(|name| number(status, name) != number(set.status(), name))
        || ["currentRevision", "updateRevision"]
            .iter()
            .any(|name| object::text(status, &[name]) != object::text(set.status(), &[name]))
}

/// When a Pod becomes available by the passing of time alone.
pub fn next_availability(set: &Object, pods: &[Arc<Object>], now: Timestamp) -> Option<Duration> {
    let seconds = object::number(set.value(), &["spec", "minReadySeconds"]).unwrap_or(0);
    let waits = pods
        .iter()
        .filter_map(|pod| pod::available_in(pod, seconds, now));
    waits.min()
}

#[cfg(test)]
mod tests;
