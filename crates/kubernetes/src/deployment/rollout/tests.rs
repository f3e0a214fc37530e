//! Rollouts of invented deployments: plain ones, and whole histories in which everything is late.

use proptest::prelude::*;

use super::*;

fn deployment(replicas: i64, surge: Value, unavailable: Value) -> Object {
    Object::new(json!({
        "metadata": {"name": "d", "namespace": "n", "uid": "d"},
        "spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": {
            "maxSurge": surge, "maxUnavailable": unavailable}}},
    }))
}

fn set(deployment: &Object, name: &str, replicas: i64, available: i64) -> Arc<Object> {
    Arc::new(Object::new(json!({
        "metadata": {"name": name, "annotations": size_annotations(deployment)},
        "spec": {"replicas": replicas},
        "status": {"availableReplicas": available},
    })))
}

/// Rolls until nothing changes, with every Pod ready at once, and checks the bounds.
fn roll(deployment: &Object) -> usize {
    let (surge, unavailable) = bounds(deployment);
    let replicas = wanted(deployment);
    let (mut old, mut new, mut steps) = (replicas, 0, 0);
    loop {
        let sets = Sets {
            new: Some(set(deployment, "new", new, new)),
            old: vec![set(deployment, "old", old, old)],
        };
        let scales = next_step(deployment, &sets, true, |_| 0);
        if scales.is_empty() {
            assert_eq!((old, new), (0, replicas));
            return steps;
        }
        for scale in scales {
            if scale.set.name() == "new" {
                new = scale.to;
            } else {
                old = scale.to;
            }
        }
        assert!(old + new <= replicas + surge, "too many: {old} + {new}");
        assert!(
            old + new >= replicas - unavailable,
            "too few: {old} + {new}"
        );
        steps += 1;
        assert!(steps < 1_000, "it never ends");
    }
}

#[test]
fn a_rollout_keeps_its_bounds_and_ends() {
    for (surge, unavailable) in [
        (json!(1), json!(0)),
        (json!(0), json!(1)),
        (json!("25%"), json!("25%")),
        (json!("100%"), json!(0)),
        (json!(0), json!("50%")),
    ] {
        for replicas in [1, 2, 3, 10, 33] {
            roll(&deployment(replicas, surge.clone(), unavailable.clone()));
        }
    }
}

#[test]
fn old_pods_that_are_not_available_go_first() {
    let deployment = deployment(4, json!(1), json!(0));
    let sets = Sets {
        new: Some(set(&deployment, "new", 1, 1)),
        old: vec![set(&deployment, "old", 4, 3)],
    };
    let scales = next_step(&deployment, &sets, true, |_| 1);
    assert_eq!(scales.len(), 1);
    assert_eq!((scales[0].set.name(), scales[0].to), ("old", 3));
}
/// A replica set and the Pods it really has.
#[derive(Debug, Clone)]
struct Real {
    version: u8,
    wanted: i64,
    generation: i64,
    observed: i64,
    told_replicas: i64,
    told_available: i64,
    ready: i64,
    unready: i64,
}

/// What may happen next, in any order.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The deployment takes a step.
    Roll,
    /// A set makes or deletes Pods, and tells what it had before.
    Reconcile(usize),
    /// A set tells what it has.
    Tell(usize),
    /// A Pod of a set becomes ready.
    BecomeReady(usize),
    /// The template changes.
    Change(u8),
}

impl Real {
    fn new(version: u8, wanted: i64) -> Self {
        Self {
            version,
            wanted,
            generation: 1,
            observed: 0,
            told_replicas: 0,
            told_available: 0,
            ready: 0,
            unready: 0,
        }
    }

    fn tell(&mut self) {
        self.observed = self.generation;
        (self.told_replicas, self.told_available) = (self.ready + self.unready, self.ready);
    }

    fn reconcile(&mut self) {
        self.tell();
        let surplus = self.ready + self.unready - self.wanted;
        if surplus < 0 {
            self.unready -= surplus;
        } else {
            let useless = surplus.min(self.unready);
            self.unready -= useless;
            self.ready -= surplus - useless;
        }
    }

    fn object(&self, deployment: &Object) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"name": format!("v{}", self.version), "uid": format!("v{}", self.version),
                "generation": self.generation, "annotations": size_annotations(deployment)},
            "spec": {"replicas": self.wanted},
            "status": {"replicas": self.told_replicas, "availableReplicas": self.told_available,
                "observedGeneration": self.observed},
        })))
    }
}

/// A step of the deployment to a version.
fn step(deployment: &Object, real: &mut Vec<Real>, version: u8) -> bool {
    let is_new = |set: &Real| set.version == version;
    let object = |set: &Real| set.object(deployment);
    let mut sets = Sets {
        new: real.iter().find(|set| is_new(set)).map(object),
        old: real.iter().filter(|set| !is_new(set)).map(object).collect(),
    };
    let created = sets.new.is_none();
    if created {
        let made = Real::new(version, new_replicas(deployment, &sets));
        sets.new = Some(made.object(deployment));
        real.push(made);
    }
    let scales = next_step(deployment, &sets, true, |set| {
        let number = |path: &[&str]| object::number(set.value(), path).unwrap_or(0);
        (number(&["spec", "replicas"]) - number(&["status", "availableReplicas"])).max(0)
    });
    for scale in &scales {
        let set = real
            .iter_mut()
            .find(|set| format!("v{}", set.version) == scale.set.name());
        let set = set.expect("one of these");
        (set.wanted, set.generation) = (scale.to, set.generation + 1);
    }
    created || !scales.is_empty()
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Roll),
        4 => (0_usize..4).prop_map(Event::Reconcile),
        4 => (0_usize..4).prop_map(Event::Tell),
        4 => (0_usize..4).prop_map(Event::BecomeReady),
        1 => (0_u8..4).prop_map(Event::Change),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// However late everything is and however often the template changes, there are never too many Pods nor too few that are
    /// available, and in the end all are of the last template.
    #[test]
    fn bounds_hold_whatever_is_late(
        replicas in 1_i64..8,
        surge in 0_i64..4,
        unavailable in 0_i64..4,
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let deployment = deployment(replicas, json!(surge), json!(unavailable));
        let (surge, unavailable) = bounds(&deployment);
        let mut first = Real::new(0, replicas);
        first.ready = replicas;
        first.tell();
        let (mut real, mut version) = (vec![first], 0);
        // In the end nothing changes any more, and everything happens in turn.
        let calm = [Event::Roll].into_iter().chain((0..4).flat_map(|set| {
            [Event::Reconcile(set), Event::BecomeReady(set), Event::Tell(set)]
        }));
        let calm: Vec<Event> = calm.collect();
        for event in events.into_iter().chain(calm.iter().cycle().take(calm.len() * 100).copied()) {
            match event {
                Event::Roll => drop(step(&deployment, &mut real, version)),
                Event::Change(to) => version = to,
                Event::Reconcile(set) => real.get_mut(set).into_iter().for_each(Real::reconcile),
                Event::Tell(set) => {
                    // What is not settled tells nothing.
                    let settled = real.get_mut(set).filter(|set| set.observed == set.generation);
                    settled.into_iter().for_each(Real::tell);
                }
                Event::BecomeReady(set) => {
                    if let Some(set) = real.get_mut(set).filter(|set| set.unready > 0) {
                        (set.unready, set.ready) = (set.unready - 1, set.ready + 1);
                    }
                }
            }
            let pods: i64 = real.iter().map(|set| set.ready + set.unready).sum();
            let ready: i64 = real.iter().map(|set| set.ready).sum();
            prop_assert!(pods <= replicas + surge, "{pods} Pods: {real:?}");
            prop_assert!(ready >= replicas - unavailable, "{ready} ready: {real:?}");
        }
        for set in &real {
            let expect = if set.version == version { replicas } else { 0 };
            prop_assert_eq!(set.ready, expect, "{:?}", real);
        }
    }
}
