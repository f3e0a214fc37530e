//! What the scheduler knows and decides: events come in, decisions come out. No IO, so that whole
//! histories can be tested.

use std::collections::HashMap;
use std::sync::Arc;

use controller::{Event, Object};
use model::object;
use tokio::time::Instant;

use super::configuration::Configuration;
use super::cycle::{self, Decision, Failure, Surroundings};
use super::diagnosis::Diagnosis;
use super::hints::{Change, helps};
use super::lookup::Lookup;
use super::node_info::Node;
use super::pod_info::PodInfo;
use super::preemption::{self, Budget, Eviction};
use super::profile::{Plugin, Profile};
use super::queue::Queue;
use super::random::Random;
use super::volumes::{Needs, Reservations};
use super::world::World;
use crate::pod;

/// What is to be done about a Pod.
#[derive(Debug)]
pub enum Step {
    /// It goes to a node, once what it needs there is written.
    Bind {
        /// The Pod.
        pod: Arc<PodInfo>,
        /// Its node.
        node: String,
        /// What has to be written before.
        needs: Needs,
    },
    /// No node takes it.
    Refuse {
        /// The Pod.
        pod: Arc<PodInfo>,
        /// Why.
        message: String,
        /// Who is evicted for it, and from where.
        eviction: Option<Eviction>,
        /// Pods that had hoped for the same node.
        outbid: Vec<Arc<PodInfo>>,
    },
}

/// The scheduler without its hands.
pub struct State {
    profiles: HashMap<String, Arc<Profile>>,
    lookup: Arc<dyn Lookup>,
    world: World,
    queue: Queue,
    reserved: Reservations,
    random: Random,
    start: usize,
}

impl State {
    /// Knows nothing yet.
    pub fn new(configuration: &Configuration, lookup: Arc<dyn Lookup>, seed: u64) -> Self {
        let named = |profile: &Profile| (profile.scheduler_name.clone(), Arc::new(profile.clone()));
        Self {
            profiles: configuration.profiles.iter().map(named).collect(),
            lookup,
            world: World::default(),
            queue: Queue::new(configuration.delays),
            reserved: Reservations::default(),
            random: Random::new(seed),
            start: 0,
        }
    }

    fn profile(&self, pod: &Object) -> Option<&Arc<Profile>> {
        let name = match object::text(pod.spec(), &["schedulerName"]) {
            "" => super::NAME,
            name => name,
        };
        self.profiles.get(name)
    }

    /// A Pod is there, has changed, or is gone.
    pub fn observe_pod(&mut self, event: &Event, now: Instant) {
        let object = event.object();
        let gone = matches!(event, Event::Deleted(_))
            || matches!(pod::phase(object), "Succeeded" | "Failed");
        if let Event::Updated { old, .. } = event
            && old.uid() != object.uid()
        {
            self.pod_gone(old, now);
        }
        if gone {
            self.pod_gone(object, now);
        } else if !object::text(object.spec(), &["nodeName"]).is_empty() {
            self.pod_placed(object, now);
        } else if object.is_terminating() || self.profile(object).is_none() {
            self.queue.remove(&object.key());
        } else if !self.world.is_placed(object.uid()) {
            let info = Arc::new(PodInfo::new(object.clone()));
            let gated = !object::list(object.spec(), &["schedulingGates"]).is_empty();
            if !info.nominated_node().is_empty() {
                self.world.nominate(&info, info.nominated_node());
            }
            self.queue.put(info, gated, now);
        }
    }

    fn pod_gone(&mut self, pod: &Arc<Object>, now: Instant) {
        let key = pod.key();
        let own = |known: &&Arc<PodInfo>| known.uid() == pod.uid();
        if let Some(known) = self.queue.get(&key).filter(own).cloned() {
            self.world.nominate(&known, "");
            self.queue.remove(&key);
        }
        if let Some(left) = self.world.displace(pod.uid()) {
            self.wake(Change::Left(&left), now);
        }
    }

    fn pod_placed(&mut self, object: &Arc<Object>, now: Instant) {
        let info = Arc::new(PodInfo::new(object.clone()));
        let old = self.world.placed(object.uid()).cloned();
        self.queue.remove(&info.key);
        if self.world.has_nominations() {
            self.world.nominate(&info, "");
        }
        self.world.place(info.clone(), info.node());
        let new = &*info;
        self.wake(
            Change::Placed {
                old: old.as_deref(),
                new,
            },
            now,
        );
    }

    /// A node is there, has changed, or is gone.
    pub fn observe_node(&mut self, event: &Event, now: Instant) {
        let object = event.object();
        if matches!(event, Event::Deleted(_)) {
            self.world.remove_node(object.name());
            self.wake(Change::NodeGone, now);
            return;
        }
        let new = Arc::new(Node::new(object.clone()));
        let slot = self.world.find(object.name());
        let old = slot.and_then(|slot| self.world.slot(slot).node.clone());
        self.world.set_node(new.clone());
        let old = old.as_deref();
        self.wake(Change::Node { old, new: &new }, now);
    }

    /// A namespace is there, has changed, or is gone.
    pub fn observe_namespace(&mut self, event: &Event, now: Instant) {
        let object = event.object();
        let same_labels = matches!(event, Event::Updated { old, new }
            if object::labels(old.value()) == object::labels(new.value()));
        if matches!(event, Event::Deleted(_)) {
            self.world.remove_namespace(object.name());
        } else {
            self.world.set_namespace(object.clone());
            if !same_labels {
                self.wake(Change::Namespace, now);
            }
        }
    }

    /// Something else has changed that may help Pods that wait.
    pub fn wake(&mut self, change: Change<'_>, now: Instant) {
        if self.queue.nobody_waits() {
            return;
        }
        let world = &self.world;
        self.queue
            .wake(now, |pod, by| helps(pod, by, change, world));
    }

    /// When there may be something to do, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// Decides about the next Pod. What is decided counts at once.
    pub fn step(&mut self, now: Instant, budgets: &dyn Fn() -> Vec<Budget>) -> Option<Step> {
        loop {
            let pod = self.queue.pop(now)?;
            // A profile may only be missing where somebody has changed the Pod since.
            let Some(profile) = self.profile(&pod.object).cloned() else {
                self.queue.remove(&pod.key);
                continue;
            };
            if self.world.is_placed(pod.uid()) {
                self.queue.remove(&pod.key);
                continue;
            }
            return Some(self.decide(pod, &profile, now, budgets));
        }
    }

    fn decide(
        &mut self,
        pod: Arc<PodInfo>,
        profile: &Profile,
        now: Instant,
        budgets: &dyn Fn() -> Vec<Budget>,
    ) -> Step {
        let around = Surroundings {
            profile,
            lookup: &*self.lookup,
            reserved: &self.reserved,
        };
        let decided = cycle::decide(
            &pod,
            around,
            &mut self.world,
            &mut self.random,
            &mut self.start,
        );
        let Failure {
            mut diagnosis,
            cycle,
        } = match decided {
            Ok(Decision { node, needs }) => {
                self.world.nominate(&pod, "");
                self.world.place(pod.clone(), &node);
                self.reserved.take(&needs, &node);
                return Step::Bind { pod, node, needs };
            }
            Err(failed) => *failed,
        };
        let mut eviction = None;
        if diagnosis.nodes > 0 && profile.has(Plugin::DefaultPreemption) {
            let found = preemption::find(
                cycle.as_ref(),
                &pod,
                profile,
                &diagnosis,
                &self.world,
                &budgets(),
                &mut self.random,
            );
            match found {
                Ok(found) => eviction = Some(found),
                Err(why) => diagnosis.preemption = why,
            }
        }
        self.refuse(pod, &diagnosis, eviction, now)
    }

    fn refuse(
        &mut self,
        pod: Arc<PodInfo>,
        diagnosis: &Diagnosis,
        eviction: Option<Eviction>,
        now: Instant,
    ) -> Step {
        self.queue.refused(&pod.key, diagnosis.plugins, now);
        let mut outbid = Vec::new();
        if let Some(eviction) = &eviction {
            let lesser = |other: &&Arc<PodInfo>| other.priority < pod.priority;
            let hopeful = self.world.nominated(&eviction.node);
            outbid = hopeful.iter().filter(lesser).cloned().collect();
            for other in &outbid {
                self.world.nominate(other, "");
            }
            self.world.nominate(&pod, &eviction.node);
            self.queue.hold(&pod.key);
        } else if !diagnosis
            .preemption
            .contains("terminating pod on the nominated node")
        {
            self.world.nominate(&pod, "");
        }
        Step::Refuse {
            message: diagnosis.message(),
            pod,
            eviction,
            outbid,
        }
    }

    /// The node room is being made on for a Pod, as far as is known here.
    pub fn nomination(&self, uid: &str) -> &str {
        self.world.nomination(uid).unwrap_or_default()
    }

    /// A Pod has been bound, and what it needed is there.
    pub fn bound(&mut self, pod: &PodInfo, needs: &Needs) {
        self.reserved.give_back(needs);
        self.queue.remove(&pod.key);
    }

    /// A Pod could not be bound. `current` is what is known of it now.
    pub fn not_bound(
        &mut self,
        pod: &PodInfo,
        needs: &Needs,
        current: Option<&Arc<Object>>,
        now: Instant,
    ) {
        self.reserved.give_back(needs);
        let same = current.filter(|current| current.uid() == pod.uid());
        let assigned =
            same.is_some_and(|same| !object::text(same.spec(), &["nodeName"]).is_empty());
        if assigned {
            // The answer got lost, or somebody else was faster: what has been seen is true.
            self.queue.remove(&pod.key);
            return;
        }
        if let Some(left) = self.world.displace(pod.uid()) {
            self.wake(Change::Left(&left), now);
        }
        let known = self
            .queue
            .get(&pod.key)
            .is_some_and(|known| known.uid() == pod.uid());
        match same {
            Some(_) => self.queue.broke_off(&pod.key, now),
            None if known => self.queue.remove(&pod.key),
            None => {}
        }
    }

    /// Those who were to be evicted for a Pod are going, or could not be made to.
    pub fn evicted(&mut self, pod: &Arc<PodInfo>, done: bool, now: Instant) {
        if !done {
            self.world.nominate(pod, "");
        }
        self.queue.release(&pod.key, !done, now);
    }
}
