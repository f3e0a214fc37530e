//! From a ResourceGraphDefinition's spec to a graph that can be run, or to an error that says what to fix.
//!
//! ```text
//! names -> schema of the instances -> per resource: kind, checks, expressions -> dependencies, order
//!       -> per resource: types of all expressions -> schema of the status -> CustomResourceDefinition
//! ```
//!
//! Everything here is pure: kinds are looked up in a [`KindResolver`]. The first error wins, in authored order, so the
//! same mistake always gives the same message.

mod assign;
mod author_conditions;
mod body;
mod compile;
mod deferred;
mod dynamic_keys;
mod error;
mod extract;
mod handling;
mod names;
mod parse;
mod patches;
mod propagation;
mod reads;
mod references;
mod rollout;
mod scale;
mod status;
mod template_rules;
mod variables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cel::Type;
use controller::{Document, Resource};
use model::GroupVersionKind;
use serde_json::Value;

use crate::crd;
use crate::dag::Dag;
use crate::expression::Expression;
use crate::features::{Feature, Features};
use crate::kinds::KindResolver;
use crate::managed_resources;
use crate::rgd::{GraphSpec, SchemaSpec};
use crate::simple_schema;
use crate::template::FieldPath;

pub use error::BuildError;
pub use handling::Handling;
pub(crate) use parse::ENVIRONMENT;
pub use rollout::Rollout;
pub(crate) use rollout::{REVISION, TARGET_REVISION, undeclared as revisions_undeclared};

/// The variable that holds the instance.
pub(crate) const SCHEMA_VARIABLE: &str = "schema";
/// The variable that holds one item of a collection.
pub(crate) const EACH_VARIABLE: &str = "each";
/// The variable of status conditions.
pub(crate) const RUNTIME_VARIABLE: &str = "runtime";

/// Limits and gates of a build.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Most dimensions of a collection (`--rgd-max-collection-dimension-size`).
    pub max_dimensions: usize,
    /// The features that are on.
    pub features: Features,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            max_dimensions: 10,
            features: Features::default(),
        }
    }
}

/// What a resource of a graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// One object made from a template.
    Resource,
    /// One object per combination of the iterators' values.
    Collection,
    /// One object that exists without us.
    External,
    /// Objects with certain labels that exist without us.
    ExternalCollection,
    /// Values without an object.
    Variable,
    /// A list of values, one per combination of the iterators' values.
    VariableList,
    /// Fields of one object that exists without us.
    Patch,
    /// Fields of several objects that exist without us.
    PatchCollection,
}

impl NodeKind {
    /// Whether its variable is a list.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Self::Collection | Self::ExternalCollection | Self::VariableList
        )
    }

    /// Whether it is repeated over the values of iterators.
    pub fn is_repeated(self) -> bool {
        matches!(
            self,
            Self::Collection | Self::VariableList | Self::PatchCollection
        )
    }

    /// Whether it is computed and stands for no object.
    pub fn is_variable(self) -> bool {
        matches!(self, Self::Variable | Self::VariableList)
    }

    /// Whether it gives fields to what exists without us.
    pub fn is_patch(self) -> bool {
        matches!(self, Self::Patch | Self::PatchCollection)
    }

    /// Whether its template is (a part of) an object to write.
    pub fn is_written(self) -> bool {
        self.is_ours() || self.is_patch()
    }

    /// Whether we make and delete its objects.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Resource | Self::Collection)
    }
}

/// A string with expressions in it.
#[derive(Clone, Debug)]
pub struct TemplateField {
    /// Where it stands.
    pub path: FieldPath,
    /// What it becomes.
    pub value: FieldValue,
    /// Whether the object is made without it as long as its data is missing.
    pub is_deferred: bool,
}

/// A key with expressions in it.
#[derive(Clone, Debug)]
pub struct TemplateKey {
    /// Where it stands; the last step is the key as it is written.
    pub path: FieldPath,
    /// What it becomes; without a value there is no such entry.
    pub value: FieldValue,
    /// The names it may become where the schema lists them.
    pub fields: Option<Vec<String>>,
}

/// What a string with expressions becomes.
#[derive(Clone, Debug)]
pub enum FieldValue {
    /// The value of one expression, of any type.
    Expression(Expression),
    /// A string put together.
    Text(Vec<TextPart>),
}

/// A piece of a string.
#[derive(Clone, Debug)]
pub enum TextPart {
    /// Copied.
    Literal(String),
    /// Evaluated.
    Expression(Expression),
}

impl FieldValue {
    /// All expressions in it.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Expression(expression) => vec![expression],
            Self::Text(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    TextPart::Expression(expression) => Some(expression),
                    TextPart::Literal(_) => None,
                })
                .collect(),
        }
    }
}

/// One dimension of a collection.
#[derive(Clone, Debug)]
pub struct Iterator {
    /// The variable.
    pub name: String,
    /// The list it runs over.
    pub list: Expression,
}

/// One resource of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What expressions call it.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// How its objects are served.
    pub resource: Resource,
    /// The template as authored; for external references the object that is looked for.
    pub template: Value,
    /// The expressions in the template.
    pub fields: Vec<TemplateField>,
    /// The expressions in its keys.
    pub keys: Vec<TemplateKey>,
    /// Whether it exists; all must hold.
    pub include_when: Vec<Expression>,
    /// When it is ready; all must hold.
    pub ready_when: Vec<Expression>,
    /// Dimensions of a collection.
    pub for_each: Vec<Iterator>,
    /// The resources it reads, by position.
    pub dependencies: BTreeSet<usize>,
    /// What is special about its objects.
    pub handling: Handling,
    /// The resources that only its deferred fields read, by position.
    pub soft_dependencies: BTreeSet<usize>,
    /// The type of one object.
    pub(crate) object_type: Type,
    /// The type of a list of them.
    pub(crate) list_type: Type,
    /// The resources that `includeWhen` reads, by position.
    pub(crate) include_dependencies: BTreeSet<usize>,
    /// Dependencies that only branches read, which may not be taken; in the whole and in `includeWhen`.
    pub(crate) branch_dependencies: BTreeSet<usize>,
    pub(crate) include_branches: BTreeSet<usize>,
}

impl Node {
    /// Whether a field is filled in later.
    pub fn has_deferred_fields(&self) -> bool {
        self.fields.iter().any(|field| field.is_deferred)
    }
}

/// A field of the instances' status.
#[derive(Clone, Debug)]
pub struct StatusField {
    /// Where, below `status`.
    pub path: FieldPath,
    /// What.
    pub value: FieldValue,
}

/// A graph that can be run.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The API it serves.
    pub schema: SchemaSpec,
    /// Folded: it is as large as the rest, and rarely looked at.
    crd: Document,
    /// The resources, in authored order.
    pub nodes: Vec<Node>,
    /// Positions in the order of creation.
    pub order: Vec<usize>,
    /// The wave of each resource; deletion goes from the highest down.
    pub waves: Vec<usize>,
    /// The status template, without conditions.
    pub status_template: Value,
    /// The expressions in it.
    pub status_fields: Vec<StatusField>,
    /// Author-defined conditions.
    pub conditions: Vec<Expression>,
    /// How instances move to this revision.
    pub rollout: Rollout,
    /// Whether the status of instances lists what they manage.
    pub lists_managed_resources: bool,
    /// The type of the instance.
    pub(crate) instance_type: Type,
    positions: HashMap<String, usize>,
}

impl Graph {
    /// The generated CustomResourceDefinition, without the labels that name its owner; read anew each time.
    pub fn crd(&self) -> Value {
        self.crd.clone().into_value()
    }

    /// Ids in the order of creation.
    pub fn topological_order(&self) -> Vec<&str> {
        self.order
            .iter()
            .map(|node| self.nodes[*node].id.as_str())
            .collect()
    }

    /// The resources that have dependencies, as a status lists them; null if none has, which leaves the field out.
    pub fn resources_status(&self) -> Value {
        let with_dependencies = self.order.iter().map(|node| &self.nodes[*node]);
        let listed: Vec<Value> = with_dependencies
            .filter(|node| !node.dependencies.is_empty())
            .map(|node| {
                let ids: Vec<Value> = node
                    .dependencies
                    .iter()
                    .map(|dependency| serde_json::json!({"id": self.nodes[*dependency].id}))
                    .collect();
                serde_json::json!({"id": node.id, "dependencies": ids})
            })
            .collect();
        if listed.is_empty() {
            Value::Null
        } else {
            listed.into()
        }
    }

    /// Whether any resource says when its objects may be written.
    pub fn has_gates(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| !node.handling.propagate_when.is_empty())
    }

    /// The position of a resource.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.positions.get(id).copied()
    }
}

/// Reads a spec; the error names the field.
pub fn read_spec(spec: &Value) -> Result<GraphSpec, BuildError> {
    GraphSpec::read(spec)
        .map_err(|error| BuildError::new(format!("invalid ResourceGraphDefinition spec: {error}")))
}

/// The kinds a build will look up, in authored order. Templates without a readable kind are left to the build to report.
pub fn required_kinds(spec: &GraphSpec) -> Vec<GroupVersionKind> {
    let mut kinds: Vec<GroupVersionKind> = Vec::new();
    for resource in &spec.resources {
        let template = resource.template.as_ref().or(resource.patch.as_ref());
        let kind = match (template, &resource.external_ref) {
            (Some(template), None) => GroupVersionKind::of(template),
            (None, Some(external)) => model::GroupVersion::parse(&external.api_version)
                .ok()
                .map(|version| version.with_kind(external.kind.as_str())),
            _ => None,
        };
        if let Some(kind) = kind.filter(|kind| !kinds.contains(kind)) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Builds a graph.
pub fn build(
    spec: &GraphSpec,
    kinds: &dyn KindResolver,
    options: &BuildOptions,
) -> Result<Graph, BuildError> {
    names::check(spec, options.max_dimensions)?;
    let marked = scale::take(&spec.schema, options.features)?;
    let spec_schema = simple_schema::build(&marked.spec, &spec.schema.types)
        .map_err(|error| BuildError::new(error.message).at(format!("schema.{}", error.path)))?;
    let instance_type = compile::instance_type(&spec.schema, &spec_schema)?;
    let parsed = parse::resources(spec, kinds, options)?;
    let order = parse::order(spec, &parsed)?;
    let variables = variables::declare(
        compile::Variables::new(&parsed, &instance_type)?,
        &parsed,
        &order.order,
    )?;
    let mut nodes = parsed
        .into_iter()
        .zip(&spec.resources)
        .map(|(mut resource, authored)| {
            let gate_dependencies = std::mem::take(&mut resource.gate_dependencies);
            let mut node = compile::node(resource, &variables)?;
            node.handling = Handling::build(authored, &node, &variables, options)?;
            node.handling.gate_dependencies = gate_dependencies;
            Ok(node)
        })
        .collect::<Result<Vec<Node>, BuildError>>()?;
    nodes.shrink_to_fit();
    let status = status::build(&marked.status, &variables)?;
    let mut crd = crd::instance_crd(&spec.schema, &spec_schema, &status.schema);
    marked.declare(&mut crd)?;
    let rollout = Rollout::build(spec, &mut crd, options.features)?;
    let lists_managed_resources =
        options.features.has(Feature::ManagedResources) && managed_resources::declare(&mut crd);
    Ok(Graph {
        schema: spec.schema.clone(),
        crd: Document::new(crd).folded(),
        nodes,
        order: order.order,
        waves: order.waves,
        status_template: status.template,
        status_fields: status.fields,
        conditions: status.conditions,
        lists_managed_resources,
        rollout,
        instance_type,
        positions: spec
            .resources
            .iter()
            .enumerate()
            .map(|(at, resource)| (resource.id.clone(), at))
            .collect(),
    })
}

/// Creation order and deletion waves.
pub(crate) struct Order {
    order: Vec<usize>,
    waves: Vec<usize>,
}

impl Order {
    fn of(dag: &Dag) -> Result<Self, BuildError> {
        let cycle = |cycle: crate::dag::Cycle| BuildError::new(cycle.to_string());
        Ok(Self {
            order: dag.order().map_err(cycle)?,
            waves: dag.waves().map_err(cycle)?,
        })
    }
}

/// Variables by name.
pub(crate) type Types = BTreeMap<String, Type>;
