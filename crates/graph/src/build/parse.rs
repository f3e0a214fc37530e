//! The first half of a build: kinds are looked up, templates taken apart, references turned into an order.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::{Ast, Env};
use model::GroupVersionKind;
use serde_json::{Map, Value};

use super::error::BuildError;
use super::extract::{self, RawField, RawKey};
use super::reads::Reads;
use super::{
    BuildOptions, EACH_VARIABLE, NodeKind, Order, RUNTIME_VARIABLE, SCHEMA_VARIABLE, body,
    deferred, dynamic_keys, propagation, reads, template_rules, variables,
};
use crate::dag::Dag;
use crate::features::Feature;
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
        check_references(&mut parsed, &ids, &patches, options)?;
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

/// Which variables an expression may read, and what to call them in messages.
pub(crate) struct Allowed<'a> {
    pub names: Vec<&'a str>,
    pub omit: bool,
    pub runtime: bool,
}

/// Checks what an expression refers to; returns the variables it reads.
pub(crate) fn references(source: &str, allowed: &Allowed<'_>) -> Result<BTreeSet<String>, String> {
    let ast = parse(source)?;
    let unknown_functions = ENVIRONMENT.unknown_functions(&ast);
    if !unknown_functions.is_empty() {
        return Err(format!(
            "uses unknown functions: [{}]",
            unknown_functions.join(" ")
        ));
    }
    let references = ast.references();
    if !allowed.omit
        && references
            .functions
            .iter()
            .any(|function| function.name == "omit" && !function.member)
    {
        return Err("omit() can only be used in resource template expressions".to_owned());
    }
    if !allowed.omit && deferred::is_used(references) {
        return Err("defer() can only be used in resource template expressions".to_owned());
    }
    let roots = crate::expression::roots(references);
    let calls_runtime = references
        .functions
        .iter()
        .any(|function| function.name.starts_with("runtime."));
    if (calls_runtime || roots.contains(RUNTIME_VARIABLE)) && !allowed.runtime {
        return Err("runtime is only available in status.conditions expressions".to_owned());
    }
    let is_allowed =
        |name: &str| allowed.names.contains(&name) || (name == RUNTIME_VARIABLE && allowed.runtime);
    match roots.iter().find(|name| !is_allowed(name)) {
        None => Ok(roots),
        Some(unknown) => {
            let hint = suggestion(unknown, allowed.names.iter().copied());
            Err(format!("references unknown identifiers: [{unknown}]{hint}"))
        }
    }
}

/// Checks all references of a resource and notes the resources it depends on.
fn check_references(
    parsed: &mut ParsedResource,
    ids: &[&str],
    patches: &[&str],
    options: &BuildOptions,
) -> Result<(), BuildError> {
    let id = parsed.id.clone();
    let others: Vec<&str> = ids
        .iter()
        .copied()
        .filter(|other| !patches.contains(other))
        .chain([SCHEMA_VARIABLE])
        .collect();
    let with_iterators: Vec<&str> = others
        .iter()
        .copied()
        .chain(parsed.for_each.iter().map(|(name, _)| name.as_str()))
        .collect();
    let fail = |mut message: String, path: &dyn std::fmt::Display, source: &str| {
        let is_patch =
            |id: &&&str| message.starts_with(&format!("references unknown identifiers: [{id}]"));
        if patches.iter().any(|id| is_patch(&id)) {
            message
                .push_str(" (a patch publishes nothing: read its object through an externalRef)");
        }
        BuildError::of(&id, message).at(path).in_expression(source)
    };
    let by_branch = options.features.has(Feature::PartialDependencies);
    let mut used = Reads::default();
    let template = Allowed {
        names: with_iterators,
        omit: !parsed.node_kind.is_variable(),
        runtime: false,
    };
    let mut in_identity = BTreeSet::new();
    let mut deferred_fields = vec![false; parsed.fields.len()];
    for (at, field) in parsed.fields.iter().enumerate() {
        for source in field.sources() {
            let roots = references(source, &template)
                .map_err(|message| fail(message, &field.path, source))?;
            check_omit(source, field, parsed, options)
                .map_err(|message| fail(message, &field.path, source))?;
            if template_rules::is_identity(field, parsed.kind.resource.namespaced) {
                in_identity.extend(roots.iter().cloned());
            }
            let is_deferred = deferred::check(source, field, parsed, options)
                .map_err(|message| fail(message, &field.path, source))?;
            if is_deferred {
                deferred_fields[at] = true;
                used.add_later(roots);
            } else {
                used.add(source, roots, by_branch);
            }
        }
    }
    for (source, roots) in dynamic_keys::check(parsed, &template.names, options)? {
        used.add(&source, roots, by_branch);
    }
    let conditions = Allowed {
        names: others.clone(),
        omit: false,
        runtime: false,
    };
    let mut in_include_when = Reads::default();
    for (index, source) in parsed.include_when.iter().enumerate() {
        let path = format!("includeWhen[{index}]");
        let roots =
            references(source, &conditions).map_err(|message| fail(message, &path, source))?;
        in_include_when.add(source, roots, by_branch);
    }
    used.extend(&in_include_when);
    for (name, source) in &parsed.for_each {
        let path = format!("forEach.{name}");
        let roots = references(source, &conditions).map_err(|message| {
            let other = parsed
                .for_each
                .iter()
                .any(|(known, _)| message.contains(&format!("[{known}]")));
            let hint = if other {
                " (iterators cannot reference other iterators: they are independent)"
            } else {
                ""
            };
            fail(format!("{message}{hint}"), &path, source)
        })?;
        used.add(source, roots, by_branch);
    }
    let own = if parsed.node_kind.is_repeated() {
        EACH_VARIABLE
    } else {
        id.as_str()
    };
    let ready = Allowed {
        names: vec![own],
        omit: false,
        runtime: false,
    };
    for (index, source) in parsed.ready_when.iter().enumerate() {
        let path = format!("readyWhen[{index}]");
        references(source, &ready).map_err(|message| {
            let hint = format!(" (readyWhen sees only \"{own}\")");
            fail(format!("{message}{hint}"), &path, source)
        })?;
    }
    let missing: Vec<&str> = parsed
        .for_each
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !parsed.node_kind.is_variable() && !in_identity.contains(*name))
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "all forEach dimensions must be used to produce a unique resource identity, missing: [{}]",
            missing.join(" ")
        );
        return Err(BuildError::of(&id, message).at("metadata.name"));
    }
    if used.contains(&id) {
        return Err(BuildError::of(&id, "self references are not allowed"));
    }
    for (field, is_deferred) in parsed.fields.iter_mut().zip(deferred_fields) {
        field.is_deferred = is_deferred;
    }
    reads::note(parsed, ids, &used, &in_include_when);
    Ok(())
}

fn check_omit(
    source: &str,
    field: &RawField,
    parsed: &ParsedResource,
    options: &BuildOptions,
) -> Result<(), String> {
    if !source.contains("omit") {
        return Ok(());
    }
    let ast = parse(source)?;
    let uses = ast
        .references()
        .functions
        .iter()
        .any(|function| function.name == "omit" && !function.member);
    if !uses {
        return Ok(());
    }
    options
        .features
        .require(Feature::CelOmitFunction, "omit()")?;
    if field.path.is(&["metadata", "name"])
        || (parsed.node_kind.is_written() && field.path.is(&["metadata", "namespace"]))
    {
        let path = &field.path;
        return Err(format!(
            "omit() cannot be used at path \"{path}\" — the field is required and must resolve to a concrete value"
        ));
    }
    Ok(())
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
