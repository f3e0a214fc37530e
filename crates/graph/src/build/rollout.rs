//! How instances move from one revision of a definition to the next.
//!
//! By default all of them do at once. `propagateWhen` of the whole definition lets them through one by one (kro's proposal
//! KREP-006; it sees all instances, under the names that the API has for one and for many), `rollout.strategy: Manual` keeps each
//! where it is until somebody moves it (KREP-009). The status of instances tells revisions apart, so it has two fields more then.

use std::sync::Arc;

use cel::Type;
use serde_json::{Value, json};

use super::compile;
use super::error::BuildError;
use super::parse::{self, ENVIRONMENT};
use crate::expression::Expression;
use crate::features::{Feature, Features};
use crate::propagation::{self, INDEX};
use crate::rgd::GraphSpec;

/// The revision an instance was last worked on with.
pub(crate) const REVISION: &str = "graphRevision";
/// The revision it is to be worked on with.
pub(crate) const TARGET_REVISION: &str = "targetGraphRevision";
const FIELD: &str = "propagateWhen";
/// Where the schema of an instance is in a CustomResourceDefinition.
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
const STATUS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";

/// How instances move to a new revision.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// When an instance may; all must hold.
    pub propagate_when: Vec<Expression>,
    /// Whether they only do when told to.
    pub is_manual: bool,
    /// Whether the status of instances says where they are.
    pub is_tracked: bool,
    /// What expressions call the instance in question.
    pub(crate) singular: String,
    /// What expressions call all instances.
    pub(crate) plural: String,
    pub(crate) instance_type: Type,
    pub(crate) list_type: Type,
}

impl Rollout {
    /// Reads what a definition says, and declares the fields of the status.
    pub(crate) fn build(
        spec: &GraphSpec,
        crd: &mut Value,
        features: Features,
    ) -> Result<Self, BuildError> {
        let fail = |field: &str, message: String| BuildError::new(message).at(field);
        let strategy = spec.rollout.strategy.as_deref();
        let is_manual = match strategy {
            None | Some("Latest") => false,
            Some("Manual") => true,
            Some(other) => {
                let message = format!("expected Latest or Manual, got {other:?}");
                return Err(fail("rollout.strategy", message));
            }
        };
        if strategy.is_some() {
            let required = features.require(Feature::RevisionPinning, "rollout.strategy");
            required.map_err(|message| fail("rollout.strategy", message))?;
        }
        let mut this = Self {
            is_manual,
            singular: spec.schema.kind.to_lowercase(),
            plural: crate::plural(&spec.schema.kind),
            ..Self::default()
        };
        let is_needed = is_manual || !spec.propagate_when.is_empty();
        if is_needed || features.has(Feature::RevisionPinning) {
            match declare(crd) {
                Ok(()) => this.is_tracked = true,
                Err(error) if is_needed => return Err(error),
                // An author's field of that name goes first; pins hold without being told of.
                Err(_) => {}
            }
        }
        if spec.propagate_when.is_empty() {
            return Ok(this);
        }
        let required = features.require(Feature::PropagationControl, FIELD);
        required.map_err(|message| fail(FIELD, message))?;
        this.instance_type = instance_type(crd)?;
        this.list_type = Type::list(this.instance_type.clone());
        let env = ENVIRONMENT
            .extend()
            .library(propagation::library())
            .variable(INDEX, Type::Int)
            .variable(&this.singular, this.instance_type.clone())
            .variable(&this.plural, this.list_type.clone())
            .build()
            .map_err(|error| fail(FIELD, error.to_string()))?;
        let sources = parse::standalone("", FIELD, &spec.propagate_when);
        let sources = sources.map_err(BuildError::of_the_whole)?;
        let compiled = compile::conditions("", FIELD, &sources, &env);
        this.propagate_when = compiled.map_err(BuildError::of_the_whole)?;
        Ok(this)
    }
}

fn field(description: &str) -> Value {
    json!({"type": "integer", "description": description})
}

fn fields() -> [(&'static str, Value); 2] {
    [
        (
            REVISION,
            field("The graph revision the instance was last reconciled with."),
        ),
        (
            TARGET_REVISION,
            field("The graph revision the instance should be on."),
        ),
    ]
}

fn declare(crd: &mut Value) -> Result<(), BuildError> {
    let Some(Value::Object(status)) = crd.pointer_mut(STATUS) else {
        return Ok(());
    };
    let fields = fields();
    if let Some((name, _)) = fields.iter().find(|(name, _)| status.contains_key(*name)) {
        let message = "this field of the status says where an instance is between revisions, and cannot be defined otherwise";
        return Err(BuildError::new(message).at(format!("schema.status.{name}")));
    }
    status.extend(fields.map(|(name, schema)| (name.to_owned(), schema)));
    Ok(())
}

/// A definition without these fields if they are ours there and not in `desired`: that they are not needed any more is
/// no breaking change of the API.
pub(crate) fn undeclared(current: &Value, desired: &Value) -> Option<Value> {
    let has = |crd: &Value, name: &str, schema: &Value| {
        crd.pointer(STATUS).and_then(|status| status.get(name)) == Some(schema)
    };
    let gone: Vec<&str> = fields()
        .iter()
        .filter(|(name, schema)| has(current, name, schema) && !has(desired, name, schema))
        .map(|(name, _)| *name)
        .collect();
    if gone.is_empty() {
        return None;
    }
    let mut without = current.clone();
    let status = without.pointer_mut(STATUS)?.as_object_mut()?;
    status.retain(|name, _| !gone.contains(&name.as_str()));
    Some(without)
}

/// The type of a whole instance, its status included.
fn instance_type(crd: &Value) -> Result<Type, BuildError> {
    let mut whole = crd.pointer(SCHEMA).cloned().unwrap_or_default();
    whole["properties"]["metadata"] =
        schema::definition_json("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
            .unwrap_or_default();
    let resolve =
        |name: &str| schema::definition_json(name.rsplit('/').next().unwrap_or(name)).map(Arc::new);
    cel_kube::declare("__type_instance", &whole, &resolve).map_err(|error| {
        BuildError::new(format!("the schema has no CEL type: {error}")).at("schema")
    })
}
