//! `propagateWhen`: when the objects of a resource may be changed.
//!
//! It sees `schema`, all resources, and of its own the objects as they are: one that does not exist yet is seen as it would
//! be made. In a collection, `each` is the object in question, and the iterators have their values.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cel::{Env, Type};

use super::compile::{self, Variables};
use super::error::BuildError;
use super::parse::{self, ENVIRONMENT, ParsedResource};
use super::{BuildOptions, EACH_VARIABLE, Node, NodeKind, SCHEMA_VARIABLE};
use crate::expression::Expression;
use crate::features::Feature;
use crate::nearest::suggestion;
use crate::propagation::{self, INDEX};
use crate::rgd::ResourceSpec;

const FIELD: &str = "propagateWhen";

static PROPAGATION_ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| {
    let built = ENVIRONMENT.extend().library(propagation::library()).build();
    built.expect("the names of the library are new")
});

/// Adds the resources that the expressions read to those the resource depends on.
pub(crate) fn add_dependencies(
    parsed: &mut ParsedResource,
    resource: &ResourceSpec,
    ids: &[&str],
    options: &BuildOptions,
) -> Result<(), BuildError> {
    if resource.propagate_when.is_empty() {
        return Ok(());
    }
    let id = parsed.id.clone();
    let fail = |message: String| BuildError::of(&id, message).at(FIELD);
    let features = options.features;
    features
        .require(Feature::PropagationControl, FIELD)
        .map_err(fail)?;
    if !parsed.node_kind.is_ours() {
        let message = format!("{FIELD} needs a template: there is nothing else to change");
        return Err(fail(message));
    }
    let mut names: Vec<&str> = ids.iter().copied().chain([SCHEMA_VARIABLE]).collect();
    names.extend(parsed.for_each.iter().map(|(name, _)| name.as_str()));
    if parsed.node_kind == NodeKind::Collection {
        names.push(EACH_VARIABLE);
    }
    let mut used = BTreeSet::new();
    for (index, source) in sources(resource)?.iter().enumerate() {
        let roots = references(source, &names).map_err(|message| {
            BuildError::of(&id, message)
                .at(format!("{FIELD}[{index}]"))
                .in_expression(source)
        })?;
        used.extend(roots);
    }
    for (at, other) in ids.iter().enumerate() {
        if *other == id || !used.contains(*other) {
            continue;
        }
        // Read here always, and now.
        parsed.branch_dependencies.remove(&at);
        parsed.soft_dependencies.remove(&at);
        if parsed.dependencies.insert(at) {
            parsed.gate_dependencies.insert(at);
        }
    }
    Ok(())
}

fn sources(resource: &ResourceSpec) -> Result<Vec<String>, BuildError> {
    parse::standalone(&resource.id, FIELD, &resource.propagate_when)
}

/// The variables an expression reads.
fn references(source: &str, names: &[&str]) -> Result<BTreeSet<String>, String> {
    let env = &*PROPAGATION_ENVIRONMENT;
    let ast = env.parse(source).map_err(|error| error.to_string())?;
    let unknown = env.unknown_functions(&ast);
    if !unknown.is_empty() {
        return Err(format!("uses unknown functions: [{}]", unknown.join(" ")));
    }
    let roots = crate::expression::roots(ast.references());
    let known = |name: &String| names.contains(&name.as_str()) || name == INDEX;
    match roots.iter().find(|name| !known(name)) {
        None => Ok(roots),
        Some(unknown) => {
            let hint = suggestion(unknown, names.iter().copied());
            Err(format!("references unknown identifiers: [{unknown}]{hint}"))
        }
    }
}

/// Compiles the expressions of a resource.
pub(crate) fn compile(
    resource: &ResourceSpec,
    node: &Node,
    variables: &Variables,
) -> Result<Vec<Expression>, BuildError> {
    if resource.propagate_when.is_empty() {
        return Ok(Vec::new());
    }
    let fail = |error: cel::EnvError| BuildError::of(&node.id, error.to_string()).at(FIELD);
    let mut env = variables
        .env
        .extend()
        .library(propagation::library())
        .variable(INDEX, Type::Int);
    if node.kind == NodeKind::Collection {
        env = env.variable(EACH_VARIABLE, node.object_type.clone());
    }
    for iterator in &node.for_each {
        let element = iterator.list.result_type().element();
        env = env.variable(&iterator.name, element.cloned().unwrap_or(Type::Dyn));
    }
    let env = env.build().map_err(fail)?;
    compile::conditions(&node.id, FIELD, &sources(resource)?, &env)
}
