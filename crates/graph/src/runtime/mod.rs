//! One reconcile of one instance, as far as it is thinking: what is included, what objects should look like, what is
//! ready, what the status says.
//!
//! A [`Pass`] holds what has been observed so far. Whoever runs it asks [`Pass::step`] what a resource needs, does that,
//! and tells what was found with [`Pass::observe`]. Nothing here reads or writes a cluster.

mod author_conditions;
mod branches;
mod deferred;
mod desired;
mod edits;
mod projection;
mod propagation;
mod rollout;
mod variables;

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Activation, AttributePattern, Type};
use controller::{Object, ObjectKey};
use serde_json::Value;

use crate::build::{EACH_VARIABLE, Graph, Node, NodeKind, SCHEMA_VARIABLE};
use crate::expression::{EvalFailure, Evaluated, Expression};
use crate::lifecycle::Policy;

pub use author_conditions::{AuthorCondition, AuthorConditions};
pub use deferred::{Deferred, hold};
pub use propagation::{Gate, Member};
pub(crate) use rollout::instance_gates;

/// Limits of a pass.
#[derive(Clone, Copy, Debug)]
pub struct PassOptions {
    /// Most items of a collection (`--rgd-max-collection-size`).
    pub max_collection_size: usize,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self {
            max_collection_size: 1000,
        }
    }
}

/// What was found of a resource.
#[derive(Clone, Debug)]
pub enum Observation {
    /// One object.
    One(Arc<Object>),
    /// A set of objects; `complete` if all desired ones are among them.
    Many {
        /// The objects as a JSON list.
        items: Arc<Value>,
        /// Whether none is missing.
        complete: bool,
    },
}

/// Where a resource stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Not worked on yet, or data for it is missing.
    InProgress(String),
    /// There, but not ready.
    Waiting(String),
    /// There and ready.
    Synced,
    /// Not included.
    Skipped,
    /// It, or one of its objects, is being deleted.
    Deleting(String),
    /// It cannot be brought to what it should be.
    Error(String),
}

impl NodeState {
    /// As kro calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InProgress(_) => "IN_PROGRESS",
            Self::Waiting(_) => "WAITING_FOR_READINESS",
            Self::Synced => "SYNCED",
            Self::Skipped => "SKIPPED",
            Self::Deleting(_) => "DELETING",
            Self::Error(_) => "ERROR",
        }
    }

    /// Why it is not done.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Synced | Self::Skipped => None,
            Self::InProgress(reason)
            | Self::Waiting(reason)
            | Self::Deleting(reason)
            | Self::Error(reason) => Some(reason),
        }
    }

    /// Whether those that depend on it may go on.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Synced | Self::Skipped)
    }
}

/// What a resource needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A resource it depends on is not ready yet.
    Blocked(String),
    /// It is not included.
    Skip,
    /// Data it reads is not there yet.
    Pending(String),
    /// These objects are to be made so.
    Apply(Vec<Value>),
    /// This object is to be read.
    Read(ObjectKey),
    /// These objects are to be listed.
    List {
        /// Where; everywhere if `None`.
        namespace: Option<String>,
        /// Which.
        selector: String,
    },
    /// This is its value: see [`Pass::learn`].
    Value(Value),
    /// It cannot go on.
    Fail(String),
}

/// Whether a resource is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// Not yet, and what is missing.
    Waiting(String),
    /// It cannot be told.
    Failed(String),
}

/// One reconcile of one instance.
pub struct Pass<'g> {
    graph: &'g Graph,
    instance: Value,
    instance_namespace: Option<String>,
    observed: Vec<Option<Observation>>,
    states: Vec<NodeState>,
    options: PassOptions,
}

impl<'g> Pass<'g> {
    /// A pass that has seen nothing but the instance.
    pub fn new(graph: &'g Graph, instance: &Object, options: PassOptions) -> Self {
        let mut value = instance.value().clone();
        if let Some(fields) = value.as_object_mut() {
            // Expressions do not see the status, which would make them depend on their own results.
            fields.remove("status");
        }
        Self {
            graph,
            instance: value,
            instance_namespace: instance.namespace().map(str::to_owned),
            observed: vec![None; graph.nodes.len()],
            states: vec![NodeState::InProgress("not reached".to_owned()); graph.nodes.len()],
            options,
        }
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// What was found of a resource.
    pub fn observe(&mut self, node: usize, observation: Observation) {
        self.observed[node] = Some(observation);
    }

    /// What was found of a resource, if anything was.
    pub fn observed(&self, node: usize) -> Option<&Observation> {
        self.observed[node].as_ref()
    }

    /// Where a resource stands.
    pub fn state(&self, node: usize) -> &NodeState {
        &self.states[node]
    }

    /// Notes where a resource stands.
    pub fn set_state(&mut self, node: usize, state: NodeState) {
        self.states[node] = state;
    }

    fn blocker(&self, mut among: impl Iterator<Item = usize>) -> Option<Step> {
        let blocker = among.find(|dependency| !self.states[*dependency].is_settled())?;
        let id = &self.graph.nodes[blocker].id;
        Some(Step::Blocked(format!(
            "waiting for dependency \"{id}\" to be ready"
        )))
    }

    /// What a resource needs next.
    pub fn step(&self, node: usize) -> Step {
        let this = &self.graph.nodes[node];
        // Being left out is contagious, and needs no data.
        if always(&this.dependencies, &this.branch_dependencies)
            .filter(|dependency| !this.handling.gate_dependencies.contains(dependency))
            .any(|dependency| self.states[dependency] == NodeState::Skipped)
        {
            return Step::Skip;
        }
        let include = always(&this.include_dependencies, &this.include_branches);
        if let Some(blocked) = self.blocker(include) {
            return blocked;
        }
        match self.is_included(this) {
            Ok(true) => {}
            Ok(false) => return Step::Skip,
            Err(failure) => return self.give_up(this, "includeWhen", &failure),
        }
        let dependencies = always(&this.dependencies, &this.branch_dependencies);
        if let Some(blocked) = self.blocker(dependencies) {
            return blocked;
        }
        match this.kind {
            NodeKind::Variable | NodeKind::VariableList => self.value_of(this),
            NodeKind::Resource
            | NodeKind::Collection
            | NodeKind::Patch
            | NodeKind::PatchCollection => match self.desired(this) {
                Ok(objects) => Step::Apply(objects),
                Err(desired::DesiredError::Eval(failure)) => {
                    self.give_up(this, "template", &failure)
                }
                Err(desired::DesiredError::Other(message)) => Step::Fail(message),
            },
            NodeKind::External | NodeKind::ExternalCollection => self.external(this),
        }
    }

    /// How the objects of a resource come and go.
    pub fn policy(&self, node: usize) -> Result<Policy, String> {
        let this = &self.graph.nodes[node];
        let policy = this
            .handling
            .lifecycle
            .policy(|expression| self.evaluate(expression, &[]));
        policy.map_err(|message| format!("resource \"{}\": lifecycle: {message}", this.id))
    }

    fn give_up(&self, node: &Node, place: &str, failure: &EvalFailure) -> Step {
        if let EvalFailure::Unsettled { names, .. } = failure {
            return self.held_up_by(names);
        }
        // An includeWhen that reads nothing but the instance will not get more data by waiting.
        let only_instance = place == "includeWhen" && node.include_dependencies.is_empty();
        let text = format!("resource \"{}\": {place}: {failure}", node.id);
        if failure.is_pending() && !only_instance {
            Step::Pending(text)
        } else {
            Step::Fail(text)
        }
    }

    fn is_included(&self, node: &Node) -> Result<bool, EvalFailure> {
        let unsettled = self.unsettled(&node.include_branches);
        for condition in &node.include_when {
            if !self.holds(condition, &unsettled)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Evaluates a condition; an empty optional does not hold.
    fn holds(&self, condition: &Expression, more: &[Binding<'_>]) -> Result<bool, EvalFailure> {
        match self.evaluate(condition, more)? {
            Evaluated::Value(Value::Bool(holds)) => Ok(holds),
            Evaluated::Value(Value::Null) | Evaluated::Omit => Ok(false),
            Evaluated::Value(other) => Err(EvalFailure::Failed {
                source_text: condition.source().to_owned(),
                message: format!("expected a boolean, got {other}"),
            }),
        }
    }

    fn evaluate(
        &self,
        expression: &Expression,
        more: &[Binding<'_>],
    ) -> Result<Evaluated, EvalFailure> {
        let mut variables = Activation::new();
        self.bind(expression, &mut variables);
        for binding in more {
            binding.bind(&mut variables);
        }
        expression.evaluate_json(&variables)
    }

    /// Binds what the expression reads, as far as it was observed.
    fn bind<'a>(&'a self, expression: &'a Expression, variables: &mut Activation<'a>) {
        for name in expression.roots() {
            if name == SCHEMA_VARIABLE {
                variables.bind_typed(name, &self.instance, &self.graph.instance_type);
                continue;
            }
            let Some(position) = self.graph.position(name) else {
                continue;
            };
            let node = &self.graph.nodes[position];
            match &self.observed[position] {
                None => {}
                Some(Observation::One(object)) => {
                    variables.bind_typed(name, object.value(), &node.object_type);
                }
                Some(Observation::Many { items, .. }) => {
                    variables.bind_typed(name, items, &node.list_type);
                }
            }
        }
    }

    /// Whether a resource that was observed is ready.
    pub fn readiness(&self, node: usize) -> Readiness {
        let this = &self.graph.nodes[node];
        match &self.observed[node] {
            None => Readiness::Waiting(format!("waiting for resource \"{}\" to exist", this.id)),
            Some(Observation::One(object)) => {
                Self::all_hold(this, &[Binding::raw(&this.id, object.value())])
            }
            Some(Observation::Many {
                complete: false, ..
            }) => Readiness::Waiting(format!(
                "waiting for all items of collection \"{}\" to exist",
                this.id
            )),
            Some(Observation::Many { items, .. }) if this.kind.is_repeated() => {
                let items = items.as_array().map_or(&[][..], Vec::as_slice);
                let each = items
                    .iter()
                    .map(|item| Self::all_hold(this, &[Binding::raw(EACH_VARIABLE, item)]));
                each.into_iter()
                    .find(|readiness| *readiness != Readiness::Ready)
                    .unwrap_or(Readiness::Ready)
            }
            Some(Observation::Many { items, .. }) => {
                Self::all_hold(this, &[Binding::raw(&this.id, items)])
            }
        }
    }

    fn all_hold(node: &Node, variables: &[Binding<'_>]) -> Readiness {
        for condition in &node.ready_when {
            let waiting = |why: &str| {
                Readiness::Waiting(format!(
                    "waiting for readyWhen of \"{}\": {}{why}",
                    node.id,
                    condition.source()
                ))
            };
            match Self::holds_alone(condition, variables) {
                Ok(true) => {}
                Ok(false) => return waiting(""),
                Err(EvalFailure::Pending { message, .. }) => {
                    return waiting(&format!(" ({message})"));
                }
                Err(failure) => {
                    return Readiness::Failed(format!(
                        "resource \"{}\": readyWhen: {failure}",
                        node.id
                    ));
                }
            }
        }
        Readiness::Ready
    }

    /// As [`Pass::holds`], with nothing in sight but the given variables.
    fn holds_alone(condition: &Expression, given: &[Binding<'_>]) -> Result<bool, EvalFailure> {
        let mut variables = Activation::new();
        for binding in given {
            binding.bind(&mut variables);
        }
        match condition.evaluate_json(&variables)? {
            Evaluated::Value(Value::Bool(holds)) => Ok(holds),
            _ => Ok(false),
        }
    }
}

/// Those that no choice of branches makes needless.
fn always<'s>(
    all: &'s BTreeSet<usize>,
    branches: &'s BTreeSet<usize>,
) -> impl Iterator<Item = usize> + 's {
    all.difference(branches).copied()
}

/// A variable beyond those of the graph.
#[derive(Clone, Copy)]
pub(crate) struct Binding<'a> {
    name: &'a str,
    /// What it is bound to; without, reading it shows that it was read.
    value: Option<&'a Value>,
    ty: Option<&'a Type>,
}

impl<'a> Binding<'a> {
    fn raw(name: &'a str, value: &'a Value) -> Self {
        Self {
            name,
            value: Some(value),
            ty: None,
        }
    }

    /// A variable that must not be read yet.
    fn unknown(name: &'a str) -> Self {
        Self {
            name,
            value: None,
            ty: None,
        }
    }

    fn typed(name: &'a str, value: &'a Value, ty: &'a Type) -> Self {
        Self {
            name,
            value: Some(value),
            ty: Some(ty),
        }
    }

    fn bind(&self, variables: &mut Activation<'a>) {
        match (self.value, self.ty) {
            (Some(value), Some(ty)) => variables.bind_typed(self.name, value, ty),
            (Some(value), None) => variables.bind_json(self.name, value),
            (None, _) => variables.unknown(AttributePattern::new(self.name)),
        };
    }
}
