//! Runs the resources of a graph, each as soon as what it depends on is ready.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use controller::{ObjectKey, Outcome, Resource};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use super::apply::{self, Item, NodeResult};
use super::contributions::Contributions;
use super::inventory::Batch;
use super::later::Later;
use super::memory::{Applied, Memory};
use super::status::Report;
use super::{Instance, InstanceError, RESOURCES_READY, children, propagation};
use crate::build::{Graph, NodeKind};
use crate::conditions::ConditionStatus;
use crate::controllers::interests::Interest;
use crate::lifecycle::Adoption;
use crate::runtime::{Gate, NodeState, Pass, Step};

/// One run over all resources of an instance.
pub(super) struct Run<'a> {
    pub instance: &'a Instance<'a>,
    pub graph: &'a Graph,
    pub pass: Pass<'a>,
    pub memory: Memory,
    /// What this run applied or found unchanged.
    pub applied: HashMap<(Resource, ObjectKey), Applied>,
    pub batch: Batch,
    /// Which resource makes which object.
    pub claims: HashMap<(Resource, ObjectKey), usize>,
    interests: Vec<Interest>,
    /// Whether anything could not be pruned and is to be tried again.
    pub prune_again: bool,
    /// Why objects may not be written now.
    held: Vec<String>,
    /// When to look again, per resource that says so.
    again: HashMap<usize, Duration>,
    pub(super) later: Later,
    pub(super) contributions: Contributions,
}

pub(super) type Running<'a> = FuturesUnordered<BoxFuture<'a, NodeResult>>;

impl<'a> Run<'a> {
    pub fn new(instance: &'a Instance<'a>, graph: &'a Graph, memory: Memory) -> Self {
        let started = Instant::now();
        let pass = Pass::new(graph, &instance.object, instance.context.options.pass);
        let metrics = &instance.context.options.metrics;
        metrics.pass_begun(started.elapsed());
        Self {
            pass,
            batch: Batch::new(instance),
            instance,
            graph,
            memory,
            applied: HashMap::new(),
            claims: HashMap::new(),
            interests: Vec::new(),
            prune_again: false,
            held: Vec::new(),
            again: HashMap::new(),
            later: Later::default(),
            contributions: Contributions::new(instance),
        }
    }

    /// Runs until nothing more can be done without the world changing.
    pub async fn advance(&mut self) -> Result<(), InstanceError> {
        let mut started = vec![false; self.graph.nodes.len()];
        let mut running = Running::new();
        loop {
            self.start_what_can(&mut started, &mut running).await?;
            if let Some(result) = running.next().await {
                self.record(result);
            } else if !self.release_one(&started) && !self.fill_in(&mut started) {
                break;
            }
        }
        self.tell_awaited_fields();
        self.batch.repair(self.instance).await?;
        let interests = std::mem::take(&mut self.interests);
        self.instance
            .context
            .watches
            .look_only_at(self.instance.id, interests);
        Ok(())
    }

    /// Starts every resource whose turn has come; skipping one may make it the turn of others.
    async fn start_what_can(
        &mut self,
        started: &mut [bool],
        running: &mut Running<'a>,
    ) -> Result<(), InstanceError> {
        let mut to_apply = Vec::new();
        let metrics = &self.instance.context.options.metrics;
        for node in self.graph.order.iter().copied() {
            if started[node] || self.waits_softly(node, started) {
                continue;
            }
            let looked = Instant::now();
            let step = self.pass.step(node);
            let is_collection = self.graph.nodes[node].kind == NodeKind::Collection;
            metrics.step_taken(looked.elapsed(), &step, is_collection);
            started[node] = !matches!(step, Step::Blocked(_));
            match step {
                Step::Blocked(reason) | Step::Pending(reason) => {
                    self.pass.set_state(node, NodeState::InProgress(reason));
                }
                Step::Skip => self.pass.set_state(node, NodeState::Skipped),
                Step::Fail(message) => self.pass.set_state(node, NodeState::Error(message)),
                Step::Value(value) => self.pass.learn(node, value),
                Step::Apply(objects) if self.graph.nodes[node].kind.is_patch() => {
                    self.start_patch(node, objects, running).await?;
                }
                Step::Apply(objects) => match self.items(node, objects) {
                    Ok(mut items) => {
                        self.watch_strangers(node, &items).await?;
                        self.later.in_flight.insert(node);
                        self.ask_gates(node, &mut items).await?;
                        to_apply.push((node, items));
                    }
                    Err(message) => self.pass.set_state(node, NodeState::Error(message)),
                },
                Step::Read(key) => self.start_read(node, key, running).await?,
                Step::List {
                    namespace,
                    selector,
                } => self.start_list(node, namespace, selector, running).await?,
            }
        }
        if to_apply.is_empty() {
            return Ok(());
        }
        for (node, items) in &to_apply {
            let keys = items.iter().map(|item| &item.key);
            self.batch
                .add(self.instance, &self.graph.nodes[*node], keys);
        }
        // Membership is written before there are members, or they might never be found again.
        self.batch.write_if_grown(self.instance, self.graph).await?;
        for (node, items) in to_apply {
            running.push(Box::pin(apply::run(
                self.instance,
                node,
                &self.graph.nodes[node],
                items,
            )));
        }
        Ok(())
    }

    /// What is to be applied of a resource; an error if another resource makes the same object.
    fn items(&mut self, node: usize, objects: Vec<Value>) -> Result<Vec<Item>, String> {
        let this = &self.graph.nodes[node];
        let policy = self.pass.policy(node)?;
        if this.has_deferred_fields() {
            self.later.made.insert(node, objects.clone());
        }
        let mut deferred = self.pass.deferred(node).into_iter();
        let size = objects.len();
        let mut items = Vec::with_capacity(size);
        for (index, object) in objects.into_iter().enumerate() {
            let key = controller::Object::new(object.clone()).key();
            let place = (this.resource.clone(), key);
            let first = *self.claims.entry(place.clone()).or_insert(node);
            if first != node {
                let (a, b) = (&self.graph.nodes[first].id, &this.id);
                return Err(format!(
                    "found resources with conflicts: resourceID: {a} conflicts with resourceID: {b}"
                ));
            }
            let wave = self.graph.waves[node];
            let position = Some((index, size));
            let is_gated = !this.handling.propagate_when.is_empty();
            let bare = is_gated.then(|| object.clone());
            let mut desired =
                children::decorate(self.instance, this, wave, position, policy.deletion, object);
            if let Some(bare) = bare {
                propagation::stamp(&bare, &mut desired);
            }
            let known = self.memory.applied.get(&place).cloned();
            let patience = self.memory.patience.get(&place).cloned();
            items.push(Item {
                key: place.1,
                desired,
                policy,
                gate: Gate::Open,
                released: Vec::new(),
                known,
                patience: patience.unwrap_or_default(),
                deferred: deferred.next().unwrap_or_default(),
            });
        }
        Ok(items)
    }

    /// Watches objects whose coming and going matters although they are not ours.
    async fn watch_strangers(&mut self, node: usize, items: &[Item]) -> Result<(), InstanceError> {
        let resource = &self.graph.nodes[node].resource;
        let needed = |item: &&Item| item.policy.adoption != Adoption::AdoptOrCreate;
        for item in items.iter().filter(needed) {
            self.watch(Interest::Object(resource.clone(), item.key.clone()))
                .await?;
        }
        Ok(())
    }

    /// Watches come before reads, or a change in between would be missed.
    async fn start_read(
        &mut self,
        node: usize,
        key: ObjectKey,
        running: &mut Running<'a>,
    ) -> Result<(), InstanceError> {
        let this = &self.graph.nodes[node];
        self.later.in_flight.insert(node);
        self.watch(Interest::Object(this.resource.clone(), key.clone()))
            .await?;
        running.push(Box::pin(apply::read(self.instance, node, this, key)));
        Ok(())
    }

    async fn start_list(
        &mut self,
        node: usize,
        namespace: Option<String>,
        selector: String,
        running: &mut Running<'a>,
    ) -> Result<(), InstanceError> {
        let this = &self.graph.nodes[node];
        self.later.in_flight.insert(node);
        let parsed = model::LabelSelector::parse(&selector)
            .unwrap_or_else(|_| model::LabelSelector::everything());
        self.watch(Interest::Selection(
            this.resource.clone(),
            namespace.clone(),
            parsed,
        ))
        .await?;
        running.push(Box::pin(apply::list(
            self.instance,
            node,
            this,
            namespace,
            selector,
        )));
        Ok(())
    }

    pub(super) async fn watch(&mut self, interest: Interest) -> Result<(), InstanceError> {
        self.interests.push(interest.clone());
        Ok(self
            .instance
            .context
            .watches
            .also_look_at(self.instance.id, interest)
            .await?)
    }

    fn record(&mut self, result: NodeResult) {
        let NodeResult {
            node,
            observation,
            state,
            applied,
            held,
            patience,
            again,
            given,
        } = result;
        self.remember_given(node, given);
        self.later.in_flight.remove(&node);
        self.held.extend(held);
        let resource = &self.graph.nodes[node].resource;
        for (key, patience) in patience {
            let place = (resource.clone(), key);
            self.memory.patience.insert(place, patience);
        }
        if let Some(again) = again {
            self.again.insert(node, again);
        }
        for (key, applied) in applied {
            let place = (resource.clone(), key);
            self.memory.applied.insert(place.clone(), applied.clone());
            self.applied.insert(place, applied);
        }
        if let Some(observation) = observation {
            self.pass.observe(node, observation);
        }
        match state {
            Some(state) => self.pass.set_state(node, state),
            None => {
                self.pass.settle(node);
                let metrics = &self.instance.context.options.metrics;
                metrics.readiness_checked(self.pass.state(node).is_settled());
            }
        }
    }

    /// Tells the report how things stand; says when to look again if no event will.
    pub fn conclude(&self, report: &mut Report, error: Option<&InstanceError>) -> Outcome {
        let states = || (0..self.graph.nodes.len()).map(|node| self.pass.state(node));
        report.observe(&self.pass, self.instance.object.status());
        let verdict = match error {
            Some(error) => {
                report.fail();
                Verdict::NotReady(error.to_string())
            }
            None => Verdict::of(states()),
        };
        let (status, reason, message) = match verdict {
            Verdict::Ready => {
                let message = "all resources are created and ready".to_owned();
                (ConditionStatus::True, "AllResourcesReady", message)
            }
            Verdict::Deleting(message) => (ConditionStatus::False, "ResourceDeleting", message),
            Verdict::NotReady(message) => {
                let message = format!("resource reconciliation failed: {message}");
                (ConditionStatus::False, "NotReady", message)
            }
        };
        report.set(RESOURCES_READY, status, reason, message);
        if self.graph.has_gates() {
            report.propagated(&self.held, error.is_none() && self.is_complete());
        }
        report.author_conditions(&self.pass);
        self.next_look()
            .map_or(Outcome::Done, Outcome::RequeueAfter)
    }

    /// When to look again if no event comes first.
    fn next_look(&self) -> Option<Duration> {
        let interval = self.instance.context.options.retry_interval;
        let failed = (0..self.graph.nodes.len())
            .filter(|node| matches!(self.pass.state(*node), NodeState::Error(_)))
            .filter(|node| !self.again.contains_key(node))
            .map(|_| interval);
        let prune = self.prune_again.then_some(interval);
        let again = self.again.values().copied();
        again.chain(failed).chain(prune).min()
    }

    /// What to remember for the next run.
    pub fn into_memory(self) -> Memory {
        let is_complete = self.is_complete();
        let mut memory = self.memory;
        if is_complete {
            memory
                .applied
                .retain(|place, _| self.claims.contains_key(place));
            memory
                .patience
                .retain(|place, _| self.claims.contains_key(place));
        }
        memory
    }
}

/// The states of all resources in one.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ready,
    Deleting(String),
    NotReady(String),
}

impl Verdict {
    fn of<'s>(states: impl Iterator<Item = &'s NodeState>) -> Self {
        let (mut deleting, mut errors, mut waiting, mut pending) =
            (None, Vec::new(), Vec::new(), Vec::new());
        for state in states {
            match state {
                NodeState::Synced | NodeState::Skipped => {}
                NodeState::Deleting(message) => deleting = deleting.or(Some(message.clone())),
                NodeState::Error(message) => errors.push(message.as_str()),
                NodeState::Waiting(reason) => waiting.push(reason.as_str()),
                NodeState::InProgress(reason) => pending.push(reason.as_str()),
            }
        }
        if let Some(message) = deleting {
            return Self::Deleting(message);
        }
        errors.extend(waiting);
        if !errors.is_empty() {
            return Self::NotReady(format!(
                "apply results contain errors: {}",
                errors.join("; ")
            ));
        }
        match pending.first() {
            Some(first) => Self::NotReady(format!("waiting for unresolved resource: {first}")),
            None => Self::Ready,
        }
    }
}

impl Run<'_> {
    /// Whether every object this instance should have is known and was applied.
    pub fn is_complete(&self) -> bool {
        (0..self.graph.nodes.len()).all(|node| {
            matches!(
                self.pass.state(node),
                NodeState::Synced | NodeState::Skipped | NodeState::Waiting(_)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let waiting = NodeState::Waiting("w".into());
        let pending = NodeState::InProgress("p".into());
        let error = NodeState::Error("e".into());
        let deleting = NodeState::Deleting("d".into());
        let check = |states: &[&NodeState], expect: Verdict| {
            assert_eq!(Verdict::of(states.iter().copied()), expect);
        };
        check(&[&NodeState::Synced, &NodeState::Skipped], Verdict::Ready);
        check(
            &[&waiting, &error],
            Verdict::NotReady("apply results contain errors: e; w".into()),
        );
        check(
            &[&pending],
            Verdict::NotReady("waiting for unresolved resource: p".into()),
        );
        check(&[&error, &deleting], Verdict::Deleting("d".into()));
    }
}
