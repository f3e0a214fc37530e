//! Pods that wait for a node: those to be tried now, those that back off, and those that nothing but a
//! change in the cluster can help. Pure: the time is given.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use controller::ObjectKey;
use tokio::time::Instant;

use super::pod_info::PodInfo;
use super::profile::PluginSet;

/// Who has waited for so long is tried again, whatever has happened: a guard against missed changes.
const FLUSH_AFTER: Duration = Duration::from_mins(5);

/// How long Pods wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// After the first.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be tried, in its turn.
    Active(u64),
    /// To be tried after a while.
    Backoff(Instant),
    /// Nothing but a change helps.
    Unschedulable(Instant),
    /// Its gates are closed.
    Gated,
    /// Being decided, or on its way to a node.
    InFlight,
    /// Others are being evicted for it; whether something has changed since that helps.
    Evicting(bool),
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    state: State,
    /// When it was first seen, for taking turns.
    turn: u64,
    attempts: u32,
    /// Whether the last attempt broke off, rather than find no node.
    broke_off: bool,
    tried: Instant,
    refused_by: PluginSet,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    delays: Delays,
    entries: HashMap<ObjectKey, Entry>,
    /// By priority, then by turn. What does not agree with its entry is stale.
    active: BinaryHeap<(i64, Reverse<u64>, ObjectKey)>,
    backoff: BTreeSet<(Instant, ObjectKey)>,
    unschedulable: BTreeSet<(Instant, ObjectKey)>,
    evicting: BTreeSet<ObjectKey>,
    turns: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(delays: Delays) -> Self {
        Self {
            delays,
            entries: HashMap::new(),
            active: BinaryHeap::new(),
            backoff: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            evicting: BTreeSet::new(),
            turns: 0,
        }
    }

    /// A Pod is there that wants a node, or has changed. `gated` ones wait for their gates.
    pub fn put(&mut self, pod: Arc<PodInfo>, gated: bool, now: Instant) {
        let key = pod.key.clone();
        let Some(entry) = self
            .entries
            .get_mut(&key)
            .filter(|entry| entry.pod.uid() == pod.uid())
        else {
            self.remove(&key);
            self.turns += 1;
            let entry = Entry {
                pod,
                state: State::Gated,
                turn: self.turns,
                attempts: 0,
                broke_off: false,
                tried: now,
                refused_by: PluginSet::default(),
            };
            self.entries.insert(key.clone(), entry);
            if !gated {
                self.activate(&key);
            }
            return;
        };
        let changed =
            entry.pod.object.spec() != pod.object.spec() || entry.pod.labels() != pod.labels();
        entry.pod = pod;
        match entry.state {
            State::Gated if !gated => self.activate(&key),
            State::Unschedulable(_) if changed => self.move_on(&key, now),
            // Its priority may have changed.
            State::Active(_) if changed => self.activate(&key),
            _ => {}
        }
    }

    /// A Pod wants no node any more.
    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.forget(key, entry.state);
        }
    }

    fn forget(&mut self, key: &ObjectKey, state: State) {
        match state {
            State::Backoff(until) => drop(self.backoff.remove(&(until, key.clone()))),
            State::Unschedulable(since) => drop(self.unschedulable.remove(&(since, key.clone()))),
            State::Evicting(_) => drop(self.evicting.remove(key)),
            _ => {}
        }
    }

    fn set(&mut self, key: &ObjectKey, state: State) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let old = std::mem::replace(&mut entry.state, state);
        let priority = entry.pod.priority;
        self.forget(key, old);
        match state {
            State::Active(turn) => self.active.push((priority, Reverse(turn), key.clone())),
            State::Backoff(until) => drop(self.backoff.insert((until, key.clone()))),
            State::Unschedulable(since) => drop(self.unschedulable.insert((since, key.clone()))),
            State::Evicting(_) => drop(self.evicting.insert(key.clone())),
            State::Gated | State::InFlight => {}
        }
    }

    fn activate(&mut self, key: &ObjectKey) {
        if let Some(turn) = self.entries.get(key).map(|entry| entry.turn) {
            self.set(key, State::Active(turn));
        }
    }

    /// The delay of a Pod since its last attempt.
    fn delay(&self, entry: &Entry) -> Duration {
        let doublings = entry.attempts.saturating_sub(1).min(31);
        self.delays
            .initial
            .saturating_mul(1 << doublings)
            .min(self.delays.max)
    }

    /// To be tried again, as soon as it may.
    fn move_on(&mut self, key: &ObjectKey, now: Instant) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let until = entry.tried + self.delay(entry);
        if until <= now {
            self.activate(key);
        } else {
            self.set(key, State::Backoff(until));
        }
    }

    /// The Pod to be tried next.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let key = self.pop_active().or_else(|| self.pop_waiting())?;
        let entry = self.entries.get_mut(&key)?;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.tried = now;
        let pod = entry.pod.clone();
        self.set(&key, State::InFlight);
        Some(pod)
    }

    fn promote(&mut self, now: Instant) {
        while let Some((until, key)) = self.backoff.first().cloned() {
            if until > now {
                break;
            }
            self.activate(&key);
        }
        while let Some((since, key)) = self.unschedulable.first().cloned() {
            if since + FLUSH_AFTER > now {
                break;
            }
            self.move_on(&key, now);
        }
    }

    fn pop_active(&mut self) -> Option<ObjectKey> {
        while let Some((_, Reverse(turn), key)) = self.active.pop() {
            let current = self.entries.get(&key).map(|entry| entry.state);
            if current == Some(State::Active(turn)) {
                return Some(key);
            }
        }
        None
    }

    /// Nobody else wants a node: who backs off only out of courtesy may come now.
    fn pop_waiting(&mut self) -> Option<ObjectKey> {
        let courteous = |(_, key): &&(Instant, ObjectKey)| {
            self.entries.get(key).is_some_and(|entry| !entry.broke_off)
        };
        self.backoff
            .iter()
            .find(courteous)
            .map(|(_, key)| key.clone())
    }

    /// When there is something to do next, if nothing changes.
    pub fn deadline(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let flush = self
            .unschedulable
            .first()
            .map(|(since, _)| *since + FLUSH_AFTER);
        backoff.into_iter().chain(flush).min()
    }

    /// No node takes a Pod; `refused_by` says who refused.
    pub fn refused(&mut self, key: &ObjectKey, refused_by: PluginSet, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.refused_by = refused_by;
            entry.broke_off = false;
            self.set(key, State::Unschedulable(now));
        }
    }

    /// Others are being evicted for a Pod that was refused: it is not tried until that is done.
    pub fn hold(&mut self, key: &ObjectKey) {
        self.set(key, State::Evicting(false));
    }

    /// What others were evicted for a Pod is done. `retry` tries it again at once.
    pub fn release(&mut self, key: &ObjectKey, retry: bool, now: Instant) {
        if let Some(State::Evicting(changed)) = self.entries.get(key).map(|entry| entry.state) {
            if changed || retry {
                self.move_on(key, now);
            } else {
                self.set(key, State::Unschedulable(now));
            }
        }
    }

    /// An attempt broke off; it is made again after a while.
    pub fn broke_off(&mut self, key: &ObjectKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.broke_off = true;
        entry.tried = now;
        let until = now + self.delays.initial.max(Duration::from_millis(1));
        self.set(key, State::Backoff(until));
    }

    /// Something has changed: Pods that `helps` says it may help are tried again.
    pub fn wake(&mut self, now: Instant, helps: impl Fn(&PodInfo, PluginSet) -> bool) {
        let helped =
            |entry: &Entry| entry.refused_by.is_empty() || helps(&entry.pod, entry.refused_by);
        let keys: Vec<ObjectKey> = self
            .unschedulable
            .iter()
            .filter(|(_, key)| self.entries.get(key).is_some_and(helped))
            .map(|(_, key)| key.clone())
            .collect();
        for key in keys {
            self.move_on(&key, now);
        }
        for key in &self.evicting {
            if let Some(entry) = self.entries.get_mut(key)
                && helped(entry)
            {
                entry.state = State::Evicting(true);
            }
        }
    }

    /// Whether nobody waits for a change.
    pub fn nobody_waits(&self) -> bool {
        self.unschedulable.is_empty() && self.evicting.is_empty()
    }

    /// A Pod in the queue.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<PodInfo>> {
        self.entries.get(key).map(|entry| &entry.pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::profile::Plugin;
    use controller::Object;
    use serde_json::json;

    fn pod(name: &str, priority: i64) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(Arc::new(Object::new(json!({
            "metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"priority": priority},
        })))))
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.key.name.clone())
    }

    fn fit() -> PluginSet {
        [Plugin::NodeResourcesFit].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_and_the_early_come_first() {
        let (mut queue, now) = (Queue::new(Delays::default()), Instant::now());
        for (name, priority) in [("a", 0), ("b", 0), ("c", 5), ("d", -1)] {
            queue.put(pod(name, priority), false, now);
        }
        queue.remove(&ObjectKey::new("d", "b"));
        let order: Vec<String> = std::iter::from_fn(|| next(&mut queue, now)).collect();
        assert_eq!(order, ["c", "a", "d"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_changes_that_help_wake() {
        let (mut queue, now) = (Queue::new(Delays::default()), Instant::now());
        queue.put(pod("a", 0), false, now);
        let key = queue.pop(now).expect("a Pod").key.clone();
        queue.refused(&key, fit(), now);
        queue.wake(now, |_, by| by.contains(Plugin::NodeAffinity));
        assert_eq!(next(&mut queue, now), None);
        queue.wake(now, |_, by| by.contains(Plugin::NodeResourcesFit));
        // It backs off, but nobody else is there.
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.refused(&key, fit(), now);
        queue.put(pod("b", -5), false, now);
        queue.wake(now, |_, _| true);
        assert_eq!(next(&mut queue, now).as_deref(), Some("b"));
        // Whoever was never refused by anybody in particular is woken by everything.
        queue.refused(&key, PluginSet::default(), now);
        queue.wake(now, |_, _| false);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_broke_off_wait() {
        let (mut queue, now) = (Queue::new(Delays::default()), Instant::now());
        queue.put(pod("a", 0), false, now);
        let key = queue.pop(now).expect("a Pod").key.clone();
        queue.broke_off(&key, now);
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(queue.deadline(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        assert_eq!(next(&mut queue, later).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn gates_and_evictions_hold_pods_back() {
        let (mut queue, now) = (Queue::new(Delays::default()), Instant::now());
        queue.put(pod("a", 0), true, now);
        queue.wake(now, |_, _| true);
        assert_eq!(next(&mut queue, now), None);
        queue.put(pod("a", 0), false, now);
        let key = queue.pop(now).expect("a Pod").key.clone();
        queue.refused(&key, fit(), now);
        queue.hold(&key);
        assert!(!queue.nobody_waits());
        queue.wake(now, |_, _| true);
        assert_eq!(next(&mut queue, now), None);
        queue.release(&key, false, now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_forgotten() {
        let (mut queue, now) = (Queue::new(Delays::default()), Instant::now());
        queue.put(pod("a", 0), false, now);
        let key = queue.pop(now).expect("a Pod").key.clone();
        queue.refused(&key, fit(), now);
        assert_eq!(queue.deadline(), Some(now + FLUSH_AFTER));
        assert_eq!(next(&mut queue, now + FLUSH_AFTER).as_deref(), Some("a"));
    }
}
