//! The first half of a build: kinds are looked up, templates taken apart, references turned into an order.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::{Ast, Env};
use model::GroupVersionKind;
use serde_json::{Map, Value};

use super::error::BuildError;
use super::extract::{self, RawField, RawKey};
use super::{
    BuildOptions, NodeKind, Order, body, deferred, propagation, references, template_rules,
    variables,
};
use crate::dag::Dag;
use crate::kinds::{Kind, KindResolver};
use crate::nearest::suggestion;
use crate::rgd::{GraphSpec, ResourceSpec};
use crate::template::Template;

/// All libraries, no variables.
pub(crate) static ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| {
    let with_own = cel_kube::kro_env().extend().function(deferred::function());
    with_own
        .build()
        .expect("the function's name is not taken, as a test says")
});

/// A resource whose expressions are known but not yet compiled.
pub(crate) struct ParsedResource {
    pub id: String,
    pub node_kind: NodeKind,
    pub kind: Arc<Kind>,
    pub template: Value,
    pub fields: Vec<RawField>,
    pub keys: Vec<RawKey>,
    pub include_when: Vec<String>,
    pub ready_when: Vec<String>,
    /// Iterators with their lists.
    pub for_each: Vec<(String, String)>,
    pub dependencies: BTreeSet<usize>,
    /// Those that `includeWhen` reads.
    pub include_dependencies: BTreeSet<usize>,
    /// Those that only branches read, in the whole and in `includeWhen`.
    pub branch_dependencies: BTreeSet<usize>,
    pub include_branches: BTreeSet<usize>,
    /// Those that only deferred fields read; not among the others.
    pub soft_dependencies: BTreeSet<usize>,
    /// Those that only `propagateWhen` reads.
    pub gate_dependencies: BTreeSet<usize>,
}

/// Takes all resources apart.
pub(crate) fn resources(
    spec: &GraphSpec,
    kinds: &dyn KindResolver,
    options: &BuildOptions,
) -> Result<Vec<ParsedResource>, BuildError> {
    let ids: Vec<&str> = spec
        .resources
        .iter()
        .map(|resource| resource.id.as_str())
        .collect();
    let patches: Vec<&str> = spec
        .resources
        .iter()
        .filter(|resource| resource.patch.is_some())
        .map(|resource| resource.id.as_str())
        .collect();
    let parse = |resource| {
        let mut parsed = take_apart(spec, resource, kinds, options)?;
        references::check(&mut parsed, &ids, &patches, options)?;
        propagation::add_dependencies(&mut parsed, resource, &ids, options)?;
        Ok(parsed)
    };
    spec.resources.iter().map(parse).collect()
}

fn take_apart(
    spec: &GraphSpec,
    resource: &ResourceSpec,
    kinds: &dyn KindResolver,
    options: &BuildOptions,
) -> Result<ParsedResource, BuildError> {
    let id = resource.id.as_str();
    let (template, node_kind) = body::of(resource, options)?;
    let mut keys = Vec::new();
    let (kind, fields) = if node_kind.is_variable() {
        let fields = variables::fields(id, &template)?;
        (Arc::clone(&body::VARIABLE_KIND), fields)
    } else {
        let wanted = template_rules::kind_of(id, &template)?;
        let kind = resolve(id, &wanted, kinds)?;
        template_rules::check(id, node_kind, &template, &kind, spec.schema.scope)?;
        let fields = if !node_kind.is_written() {
            extract::without_schema(id, &template)?.fields
        } else if template_rules::is_crd(&wanted) {
            template_rules::fields_of_crd_template(id, &template)?
        } else {
            let (fields, found) = extract::with_schema(id, &template, &kind)?;
            keys = found;
            fields
        };
        (kind, fields)
    };
    let parsed = ParsedResource {
        id: id.to_owned(),
        node_kind,
        kind,
        template,
        fields,
        keys,
        include_when: standalone(id, "includeWhen", &resource.include_when)?,
        ready_when: standalone(id, "readyWhen", &resource.ready_when)?,
        for_each: iterators(id, &resource.for_each)?,
        dependencies: BTreeSet::new(),
        include_dependencies: BTreeSet::new(),
        branch_dependencies: BTreeSet::new(),
        include_branches: BTreeSet::new(),
        soft_dependencies: BTreeSet::new(),
        gate_dependencies: BTreeSet::new(),
    };
    Ok(parsed)
}

fn resolve(
    id: &str,
    wanted: &GroupVersionKind,
    kinds: &dyn KindResolver,
) -> Result<Arc<Kind>, BuildError> {
    kinds.resolve(wanted).ok_or_else(|| {
        let similar = kinds.similar(wanted);
        let hint = suggestion(&wanted.kind, similar.iter().map(String::as_str));
        let (api_version, kind) = (wanted.api_version(), &wanted.kind);
        let message = format!(
            "schema not found: no matches for kind \"{kind}\" in version \"{api_version}\"{hint}"
        );
        BuildError::of(id, message).at("kind")
    })
}

pub(crate) fn standalone(
    id: &str,
    field: &str,
    texts: &[String],
) -> Result<Vec<String>, BuildError> {
    let unwrap = |(index, text): (usize, &String)| {
        Template::standalone(text).map_err(|error| {
            let message = format!(
                "{error} (write it as ${{expression}}, without anything around it), got {text:?}"
            );
            BuildError::of(id, message).at(format!("{field}[{index}]"))
        })
    };
    texts.iter().enumerate().map(unwrap).collect()
}

fn iterators(
    id: &str,
    dimensions: &[Map<String, Value>],
) -> Result<Vec<(String, String)>, BuildError> {
    let mut iterators = Vec::new();
    for (index, dimension) in dimensions.iter().enumerate() {
        for (name, text) in dimension {
            let path = format!("forEach[{index}].{name}");
            let Some(text) = text.as_str() else {
                return Err(BuildError::of(id, "must be a string with an expression").at(path));
            };
            let source = Template::standalone(text)
                .map_err(|error| BuildError::of(id, format!("{error}, got {text:?}")).at(path))?;
            iterators.push((name.clone(), source));
        }
    }
    Ok(iterators)
}

/// Parses an expression only.
pub(crate) fn parse(source: &str) -> Result<Ast, String> {
    ENVIRONMENT.parse(source).map_err(|error| error.to_string())
}

/// Puts the resources in order.
pub(crate) fn order(spec: &GraphSpec, parsed: &[ParsedResource]) -> Result<Order, BuildError> {
    let mut dag = Dag::new(spec.resources.iter().map(|resource| resource.id.clone()));
    for (position, resource) in parsed.iter().enumerate() {
        for dependency in &resource.dependencies {
            dag.add_dependency(position, *dependency);
        }
    }
    Order::of(&dag)
}
